"""Two closer looks at an evaluation: accuracy along its inner steps, and which alphabet is mistaken for which.

The tasks are the first ones of the evaluation itself. After the evaluation's own number of inner steps the accuracy is
therefore that of its cells on these tasks; further inner steps continue from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from firstorder.method.evaluation import Checkpoint, logits
from firstorder.method.images import TaskImages
from firstorder.method.inner_loop import adapt
from firstorder.method.tasks import Draws, draw_tasks
from firstorder.method.training import Problem
from firstorder.progress import UNKEPT, Kept, Track, silent
from firstorder.settings import MODES, Mode

Answers = np.ndarray[Any, np.dtype[np.int64]]  # predicted label of each query image, [lanes, way * query]


def answers_along(
    problem: Problem, checkpoint: Checkpoint, task: TaskImages, inner_steps: Sequence[int]
) -> Iterator[tuple[int, dict[Mode, Answers]]]:
    """Adapt to the tasks; after each number of `inner_steps` (ascending) yield it with the answers in both modes."""
    lanes, inner, taken = len(task.query), problem.inner, 0
    parameters, state = checkpoint.parameters.expand(lanes, -1), checkpoint.state.lanes(lanes)
    for steps in inner_steps:
        if steps > taken:
            parameters, state = adapt(inner, parameters, state, task.batches[taken:steps])
            taken = steps
        found = logits(inner, parameters, task)
        yield steps, {mode: values.argmax(dim=-1).cpu().numpy() for mode, values in found.items()}


def along(
    problem: Problem,
    checkpoint: Checkpoint,
    draws: Draws,
    inner_steps: Sequence[int],
    track: Track = silent,
    kept: Kept = UNKEPT,
) -> list[list[Any]]:
    """Measure accuracy after each number of `inner_steps`; return rows of columns.ADAPTATION."""
    found = kept.load() or {"accuracies": np.zeros((len(inner_steps), len(MODES), 0))}  # the last axis is the task
    for _, task in _chunks(problem, checkpoint, draws, track, found["accuracies"].shape[2]):
        labels = task.labels.cpu().numpy()
        new = [
            [(answers[mode] == labels).mean(axis=1) for mode in MODES]
            for _, answers in answers_along(problem, checkpoint, task, inner_steps)
        ]
        found["accuracies"] = np.concatenate([found["accuracies"], new], axis=2)
        kept.keep(found)
    rows = []
    for steps, of_modes in zip(inner_steps, found["accuracies"], strict=True):
        for mode, accuracies in zip(MODES, of_modes, strict=True):
            error = accuracies.std(ddof=1) / np.sqrt(len(accuracies))
            rows.append([steps, mode, draws.shape.support, len(accuracies), f"{accuracies.mean():.6f}", f"{error:.6f}"])
    return rows


def by_alphabet(
    problem: Problem,
    checkpoint: Checkpoint,
    draws: Draws,
    alphabets: Sequence[str],
    track: Track = silent,
    kept: Kept = UNKEPT,
) -> list[list[Any]]:
    """Count which alphabet is mistaken for which; return rows of columns.ALPHABETS.

    `alphabets` names the alphabet of each meta-test class. A row counts the query images of alphabet `alphabet`
    (`queries`), how often a wrong class of alphabet `answered` was in such an image's task (`offered`), and how often
    that class was the answer (`errors`).
    """
    names, of_class = np.unique(alphabets, return_inverse=True)
    square = (len(names), len(names))
    sizes: dict[str, tuple[int, ...]] = {"tasks": (1,), "queries": square[:1], "offered": square}
    sizes |= dict.fromkeys(MODES, square)
    counts = kept.load() or {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()}
    queries, offered, shape = counts["queries"], counts["offered"], draws.shape
    for chunk, task in _chunks(problem, checkpoint, draws, track, int(counts["tasks"][0])):
        drawn = draw_tasks(shape, draws.seed, draws.purpose, draws.step, chunk)
        present = of_class[drawn.query[:, :: shape.query] // shape.stride % shape.pool_classes]  # [lanes, way]
        labels = task.labels.cpu().numpy()
        alphabet = np.take_along_axis(present, labels, axis=1)  # of each query image, [lanes, way * query]
        np.add.at(queries, alphabet, 1)
        wrong = np.arange(shape.way) != labels[..., None]  # [lanes, way * query, way]
        pairs = np.broadcast_arrays(alphabet[..., None], present[:, None], wrong)[:2]
        np.add.at(offered, tuple(part[wrong] for part in pairs), 1)
        ((_, answers),) = answers_along(problem, checkpoint, task, [shape.inner_steps])
        for mode in MODES:
            missed = answers[mode] != labels
            answered = np.take_along_axis(present, answers[mode], axis=1)
            np.add.at(counts[mode], (alphabet[missed], answered[missed]), 1)
        counts["tasks"] += len(labels)
        kept.keep(counts)
    return [
        [mode, name, other, queries[i], offered[i, j], counts[mode][i, j]]
        for mode in MODES
        for i, name in enumerate(names)
        for j, other in enumerate(names)
        if offered[i, j]
    ]


def _chunks(
    problem: Problem, checkpoint: Checkpoint, draws: Draws, track: Track, done: int
) -> Iterator[tuple[range, TaskImages]]:
    """Yield the tasks after the first `done`, as many at once as the engine adapts: their numbers and their images."""
    pool, engine = problem.pools["meta-test"], problem.engine
    lanes = engine.lanes_at_once(pool, draws.shape, checkpoint.parameters)
    with track(draws.title, draws.tasks, "tasks", done) as bar:
        for first in range(done, draws.tasks, lanes):
            chunk = range(first, min(first + lanes, draws.tasks))
            yield chunk, engine.task_images(pool, draws, chunk, checkpoint.parameters.dtype)
            bar.advance(len(chunk))
