"""Saved states of unfinished trainings, from which they resume on this machine or on another one.

A state carries a digest of everything it holds. A damaged state is moved aside with a warning: resuming from it would
silently give a wrong checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
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
from firstorder.records.kept_files import (
    LARGEST_WEIGHT,
    STATE_FORMAT,
    OtherWorkError,
    Part,
    aside_of,
    put_aside,
    state_digest,
)
from firstorder.records.unfinished import remove, say

DAMAGED = (AttributeError, KeyError, TypeError, ValueError)
Content = TypeVar("Content")
STATE_FILE = Kind("a state", 1 << 30, "it is damaged")


class KeptFile:
    """A file of unfinished work, and the one, if any, in which Git may bring the same from another machine.

    What is in its place and is of other work, as after a change of the data, is put aside under a name by which that
    work finds it again.
    """

    path: Path
    suspended: Path | None
    what: ClassVar[str]
    work: ClassVar[str]

    @property
    def known(self) -> tuple[str, ...]:
        """The identities of this work."""
        raise NotImplementedError

    def further(
        self,
        read: Callable[[Path], Content | None],
        done: Callable[[Content], int],
        told: Callable[[Content, Path], str],
    ) -> Content | None:
        """Return what is further: here, put aside before, or suspended; None if there is none of this work.

        `read` gives None if there is no file. A damaged file is set aside, a suspended one is left as it is. `told` is
        the line for going on from another file than the one here. Raises UserError if the file here cannot be read.
        """
        kept = None
        try:
            kept = read(self.path)
        except OtherWorkError as error:
            set_other_aside(self.path, error)
        except DAMAGED as error:
            set_aside(self.path, self.what, error, self.work)
        asides = aside_of(self.path, self.known)
        carried = [] if self.suspended is None else [self.suspended, *aside_of(self.suspended, self.known)]
        for other in [*asides, *carried]:
            try:
                brought = read(other)
            except (*DAMAGED, UserError) as error:
                say(f"{other}: passed over ({reason(error, other)})")
                continue
            if brought is None or (kept is not None and done(kept) >= done(brought)):
                continue
            say(told(brought, other))
            kept = brought
            if other in asides:
                other.replace(self.path)
        return kept

    def discard(self) -> None:
        """Remove the file, those that were put aside of the same work, and the suspended one if it is of this work."""
        try:
            about = self.about(self.path)
            if about["identity"] not in self.known:
                set_other_aside(self.path, OtherWorkError(about, {}))
        except (*DAMAGED, UserError):
            pass  # there is none, or it is of no use to any work
        for path in (self.path, *aside_of(self.path, self.known)):
            path.unlink(missing_ok=True)
        with suppress(*DAMAGED, UserError):
            if self.suspended is not None and self.about(self.suspended)["identity"] in self.known:
                remove(self.suspended)

    @staticmethod
    def about(path: Path) -> Mapping[str, Any]:
        """Return what a file says of itself, its `identity` among it; raises UserError or one of DAMAGED."""
        raise NotImplementedError


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
    what, work = "a state", "training"

    @property
    def known(self) -> tuple[str, ...]:
        """The identities of this training."""
        return self.identities

    def load(self, problem: Problem) -> TrainingState | None:
        """Read the state that is further, as `KeptFile.further`."""

        def goes_on(state: TrainingState, path: Path) -> str:
            done = f"{state.outer_step:,} of {problem.settings.outer_steps:,}"
            return f"{problem.name} seed {problem.seed} goes on from {path}: {done}"

        return self.further(partial(self._read, problem), lambda state: state.outer_step, goes_on)

    def _read(self, problem: Problem, path: Path) -> TrainingState | None:
        """Read a state; None if there is none. Raises ValueError or another error for what is none of this training."""
        try:
            tensors, about = read_sealed(path)
        except MissingFileError:
            return None
        if about["identity"] not in self.identities:
            raise OtherWorkError(about, self.made)
        known = {name: about[name] for name in ("optimiser_steps", "outer_step", "seconds", "curve", "legs")}
        state = TrainingState.of(tensors, problem.device, **known)
        if (why := kept_files.unfit_state(about, problem.settings) or unfit(problem, state)) is not None:
            raise ValueError(why)
        return state

    @staticmethod
    def about(path: Path) -> Mapping[str, Any]:
        """Return what a state says of itself."""
        return kept_files.read_sealed(STATE_FILE.read(path))[0]

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
    aside = put_aside(path)
    say(
        f"{path}: not {what} to go on from ({reason(error, path)[:200]}); it is now {aside.name}, and the "
        f"{work} starts from the beginning"
    )


def set_other_aside(path: Path, error: OtherWorkError) -> None:
    """Rename a file that is whole but of other work, and say so, in one line."""
    aside = put_aside(path, error.identity)
    say(f"{path}: set aside as {aside.name} ({reason(error, path)[:200]}); it serves again once that is as it was")


def unfit(problem: Problem, kept: TrainingState) -> str | None:
    """Say why the tensors of a kept state cannot be those of this training; None if they can."""
    first = start(problem)
    narrow, wide = first.outer_moments.shape, torch.Size((2, *first.parameters.shape))
    outer = (wide,) if problem.settings.outer_optimiser == "adam" and kept.outer_step else (narrow, wide)
    if kept.tensors.keys() != first.tensors.keys():
        return f"its tensors are {', '.join(kept.tensors)}, expected {', '.join(first.tensors)}"
    for name, tensor in kept.tensors.items():
        shapes = outer if name == "outer_moments" else (first.tensors[name].shape,)
        if tensor.shape not in shapes or tensor.dtype != problem.dtype:
            return f"{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}"
        if not torch.isfinite(tensor).all():
            return f"{name} is not finite"
    if (kept.optimiser.second_moments < 0).any() or (kept.outer_moments[1] < 0).any():
        return kept_files.BELOW_ZERO
    if (kept.parameters.abs() > LARGEST_WEIGHT).any():
        return f"a parameter is beyond {LARGEST_WEIGHT:,}"
    if (kept.optimiser.steps > 0) != bool(kept.optimiser.second_moments.any()):
        return f"its second moments cannot be those after {kept.optimiser.steps} steps of the inner optimiser"
    if problem.settings.outer_optimiser != "adam" and kept.outer_moments.any():
        return "it has moments of an outer optimiser, and its training has none"
    return None
