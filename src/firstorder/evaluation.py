"""Measures a meta-trained model on new tasks, in both modes.

A newcomer would get wrong, from the authors' reptile.py:
- adaptation does not start from a fresh Adam: the trained second moments and step count come with the
  checkpoint, every task starts from them, and none leaves a trace for the next, so tasks may be lanes;
- inductive: every query image goes through the network with the whole support set and nothing else, and
  only its own row is read; transductive: all query images of the task together, without support images.
  Adaptation is the same for both, so one evaluation measures both modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder import device_draws
from firstorder.checkpoints import Checkpoint
from firstorder.device_draws import DeviceTasks
from firstorder.inner_loop import Engine, InnerLoop, adapt
from firstorder.lanes import LanesEngine
from firstorder.models import Network
from firstorder.progress import Track, silent
from firstorder.settings import MODES, Mode
from firstorder.tasks import Tasks, TaskShape, draw_tasks

Counts = np.ndarray[Any, np.dtype[np.int64]]

# Tasks adapted side by side. The figures do not depend on it beyond rounding, but the bytes do, so it is
# fixed for each kind of device.
LANES = {"cpu": 10, "cuda": 256}
# With engine `lanes` on a GPU as many as fit into so many bytes, whatever the GPU has, for the same reason.
LANES_BYTES = 16 * 2**30
MOST_LANES = 4096


@dataclass(frozen=True)
class ImagePool:
    """All images of a pool of classes on the device: uint8 [classes * images a class, channels, height, width].

    Where classes have different numbers of images, `class_images` has one number a class, and every class takes as much
    room as the largest.
    """

    images: Tensor
    class_images: int | tuple[int, ...]
    scale: int
    turns: int = 1  # rotated copies of each class, one of which a task chooses

    @staticmethod
    def of(
        images: np.ndarray[Any, np.dtype[np.uint8]],
        scale: int,
        device: torch.device,
        turns: int = 1,
        counts: tuple[int, ...] | None = None,
    ) -> ImagePool:
        """Put uint8 [classes, images, channels, height, width] onto the device; `counts` where classes differ."""
        flat = torch.from_numpy(np.ascontiguousarray(images)).flatten(0, 1).to(device)
        return ImagePool(flat, counts or images.shape[1], scale, turns)

    @property
    def classes(self) -> int:
        """Number of classes, rotated copies not counted."""
        stride = self.class_images if isinstance(self.class_images, int) else max(self.class_images)
        return len(self.images) // (stride * self.turns)

    def take(
        self, positions: np.ndarray[Any, np.dtype[np.int64]] | Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return images [*positions.shape, channels, height, width] as the network sees them, in [0, 1]."""
        if not isinstance(positions, Tensor):
            positions = torch.from_numpy(positions).to(self.images.device)
        taken = self.images[positions].to(dtype)
        return taken if self.scale == 1 else taken / self.scale


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Which tasks an evaluation is made of; tasks are numbered from 0, see tasks.draw_task."""

    title: str
    shape: TaskShape
    seed: int
    purpose: str
    step: int
    tasks: int


def mini_batches(pool: ImagePool, tasks: Tasks | DeviceTasks, dtype: torch.dtype = torch.float32) -> list[Any]:
    """Gather the mini-batches of all lanes: a list over inner steps of (images, labels) [lanes, batch, ...].

    Of tasks drawn on the device each is gathered when its step comes, as engine `lanes` takes them: they are many.
    """
    if isinstance(tasks, DeviceTasks):
        positions, labels = tasks.batches, tasks.batch_labels

        def gathered(step: int) -> tuple[Tensor, Tensor]:
            return pool.take(positions[:, step], dtype), labels[:, step]

        return [partial(gathered, step) for step in range(positions.shape[1])]
    images = pool.take(tasks.batches, dtype)
    labels = torch.from_numpy(tasks.batch_labels).to(images.device)
    return [(images[:, step], labels[:, step]) for step in range(images.shape[1])]


def query_images(
    pool: ImagePool, tasks: Tasks | DeviceTasks, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Gather the query images of all lanes and their labels: [lanes, way * query, ...]."""
    images = pool.take(tasks.query, dtype)
    labels = torch.arange(tasks.query.shape[1], device=images.device) // max(tasks.query.shape[1] // tasks.way, 1)
    return images, labels.expand(len(images), -1)


def transductive_logits(network: Network | Engine, parameters: Tensor, query: Tensor) -> Tensor:
    """Classify all query images [lanes, queries, ...] of a task together: [lanes, queries, way]."""
    return network.logits(parameters, query)


