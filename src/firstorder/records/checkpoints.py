"""Checkpoints: one safetensors file per training and seed.

A checkpoint holds more than the parameters. Adam's second moments and step count are part of what was
learned, because evaluation continues with them; so are its first moments, if there are any (`inner_beta1`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from firstorder.errors import UserError, lacks_memory, one_line
from firstorder.files import replacing
from firstorder.method.evaluation import Checkpoint
from firstorder.method.inner_loop import OptimiserState
from firstorder.method.networks import Network
from firstorder.method.training import Problem
from firstorder.records import cells, freshness, placement
from firstorder.records.headers import CHECKPOINT_FILE, about_of, pulling
from firstorder.records.kept_files import LARGEST_WEIGHT
from firstorder.settings import CURVE, MODES, Project

SECOND_MOMENTS, FIRST_MOMENTS = "second_moments.", "first_moments."
MOST_STEPS = 2**53  # of the inner optimiser; far beyond any training


def write(path: Path, network: Network, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, the same bytes for the same content."""
    named = network.named(checkpoint.parameters[0].cpu())
    tensors = {name: tensor.contiguous() for name, tensor in named.items()}
    state = checkpoint.state
    for prefix, moments in ((SECOND_MOMENTS, state.second_moments), (FIRST_MOMENTS, state.first_moments)):
        if moments is not None:
            named = network.named(moments[0].cpu())
            tensors |= {prefix + name: tensor.contiguous() for name, tensor in named.items()}
    about = {**checkpoint.about, "optimiser_steps": checkpoint.state.steps}
    # A single metadata entry, because safetensors does not fix the order of several.
    text = save(tensors, metadata={"about": json.dumps(about, sort_keys=True)})
    with replacing(path) as part:
        part.write_bytes(text)


def read(path: Path, network: Network) -> tuple[Checkpoint, str]:
    """Read a checkpoint and its SHA-256.

    Raises UserError if the file is missing, damaged, or of another network.
    """
    content = CHECKPOINT_FILE.read(path)
    try:
        about, tensors = parse(content)
        steps = _steps(about.get("optimiser_steps"))
    except ValueError as error:
        raise CHECKPOINT_FILE.refused(path, f"not a checkpoint of this package ({error})") from None
    prefixes = ("", SECOND_MOMENTS, FIRST_MOMENTS)[: 3 if _has_momentum(about) else 2]
    expected = {prefix + name: shape for prefix in prefixes for name, shape in network.shapes.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != expected:
        raise _another_network(path, shapes, expected)
    _check_values(path, tensors)
    _, second, *first = (network.flat({name: tensors[prefix + name] for name in network.shapes}) for prefix in prefixes)
    state = OptimiserState(second[None], steps, first[0][None] if first else None)
    return Checkpoint(network.flat(tensors)[None], state, about), hashlib.sha256(content).hexdigest()


def parse(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description and the tensors in a checkpoint or state; raises ValueError for anything else."""
    about = about_of(content)
    try:
        return about, {name: tensor.clone() for name, tensor in load(content).items()}
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        raise ValueError(one_line(error)[:200]) from None


def _has_momentum(about: Mapping[str, Any]) -> bool:
    """Say whether a checkpoint describes itself as that of a training with beta1 > 0."""
    values = about.get("settings")
    training = values.get("training") if isinstance(values, Mapping) else None
    return isinstance(training, Mapping) and bool(training.get("inner_beta1"))


def _steps(value: Any) -> int:
    """Return the optimiser's step count; raises ValueError for what cannot be one."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST_STEPS:
        raise ValueError(f"optimiser_steps is {value!r:.40}, expected a whole number from 0 to {MOST_STEPS - 1}")
    return value


def _check_values(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not float32, not finite, weights beyond LARGEST_WEIGHT, or second moments below zero."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            wrong = f"has type {tensor.dtype}, expected torch.float32"
        elif not torch.isfinite(tensor).all():
            wrong = "is not finite"
        elif not name.startswith((SECOND_MOMENTS, FIRST_MOMENTS)) and (tensor.abs() > LARGEST_WEIGHT).any():
            wrong = f"has a value beyond {LARGEST_WEIGHT:,}"
        elif name.startswith(SECOND_MOMENTS) and (tensor < 0).any():
            wrong = "is below zero"
        else:
            continue
        raise UserError(
            f"{path}: {name} {wrong}; get the right one back ({pulling(path)}), or delete it and train again"
        )


def _another_network(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> UserError:
    """Return an error that names the first tensor that is missing, unexpected or of another shape."""
    name = min(key for key in {**found, **expected} if found.get(key) != expected.get(key))
    has, wanted = (f"shape {shapes[name]}" if name in shapes else "no value" for shapes in (found, expected))
    return UserError(
        f"{path}: made for another network: {name} has {has}, expected {wanted.removeprefix('shape ')}; "
        f"get the right one back ({pulling(path)}), or delete it and train again"
    )


def check_made_of(checkpoint: Checkpoint, path: Path, problem: Problem, digests: Mapping[str, str]) -> None:
    """Raise UserError unless a checkpoint describes itself as that of a finished training, with these digests."""
    steps = problem.settings.outer_steps * problem.settings.inner_steps_taken
    expected = {**digests, "training": problem.name, "seed": problem.seed, "optimiser_steps": steps}
    for key, wanted in expected.items():
        if checkpoint.about.get(key) != wanted:
            again = f"firstorder train {problem.name} --seed {problem.seed}"
            raise UserError(
                f"{path}: its {key} is {checkpoint.about.get(key)}, expected {wanted}; train again: {again}"
            )


def stated(root: Path, project: Project, training: str, seed: int) -> tuple[str | None, Path]:
    """Return the SHA-256 that is stated for a checkpoint, and where; None if nothing states it.

    The run file of the training's curve goes before the records that are fresh but for their run files. Raises
    UserError if that run file is another training's or seed's.
    """
    name = CURVE.format(training=training, seed=seed)
    run, run_file = cells.read_run(root / name), (root / name).with_suffix(".run.json")
    if (found := run.get("checkpoint_digest")) is not None:
        if (whose := placement.misplaced(root, name, run)) is not None:
            raise cells.RUN_FILE.refused(run_file, whose)
        return found, run_file
    for evaluation in (key for key, entry in project.evaluations.items() if entry.training == training):
        for item in (freshness.cell(project, evaluation, mode, seed) for mode in MODES):
            with suppress(UserError):
                record = cells.read_record(root / item.path)
                if freshness.unlike(root, item, vars(record)) is None:
                    return record.checkpoint_digest, root / item.path
    return None, root / name
