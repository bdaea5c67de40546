"""Compare the package with an independent plain implementation: same mini-batches, same start, same result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from firstorder.method.algorithms import Group, reptile
from firstorder.method.inner_loop import InnerLoop, OptimiserState
from firstorder.method.networks import Network, make_network
from firstorder.method.training import classification_loss
from tests import plain_loop

WAY, TASKS, STEPS, BATCH = 5, 5, 5, 10


def plain(network: Network, flat: Tensor) -> plain_loop.Parameters:
    """Translate a flat vector into the plain loop's parameters (with biases of zero)."""
    named = network.named(flat)
    parameters = {}
    for block in range(1, 5):
        parameters[f"kernel{block}"] = named[f"convolution{block}.kernel"].permute(0, 3, 1, 2).contiguous()
        parameters[f"bias{block}"] = flat.new_zeros(64)
        parameters[f"gamma{block}"] = named[f"normalisation{block}.scale"]
        parameters[f"beta{block}"] = named[f"normalisation{block}.shift"]
    parameters["dense"] = named["dense.kernel"].T
    parameters["dense_bias"] = named["dense.bias"]
    return parameters


def flat(network: Network, parameters: plain_loop.Parameters) -> Tensor:
    """Translate the plain loop's parameters back, leaving out the biases."""
    named = {"dense.kernel": parameters["dense"].T, "dense.bias": parameters["dense_bias"]}
    for block in range(1, 5):
        named[f"convolution{block}.kernel"] = parameters[f"kernel{block}"].permute(0, 2, 3, 1)
        named[f"normalisation{block}.scale"] = parameters[f"gamma{block}"]
        named[f"normalisation{block}.shift"] = parameters[f"beta{block}"]
    return network.flat(named)


def outer_steps(optimiser: str, dtype: torch.dtype, count: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Take outer steps with both; return (ours, plain, start) of the parameters and of the moments."""
    generator = torch.Generator().manual_seed(1)
    network = make_network("omniglot", WAY)
    start = network.initial(seed=3)[None].to(dtype)
    rate, beta1 = 3e-3 if optimiser == "sgd" else 1e-3, 0.9 if optimiser == "adam with momentum" else 0.0
    inner = InnerLoop(classification_loss(network), optimiser.partition(" ")[0], rate, beta1=beta1)
    ours, theirs, state = start, plain(network, start[0]), OptimiserState.fresh(start, beta1)
    reference = plain_loop.Sgd(theirs, rate) if optimiser == "sgd" else plain_loop.Adam(theirs, rate, beta1)
    for step in range(count):
        epsilon = 1 - step / 10
        images = torch.randint(0, 2, (TASKS, STEPS, BATCH, 1, 28, 28), generator=generator).to(dtype)
        labels = torch.randint(0, WAY, (TASKS, STEPS, BATCH), generator=generator)
        groups = [Group([(x[None], y[None]) for x, y in zip(images[t], labels[t], strict=True)]) for t in range(TASKS)]
        meta_gradient, state = reptile(inner, ours, state, groups)
        ours = ours - epsilon * meta_gradient
        theirs = plain_loop.reptile_step(theirs, reference, images, labels, epsilon)
    compared = {"parameters": (ours[0], flat(network, theirs), start[0])}
    if isinstance(reference, plain_loop.Adam):
        zeros = torch.zeros_like(start[0])
        compared["second moments"] = (state.second_moments[0], flat(network, reference.moments), zeros)
        if state.first_moments is not None:
            compared["first moments"] = (state.first_moments[0], flat(network, reference.first), zeros)
        assert len(compared) == 2 + (beta1 > 0)
        assert state.steps == count * TASKS * STEPS
    return compared


@pytest.mark.parametrize("optimiser", ["adam", "adam with momentum", "sgd"])
def test_outer_steps_equal_the_plain_loop_in_double_precision(optimiser):
    """Two outer steps (5 tasks x 5 inner steps each) agree to 1e-10 of the change that they make."""
    for what, (ours, theirs, start) in outer_steps(optimiser, torch.float64, count=2).items():
        assert (ours - theirs).norm() < 1e-10 * (theirs - start).norm(), what
        # Each entry as well, relative to the largest change of an entry.
        assert (ours - theirs).abs().max() < 1e-10 * (theirs - start).abs().max(), what


@pytest.mark.parametrize("optimiser", ["adam", "adam with momentum", "sgd"])
def test_an_outer_step_in_single_precision_agrees_to_1e_4_of_its_change(optimiser):
    """The images are noise: in a large uniform area ReLU inputs are equal, and rounding may flip all signs at once."""
    for what, (ours, theirs, start) in outer_steps(optimiser, torch.float32, count=1).items():
        assert (ours - theirs).norm() < 1e-4 * (theirs - start).norm(), what
