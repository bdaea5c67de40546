"""native.c as an engine: compiled once on this machine and called through ctypes.

The engine is optional. Without a C compiler, or for a network that native.c does not support, `reason` says why, and
`--engine auto` uses the plain engine instead, which gives the same numbers up to rounding.

It uses as many threads as PyTorch does (OMP_NUM_THREADS). Several lanes are computed at the same time, one lane by
several threads. Results have the same bytes with any number of threads.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import torch
from torch import Tensor

from firstorder.engines.by_hand import ByHand, check_momentum
from firstorder.engines.native import compiled
from firstorder.engines.native.border import MOST_THREADS, Workspace, at, check_batch, check_vectors, readable
from firstorder.engines.native.pace import Pace
from firstorder.method.architectures import ARCHITECTURES, Architecture, architecture_of
from firstorder.method.inner_loop import (
    InnerLoop,
    OptimiserState,
    Plain,
    adam_rate,
)
from firstorder.method.networks import make_network
from firstorder.method.training import classification_loss

NARROWEST = 32  # bytes per vector: AVX or wider (measured in docs/performance.md)
PROVEN = "omniglot"  # the network of the proof
# Rounding gives 2e-6 and 4e-15, and up to 3e-3 if it decides a near tie of a maximum; a mistake gives 0.1 and more.
AGREEMENT = {"float": 1e-2, "double": 1e-9}
MOST_CHANNELS = 16  # of an image; the first block holds sums of products of all pairs of them on the stack

NUMBERS = {torch.float32: ("float", ctypes.c_float), torch.float64: ("double", ctypes.c_double)}


@functools.cache
def library(real: str, *defines: str) -> ctypes.CDLL | str:
    """Return native.c compiled for `real` ("float" or "double") and `defines`, or the reason why it cannot be used.

    Before its first use in a process, it computes a small gradient, which is compared with the plain engine's.
    """
    loaded = compiled.load(real, *defines)
    if isinstance(loaded, str):
        return loaded
    loaded.net_new.restype = ctypes.c_void_p
    loaded.net_parameters.restype = ctypes.c_long
    loaded.net_free.restype = None
    distance = _distance_from_plain(loaded, real)
    if not distance < AGREEMENT[real]:
        return f"its gradient is wrong by {distance:.1e} of the plain one; delete {loaded._name}"
    return loaded


def _distance_from_plain(
    loaded: ctypes.CDLL, real: str, network: str | Architecture = PROVEN, tiles: bool = False
) -> float:
    """Return how far the library's gradient of two images is from the plain one, relative to that."""
    made = make_network(network, 2)
    dtype = next(kind for kind, (name, _) in NUMBERS.items() if name == real)
    parameters = made.initial(0).to(dtype)[None]
    architecture = architecture_of(network)
    size = architecture.image_shape
    noise = (
        (torch.arange(2 * math.prod(size), dtype=torch.float64) ** 2).sin().abs()
    )  # not smooth: windows without ties
    batch = (noise.to(dtype).view(1, 2, *size), torch.tensor([[0, 1]]))
    inner = InnerLoop(classification_loss(made), "sgd", 0.0)
    engine = NativeEngine(network, 2, threads=1, tiles=False)
    engine.workspaces[dtype] = [Workspace(loaded, architecture, 2, 2, tiles=tiles)]
    found = engine.gradient(inner, parameters, batch)
    with torch.enable_grad():
        wanted = Plain().gradient(inner, parameters, batch)
    return float((found - wanted).norm() / wanted.norm())


def reason(network: str | Architecture) -> str | None:
    """Return why NativeEngine does not support a network on this machine; None if it does.

    One of other sizes than ARCHITECTURES first computes a small gradient, which is compared with the plain engine's.
    """
    architecture = architecture_of(network)
    loaded = library("float")
    if isinstance(loaded, str):
        return loaded
    if loaded.vector_bytes() < NARROWEST:
        return f"this processor's vectors have {loaded.vector_bytes()} bytes, with which PyTorch is faster"
    if architecture.filters % 16:
        return f"{architecture.filters} filters are no multiple of 16"
    if architecture.channels > MOST_CHANNELS:
        return f"it takes images of at most {MOST_CHANNELS} channels, these have {architecture.channels}"
    return None if architecture in ARCHITECTURES.values() else _unproven(architecture)


