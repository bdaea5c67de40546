"""Figure 1's network: layers, initial parameters and loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from firstorder.studies.sine_network import ACTIVATIONS, SineNetwork


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_network_is_three_linear_layers(activation: str) -> None:
    """Compare two lanes of different parameters with torch.nn.functional.linear, whose weights are [out, in]."""
    network = SineNetwork(7, activation)
    flat = torch.cat([network.initial(0), network.initial(1)])
    x = torch.linspace(-5, 5, 2 * 9).reshape(2, 9, 1)
    predicted = network.predictor()(flat, x)
    activate = ACTIVATIONS[activation]
    for lane in range(2):
        w1, b1, w2, b2, w3, b3 = flat[lane].split([7, 7, 49, 7, 7, 1])
        hidden = activate(F.linear(x[lane], w1.reshape(1, 7).T, b1))
        hidden = activate(F.linear(hidden, w2.reshape(7, 7).T, b2))
        torch.testing.assert_close(predicted[lane], F.linear(hidden, w3.reshape(7, 1).T, b3))


def test_initial_parameters_have_the_range_of_torch_linear() -> None:
    """Each layer's weights and biases are at most 1 / sqrt(inputs) and come close to it, as in torch.nn.Linear."""
    network = SineNetwork(64, "relu")
    parts = network.initial(0)[0].split([64, 64, 64 * 64, 64, 64, 1])
    layers = [torch.nn.Linear(*sizes) for sizes in ((1, 64), (64, 64), (64, 1))]
    ours = [torch.cat(parts[i : i + 2]).abs().max().item() for i in (0, 2, 4)]
    theirs = [torch.cat([p.flatten() for p in layer.parameters()]).abs().max().item() for layer in layers]
    for one, other, limit in zip(ours, theirs, (1, 1 / 8, 1 / 8), strict=True):
        assert 0.9 * limit < one <= limit
        assert 0.9 * limit < other <= limit
    assert not torch.equal(network.initial(1), network.initial(0))


def test_loss_is_the_mean_over_points_of_each_lane() -> None:
    """With all parameters 0 every prediction is 0, so a loss is the mean square of y: (9 + 1) / 2 and (4 + 0) / 2."""
    network = SineNetwork(3, "relu")
    y = torch.tensor([[3.0, -1.0], [2.0, 0.0]])[..., None]
    assert network.loss()(torch.zeros_like(network.initial(0)).expand(2, -1), (y, y)).tolist() == [5.0, 2.0]
