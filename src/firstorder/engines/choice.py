"""Which engine computes a training or an evaluation: names for the command line and for `.run.json`.

- plain: autograd, inner_loop.py as it is written; the oracle of the others.
- native: native.c, for a CPU with a C compiler.
- lanes: lanes.py, many lanes in batched matrix products, on any device.
- graph: lanes, and in training whole outer steps of all seeds side by side on the device (graphs.py); on a GPU each is
  recorded as a CUDA graph.
- auto: graph on a GPU; on a CPU native where it can be had, else plain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from firstorder.engines.graph import outer_step
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.engines.native import engine as native
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.inner_loop import Engine, Plain
from firstorder.method.training import Resumable, TrainingState
from firstorder.progress import Track
from firstorder.settings import TrainingSettings

# Trains several seeds of a training: (trainings, track, time_limit) -> their states, None for one not begun.
Train = Callable[[Sequence[Resumable], Track, float | None], Iterable[TrainingState | None]]


@dataclass(frozen=True)
class Choice:
    """What computes: an engine, how it trains several seeds, and what the records of that training call it."""

    engine: Engine
    train: Train = training.train_each
    trained_by: str = ""
    side_by_side: bool = False  # all seeds of a training at once

    @property
    def name(self) -> str:
        """What the records of a training call it."""
        return self.trained_by or self.engine.name


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which engine is asked for, on which device, and whether `torch.compile` may join operations."""

    name: str
    device: torch.device
    compiled: bool = False


def choose(wish: Wish, settings: TrainingSettings) -> Choice:
    """Choose the engine for a training's network.

    Raises UserError where that engine cannot be had here, or does not know the training's precision.
    """
    return MAKERS[_automatic(wish, settings) if wish.name == "auto" else wish.name](wish, settings)


def _automatic(wish: Wish, settings: TrainingSettings) -> str:
    """Return the fastest engine that can be had on the device."""
    if wish.device.type == "cuda":
        return "graph"
    if settings.precision is not None:
        return "lanes"
    return "plain" if native.reason(settings.network) else "native"


def _plain(wish: Wish, settings: TrainingSettings) -> Choice:
    _refuse_options("plain", wish, settings)
    return Choice(Plain())


def _native(wish: Wish, settings: TrainingSettings) -> Choice:
    _refuse_options("native", wish, settings)
    reason = native.reason(settings.network) if wish.device.type == "cpu" else "it is for the CPU"
    if reason is not None:
        raise UserError(f"--engine native: {reason}; use --engine auto")
    return Choice(native.NativeEngine(settings.network, settings.way))


def _lanes(wish: Wish, settings: TrainingSettings) -> Choice:
    return Choice(_lanes_engine(wish, settings))


def _graph(wish: Wish, settings: TrainingSettings) -> Choice:
    engine = _lanes_engine(wish, settings)
    called = "graph, compiled" if wish.compiled else "graph"
    return Choice(engine, partial(outer_step.train, engine=engine), called, side_by_side=True)


MAKERS: dict[str, Callable[[Wish, TrainingSettings], Choice]] = {
    "plain": _plain,
    "native": _native,
    "lanes": _lanes,
    "graph": _graph,
}


def _lanes_engine(wish: Wish, settings: TrainingSettings) -> LanesEngine:
    precision = settings.precision or "float32"
    return LanesEngine(settings.network, settings.way, precision=precision, compiled=wish.compiled)


def _refuse_options(name: str, wish: Wish, settings: TrainingSettings) -> None:
    """Raise UserError where an engine is asked for what only `lanes` and `graph` know."""
    if settings.precision is not None:
        raise UserError(
            f"--engine {name} computes in float32 only, precision is {settings.precision}; use --engine lanes or graph"
        )
    if wish.compiled:
        raise UserError(f"--compile joins operations of engines lanes and graph, not of {name}; leave it out")