@functools.cache
def _unproven(architecture: Architecture) -> str | None:
    """Return by how much the gradient of an architecture is wrong here; None if it is right."""
    loaded = library("float")
    distance = math.inf if isinstance(loaded, str) else _distance_from_plain(loaded, "float", architecture)
    if distance < AGREEMENT["float"]:
        return None
    sizes = "x".join(map(str, architecture.image_shape))
    return f"its gradient for images of {sizes} is wrong by {distance:.1e} of the plain one"


@functools.cache
def has_tiles(network: str | Architecture) -> bool:
    """Say whether float32 products of a network use matrix tiles (AMX) here.

    The processor and the system must have them, and only large maps use them: see native/tiles.h. Before the first use
    in a process, a small gradient is compared with the plain engine's; if it is wrong, a line says so.
    """
    loaded = library("float")
    if isinstance(loaded, str) or not loaded.has_tiles() or architecture_of(network).pool == "stride":
        return False
    distance = _distance_from_plain(loaded, "float", network, tiles=True)
    if not distance < AGREEMENT["float"]:
        print(f"firstorder: not using matrix tiles, whose gradient is wrong by {distance:.1e}", file=sys.stderr)
        return False
    return True


def peak(rounds: int) -> float | None:
    """Do `rounds` rounds of multiply-adds in registers; return the number of operations, None without native.c.

    With float32 and the widest vectors, no code does more operations per second on one core. Releases Python's global
    lock, so other threads run at the same time.
    """
    loaded = library("float")
    if isinstance(loaded, str):
        return None
    loaded.peak.restype = ctypes.c_double
    return float(loaded.peak(ctypes.c_long(rounds), ctypes.byref(ctypes.c_float())))


