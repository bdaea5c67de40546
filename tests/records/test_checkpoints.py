"""Checkpoints: everything learned is read back exactly, and unusable files are reported in one line."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from firstorder.errors import UserError
from firstorder.method.evaluation import Checkpoint
from firstorder.method.inner_loop import OptimiserState
from firstorder.method.networks import Network, make_network
from firstorder.method.tasks import uniforms
from firstorder.records import checkpoints

ABOUT = {"training": "reptile/omniglot-5way", "seed": 1, "settings": {"way": 5, "rate": 0.001, "rotations": [0, 90]}}


def linear_network(inputs: int = 3) -> Network:
    """Return a small network whose logits are never computed."""

    def logits(parameters: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the logits are not needed")

    return Network({"dense.kernel": (2, inputs), "dense.bias": (2,)}, logits)


def made_up(network: Network, about: dict[str, Any] | None = None) -> Checkpoint:
    """Return a checkpoint of random values, among them the extremes that are read."""
    values = torch.from_numpy(uniforms(2 * network.parameters, 0, "test").reshape(2, -1)).float()
    values[0, :5] = torch.tensor([-0.0, 1e-45, checkpoints.LARGEST_WEIGHT, math.pi, -1e-38])
    state = OptimiserState(values[1:], 12_345)
    return Checkpoint(values[:1] - 0.5, state, ABOUT if about is None else about)


def message_of(path: Path, network: Network) -> str:
    with pytest.raises(UserError) as caught:
        checkpoints.read(path, network)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a checkpoint of `linear_network()`."""
    checkpoints.write(tmp_path / "models/seed-1.safetensors", linear_network(), made_up(linear_network()))
    return tmp_path / "models/seed-1.safetensors"


@pytest.mark.parametrize("network", [linear_network(), make_network("omniglot", 5)], ids=["linear", "omniglot"])
def test_parameters_second_moments_steps_and_description_are_read_back_exactly(
    tmp_path: Path, network: Network
) -> None:
    written = made_up(network)
    checkpoints.write(tmp_path / "made.safetensors", network, written)
    read, digest = checkpoints.read(tmp_path / "made.safetensors", network)
    assert read.parameters.numpy().tobytes() == written.parameters.numpy().tobytes()
    assert read.parameters.shape == (1, network.parameters)
    assert read.state.second_moments.numpy().tobytes() == written.state.second_moments.numpy().tobytes()
    assert read.state.steps == 12_345
    assert read.about == {**ABOUT, "optimiser_steps": 12_345}
    assert digest == hashlib.sha256((tmp_path / "made.safetensors").read_bytes()).hexdigest()


def test_first_moments_are_read_back_exactly_and_missed_if_they_are_not_there(tmp_path: Path) -> None:
    """The description says whether there are any, so a checkpoint that has lost them is not taken for another one."""
    network, about = linear_network(), {**ABOUT, "settings": {"training": {"inner_beta1": 0.9}}}
    without = made_up(network, about)
    first = torch.full_like(without.state.second_moments, -0.25)
    written = Checkpoint(without.parameters, OptimiserState(without.state.second_moments, 12_345, first), about)
    path = tmp_path / "made.safetensors"
    checkpoints.write(path, network, written)
    read, _ = checkpoints.read(path, network)
    assert read.state.first_moments is not None
    assert read.state.first_moments.numpy().tobytes() == first.numpy().tobytes()
    assert torch.equal(read.state.second_moments, without.state.second_moments)
    checkpoints.write(path, network, without)
    assert "first_moments.dense.bias has no value, expected (2,)" in message_of(path, network)
    checkpoints.write(path, network, Checkpoint(written.parameters, written.state, ABOUT))
    assert "first_moments.dense.bias has shape (2,), expected no value" in message_of(path, network)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, path: Path) -> None:
    """Even if the description was built in another order."""
    backwards = dict(reversed(ABOUT.items()))
    checkpoints.write(tmp_path / "again.safetensors", linear_network(), made_up(linear_network(), backwards))
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_tensors_can_be_read_by_name_without_this_package(path: Path) -> None:
    tensors = load_file(path)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "dense.kernel": (2, 3),
        "dense.bias": (2,),
        "second_moments.dense.kernel": (2, 3),
        "second_moments.dense.bias": (2,),
    }
    assert torch.equal(tensors["dense.kernel"].ravel(), made_up(linear_network()).parameters[0, :6])


def test_a_missing_checkpoint_says_how_to_get_it(tmp_path: Path) -> None:
    message = message_of(tmp_path / "seed-0.safetensors", linear_network())
    assert "no such checkpoint; train it, or get it with: dvc pull --allow-missing" in message


@pytest.mark.parametrize("kept", [0, 1, 8, 100, -1])
def test_a_truncated_checkpoint_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    assert "not a checkpoint of this package" in message_of(path, linear_network())


def test_every_damaged_byte_of_the_header_is_detected(path: Path) -> None:
    """The header is ASCII text after its length, so a flipped high bit makes it unreadable."""
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    assert header < len(good)
    for position in range(header):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x80]) + good[position + 1 :])
        assert "not a checkpoint of this package" in message_of(path, linear_network())


def test_text_in_place_of_a_checkpoint_is_refused(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "delete it and train again" in message_of(path, linear_network())


def test_a_folder_in_place_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seed-0.safetensors").mkdir()
    assert "cannot be read (Is a directory); expected a checkpoint" in message_of(
        tmp_path / "seed-0.safetensors", linear_network()
    )


def test_a_checkpoint_of_another_network_is_refused(path: Path) -> None:
    message = message_of(path, linear_network(inputs=4))
    assert "made for another network" in message
    assert "(2, 3)" in message
    assert "expected" in message
    assert "(2, 4)" in message


@pytest.mark.parametrize(
    ("prefixes", "metadata", "expected"),
    [
        (("", "second_moments."), None, "not a checkpoint of this package"),
        (("", "second_moments."), {"about": "{}"}, "not a checkpoint of this package"),
        (("", "second_moments."), {"about": "[1, 2]"}, "not a checkpoint of this package"),
        (("", "second_moments."), {"about": "not JSON"}, "not a checkpoint of this package"),
        (("",), {"about": '{"optimiser_steps": 1}'}, "second_moments"),
    ],
    ids=["no description", "no steps", "not a mapping", "not JSON", "no second moments"],
)
def test_another_programs_safetensors_file_is_refused(
    tmp_path: Path, prefixes: tuple[str, ...], metadata: dict[str, str] | None, expected: str
) -> None:
    path = tmp_path / "other.safetensors"
    shapes = linear_network().shapes
    save_file(
        {prefix + name: torch.zeros(shape) for prefix in prefixes for name, shape in shapes.items()}, path, metadata
    )
    assert expected in message_of(path, linear_network())


def test_second_moments_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixed.safetensors"
    own, other = linear_network().shapes, linear_network(inputs=4).shapes
    tensors = {name: torch.zeros(shape) for name, shape in own.items()}
    tensors |= {checkpoints.SECOND_MOMENTS + name: torch.zeros(shape) for name, shape in other.items()}
    save_file(tensors, path, {"about": '{"optimiser_steps": 1}'})
    assert "made for another network" in message_of(path, linear_network())


def test_weights_beyond_any_sense_are_refused(path: Path) -> None:
    """They are finite, and the first product with them is not."""
    tensors = load_file(path)
    tensors["dense.kernel"][0, 0] = 3e38
    save_file(tensors, path, {"about": '{"optimiser_steps": 1}'})
    assert "dense.kernel has a value beyond" in message_of(path, linear_network())
