"""The networks against their definition."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from firstorder.models import _convolve_same, _normalise, omniglot_network
from tests.plain_loop import logits as plain_logits
from tests.test_against_plain_loop import plain


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_parameters_are_the_authors_less_the_cancelled_biases():
    """The authors count 113,221 trainable parameters at 5-way, of which 4 * 64 are convolution biases."""
    assert omniglot_network(5).parameters == 113_221 - 4 * 64


@pytest.mark.parametrize("size", [28, 14, 7, 4])
def test_padding_is_tensorflows_same(size):
    """Output i covers rows 2i - before to 2i - before + 2 with before = total padding // 2."""
    maps, kernel = noise(1, 1, size, size), noise(1, 1, 3, 3, seed=1)
    out = -(-size // 2)
    before = ((out - 1) * 2 + 3 - size) // 2
    expected = torch.zeros(out, out, dtype=torch.float64)
    for i in range(out):
        for j in range(out):
            for a in range(3):
                for b in range(3):
                    y, x = 2 * i - before + a, 2 * j - before + b
                    if 0 <= y < size and 0 <= x < size:
                        expected[i, j] += maps[0, 0, y, x] * kernel[0, 0, a, b]
    torch.testing.assert_close(_convolve_same(maps, kernel, groups=1)[0, 0], expected, rtol=1e-12, atol=1e-12)


def test_normalisation_uses_this_batch_and_a_biased_variance():
    """Of the values 0, 2, 4, 6 the mean is 3 and the variance 5: scale 2 and shift 1 give 1 + 2(x - 3)/sqrt(5.001)."""
    maps = torch.tensor([0.0, 2.0, 4.0, 6.0], dtype=torch.float64).reshape(2, 1, 1, 2)
    out = _normalise(maps, maps.new_full((1,), 2.0), maps.new_full((1,), 1.0))
    expected = [1 + 2 * (x - 3) / math.sqrt(5.001) for x in (0, 2, 4, 6)]
    assert out.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_a_convolution_bias_would_be_cancelled():
    maps, kernel = noise(4, 3, 8, 8), noise(2, 3, 3, 3, seed=1)
    bias = noise(2, 1, 1, seed=2)
    out = F.conv2d(maps, kernel)
    scale, shift = noise(2, seed=3), noise(2, seed=4)
    torch.testing.assert_close(_normalise(out + bias, scale, shift), _normalise(out, scale, shift))


def test_logits_equal_the_plain_network():
    network = omniglot_network(5)
    flat = network.initial(seed=1).double() + 0.1 * noise(network.parameters)
    images = noise(7, 1, 28, 28, seed=1)
    ours = network.logits(flat[None], images[None])[0]
    torch.testing.assert_close(ours, plain_logits(plain(network, flat), images), rtol=1e-10, atol=1e-10)


def test_lanes_are_independent_networks():
    """Each lane's logits are those of its own parameters and images, normalised on their own."""
    network = omniglot_network(3)
    parameters = torch.stack([network.initial(seed).double() for seed in range(3)])
    images = noise(3, 4, 1, 28, 28)
    together = network.logits(parameters, images)
    assert together.shape == (3, 4, 3)
    for lane in range(3):
        alone = network.logits(parameters[[lane]], images[[lane]])
        torch.testing.assert_close(together[[lane]], alone, rtol=1e-10, atol=1e-10)


def test_named_and_flat_are_inverse():
    network = omniglot_network(5)
    flat = network.initial(seed=0)
    named = network.named(flat)
    assert {name: tuple(value.shape) for name, value in named.items()} == network.shapes
    assert torch.equal(network.flat(named), flat)


def test_initial_parameters_are_glorot_uniform_and_depend_on_the_seed_alone():
    """Limits sqrt(6 / (fan in + fan out)): 9 * 64 each for an inner convolution, 256 and 5 for the head."""
    network = omniglot_network(5)
    torch.manual_seed(1)
    first = network.initial(seed=7)
    torch.manual_seed(2)
    assert torch.equal(first, network.initial(seed=7))
    assert not torch.equal(first, network.initial(seed=8))
    named = network.named(first)
    for name, limit in (
        ("convolution1.kernel", math.sqrt(6 / (9 * (1 + 64)))),
        ("convolution3.kernel", math.sqrt(6 / (9 * 128))),
        ("dense.kernel", math.sqrt(6 / 261)),
    ):
        values = named[name]
        assert values.abs().max() <= limit
        assert values.abs().max() > 0.97 * limit
        # The mean of n uniform values has the standard deviation limit / sqrt(3 n).
        assert values.mean().abs() < 4 * limit / math.sqrt(3 * values.numel())
    assert named["normalisation1.scale"].eq(1).all()
    assert named["normalisation1.shift"].eq(0).all()
    assert named["dense.bias"].eq(0).all()
