"""Choose the engine of a training or an evaluation, by the name given on the command line and kept in `.run.json`.

- plain: autograd, as in method/inner_loop.py. The other engines are tested against it.
- native: C code (native/), on a CPU with a C compiler.
- lanes: many lanes at once in batched matrix products (lanes/), on any device.
- graph: lanes and, in training, whole outer steps of all seeds on the device (graph/). On a GPU, each outer step is
  captured as a CUDA graph.
- auto: graph on a GPU; on a CPU native if available, else plain.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch

from firstorder.engines.graph.trainings import train as train_together
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.engines.native import engine as native
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.inner_loop import Engine, Plain
from firstorder.method.training import Resumable, TrainingState
from firstorder.progress import Stop, Track, never, silent
from firstorder.settings import TrainingSettings

# Trains several seeds of a training: (trainings, track, stop) -> their states, None for one that did not start.
Train = Callable[[Sequence[Resumable], Track, Stop], Iterable[TrainingState | None]]


def train_each(
    trainings: Sequence[Resumable], track: Track = silent, stop: Stop = never
) -> Iterator[TrainingState | None]:
    """Train one after another. Yield the state in which each one stops; None if `stop` came before it started."""
    for number, one in enumerate(trainings):
        yield training.train(one, track, stop) if number == 0 or not stop() else None


@dataclass(frozen=True)
class Choice:
    """An engine, the function that trains several seeds with it, and its name in the records of a training."""

    engine: Engine
    train: Train = train_each
    trained_by: str = ""
    side_by_side: bool = False  # `train` computes all seeds at once

    @property
    def name(self) -> str:
        """Name in the records of a training."""
        return self.trained_by or self.engine.name


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The name of the wanted engine, its device, and whether `torch.compile` may fuse operations."""

    name: str
    device: torch.device
    compiled: bool = False


def choose(wish: Wish, settings: TrainingSettings) -> Choice:
    """Choose the engine for a training's network.

    Raises UserError if the engine is unavailable here or does not support the training's precision.
    """
    return MAKERS[_automatic(wish, settings) if wish.name == "auto" else wish.name](wish, settings)


def _automatic(wish: Wish, settings: TrainingSettings) -> str:
    """Return the name of the fastest engine available on the device."""
    if wish.device.type == "cuda":
        return "graph"
    if settings.precision is not None:
        return "lanes"
    if reason := native.reason(settings.network):
        _say_once(f"engine plain, about half as fast as native, because: {reason}")
        return "plain"
    return "native"


@cache
def _say_once(line: str) -> None:
    """Print a line on standard error, once in a process."""
    print(f"firstorder: {line}", file=sys.stderr)


def _plain(wish: Wish, settings: TrainingSettings) -> Choice:
    _refuse_options("plain", wish, settings)
    return Choice(Plain())


def _native(wish: Wish, settings: TrainingSettings) -> Choice:
    _refuse_options("native", wish, settings)
    reason = native.reason(settings.network) if wish.device.type == "cpu" else "it runs on a CPU only"
    if reason is not None:
        raise UserError(f"--engine native: {reason}; use --engine auto")
    return Choice(native.NativeEngine(settings.network, settings.way))


def _lanes(wish: Wish, settings: TrainingSettings) -> Choice:
    return Choice(_lanes_engine(wish, settings))


def _graph(wish: Wish, settings: TrainingSettings) -> Choice:
    engine = _lanes_engine(wish, settings)
    called = "graph, compiled" if wish.compiled else "graph"
    return Choice(engine, partial(train_together, engine=engine), called, side_by_side=True)


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
    """Raise UserError if an option is set that only `lanes` and `graph` support."""
    if settings.precision is not None:
        raise UserError(
            f"--engine {name} computes in float32 only, precision is {settings.precision}; use --engine lanes or graph"
        )
    if wish.compiled:
        raise UserError(f"--compile is for engines lanes and graph, not for {name}; leave it out")
