"""Choose the engine of a training or an evaluation, by the name given on the command line and kept in `.run.json`.

- plain: autograd, as in method/inner_loop.py. The other engines are tested against it.
- native: C code (native/), on a CPU with a C compiler.
- lanes: many lanes at once in batched matrix products (lanes/), on any device.
- graph: lanes and, in training, whole outer steps of all seeds on the device (graph/). On a GPU, each outer step is
  captured as a CUDA graph.
- auto: graph on a GPU, or else lanes or plain: the first that shows the same outer steps as plain (trial.py); on a CPU
  native if available, else plain. With beta1 > 0 in the inner loop, plain everywhere: no other engine computes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import torch

from firstorder.engines import trial
from firstorder.engines.by_hand import ONLY_WITHOUT_MOMENTUM
from firstorder.engines.graph.trainings import train as train_together
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.engines.native import engine as native
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.architectures import architecture_of
from firstorder.method.inner_loop import Engine, Plain
from firstorder.method.training import Resumable, TrainingState
from firstorder.progress import Stop, Track
from firstorder.settings import TrainingSettings
from firstorder.settings.engines import AUTO, GRAPH, LANES, NATIVE, PLAIN

# Trains several seeds of a training: (trainings, track, stop) -> their states, None for one that did not start.
Train = Callable[[Sequence[Resumable], Track, Stop], Iterable[TrainingState | None]]


def train_each(trainings: Sequence[Resumable], track: Track, stop: Stop) -> Iterator[TrainingState | None]:
    """Train one after another. Yield the state in which each one stops; None if `stop` came before it started."""
    for number, one in enumerate(trainings):
        yield training.train(one, track, stop) if number == 0 or not stop() else None


class UnsuitedError(Exception):
    """An engine that does not support what is asked of it; the message says why."""


@dataclass(frozen=True)
class Choice:
    """An engine, the function that trains several seeds with it, and its name in the records of a training."""

    engine: Engine
    name: str
    train: Train = train_each
    side_by_side: bool = False  # `train` computes all seeds at once


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The name of the wanted engine, its device, and whether `torch.compile` may fuse operations.

    `threads` are those of engine native; None means as many as PyTorch uses.
    """

    name: str
    device: torch.device
    compiled: bool = False
    threads: int | None = None


def leave_cores_to(engine: Engine) -> None:
    """Give PyTorch's own operations one thread beside an engine with threads of its own.

    They are few and small beside it, but their idle threads keep the cores for a while, and the engine's wait for them.
    """
    if engine.name.startswith(NATIVE):
        torch.set_num_threads(1)


@contextmanager
def cores_for(engine: Engine) -> Iterator[None]:
    """Leave the cores to an engine while it computes, then give PyTorch its threads again."""
    before = torch.get_num_threads()
    leave_cores_to(engine)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose(wish: Wish, settings: TrainingSettings) -> Choice:
    """Choose the engine for a training's network.

    Raises UserError if the engine is unavailable here or does not support the training's precision.
    """
    name = _automatic(wish, settings) if wish.name == AUTO else wish.name
    if name not in (LANES, GRAPH) and settings.precision is not None:
        raise UserError(
            f"--engine {name} computes in float32 only, precision is {settings.precision}; use --engine lanes or graph"
        )
    if name not in (LANES, GRAPH) and wish.compiled:
        raise UserError(f"--compile is for engines lanes and graph, not for {name}; leave it out")
    try:
        return MAKERS[name](wish, settings)
    except UnsuitedError as error:
        raise UserError(f"--engine {name}: {error}; use --engine auto") from None


def _automatic(wish: Wish, settings: TrainingSettings) -> str:
    """Return the name of the fastest engine that is available on the device and computes what plain does."""
    if settings.inner_beta1:
        _say_once(f"engine plain, because inner_beta1 is {settings.inner_beta1:g}, which no other engine computes")
        return PLAIN
    if wish.device.type == "cuda":
        return _on_gpu(wish, settings)
    if settings.precision is not None:
        return LANES
    if reason := native.reason(architecture_of(settings.network, settings.image)):
        _say_once(f"engine plain, about half as fast as native, because: {reason}")
        return PLAIN
    return NATIVE


def _on_gpu(wish: Wish, settings: TrainingSettings) -> str:
    """Return graph or, if it fails on this device, lanes or plain; say once why."""
    for name, next_one in ((GRAPH, LANES), (LANES, PLAIN)):
        if (reason := trial.reason(name, settings, wish.device)) is None:
            return name
        _say_once(f"engine {next_one} instead of {name} for network {settings.network}, because: {reason}")
    return PLAIN


@cache
def _say_once(line: str) -> None:
    """Print a line on standard error, once in a process."""
    print(f"firstorder: {line}", file=sys.stderr)


def _plain(wish: Wish, settings: TrainingSettings) -> Choice:
    return Choice(Plain(), PLAIN)


def _check_momentum(settings: TrainingSettings) -> None:
    if settings.inner_beta1:
        raise UnsuitedError(ONLY_WITHOUT_MOMENTUM)


def _native(wish: Wish, settings: TrainingSettings) -> Choice:
    _check_momentum(settings)
    architecture = architecture_of(settings.network, settings.image)
    reason = native.reason(architecture) if wish.device.type == "cpu" else "it runs on a CPU only"
    if reason is not None:
        raise UnsuitedError(reason)
    engine = native.NativeEngine(architecture, settings.way, wish.threads)
    return Choice(engine, engine.name)


def _lanes_engine(wish: Wish, settings: TrainingSettings) -> LanesEngine:
    _check_momentum(settings)
    precision = settings.precision or "float32"
    network = architecture_of(settings.network, settings.image)
    return LanesEngine(network, settings.way, precision=precision, compiled=wish.compiled)


def _lanes(wish: Wish, settings: TrainingSettings) -> Choice:
    engine = _lanes_engine(wish, settings)
    return Choice(engine, engine.name)


def _graph(wish: Wish, settings: TrainingSettings) -> Choice:
    engine = _lanes_engine(wish, settings)
    name = f"{GRAPH}, compiled" if wish.compiled else GRAPH
    return Choice(engine, name, partial(train_together, engine=engine), side_by_side=True)


MAKERS: dict[str, Callable[[Wish, TrainingSettings], Choice]] = {
    PLAIN: _plain,
    NATIVE: _native,
    LANES: _lanes,
    GRAPH: _graph,
}
