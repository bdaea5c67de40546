"""Saved states of unfinished trainings, from which they resume on this machine or on another one.

A state carries a digest of everything it holds. A damaged state is moved aside with a warning: resuming from it would
silently give a wrong checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor

from firstorder.errors import UserError, reason
from firstorder.files import Kind, MissingFileError, replacing
from firstorder.method.training import Problem, TrainingState, start
from firstorder.records import checkpoints, kept_files
from firstorder.records.kept_files import STATE_FORMAT, Part, state_digest
from firstorder.records.unfinished import remove, say

DAMAGED = (AttributeError, KeyError, TypeError, ValueError)
Content = TypeVar("Content")
STATE_FILE = Kind("a state", 1 << 30, "it is damaged")


class KeptFile:
    """A file of unfinished work, and the one, if any, in which Git may bring the same from another machine."""

    path: Path
    suspended: Path | None
    what: ClassVar[str]
    work: ClassVar[str]
    other: ClassVar[str]  # what is said of a suspended one that is of other work

    def further(
        self, read: Callable[[Path], Content | None], done: Callable[[Content], int], told: Callable[[Content], str]
    ) -> Content | None:
        """Return what is further, here or suspended; None if there is none of this work, for which `read` gives None.

        A damaged file is set aside, a suspended one is left as it is. `told` is the line for going on from that one.
        Raises UserError if the file here cannot be read.
        """
        kept = None
        try:
            kept = read(self.path)
        except DAMAGED as error:
            set_aside(self.path, self.what, error, self.work)
        if self.suspended is None or not self.suspended.exists():
            return kept
        try:
            brought = read(self.suspended)
            if brought is None:
                raise ValueError(self.other)
        except (*DAMAGED, UserError) as error:
            say(f"{self.suspended}: passed over ({reason(error, self.suspended)})")
            return kept
        if kept is not None and done(kept) >= done(brought):
            return kept
        say(told(brought))
        return brought

    def discard(self) -> None:
        """Remove the file, and the suspended one."""
        self.path.unlink(missing_ok=True)
        if self.suspended is not None:
            remove(self.suspended)


@dataclass(frozen=True)
class StateFile(KeptFile):
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
    what, work, other = "a state", "training", "it is of other settings or data"

    def load(self, problem: Problem) -> TrainingState | None:
        """Read the state that is further, as `KeptFile.further`."""

        def goes_on(state: TrainingState) -> str:
            done = f"{state.outer_step:,} of {problem.settings.outer_steps:,}"
            return f"{problem.name} seed {problem.seed} goes on from {self.suspended}: {done}"

        return self.further(partial(self._read, problem), lambda state: state.outer_step, goes_on)

    def _read(self, problem: Problem, path: Path) -> TrainingState | None:
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


def set_aside(path: Path, what: str, error: Exception, work: str) -> None:
    """Rename a file that the work cannot go on from and say so, in one line."""
    aside = path.with_suffix(f".damaged{path.suffix}")
    path.replace(aside)
    say(
        f"{path}: not {what} to go on from ({reason(error, path)[:200]}); it is now {aside.name}, and the "
        f"{work} starts from the beginning"
    )


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
