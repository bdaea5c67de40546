"""Saved states of unfinished trainings, from which they resume on this machine or on another one.

A state carries a digest of everything it holds. A damaged state is moved aside with a warning: resuming from it would
silently give a wrong checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from firstorder.errors import UserError, one_line, reason
from firstorder.files import Kind, MissingFileError, replacing
from firstorder.method.training import Problem, TrainingState, start
from firstorder.records import checkpoints, kept_files
from firstorder.records.kept_files import STATE_FORMAT, Part, state_digest
from firstorder.records.unfinished import remove, say

DAMAGED = (AttributeError, KeyError, TypeError, ValueError)
STATE_FILE = Kind("a state", 1 << 30, "it is damaged")


@dataclass(frozen=True)
class StateFile:
    """Keeps the state of a training in a file; see training.Keeper.

    `identities` name everything that the outcome depends on, which `made` lists: a state of another identity is left
    unused. The first is written, the others are read too. `place` says where this process computes (device, engine,
    machine, ...). `suspended` is the file in which Git may bring a state from another machine.
    """

    path: Path
    identities: tuple[str, ...]
    place: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    suspended: Path | None = None

    def load(self, problem: Problem) -> TrainingState | None:
        """Read the state that is further, here or suspended; None if there is none of this training.

        A damaged file is set aside, a suspended one is left as it is. Raises UserError if the file here cannot be read.
        """
        state = None
        try:
            state = self._read(self.path, problem)
        except DAMAGED as error:
            set_aside(self.path, "a state", str(error) or type(error).__name__, "training")
        if self.suspended is None or not self.suspended.exists():
            return state
        try:
            brought = self._read(self.suspended, problem)
            if brought is None:
                raise ValueError("it is of other settings or data")
        except (*DAMAGED, UserError) as error:
            pass_over(self.suspended, error)
            return state
        if state is not None and state.outer_step >= brought.outer_step:
            return state
        total = problem.settings.outer_steps
        say(f"{problem.name} seed {problem.seed} goes on from {self.suspended}: {brought.outer_step:,} of {total:,}")
        return brought

    def _read(self, path: Path, problem: Problem) -> TrainingState | None:
        """Read a state; None if there is none of this training. Raises ValueError or another error for what is none."""
        try:
            tensors, about = read_sealed(path)
        except MissingFileError:
            return None
        known = {name: about[name] for name in ("optimiser_steps", "outer_step", "seconds", "curve", "legs")}
        state = TrainingState.of(tensors, problem.device, **known)
        if about["identity"] not in self.identities:
            return None
        if (why := kept_files.unfit_state(about, problem.settings) or unfit(problem, state)) is not None:
            raise ValueError(why)
        return state

    def save(self, state: TrainingState) -> None:
        """Write the state; the previous file stays until this one is complete."""
        about = {
            "identity": self.identities[0],
            "of": self.made,
            "outer_step": state.outer_step,
            "optimiser_steps": state.optimiser.steps,
            "seconds": state.seconds,
            "curve": state.curve,
            "legs": self.legs(state),
        }
        write_sealed(self.path, {name: tensor.cpu().contiguous() for name, tensor in state.tensors.items()}, about)

    def legs(self, state: TrainingState) -> list[dict[str, Any]]:
        """Return where a training was computed: the legs before this process, and its own."""
        done = sum(leg["outer_steps"] for leg in state.legs)
        if state.outer_step == done:
            return state.legs
        seconds = sum(leg["seconds"] for leg in state.legs)
        own = {**self.place, "outer_steps": state.outer_step - done, "seconds": round(state.seconds - seconds, 1)}
        return [*state.legs, own]

    def discard(self) -> None:
        """Remove the file, and the suspended one."""
        self.path.unlink(missing_ok=True)
        if self.suspended is not None:
            remove(self.suspended)


def write_sealed(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and what is known about them with a digest of both; the old file stays until this is complete."""
    about = {"format": STATE_FORMAT, **about}
    parts: dict[str, Part] = {
        name: (str(one.dtype), tuple(one.shape), one.numpy().tobytes()) for name, one in tensors.items()
    }
    text = save(dict(tensors), {"about": json.dumps({**about, "sha256": state_digest(parts, about)})})
    with replacing(path) as part:
        part.write_bytes(text)


def read_sealed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `write_sealed`. Raises UserError if it cannot be read, and one of DAMAGED unless it is whole."""
    content = STATE_FILE.read(path)
    about, _ = kept_files.read_sealed(content)
    return checkpoints.parse(content)[1], about


def set_aside(path: Path, what: str, why: str, work: str) -> None:
    """Rename a file that the work cannot go on from and say so, in one line."""
    aside = path.with_suffix(f".damaged{path.suffix}")
    path.replace(aside)
    say(
        f"{path}: not {what} to go on from ({one_line(why)[:200]}); it is now {aside.name}, and the {work} starts from "
        "the beginning"
    )


def pass_over(path: Path, error: Exception) -> None:
    """Say, in one line, why the work does not go on from a suspended file."""
    say(f"{path}: passed over ({reason(error, path)})")


def unfit(problem: Problem, kept: TrainingState) -> str | None:
    """Say why the tensors of a kept state cannot be those of this training; None if they can."""
    first = start(problem)
    wide = torch.Size((*first.outer_moments.shape[:2], first.parameters.shape[1]))
    for name, tensor in kept.tensors.items():
        shapes = (first.tensors[name].shape, *([wide] if name == "outer_moments" else []))
        if tensor.shape not in shapes or tensor.dtype != problem.dtype:
            return f"{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}"
        if not torch.isfinite(tensor).all():
            return f"{name} is not finite"
    return None
