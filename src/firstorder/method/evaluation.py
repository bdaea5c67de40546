"""Evaluate a meta-trained network on new tasks, in both modes.

Two surprises from the authors' reptile.py:
- Adaptation does not start from a fresh Adam. The checkpoint contains the trained moments and step count. Every
  task starts from them and none changes them, so tasks can be adapted side by side.
- Inductive: each query image is passed through the network together with the whole support set and nothing else.
  Transductive: all query images of the task are passed together, without support images. Adaptation is the same for
  both, so one evaluation measures both modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.method.images import ImagePool, TaskImages
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt
from firstorder.method.tasks import Draws, TaskShape
from firstorder.progress import Stop, Track, never, silent
from firstorder.settings import MODES, CurveSettings, EvaluationSettings, Mode

Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Checkpoint:
    """Parameters [1, parameters], optimiser state of one lane, and a description in plain values (`about`)."""

    parameters: Tensor
    state: OptimiserState
    about: dict[str, Any]

    def to(self, device: torch.device) -> Checkpoint:
        """Return the checkpoint with its tensors on `device`."""
        state = self.state.each(lambda moments: moments.to(device))
        return Checkpoint(self.parameters.to(device), state, self.about)


class Tally:
    """Stores the counts of an unfinished evaluation, so that it can be resumed; this one stores nothing."""

    def __init__(self, stop: Stop = never) -> None:
        self.stop = stop

    def load(self) -> dict[Mode, Counts]:
        """Return the saved counts of the first tasks, for each mode."""
        return {mode: np.zeros(0, np.int64) for mode in MODES}

    def keep(self, counts: Mapping[Mode, Counts]) -> bool:
        """Replace the saved counts if it is time to; say whether to stop here."""
        return self.stop()


IDLE = Tally()


def evaluation_shape(pool: ImagePool, way: int, settings: CurveSettings | EvaluationSettings) -> TaskShape:
    """Return the sizes of an evaluation task. Mini-batches cycle through the support set.

    There is one query image per class (the authors' reptile.py) unless the settings say otherwise.
    """
    query = settings.query if isinstance(settings, EvaluationSettings) else None
    return TaskShape(
        pool_classes=pool.classes,
        class_images=pool.class_images,
        way=way,
        support=settings.shot,
        query=query or 1,
        inner_steps=settings.inner_steps,
        inner_batch_size=settings.inner_batch_size,
        sampling="cycle",
        turns=pool.turns,
    )


@torch.no_grad()
def logits(inner: InnerLoop, adapted: Tensor, task: TaskImages) -> dict[Mode, Tensor]:
    """Classify the query images in both modes: logits [lanes, way * query, way]."""
    return {
        "transductive": inner.engine.logits(inner, adapted, task.query),
        "inductive": inner.engine.inductive_logits(inner, adapted, task.support, task.query),
    }


def correct_answers(inner: InnerLoop, checkpoint: Checkpoint, task: TaskImages) -> dict[Mode, Counts]:
    """Adapt to each task and count its correctly classified query images: int [lanes] for each mode."""
    lanes = len(task.query)
    start = checkpoint.parameters.expand(lanes, -1)
    adapted, _ = adapt(inner, start, checkpoint.state.lanes(lanes), task.batches)
    found = logits(inner, adapted, task)
    return {mode: (found[mode].argmax(dim=-1) == task.labels).sum(dim=1).cpu().numpy() for mode in MODES}


def evaluate(
    inner: InnerLoop, checkpoint: Checkpoint, pool: ImagePool, draws: Draws, track: Track = silent, kept: Tally = IDLE
) -> dict[Mode, Counts]:
    """Count the correct answers in each task of `draws`: int [tasks] for each mode; fewer if `kept` stops it."""
    counts, queries = kept.load(), draws.shape.way * draws.shape.query
    lanes, done = inner.engine.lanes_at_once(pool, draws.shape, checkpoint.parameters), len(counts[MODES[0]])
    with track(draws.title, draws.tasks, "tasks", done) as bar:
        for first in range(done, draws.tasks, lanes):
            chunk = range(first, min(first + lanes, draws.tasks))
            task = inner.engine.task_images(pool, draws, chunk, checkpoint.parameters.dtype)
            found = correct_answers(inner, checkpoint, task)
            counts = {mode: np.append(counts[mode], found[mode]) for mode in MODES}
            stopped = kept.keep(counts)
            bar.advance(len(chunk), ", ".join(f"{mode} {100 * counts[mode].mean() / queries:.2f} %" for mode in MODES))
            if stopped:
                break
    return counts


def mean_accuracy(correct: Counts, queries: int) -> tuple[float, float]:
    """Return the mean over tasks of the fraction of correct answers, and its standard error (NaN for one task)."""
    accuracies = correct / queries
    error = accuracies.std(ddof=1) / np.sqrt(len(accuracies)) if len(accuracies) > 1 else float("nan")
    return float(accuracies.mean()), float(error)


def histogram(correct: Counts, queries: int) -> tuple[int, ...]:
    """Count the tasks with 0, 1, ..., `queries` correct answers."""
    return tuple(int(count) for count in np.bincount(correct, minlength=queries + 1))
