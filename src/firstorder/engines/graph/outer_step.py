"""One outer step of several trainings side by side on the device; on a GPU it is captured as a CUDA graph.

The trainings are seeds of one training, or differ in the outer step size. Each has its own images, draws, parameters
and second moments; they share kernels only.

A CUDA graph replays fixed addresses, so everything that varies per step is read from device buffers. Image
positions, epsilon and Adam's rates come from a schedule drawn ahead, indexed by a counter on the device. Whether a
meta-gradient was not finite is kept on the device too, and read back at the end of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from firstorder.engines.graph.schedule import Schedule
from firstorder.engines.lanes.engine import LanesEngine, Prepared
from firstorder.errors import UserError
from firstorder.method.algorithms import Group, Groups
from firstorder.method.images import ImagePool
from firstorder.method.inner_loop import OptimiserState
from firstorder.method.training import Problem, TrainingState, outer_update
from firstorder.settings import WITHOUT_MEMORY

PATCHES_BYTES = 8 * 2**30  # most memory for the patches of an outer step's first convolutions
PASS_BYTES = 16 * 2**30  # most memory of one backward pass
NEVER = 2**62  # later than any outer step
WARM_UP = 3  # outer steps before the capture, in which libraries allocate their workspaces


def common_pool(pools: Sequence[ImagePool]) -> tuple[ImagePool, list[int]]:
    """Concatenate the images of all pools, the same pool only once, and return where each pool begins."""
    begins: dict[int, int] = {}
    images: list[Tensor] = []
    for pool in pools:
        if id(pool) not in begins:
            begins[id(pool)] = sum(len(part) for part in images)
            images.append(pool.images)
    joined = images[0] if len(images) == 1 else torch.cat(images)
    return replace(pools[0], images=joined), [begins[id(pool)] for pool in pools]


@dataclass(frozen=True)
class Gathered:
    """Mini-batches [trainings, tasks, inner steps, ...]: images and labels or, if `prepared`, patches and targets."""

    images: Tensor
    labels: Tensor
    prepared: bool

    def lanes(self, tasks: slice, step: int) -> Any:
        """Return one mini-batch of these tasks of all trainings, one task per lane, training after training."""
        images, labels = (part[:, tasks, step].flatten(0, 1) for part in (self.images, self.labels))
        return Prepared(images, labels) if self.prepared else (images, labels)


class OuterStep:
    """The outer step of several trainings as one piece of device work, and the buffers that it works on.

    `parameters` [trainings, parameters]; `moments` [trainings or trainings * tasks, parameters] of the inner Adam;
    `outer_moments` [2, trainings, parameters]; `counter` is the outer step within the schedule; `failed` [trainings] is
    the first outer step of the schedule whose meta-gradient was not finite, or NEVER.
    """

    def __init__(self, problems: Sequence[Problem], states: Sequence[TrainingState], engine: LanesEngine) -> None:
        """Stack the states of all trainings."""
        self.problem, self.trainings = problems[0], len(problems)
        self.settings = self.problem.settings
        # Workspaces of its own, because a captured graph uses their addresses as long as it exists.
        self.engine = replace(engine, _kept={})
        self.inner, self.algorithm = self.problem.inner, self.problem.algorithm
        self.pool, self.offsets = common_pool([problem.pools["meta-train"] for problem in problems])
        self.parameters = torch.cat([state.parameters for state in states])
        self.moments = torch.cat([state.optimiser.second_moments for state in states])
        self.outer_moments = torch.cat([state.outer_moments for state in states], dim=1)
        if self.settings.outer_optimiser == "adam" and self.outer_moments.shape[2] == 1:
            self.outer_moments = self.outer_moments.expand(-1, -1, self.parameters.shape[1]).contiguous()
        device = self.parameters.device
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.never = torch.full((1,), NEVER, dtype=torch.int64, device=device)
        self.failed = self.never.repeat(self.trainings)
        self.schedule: Schedule | None = None

    def state(self) -> tuple[Tensor, ...]:
        """Return all tensors that an outer step changes."""
        return self.parameters, self.moments, self.outer_moments, self.counter, self.failed

    def load(self, schedule: Schedule, room: int) -> int:
        """Copy a schedule of at most `room` outer steps into the buffers; return its number of outer steps.

        A captured step always reads from the same buffers, so the first call allocates them for `room` outer steps.
        """
        if self.schedule is None:
            self.schedule = Schedule(*(part.new_zeros(room, *part.shape[1:]) for part in schedule))
        for buffer, new in zip(self.schedule, schedule, strict=True):
            buffer[: len(new)].copy_(new)
        self.counter.zero_()
        self.failed.fill_(NEVER)
        return len(schedule.images)

    def take(self) -> None:
        """Take one outer step of all trainings, see training.outer_step, without waiting for the device."""
        assert self.schedule is not None
        now = Schedule(*(part.index_select(0, self.counter)[0] for part in self.schedule))
        support = self._gathered(now.images, now.labels)
        query = now.query.unsqueeze(2), now.query_labels.unsqueeze(2)
        held_out = self._gathered(*query) if self.settings.query_shot else None
        inner = replace(self.inner, engine=replace(self.engine, rates=now.rates))
        # A captured graph cannot count: its step count restarts in each outer step, and indexes this step's `rates`.
        begun = OptimiserState(self.moments, 0)
        meta_gradient, state = self.algorithm(inner, self.parameters, begun, self._groups(support, held_out))
        finite = torch.isfinite(meta_gradient.sum(dim=1))
        self.failed.copy_(torch.minimum(self.failed, torch.where(finite, self.never, self.counter)))
        parameters, outer_moments = outer_update(
            self.settings, self.parameters, self.outer_moments, meta_gradient, now.step_sizes
        )
        self.parameters.copy_(parameters)
        if outer_moments is not self.outer_moments:
            self.outer_moments.copy_(outer_moments)
        self.moments.copy_(state.second_moments)
        self.counter.add_(1)

    def _groups(self, support: Gathered, held_out: Gathered | None) -> Groups:
        """Split the tasks of an outer step into groups of `_tasks_at_once` tasks."""
        at_once = self._tasks_at_once()
        groups = []
        for first in range(0, self.settings.meta_batch_size, at_once):
            tasks = slice(first, first + at_once)
            batches = [support.lanes(tasks, step) for step in range(support.labels.shape[2])]
            groups.append(Group(batches, None if held_out is None else held_out.lanes(tasks, 0)))
        return groups

    def _gathered(self, positions: Tensor, labels: Tensor) -> Gathered:
        """Gather the images at `positions` [trainings, tasks, inner steps, batch], prepared unless too large."""
        images = self.pool.take(positions, self.parameters.dtype)
        nine = 9 * images.numel() * images.element_size()
        # MAML with an inner Adam is differentiated by autograd, which needs images and labels.
        if nine > PATCHES_BYTES or (self.settings.algorithm == "maml" and self.settings.inner_optimiser == "adam"):
            return Gathered(images, labels, prepared=False)
        prepared = self.engine.prepare(images, labels)
        return Gathered(prepared.patches, prepared.targets, prepared=True)

    def _tasks_at_once(self) -> int:
        """Return how many tasks of each training are computed side by side, see training.lanes_at_once."""
        settings = self.settings
        if settings.second_moments == "carried":
            return 1
        if settings.algorithm not in WITHOUT_MEMORY:
            return settings.meta_batch_size
        images = max(settings.inner_batch_size, settings.way * (settings.query_shot or 0))
        # Second order keeps about four times as much as a gradient.
        lane = 4 * images * self.engine.image_bytes(self.parameters.element_size())
        return max(1, min(settings.meta_batch_size, PASS_BYTES // (lane * self.trainings)))


def captured(step: OuterStep) -> Callable[[], None]:
    """Return a function that takes the outer step: on a GPU the replay of a CUDA graph, elsewhere the step itself.

    Raises UserError if the capture fails.
    """
    if step.parameters.device.type != "cuda":
        return step.take
    before = [part.clone() for part in step.state()]

    def restore() -> None:
        for part, old in zip(step.state(), before, strict=True):
            part.copy_(old)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                step.take()
                restore()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            step.take()
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise UserError(
            f"{step.problem.name}: an outer step cannot be captured as a CUDA graph here ({why}); "
            "--engine lanes computes the same without a CUDA graph"
        ) from error
    restore()
    replay: Callable[[], None] = graph.replay
    return replay