class NativeEngine(ByHand):
    """The engine for one architecture and way; see inner_loop.Engine."""

    def __init__(self, network: str | Architecture, way: int, threads: int | None = None, tiles: bool = True) -> None:
        """Take an architecture, or the name of one of ARCHITECTURES. Memory is allocated when it is first needed.

        `threads` is the number of threads; None means as many as PyTorch uses when this is called. Without `tiles`,
        only vectors are used.
        """
        self.architecture, self.way = architecture_of(network), way
        self.tiles = tiles and has_tiles(network)
        self.threads = torch.get_num_threads() if threads is None else threads
        self.workspaces: dict[torch.dtype, list[Workspace]] = {}
        self.pace = Pace(min(self.threads, MOST_THREADS))

    @property
    def name(self) -> str:
        """Name of the engine in records. With tiles the last digits are others."""
        return "native, tiles" if self.tiles else "native"

    def _rooms(self, parameters: Tensor, lanes: int, images: int) -> list[Workspace]:
        """Return a workspace for each lane that is computed at the same time, for mini-batches of `images` images."""
        at_once = max(1, min(lanes, self.threads))
        threads = min(self.threads // at_once, MOST_THREADS)
        known = self.workspaces.setdefault(parameters.dtype, [])
        for number in range(at_once):
            if number < len(known) and known[number].images >= images and known[number].threads >= threads:
                continue
            loaded = library(NUMBERS[parameters.dtype][0])
            if isinstance(loaded, str):
                raise RuntimeError(loaded)
            made = Workspace(loaded, self.architecture, self.way, images, threads, self.tiles)
            known[number : number + 1] = [made]
        assert known[0].parameters == parameters.shape[1], "parameters of another network"
        return known[:at_once]

    STORED: ClassVar[bool] = True

    def adapt(
        self, inner: InnerLoop, parameters: Tensor, state: OptimiserState, batches: Sequence[Any]
    ) -> tuple[Tensor, OptimiserState]:
        """Take the inner steps of one lane after another. Raises UserError with beta1 > 0."""
        check_momentum(inner)
        images, scale = readable([x for x, _ in batches], parameters.dtype)
        labels = torch.stack([y for _, y in batches], dim=1)
        lanes, steps, batch = labels.shape
        adapted = parameters.detach().expand(lanes, -1).clone()
        gradient = torch.empty_like(adapted)
        moments = None
        rates = [inner.learning_rate] * steps
        if inner.optimiser == "adam":
            moments = state.second_moments.expand(lanes, -1).clone()
            counts = range(state.steps + 1, state.steps + steps + 1)
            rates = [adam_rate(inner.learning_rate, count) for count in counts]
            state = OptimiserState(moments, state.steps + steps)
        rooms = self._rooms(adapted, lanes, batch)
        mask = None if inner.adapted is None else inner.adapted.to(adapted.dtype).contiguous()
        check_batch(self.architecture, self.way, images, labels, (lanes, steps, batch))
        check_vectors(rooms[0].parameters, adapted.dtype, adapted, gradient, moments, mask)
        call = (ctypes.c_int(steps), ctypes.c_int(batch), (NUMBERS[adapted.dtype][1] * steps)(*rates), gradient)
        fixed = None if mask is None else at(mask)
        threads, begun = self.pace.threads() if lanes == 1 else None, time.monotonic()
        arguments = (adapted, moments, fixed, images, scale, labels, *call)
        self._each_lane(rooms, "net_adapt", lanes, *arguments, threads=threads)
        if threads is not None:
            self.pace.note(threads, time.monotonic() - begun, max(1, steps * batch))
        return adapted, state

    def gradient(self, inner: InnerLoop, parameters: Tensor, batch: Any) -> Tensor:
        """Take the forward and the backward pass."""
        return self._derivative("net_gradient", parameters, batch)

    def hessian_product(self, inner: InnerLoop, parameters: Tensor, batch: Any, vector: Tensor) -> Tensor:
        """Take both passes and their derivatives along `vector`."""
        masked = vector if inner.adapted is None else vector * inner.adapted.to(vector.dtype)
        return self._derivative("net_hessian_product", parameters, batch, masked)

    def _derivative(self, function: str, parameters: Tensor, batch: Any, *vectors: Tensor) -> Tensor:
        given, labels = batch[0], batch[1].contiguous()
        lanes, count = labels.shape
        parameters = parameters.detach().expand(lanes, -1).contiguous()
        images, scale = readable([given], parameters.dtype)
        images = images[:, 0]
        result = torch.empty_like(parameters)
        rooms = self._rooms(parameters, lanes, count)
        vectors = tuple(vector.expand(lanes, -1).contiguous() for vector in vectors)
        check_batch(self.architecture, self.way, images, labels, (lanes, count))
        check_vectors(rooms[0].parameters, parameters.dtype, parameters, result, *vectors)
        self._each_lane(
            rooms, function, lanes, parameters, images, scale, labels, ctypes.c_int(count), *vectors, result
        )
        return result

    def logits(self, inner: InnerLoop, parameters: Tensor, images: Tensor) -> Tensor:
        """Take the forward pass."""
        lanes, count = images.shape[:2]
        parameters = parameters.detach().expand(lanes, -1).contiguous()
        images = images.to(parameters.dtype).contiguous()
        result = parameters.new_empty(lanes, count, self.way)
        rooms = self._rooms(parameters, lanes, count)
        check_batch(self.architecture, self.way, images, None, (lanes, count))
        check_vectors(rooms[0].parameters, parameters.dtype, parameters)
        numbers = ctypes.c_int(0)
        self._each_lane(rooms, "net_logits", lanes, parameters, images, numbers, ctypes.c_int(count), result)
        return result

    def _each_lane(
        self, rooms: Sequence[Workspace], function: str, lanes: int, *arguments: Any, threads: int | None = None
    ) -> None:
        """Call a function of native.c for each lane, with its part of every tensor and with all other arguments.

        As many lanes are computed at the same time as there are workspaces, each by `threads` threads,
        or its share of all. Raises MemoryError.
        """
        call: Callable[..., int] = getattr(rooms[0].code, function)
        many = ctypes.c_int(self.threads // len(rooms) if threads is None else threads)

        def some(number: int) -> None:
            for lane in range(number, lanes, len(rooms)):
                mine = (at(one[lane]) if isinstance(one, Tensor) else one for one in arguments)
                if not call(rooms[number].net, many, *mine):
                    raise MemoryError("engine native: too little memory for second order")

        if len(rooms) == 1:
            some(0)
            return
        with ThreadPoolExecutor(len(rooms)) as pool:  # native.c is called without Python's global lock
            list(pool.map(some, range(len(rooms))))
