"""Operations counted by hand, by torch's counter, and compared with the documented numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from firstorder.bench import flops, workloads
from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.networks import make_network
from firstorder.settings import checks

PROJECT = checks.load(Path(__file__).parents[2] / "params.yaml")


def test_one_convolution_and_the_dense_layer_by_hand() -> None:
    """Omniglot's maps have sides of 14, 7, 4 and 2; the dense layer has 2 * 2 * 64 features and 5 classes."""
    first = 2 * 14 * 14 * 9 * 1 * 64
    others = [2 * side * side * 9 * 64 * 64 for side in (7, 4, 2)]
    counted = flops.operations("omniglot", way=5)
    assert counted.first_layer == first
    assert counted.forward == first + sum(others) + 2 * 256 * 5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_torch_counts_the_same_operations(name: str) -> None:
    """Its counter covers the convolutions and the dense layer of the plain engine, forward and backward."""
    network, side, channels = make_network(name, 5), ARCHITECTURES[name].size, ARCHITECTURES[name].channels
    parameters = network.initial(0)[None].requires_grad_()
    images = torch.zeros(1, 3, channels, side, side)
    with FlopCounterMode(display=False) as forward:
        logits = network.logits(parameters, images)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    counted = flops.operations(name, 5)
    assert forward.get_total_flops() == 3 * counted.forward
    assert forward.get_total_flops() + backward.get_total_flops() == 3 * counted.gradient


@pytest.mark.parametrize(
    ("name", "gigaflop", "digits"),
    [
        ("W1", 3.93, 2),
        ("W2", 15.7, 1),
        ("W3", 61.2, 1),
        ("W4 maml", 20.1, 1),
        ("W4 fomaml", 10.1, 1),
        ("W5 omniglot", 4.1, 1),
        ("W5 mini-imagenet", 122, 0),
    ],
)
def test_workloads_have_the_stated_operations(name: str, gigaflop: float, digits: int) -> None:
    assert round(workloads.all_workloads(PROJECT)[name].operations / 1e9, digits) == gigaflop


def test_bytes_by_hand() -> None:
    """FOMAML, per task of one inner step: maps five times, images twice, SGD's five vectors and three for the query."""
    settings = workloads.all_workloads(PROJECT)["W4 fomaml"].settings
    maps = 64 * 2 * (14**2 + 7**2 + 4**2 + 2**2)
    images, parameters = 10 + 10, 1000
    expected = images * (5 * maps + 2 * 28 * 28) + (5 + 3) * parameters
    assert flops.bytes_of_outer_step(settings, parameters) == 4 * 32 * expected
