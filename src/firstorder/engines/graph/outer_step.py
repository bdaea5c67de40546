"""Meta-training with whole outer steps on the device: several runs side by side, on a GPU recorded as a CUDA graph.

A run is a seed of a training, or the same training with another outer step size. Runs never meet: each has its own
images, draws, parameters and second moments, and only shares kernels with the others. What is computed is what
training.train computes for each, up to rounding; that is the oracle of the tests, and a state that one saved the
other goes on from.

A newcomer would get wrong: an outer step as recorded here knows no numbers, only places on the device. Everything that
changes from step to step (positions of images, epsilon, Adam's rates) is read from a block of steps drawn ahead, at a
counter that lives on the device too, and whether all went well is noted there and looked at when the block is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from firstorder.engines.graph import schedule
from firstorder.engines.graph.schedule import Schedule
from firstorder.engines.lanes.engine import LanesEngine, Prepared
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.algorithms import Group, Groups
from firstorder.method.images import ImagePool
from firstorder.method.inner_loop import OptimiserState
from firstorder.method.training import WITHOUT_MEMORY, Problem, Resumable, TrainingState, outer_update
from firstorder.progress import Track, silent

# Bytes that the patches of an outer step's first convolutions may take, and what a backward pass may hold at once.
PATCHES_BYTES = 8 * 2**30
PASS_BYTES = 16 * 2**30
NEVER = 2**62  # later than any outer step
WARM_UP = 3  # outer steps before a recording: libraries make their workspaces then


def common_pool(pools: Sequence[ImagePool]) -> tuple[ImagePool, list[int]]:
    """Put the images of all pools behind one another and say where each begins; the same pool lies there once."""
    begins: dict[int, int] = {}
    images: list[Tensor] = []
    for pool in pools:
        if id(pool) not in begins:
            begins[id(pool)] = sum(len(part) for part in images)
            images.append(pool.images)
    joined = images[0] if len(images) == 1 else torch.cat(images)
    return replace(pools[0], images=joined), [begins[id(pool)] for pool in pools]


class OuterStep:
    """The outer step of several runs as one piece of device work, and the memory that it works on.

    `parameters` [runs, parameters]; `moments` [runs or runs * tasks, parameters] of the inner Adam; `outer_moments`
    [2, runs, parameters]; `counter` is the outer step within the block; `failed` [runs] the first outer step of the
    block whose meta-gradient was not finite.
    """

    def __init__(self, problems: Sequence[Problem], progresses: Sequence[TrainingState], engine: LanesEngine) -> None:
        """Stack the states of all runs."""
        self.problem, self.runs = problems[0], len(problems)
        self.settings = self.problem.settings
        # With workspaces of its own: a recorded graph reads them as long as it lives.
        self.engine = replace(engine, _kept={})
        self.inner, self.algorithm = self.problem.inner, self.problem.algorithm
        self.pool, self.offsets = common_pool([problem.pools["meta-train"] for problem in problems])
        self.parameters = torch.cat([progress.parameters for progress in progresses])
        self.moments = torch.cat([progress.optimiser.second_moments for progress in progresses])
        self.outer_moments = torch.cat([progress.outer_moments for progress in progresses], dim=1)
        if self.settings.outer_optimiser == "adam" and self.outer_moments.shape[2] == 1:
            self.outer_moments = self.outer_moments.expand(-1, -1, self.parameters.shape[1]).contiguous()
        device = self.parameters.device
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.never = torch.full((1,), NEVER, dtype=torch.int64, device=device)
        self.failed = self.never.repeat(self.runs)
        self.block: Schedule | None = None

    def state(self) -> tuple[Tensor, ...]:
        """Return all that an outer step changes."""
        return self.parameters, self.moments, self.outer_moments, self.counter, self.failed

    def load(self, block: Schedule, room: int) -> int:
        """Take a block of at most `room` outer steps, from its first on; return how many it has.

        A recorded step reads from the same memory for ever, so the first block makes room for the longest.
        """
        if self.block is None:
            self.block = Schedule(*(part.new_zeros(room, *part.shape[1:]) for part in block.tensors()))
        for mine, new in zip(self.block.tensors(), block.tensors(), strict=True):
            mine[: len(new)].copy_(new)
        self.counter.zero_()
        self.failed.fill_(NEVER)
        return len(block.images)

    def take(self) -> None:
        """Take one outer step in all runs, see training.outer_step; nothing here waits for the device."""
        assert self.block is not None
        images, labels, query, query_labels, step_sizes, rates = (
            part.index_select(0, self.counter)[0] for part in self.block.tensors()
        )
        groups = self._groups((images, labels), (query, query_labels))
        inner = replace(self.inner, engine=replace(self.engine, rates=rates))
        # The recorded count of inner steps starts anew in each outer step; `rates` know the true one.
        begun = OptimiserState(self.moments, 0)
        meta_gradient, state = self.algorithm(inner, self.parameters, begun, groups)
        finite = torch.isfinite(meta_gradient.sum(dim=1))
        self.failed.copy_(torch.minimum(self.failed, torch.where(finite, self.never, self.counter)))
        parameters, outer_moments = outer_update(
            self.settings, self.parameters, self.outer_moments, meta_gradient, step_sizes
        )
        self.parameters.copy_(parameters)
        if outer_moments is not self.outer_moments:
            self.outer_moments.copy_(outer_moments)
        self.moments.copy_(state.second_moments)
        self.counter.add_(1)

    def _groups(self, support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor]) -> Groups:
        """Gather an outer step's images: a group a task if second moments are carried, else as many tasks as fit."""
        tasks = self.settings.meta_batch_size
        steps = self._gathered(*support)
        held_out = self._gathered(query[0].unsqueeze(2), query[1].unsqueeze(2)) if self.settings.query_shot else None
        at_once = self._tasks_at_once()
        groups = []
        for first in range(0, tasks, at_once):
            chunk = slice(first, first + at_once)
            batches = [self._lanes(steps, chunk, step) for step in range(support[0].shape[2])]
            groups.append(Group(batches, None if held_out is None else self._lanes(held_out, chunk, 0)))
        return groups

    def _gathered(self, positions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mini-batches at positions [runs, tasks, steps, batch] and labels, prepared where that pays."""
        images = self.pool.take(positions, self.parameters.dtype)
        nine = 9 * images.numel() * images.element_size()
        # Differentiating an inner loop with Adam is left to autograd, which takes images and labels.
        if nine > PATCHES_BYTES or (self.settings.algorithm == "maml" and self.settings.inner_optimiser == "adam"):
            return images, labels
        prepared = self.engine.prepare(images, labels)
        return prepared.patches, prepared.targets

    def _lanes(self, gathered: tuple[Tensor, Tensor], tasks: slice, step: int) -> Any:
        """Return one mini-batch of the chosen tasks of all runs, a lane each: all of the first run, then the next."""
        first, second = (part[:, tasks, step].flatten(0, 1) for part in gathered)
        return (first, second) if gathered[1].dtype == torch.int64 else Prepared(first, second)

    def _tasks_at_once(self) -> int:
        """Return how many tasks of each run are lanes side by side, see training.lanes_at_once."""
        settings = self.settings
        if settings.second_moments == "carried":
            return 1
        if settings.algorithm not in WITHOUT_MEMORY:
            return settings.meta_batch_size
        images = max(settings.inner_batch_size, settings.way * (settings.query_shot or 0))
        # The second order keeps about four times what a gradient keeps.
        lane = 4 * images * self.engine.image_bytes(self.parameters.element_size())
        return max(1, min(settings.meta_batch_size, PASS_BYTES // (lane * self.runs)))


def captured(step: OuterStep) -> Callable[[], None]:
    """Return what takes an outer step: on a GPU the replay of a recording, elsewhere the step itself.

    Raises UserError where the recording fails.
    """
    if step.parameters.device.type != "cuda":
        return step.take
    kept = [part.clone() for part in step.state()]

    def restore() -> None:
        for part, was in zip(step.state(), kept, strict=True):
            part.copy_(was)

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
            f"{step.problem.name}: an outer step cannot be recorded as a CUDA graph here ({why}); "
            "--engine lanes computes the same without recording"
        ) from error
    restore()
    replay: Callable[[], None] = graph.replay
    return replay


def check_alike(problems: Sequence[Problem]) -> None:
    """Raise UserError unless the runs differ in nothing but seed and outer step size."""
    plain = [replace(problem.settings, outer_step_size=0.0, outer_step_size_final=0.0) for problem in problems]
    for problem, settings in zip(problems, plain, strict=True):
        if settings != plain[0]:
            raise UserError(
                f"{problem.name} cannot be trained together with {problems[0].name}: their settings differ in more "
                "than the outer step size; train them one after another"
            )


def _apart(step: OuterStep, progresses: Sequence[TrainingState], outer_steps: int, seconds: float) -> None:
    """Note in each run's progress where it stands after so many outer steps more, which took `seconds` in all."""
    runs = len(progresses)
    parameters, moments, outer_moments = (part.clone() for part in step.state()[:3])
    taken = schedule.inner_steps_taken(step.problem) * outer_steps
    for run, progress in enumerate(progresses):
        progress.parameters = parameters[[run]]
        lanes = len(moments) // runs
        progress.optimiser = OptimiserState(moments[run * lanes : (run + 1) * lanes], progress.optimiser.steps + taken)
        progress.outer_moments = outer_moments[:, [run]]
        progress.outer_step += outer_steps
        progress.seconds += seconds / runs  # its share


def train(
    runs: Sequence[Resumable], track: Track = silent, time_limit: float | None = None, *, engine: LanesEngine
) -> list[TrainingState]:
    """Train all runs to the end, side by side, each from where its interrupted training stopped.

    A run's seconds are its share of the time. Those that stopped at different outer steps are trained one group after
    another. After `time_limit` seconds the states are saved and training stops, short of the last outer step.
    """
    check_alike([run.problem for run in runs])
    if engine.compiled:
        # The curve is measured at other sizes, each of which would be compiled for a few steps only.
        seldom = replace(engine, compiled=False, _kept={})
        runs = [replace(run, problem=replace(run.problem, engine=seldom)) for run in runs]
    ended: dict[int, TrainingState] = {}
    begun = {number: run.begin() for number, run in enumerate(runs)}
    entered = time.monotonic()
    for outer_step in sorted({progress.outer_step for progress in begun.values()}):
        numbers = [number for number, progress in begun.items() if progress.outer_step == outer_step]
        left = None if time_limit is None else time_limit - (time.monotonic() - entered)
        group = [runs[number] for number in numbers]
        _train_together(group, [begun[number] for number in numbers], engine, (track, left))
        ended |= {number: begun[number] for number in numbers}
    return [ended[number] for number in range(len(runs))]


def _train_together(
    runs: Sequence[Resumable], progresses: Sequence[TrainingState], engine: LanesEngine, how: tuple[Track, float | None]
) -> None:
    """Train runs that stand at the same outer step, block after block; their progresses are kept up to date."""
    track, time_limit = how
    problems = [run.problem for run in runs]
    total, every = problems[0].settings.outer_steps, problems[0].settings.curve.every
    for problem in problems:
        training.check_curve(problem)
    done = progresses[0].outer_step
    if done == total:
        return
    step, room = OuterStep(problems, progresses, engine), schedule.longest(problems)
    take: Callable[[], None] | None = None
    note, entered = "", time.monotonic()
    saved = last = entered
    seeds = " ".join(str(seed) for seed in dict.fromkeys(problem.seed for problem in problems))
    with track(f"{problems[0].name} seed {seeds}", total, "outer steps", done) as bar:
        while done < total:
            stop = min(done + room, total, done - done % every + every)
            count = step.load(schedule.draw(problems, step.offsets, range(done, stop)), room)
            take = take or captured(step)
            for _ in range(count):
                take()
            _check_finite(step, problems, done)
            now = time.monotonic()
            _apart(step, progresses, count, now - last)
            last, done = now, stop
            if done % every == 0 or done == total:
                for problem, progress in zip(problems, progresses, strict=True):
                    progress.curve += training.measure(problem, progress)
                note = training.curve_note(progresses[0])
            bar.advance(count, note)
            out_of_time = time_limit is not None and time.monotonic() - entered >= time_limit
            if time.monotonic() - saved > training.SECONDS_BETWEEN_SAVES or out_of_time:
                for run, progress in zip(runs, progresses, strict=True):
                    run.keeper.save(progress)
                saved = time.monotonic()
            if out_of_time:
                break
        else:
            for run, progress in zip(runs, progresses, strict=True):
                run.keeper.save(progress)  # so that nothing is lost if writing the results fails


def _check_finite(step: OuterStep, problems: Sequence[Problem], first: int) -> None:
    """Wait for the device and raise UserError where a meta-gradient was not finite."""
    for problem, failed in zip(problems, step.failed.tolist(), strict=True):
        if failed != NEVER:
            raise training.not_finite(problem, first + failed)
