"""Checkpoints: one safetensors file per training and seed.

Note that a checkpoint holds more than the parameters. Adam's second moments and step count are part of what was
learned, because evaluation continues with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.method.evaluation import Checkpoint
from firstorder.method.inner_loop import OptimiserState
from firstorder.method.networks import Network
from firstorder.method.training import TrainingState

SECOND_MOMENTS = "second_moments."


def write(path: Path, network: Network, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, the same bytes for the same content."""
    named = network.named(checkpoint.parameters[0].cpu())
    moments = network.named(checkpoint.state.second_moments[0].cpu())
    tensors = {name: tensor.contiguous() for name, tensor in named.items()}
    tensors |= {SECOND_MOMENTS + name: tensor.contiguous() for name, tensor in moments.items()}
    about = {**checkpoint.about, "optimiser_steps": checkpoint.state.steps}
    # A single metadata entry, because safetensors does not fix the order of several.
    text = save(tensors, metadata={"about": json.dumps(about, sort_keys=True)})
    with replacing(path) as part:
        part.write_bytes(text)


def read(path: Path, network: Network) -> tuple[Checkpoint, str]:
    """Read a checkpoint and its SHA-256.

    Raises UserError if the file is missing, damaged, or of another network.
    """
    try:
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        steps = int(about["optimiser_steps"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint; train it, or fetch it with: dvc pull") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint of this package ({error}); delete it and train again") from None
    expected = {prefix + name: shape for prefix in ("", SECOND_MOMENTS) for name, shape in network.shapes.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != expected:
        raise _another_network(path, shapes, expected)
    moments = {name: tensors[SECOND_MOMENTS + name] for name in network.shapes}
    state = OptimiserState(network.flat(moments)[None], steps)
    return Checkpoint(network.flat(tensors)[None], state, about), sha


def _another_network(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> UserError:
    """Return an error that names the first tensor that is missing, unexpected or of another shape."""
    name = min(key for key in {**found, **expected} if found.get(key) != expected.get(key))
    has, wanted = (f"shape {shapes[name]}" if name in shapes else "no value" for shapes in (found, expected))
    return UserError(
        f"{path}: made for another network: {name} has {has}, expected {wanted.removeprefix('shape ')}; "
        f"get the right one back (dvc pull --force {path}.dvc), or delete it and train again"
    )


def check_made_of(checkpoint: Checkpoint, path: Path, expected: Mapping[str, Any]) -> None:
    """Raise UserError unless the checkpoint's description agrees with `expected`, such as digests and seed."""
    for key, wanted in expected.items():
        if checkpoint.about.get(key) != wanted:
            again = f"firstorder train {checkpoint.about.get('training')} --seed {checkpoint.about.get('seed')}"
            raise UserError(
                f"{path}: its {key} is {checkpoint.about.get(key)}, expected {wanted}; train again: {again}"
            )


@dataclass(frozen=True)
class StateFile:
    """Keeps the state of an unfinished training in a file; see training.Keeper.

    `identity` names everything that the outcome depends on: a file of another identity is not used.
    """

    path: Path
    identity: str

    def load(self) -> TrainingState | None:
        """Read the state; None if the file is missing, unusable or of another identity."""
        try:
            with safe_open(self.path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                about = json.loads((file.metadata() or {})["about"])
            if about["identity"] != self.identity:
                return None
            optimiser = OptimiserState(tensors["second_moments"], about["optimiser_steps"])
            counts = about["outer_step"], about["seconds"], about["curve"]
            return TrainingState(tensors["parameters"], optimiser, tensors["outer_moments"], *counts)
        except (FileNotFoundError, SafetensorError, KeyError, ValueError):
            return None

    def save(self, state: TrainingState) -> None:
        """Write the state; the previous file stays until this one is complete."""
        tensors = {
            "parameters": state.parameters,
            "second_moments": state.optimiser.second_moments,
            "outer_moments": state.outer_moments,
        }
        about = {
            "identity": self.identity,
            "outer_step": state.outer_step,
            "optimiser_steps": state.optimiser.steps,
            "seconds": state.seconds,
            "curve": state.curve,
        }
        text = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {"about": json.dumps(about)})
        with replacing(self.path) as part:
            part.write_bytes(text)

    def discard(self) -> None:
        """Remove the file after the training has ended."""
        self.path.unlink(missing_ok=True)
