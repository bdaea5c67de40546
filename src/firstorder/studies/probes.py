"""Two closer looks at an evaluation: accuracy along its inner steps, and which alphabet is mistaken for which.

The tasks are the first ones of the evaluation itself. After the evaluation's own number of inner steps the accuracy is
therefore that of its cells on these tasks; further inner steps continue from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstorder.method.evaluation import Checkpoint, logits
from firstorder.method.images import ImagePool, task_images
from firstorder.method.inner_loop import InnerLoop, Plain, adapt
from firstorder.method.tasks import Draws, Tasks, draw_tasks
from firstorder.progress import UNKEPT, Kept, Track, silent
from firstorder.settings import MODES, Mode

ADAPTATION_COLUMNS = ("inner_steps", "mode", "shot", "tasks", "accuracy", "standard_error")
ALPHABET_COLUMNS = ("mode", "alphabet", "answered", "queries", "offered", "errors")

Answers = np.ndarray[Any, np.dtype[np.int64]]  # predicted label of each query image, [lanes, way * query]


@dataclass(frozen=True)
class Model:
    """What is adapted: an inner loop, and the parameters and optimiser state that it starts from."""

    inner: InnerLoop
    checkpoint: Checkpoint


def answers_along(
    model: Model, pool: ImagePool, tasks: Tasks, inner_steps: Sequence[int]
) -> Iterator[tuple[int, dict[Mode, Answers]]]:
    """Adapt to the tasks; after each number of `inner_steps` (ascending) yield it with the answers in both modes."""
    lanes = len(tasks.order)
    parameters, state = model.checkpoint.parameters.expand(lanes, -1), model.checkpoint.state.lanes(lanes)
    task = task_images(pool, tasks, parameters.dtype)
    taken = 0
    for steps in inner_steps:
        if steps > taken:
            parameters, state = adapt(model.inner, parameters, state, task.batches[taken:steps])
            taken = steps
        found = logits(model.inner, parameters, task)
        yield steps, {mode: values.argmax(dim=-1).cpu().numpy() for mode, values in found.items()}


def along(
    model: Model,
    pool: ImagePool,
    draws: Draws,
    inner_steps: Sequence[int],
    track: Track = silent,
    kept: Kept = UNKEPT,
) -> list[list[Any]]:
    """Measure accuracy after each number of `inner_steps`; return rows of ADAPTATION_COLUMNS."""
    found = kept.load() or {"accuracies": np.zeros((len(inner_steps), len(MODES), 0))}  # the last axis is the task
    for tasks in _chunks(pool, draws, track, found["accuracies"].shape[2]):
        labels = _labels(tasks)
        new = [
            [(answers[mode] == labels).mean(axis=1) for mode in MODES]
            for _, answers in answers_along(model, pool, tasks, inner_steps)
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
    model: Model,
    pool: ImagePool,
    draws: Draws,
    alphabets: Sequence[str],
    track: Track = silent,
    kept: Kept = UNKEPT,
) -> list[list[Any]]:
    """Count which alphabet is mistaken for which; return rows of ALPHABET_COLUMNS.

    `alphabets` names the alphabet of each class of the pool. A row counts the query images of alphabet `alphabet`
    (`queries`), how often a wrong class of alphabet `answered` was in such an image's task (`offered`), and how often
    that class was the answer (`errors`).
    """
    names = sorted(set(alphabets))
    index = {name: number for number, name in enumerate(names)}
    of_class = np.array([index[name] for name in alphabets])
    square = (len(names), len(names))
    sizes: dict[str, tuple[int, ...]] = {"tasks": (1,), "queries": square[:1], "offered": square}
    sizes |= dict.fromkeys(MODES, square)
    counts = kept.load() or {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()}
    queries, offered = counts["queries"], counts["offered"]
    for tasks in _chunks(pool, draws, track, int(counts["tasks"][0])):
        labels = _labels(tasks)
        classes = tasks.query[:, :: draws.shape.query] // draws.shape.stride % pool.classes
        present = of_class[classes]  # alphabet of each label, [lanes, way]
        ((_, answers),) = answers_along(model, pool, tasks, [draws.shape.inner_steps])
        for lane, true in enumerate(labels):
            alphabet = present[lane, true]
            np.add.at(queries, alphabet, 1)
            others = np.repeat(present[lane][None], len(true), axis=0)
            wrong = np.arange(tasks.way) != true[:, None]
            np.add.at(offered, (np.repeat(alphabet, wrong.sum(axis=1)), others[wrong]), 1)
            for mode in MODES:
                missed = answers[mode][lane] != true
                np.add.at(counts[mode], (alphabet[missed], present[lane, answers[mode][lane][missed]]), 1)
        counts["tasks"] += len(labels)
        kept.keep(counts)
    return [
        [mode, name, other, queries[i], offered[i, j], counts[mode][i, j]]
        for mode in MODES
        for i, name in enumerate(names)
        for j, other in enumerate(names)
        if offered[i, j]
    ]


def _labels(tasks: Tasks) -> Answers:
    """Return the true labels, [lanes, way * query]: query images are ordered by label."""
    queries = tasks.query.shape[1]
    return np.broadcast_to(np.arange(queries) // (queries // tasks.way), tasks.query.shape)


def _chunks(pool: ImagePool, draws: Draws, track: Track, done: int) -> Iterator[Tasks]:
    """Draw the tasks after the first `done` in chunks of as many as are adapted side by side."""
    lanes = Plain.LANES[pool.images.device.type]
    with track(draws.title, draws.tasks, "tasks", done) as bar:
        for first in range(done, draws.tasks, lanes):
            chunk = range(first, min(first + lanes, draws.tasks))
            yield draw_tasks(draws.shape, draws.seed, draws.purpose, draws.step, chunk)
            bar.advance(len(chunk))
