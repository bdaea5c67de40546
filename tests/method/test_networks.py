"""Compare the networks with their definition."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from firstorder.method.architectures import ARCHITECTURES
from firstorder.method.networks import _block, _convolve_same, _normalise, make_network
from tests.method.test_against_plain_loop import plain
from tests.plain_loop import features as plain_features
from tests.plain_loop import logits as plain_logits


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "published", "filters"),
    [
        ("omniglot", 113_221, 64),  # the authors' models.py
        ("mini_imagenet", 34_661, 32),
        # Finn et al.: kernels, a shift and a bias per filter, dense layer on 64 and on 800 features
        ("omniglot_finn", 111_168 + 2 * 256 + 325, 64),
        ("mini_imagenet_finn", 28_512 + 2 * 128 + 4_005, 32),
    ],
)
def test_parameters_are_the_published_less_the_cancelled_biases(name, published, filters):
    """At 5-way. The published networks have a bias per filter in four layers, which batch normalisation cancels."""
    assert make_network(name, 5).parameters == published - 4 * filters


@pytest.mark.parametrize(
    ("name", "sizes", "features"),
    [
        ("omniglot", [28, 14, 7, 4, 2], 256),
        ("mini_imagenet", [84, 42, 21, 11, 6], 1152),
        ("omniglot_finn", [28, 14, 7, 4, 2], 64),
        ("mini_imagenet_finn", [84, 42, 21, 10, 5], 800),
    ],
)
def test_maps_shrink_as_published(name, sizes, features):
    assert ARCHITECTURES[name].map_sizes() == sizes
    assert make_network(name, 5).shapes["dense.kernel"] == (5, features)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_lanes_of_every_network_are_independent(name):
    network, architecture = make_network(name, 3), ARCHITECTURES[name]
    parameters = torch.stack([network.initial(seed).double() for seed in range(2)])
    images = noise(2, 4, architecture.channels, architecture.size, architecture.size)
    together = network.logits(parameters, images)
    for lane in range(2):
        alone = network.logits(parameters[[lane]], images[[lane]])
        torch.testing.assert_close(together[[lane]], alone, rtol=1e-9, atol=1e-9)


def test_finns_shifts_are_not_adapted():
    network = make_network("omniglot_finn", 5)
    mask = network.named(network.adapted)
    assert {name for name, values in mask.items() if not values.any()} == {
        f"normalisation{b}.shift" for b in range(1, 5)
    }
    assert all(values.all() for name, values in mask.items() if not name.endswith("shift"))
    assert make_network("omniglot", 5).adapted is None


def test_finns_omniglot_head_starts_standard_normal():
    values = make_network("omniglot_finn", 20).named(make_network("omniglot_finn", 20).initial(0))["dense.kernel"]
    # 1,280 values: mean 0 within 4 / sqrt(1280), standard deviation 1 within 4 / sqrt(2560).
    assert values.mean().abs() < 0.112
    assert (values.std() - 1).abs() < 0.08


def test_finns_omniglot_map_is_averaged_over_its_positions():
    """The features are the means over the four positions of the last map."""
    network = make_network("omniglot_finn", 5)
    flat, images = network.initial(seed=1).double(), noise(7, 1, 28, 28, seed=1)
    named = network.named(flat)
    features = plain_features(
        {f"kernel{b}": named[f"convolution{b}.kernel"].permute(0, 3, 1, 2) for b in range(1, 5)}, images
    )
    expected = features.mean(dim=(2, 3)) @ named["dense.kernel"].T + named["dense.bias"]
    torch.testing.assert_close(network.logits(flat[None], images[None])[0], expected, rtol=1e-9, atol=1e-9)


def test_mini_imagenet_pools_with_the_padding_of_its_authors():
    """For an odd size, "same" keeps the maximum of the last row and "valid" drops the row."""
    maps, kernel = noise(2, 3, 5, 5), noise(4, 3, 3, 3, seed=1)
    ones = torch.ones(4, dtype=torch.float64)
    full = F.relu(_normalise(F.conv2d(maps, kernel, padding=1), ones, 0 * ones))
    same, valid = (_block(maps, kernel, ones, 0 * ones, pool) for pool in ("same", "valid"))
    assert (same.shape[-1], valid.shape[-1]) == (3, 2)
    torch.testing.assert_close(same[..., 2, 2], full[..., 4, 4])
    torch.testing.assert_close(same[..., 0, 2], full[..., 0:2, 4].amax(dim=-1))
    torch.testing.assert_close(valid, same[..., :2, :2])


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
    network = make_network("omniglot", 5)
    flat = network.initial(seed=1).double() + 0.1 * noise(network.parameters)
    images = noise(7, 1, 28, 28, seed=1)
    ours = network.logits(flat[None], images[None])[0]
    torch.testing.assert_close(ours, plain_logits(plain(network, flat), images), rtol=1e-10, atol=1e-10)


def test_lanes_are_independent_networks():
    """Each lane's logits depend on its own parameters and images only, and each lane is normalised separately."""
    network = make_network("omniglot", 3)
    parameters = torch.stack([network.initial(seed).double() for seed in range(3)])
    images = noise(3, 4, 1, 28, 28)
    together = network.logits(parameters, images)
    assert together.shape == (3, 4, 3)
    for lane in range(3):
        alone = network.logits(parameters[[lane]], images[[lane]])
        torch.testing.assert_close(together[[lane]], alone, rtol=1e-10, atol=1e-10)


def test_named_and_flat_are_inverse():
    network = make_network("omniglot", 5)
    flat = network.initial(seed=0)
    named = network.named(flat)
    assert {name: tuple(value.shape) for name, value in named.items()} == network.shapes
    assert torch.equal(network.flat(named), flat)


def test_initial_parameters_are_glorot_uniform_and_depend_on_the_seed_alone():
    """Limits sqrt(6 / (fan in + fan out)): 9 * 64 each for an inner convolution, 256 and 5 for the head."""
    network = make_network("omniglot", 5)
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
