"""Sine waves as tasks: drawing amplitudes, phases and the points of the grid. NumPy only.

From the paper (section 4): f(x) = a sin(x + b) with a from U[0.1, 5] and b from U[0, 2 pi], on [-5, 5]. From the first
author's public demonstration (gist f503500cda64f2ce87c8288906b09e2d): a grid of points stands for the interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstorder.method.tasks import Indices, raw, uniforms

TASKS_PER_GENERATOR = 1000  # part of the definition of the draws: one generator draws a row for each of this many tasks

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Waves:
    """Several tasks: amplitudes and phases, float64 [tasks, 1]."""

    amplitudes: Numbers
    phases: Numbers

    def at(self, x: Numbers) -> Numbers:
        """Return f(x) = a sin(x + b) for x [points] or [tasks, points]: [tasks, points]."""
        return self.amplitudes * np.sin(x + self.phases)


def grid_of(points: int) -> Numbers:
    """Return `points` equally spaced x that stand for the interval [-5, 5], float64 [points]."""
    return np.linspace(-5.0, 5.0, points)


def draw_waves(seed: int, purpose: str, tasks: range) -> Waves:
    """Draw the waves numbered `tasks`: a from U[0.1, 5], b from U[0, 2 pi]."""
    drawn = _rows(uniforms, 2, seed, f"{purpose}, waves", tasks)
    return Waves(0.1 + 4.9 * drawn[:, :1], 2 * np.pi * drawn[:, 1:])


def draw_orders(seed: int, purpose: str, tasks: range, shuffles: int, grid: int) -> Indices:
    """Shuffle the grid `shuffles` times for each of the tasks numbered `tasks`: [tasks, shuffles * grid]."""
    keys = _rows(raw, shuffles * grid, seed, f"{purpose}, points", tasks).reshape(len(tasks), shuffles, grid)
    return np.argsort(keys, axis=2, kind="stable").reshape(len(tasks), shuffles * grid).astype(np.int64)


def _rows(draw: Callable[..., Any], width: int, seed: int, purpose: str, tasks: range) -> np.ndarray[Any, Any]:
    """Draw a row of `width` values for each task. The row depends on the task's number, not on the other tasks."""
    first, last = tasks.start // TASKS_PER_GENERATOR, (tasks.stop - 1) // TASKS_PER_GENERATOR
    drawn = [draw(TASKS_PER_GENERATOR * width, seed, purpose, generator) for generator in range(first, last + 1)]
    skipped = first * TASKS_PER_GENERATOR
    return np.concatenate(drawn).reshape(-1, width)[tasks.start - skipped : tasks.stop - skipped]
