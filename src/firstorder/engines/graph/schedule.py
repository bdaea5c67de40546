"""Draw everything that a series of outer steps reads, ahead of time and on the device: the schedule.

Draws are keyed by (seed, outer step, task), so they do not depend on where a schedule begins or how long it is. A
training may stop after any schedule and go on with schedules of other lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from firstorder.engines.lanes import draws
from firstorder.method.inner_loop import adam_rate
from firstorder.method.tasks import TaskShape
from firstorder.method.training import Problem, step_size, training_shape

# Random 64-bit numbers drawn at once. Processing them takes about a dozen times their 8 bytes of memory.
NUMBERS_AT_ONCE = 2**24
LONGEST = 250  # outer steps of a schedule, so that one ends every few seconds


class Schedule(NamedTuple):
    """What the outer steps of all trainings read. The first axis of every tensor is the outer step.

    `images` [steps, trainings, tasks, inner steps, batch] are positions in the common pool and `labels` their labels;
    `query` and `query_labels` are [steps, trainings, tasks, way * query]. `step_sizes` [steps, trainings, 1] is epsilon
    with the outer Adam's bias correction. `rates` [steps, inner steps] are the rates of the inner Adam; if second
    moments are carried, the inner steps are those of all tasks in turn.
    """

    images: Tensor
    labels: Tensor
    query: Tensor
    query_labels: Tensor
    step_sizes: Tensor
    rates: Tensor


def longest(problems: Sequence[Problem]) -> int:
    """Return the largest number of outer steps in a schedule of these trainings."""
    numbers = sum(_numbers(training_shape(problem)) * problem.settings.meta_batch_size for problem in problems)
    return max(1, min(LONGEST, NUMBERS_AT_ONCE // numbers))


def _numbers(shape: TaskShape) -> int:
    """Return roughly how many random numbers one task takes."""
    support = shape.way * shape.support
    order = shape.inner_steps * (shape.inner_batch_size if shape.sampling == "cycle" else support)
    return shape.pool_classes + shape.way * (shape.stride + 1) + order + support


def rates(problem: Problem, outer_steps: range) -> list[list[float]]:
    """Return the inner Adam's rates [outer steps, inner steps]; see inner_loop.adam_rate."""
    taken = problem.settings.inner_steps_taken
    count = taken or problem.settings.inner_steps
    alpha = problem.settings.inner_learning_rate
    return [[adam_rate(alpha, step * taken + inner + 1) for inner in range(count)] for step in outer_steps]


def draw(problems: Sequence[Problem], offsets: Sequence[int], outer_steps: range) -> Schedule:
    """Draw the schedule of all trainings. `offsets` is where the images of each one begin in the common pool."""
    settings, device = problems[0].settings, problems[0].device
    tasks = settings.meta_batch_size
    step = torch.arange(outer_steps.start, outer_steps.stop, device=device).repeat_interleave(tasks)
    task = torch.arange(tasks, device=device).repeat(len(outer_steps))
    parts = []
    for problem, offset in zip(problems, offsets, strict=True):
        drawn = draws.draw(training_shape(problem), problem.seed, "training", step, task)
        parts.append((drawn.batches + offset, drawn.batch_labels, drawn.query + offset))
    images, labels, query = (
        torch.stack([part.unflatten(0, (len(outer_steps), tasks)) for part in same], dim=1)
        for same in zip(*parts, strict=True)
    )
    query_labels = torch.arange(query.shape[-1], device=device) // (settings.query_shot or 1)
    dtype = problems[0].dtype
    sizes = torch.tensor(
        [[step_size(problem.settings, step) for step in outer_steps] for problem in problems], dtype=dtype
    )
    return Schedule(
        images,
        labels,
        query,
        query_labels.expand_as(query),
        sizes.T[..., None].to(device),
        torch.tensor(rates(problems[0], outer_steps), dtype=dtype).to(device),
    )