def inductive_logits(network: Network | Engine, parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
    """Classify each query image with the support set [lanes, images, ...] alone: [lanes, queries, way]."""
    if isinstance(network, LanesEngine):
        return _inductive_side_by_side(network, parameters, support, query)
    rows = [
        network.logits(parameters, torch.cat([support, query[:, [position]]], dim=1))[:, -1]
        for position in range(query.shape[1])
    ]
    return torch.stack(rows, dim=1)


def _inductive_side_by_side(engine: LanesEngine, parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
    """Do the same with a lane for each query of each lane, as many at a time as memory allows."""
    lanes, queries = query.shape[:2]
    lane = torch.arange(lanes, device=query.device).repeat_interleave(queries)
    single = query.flatten(0, 1).unsqueeze(1)  # [lanes * queries, 1, ...]
    size = (support.shape[1] + 1) * engine.image_bytes(support.element_size())
    chunk = max(1, LANES_BYTES // (size + 8 * parameters.shape[1] * parameters.element_size()))
    rows = [
        engine.logits(parameters[some], torch.cat([support[some], images], dim=1))[:, -1]
        for some, images in zip(lane.split(chunk), single.split(chunk), strict=True)
    ]
    return torch.cat(rows).view(lanes, queries, -1)


def lanes_at_once(inner: InnerLoop, pool: ImagePool, shape: TaskShape, parameters: Tensor) -> int:
    """Return how many tasks of an evaluation are adapted side by side."""
    device = pool.images.device.type
    if device == "cpu" or not isinstance(inner.engine, LanesEngine):
        return LANES[device]
    size = shape.inner_batch_size * inner.engine.image_bytes(parameters.element_size())
    # Parameters, second moments, gradient and what comes and goes beside them.
    size += 8 * parameters.shape[1] * parameters.element_size()
    return min(max(1, LANES_BYTES // size), MOST_LANES)


def _drawn(inner: InnerLoop, pool: ImagePool, draws: Draws, tasks: range) -> Tasks | DeviceTasks:
    """Draw tasks: on the device for an engine of many lanes, which would wait for the host's draws."""
    if not isinstance(inner.engine, LanesEngine):
        return draw_tasks(draws.shape, draws.seed, draws.purpose, draws.step, tasks)
    numbers = torch.arange(tasks.start, tasks.stop, device=pool.images.device)
    return device_draws.draw(draws.shape, draws.seed, draws.purpose, torch.full_like(numbers, draws.step), numbers)


def correct_answers(
    network: Network,
    inner: InnerLoop,
    checkpoint: Checkpoint,
    pool: ImagePool,
    tasks: Tasks | DeviceTasks,
) -> dict[Mode, Counts]:
    """Adapt to every task and count the right answers among its queries: int [lanes] for each mode."""
    lanes = len(tasks.order)
    start = checkpoint.parameters.expand(lanes, -1)
    adapted, _ = adapt(inner, start, checkpoint.state.lanes(lanes), mini_batches(pool, tasks, start.dtype))
    (query, labels), support = query_images(pool, tasks, start.dtype), pool.take(tasks.support, start.dtype)
    forward = inner.engine or network
    with torch.no_grad():
        logits = {
            "transductive": transductive_logits(forward, adapted, query),
            "inductive": inductive_logits(forward, adapted, support, query),
        }
    return {mode: (logits[mode].argmax(dim=-1) == labels).sum(dim=1).cpu().numpy() for mode in MODES}


def evaluate(
    network: Network,
    inner: InnerLoop,
    checkpoint: Checkpoint,
    pool: ImagePool,
    draws: Draws,
    track: Track = silent,
) -> dict[Mode, Counts]:
    """Count the right answers of every task that `draws` names: int [tasks] for each mode."""
    counts: dict[Mode, list[Counts]] = {mode: [] for mode in MODES}
    lanes = lanes_at_once(inner, pool, draws.shape, checkpoint.parameters)
    with track(draws.title, draws.tasks, "tasks") as bar:
        for first in range(0, draws.tasks, lanes):
            chunk = range(first, min(first + lanes, draws.tasks))
            tasks = _drawn(inner, pool, draws, chunk)
            for mode, correct in correct_answers(network, inner, checkpoint, pool, tasks).items():
                counts[mode].append(correct)
            queries = draws.shape.way * draws.shape.query
            note = ", ".join(f"{mode} {100 * np.concatenate(counts[mode]).mean() / queries:.2f} %" for mode in MODES)
            bar.advance(len(chunk), note)
    return {mode: np.concatenate(chunks) for mode, chunks in counts.items()}


def histogram(correct: Counts, queries: int) -> tuple[int, ...]:
    """Count the tasks with 0, 1, ..., `queries` right answers."""
    return tuple(int(count) for count in np.bincount(correct, minlength=queries + 1))
