"""Train several seeds side by side with whole outer steps on the device.

The result of each is that of method/training.py's `train`, up to rounding; the tests compare the two. Either can resume
a training from a state that the other has saved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from firstorder.engines.graph import schedule
from firstorder.engines.graph.outer_step import NEVER, OuterStep, captured
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.inner_loop import OptimiserState
from firstorder.method.training import Keeper, Problem, Resumable, TrainingState
from firstorder.progress import Stop, Track, never, silent


@dataclass
class Begun:
    """A training and its state, which is updated as the training goes on."""

    problem: Problem
    keeper: Keeper
    state: TrainingState


def train(
    trainings: Sequence[Resumable], track: Track = silent, stop: Stop = never, *, engine: LanesEngine
) -> list[TrainingState]:
    """Train all to the last outer step, side by side, each resuming if interrupted.

    Trainings that stopped at different outer steps are trained one group after another. The time is divided equally
    among their `seconds`. When `stop` says so, save the states and return them.
    """
    check_alike([one.problem for one in trainings])
    if engine.compiled:
        # The learning curve is measured at other sizes; compiling them would not pay for so few steps.
        uncompiled = replace(engine, compiled=False, _kept={})
        trainings = [replace(one, problem=replace(one.problem, engine=uncompiled)) for one in trainings]
    begun = [Begun(one.problem, one.keeper, one.begin()) for one in trainings]
    for number, outer_step in enumerate(sorted({one.state.outer_step for one in begun})):
        if number == 0 or not stop():
            _train_together([one for one in begun if one.state.outer_step == outer_step], engine, track, stop)
    return [one.state for one in begun]


def check_alike(problems: Sequence[Problem]) -> None:
    """Raise UserError unless the trainings differ only in seed and outer step size."""
    compared = [replace(problem.settings, outer_step_size=0.0, outer_step_size_final=0.0) for problem in problems]
    for problem, settings in zip(problems, compared, strict=True):
        if settings != compared[0]:
            raise UserError(
                f"{problem.name} cannot be trained together with {problems[0].name}: their settings differ in more "
                "than the outer step size; train them one after another"
            )


def _train_together(begun: Sequence[Begun], engine: LanesEngine, track: Track, stop: Stop) -> None:
    """Train from the same outer step on, schedule after schedule."""
    problems = [one.problem for one in begun]
    total, every = problems[0].settings.outer_steps, problems[0].settings.curve.every
    done = begun[0].state.outer_step
    if done == total:
        return
    step, room = OuterStep(problems, [one.state for one in begun], engine), schedule.longest(problems)
    take: Callable[[], None] | None = None
    latest = ""
    saved = last = time.monotonic()
    seeds = " ".join(str(seed) for seed in dict.fromkeys(problem.seed for problem in problems))
    with track(f"{problems[0].name} seed {seeds}", total, "outer steps", done) as bar:
        while done < total:
            end = min(done + room, total, done - done % every + every)
            count = step.load(schedule.draw(problems, step.offsets, range(done, end)), room)
            take = take or captured(step)
            for _ in range(count):
                take()
            check_finite(step, problems, done)
            now = time.monotonic()
            earlier = [replace(one.state) for one in begun]
            _update(begun, step, count, now - last)
            last, done = now, end
            if done % every == 0 or done == total:
                rows = [training.measure(one.problem, one.state, stop) for one in begun]
                for one, before, found in zip(begun, earlier, rows, strict=True):
                    # A saved state has every point of its curve, and states trained together the same step.
                    one.state = one.state if None not in rows else before
                    one.state.curve += (found or []) if None not in rows else []
                latest = training.latest_accuracy(begun[0].state) if None not in rows else ""
            if (stopped := stop()) or time.monotonic() - saved > training.SECONDS_BETWEEN_SAVES:
                for one in begun:
                    one.keeper.save(one.state)
                saved = time.monotonic()
            bar.advance(count, latest)  # after saving: a closed terminal or pipe may end it here
            if stopped:
                break
        else:
            for one in begun:
                one.keeper.save(one.state)  # nothing is lost if writing the results fails


def check_finite(step: OuterStep, problems: Sequence[Problem], first: int) -> None:
    """Wait for the device; raise UserError if a meta-gradient of the schedule from step `first` was not finite."""
    for problem, failed in zip(problems, step.failed.tolist(), strict=True):
        if failed != NEVER:
            raise training.not_finite(problem, first + failed)


def _update(begun: Sequence[Begun], step: OuterStep, outer_steps: int, seconds: float) -> None:
    """Copy the device's state into each training's state, after `outer_steps` more in `seconds` for all together."""
    parameters, moments, outer_moments = step.parameters.clone(), step.moments.clone(), step.outer_moments.clone()
    taken, lanes = step.problem.settings.inner_steps_taken * outer_steps, len(moments) // len(begun)
    for row, one in enumerate(begun):
        state = one.state
        state.parameters = parameters[[row]]
        state.optimiser = OptimiserState(moments[row * lanes : (row + 1) * lanes], state.optimiser.steps + taken)
        state.outer_moments = outer_moments[:, [row]]
        state.outer_step += outer_steps
        state.seconds += seconds / len(begun)
