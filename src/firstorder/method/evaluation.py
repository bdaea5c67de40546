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
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstorder.method.images import ImagePool, TaskImages
from firstorder.method.inner_loop import InnerLoop, OptimiserState, adapt
from firstorder.method.tasks import Draws, TaskShape
from firstorder.progress import Track, silent
from firstorder.settings import MODES, CurveSettings, EvaluationSettings, Mode

Counts = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Checkpoint:
    """Parameters [1, parameters], optimiser state of one lane, and what they are (`about`, plain values)."""

    parameters: Tensor
    state: OptimiserState
    about: dict[str, Any]

    def to(self, device: torch.device) -> Checkpoint:
        """Return it with its tensors on `device`."""
        state = OptimiserState(self.state.second_moments.to(device), self.state.steps)
        return Checkpoint(self.parameters.to(device), state, self.about)


def evaluation_shape(pool: ImagePool, way: int, settings: CurveSettings | EvaluationSettings) -> TaskShape:
    """Return the sizes of an evaluation task: one query image a class (the authors' reptile.py) or as many as set.

    Mini-batches cycle through the support set.
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
    """Classify the query images of tasks in both modes: logits [lanes, way * query, way]."""
    return {
        "transductive": inner.engine.logits(inner, adapted, task.query),
        "inductive": inner.engine.inductive_logits(inner, adapted, task.support, task.query),
    }


def correct_answers(inner: InnerLoop, checkpoint: Checkpoint, task: TaskImages) -> dict[Mode, Counts]:
    """Adapt to every task and count the right answers among its queries: int [lanes] for each mode."""
    lanes = len(task.query)
    start = checkpoint.parameters.expand(lanes, -1)
    adapted, _ = adapt(inner, start, checkpoint.state.lanes(lanes), task.batches)
    found = logits(inner, adapted, task)
    return {mode: (found[mode].argmax(dim=-1) == task.labels).sum(dim=1).cpu().numpy() for mode in MODES}


def evaluate(
    inner: InnerLoop, checkpoint: Checkpoint, pool: ImagePool, draws: Draws, track: Track = silent
) -> dict[Mode, Counts]:
    """Count the right answers of every task that `draws` names: int [tasks] for each mode."""
    counts: dict[Mode, list[Counts]] = {mode: [] for mode in MODES}
    lanes = inner.engine.lanes_at_once(pool, draws.shape, checkpoint.parameters)
    with track(draws.title, draws.tasks, "tasks") as bar:
        for first in range(0, draws.tasks, lanes):
            chunk = range(first, min(first + lanes, draws.tasks))
            task = inner.engine.task_images(pool, draws, chunk, checkpoint.parameters.dtype)
            for mode, correct in correct_answers(inner, checkpoint, task).items():
                counts[mode].append(correct)
            queries = draws.shape.way * draws.shape.query
            note = ", ".join(f"{mode} {100 * np.concatenate(counts[mode]).mean() / queries:.2f} %" for mode in MODES)
            bar.advance(len(chunk), note)
    return {mode: np.concatenate(chunks) for mode, chunks in counts.items()}


def histogram(correct: Counts, queries: int) -> tuple[int, ...]:
    """Count the tasks with 0, 1, ..., `queries` right answers."""
    return tuple(int(count) for count in np.bincount(correct, minlength=queries + 1))
