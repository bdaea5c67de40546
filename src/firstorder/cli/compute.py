"""Verbs that train and evaluate."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from firstorder import progress, settings
from firstorder.cli import finished, signals
from firstorder.cli.exploring import SET, redirected
from firstorder.cli.session import Session
from firstorder.cli.verbs import (
    COMPILE,
    DEVICE,
    ENGINE,
    EVALUATION,
    SEED,
    THREADS,
    TRAINING,
    Arguments,
    argument,
    duration,
    seed_number,
    verb,
)
from firstorder.settings import columns

SPARED = 60.0  # seconds before the end of a job of Slurm, in which the state is saved

if TYPE_CHECKING:
    from firstorder.method.training import Problem, Resumable, TrainingState


@verb(
    "compute",
    TRAINING,
    argument("--seed", type=seed_number, nargs="+", required=True, help="some; engine graph trains them together"),
    DEVICE,
    ENGINE,
    THREADS,
    COMPILE,
    argument("--again", action="store_true", help="train from the start, even if a result or a saved state exists"),
    argument(
        "--time-limit",
        type=duration("seconds"),
        metavar="SECONDS",
        help="stop when the command has run so long, save the state, exit with code 3",
    ),
    SET,
)
def train(arguments: Arguments) -> int:
    """Meta-train one training for one or more seeds and write their checkpoints and learning curves."""
    arguments = redirected(arguments, evaluating=False)
    session, name = Session.of(arguments), arguments.training
    seeds = list(dict.fromkeys(arguments.seed))
    session.check_training(name, seeds)
    waiting = []
    for seed in seeds:
        done = not arguments.again and finished.is_done(session, name, seed)
        if done or arguments.again:
            # Delete the saved state only now that the results are known to be complete.
            finished.discard_state(session, name, seed)
        if done:
            print(*session.outputs_of(name, seed), sep="\n")
        else:
            waiting.append(seed)
    if not waiting:
        return 0
    trainings = [session.resumable(problem) for problem in session.problems(name, waiting)]
    code, choice, clock = 0, session.choice(name), time.process_time()
    with signals.stopping(limit_of(arguments) or time_left(os.environ)) as stop:
        for training, state in zip(trainings, choice.train(trainings, progress.shown, stop), strict=True):
            seed = training.problem.seed
            if state is None:
                code = stopped(stop, f"{name} seed {seed} was not started", "starts it")
            elif state.outer_step < training.problem.settings.outer_steps:
                code = stopped(stop, f"{name} seed {seed} stopped at outer step {state.outer_step:,}")
            else:
                together = len(waiting) if choice.side_by_side else 1
                _write(session, training, state, together, (time.process_time() - clock) / together)
            clock = clock if choice.side_by_side else time.process_time()
    return code


def limit_of(arguments: Arguments) -> float | None:
    """Return the seconds from now on of --time-limit, which begins with the command: loading torch and data counts."""
    limit: float | None = arguments.time_limit
    begun: float | None = getattr(arguments, "begun", None)
    return limit if limit is None or begun is None else max(limit - (time.monotonic() - begun), 1e-9)


def time_left(environment: Mapping[str, str]) -> float | None:
    """Return the seconds until a minute before the end that Slurm has set for this job; None outside a job."""
    end = environment.get("SLURM_JOB_END_TIME", "")
    return max(1.0, int(end) - time.time() - SPARED) if end.isdecimal() else None


def stopped(stop: signals.Stopping, what: str, then: str = "goes on from there") -> int:
    """Say what was stopped, why, and what happens next; return the exit code."""
    print(f"firstorder: {stop.why}: {what}; the same command {then}", file=sys.stderr)
    return stop.code


def _write(session: Session, training: Resumable, state: TrainingState, together: int, cpu_seconds: float) -> None:
    """Write the checkpoint, the curve and the run file of a finished training.

    `together` is the number of seeds trained side by side, `cpu_seconds` the processor time of this process for it.
    """
    from firstorder.method.training import checkpoint_of
    from firstorder.records import cells, checkpoints, row_files
    from firstorder.upkeep import dvc

    problem: Problem = training.problem
    names = {"training": problem.name, "seed": problem.seed}
    about = session.about(problem)
    path, curve = session.outputs(problem)
    checkpoints.write(path, problem.network, checkpoint_of(problem, state, about))
    choice = session.choice(problem.name)
    run = {**session.run_information(state.seconds, choice.name), **names, **cells.made_with(about["settings"])}
    run |= {"data_digest": about["data_digest"], "outer_steps": state.outer_step, "together": together}
    run |= {"checkpoint_digest": dvc.hash_of(path, "sha256")}
    legs = session.state_file(problem).legs(state)
    if len(legs) > 1:
        run["legs"] = legs  # interrupted, and perhaps trained in several places
    else:
        run["cpu_seconds"] = round(cpu_seconds, 1)
    cells.write_sealed(curve, row_files.rows_text(columns.CURVE, state.curve), run)
    print(f"{path}\n{curve}")


@verb("compute", EVALUATION, SEED, DEVICE, ENGINE, THREADS, COMPILE, SET)
def evaluate(arguments: Arguments) -> int:
    """Evaluate a training for one shot and seed and write the records of its two cells."""
    from firstorder.method import evaluation
    from firstorder.records import cells, unfinished

    start, clock = time.monotonic(), time.process_time()
    arguments = redirected(arguments, evaluating=True)
    session, name = Session.of(arguments), arguments.evaluation
    chosen = settings.lookup(session.project.evaluations, name, "evaluation")
    trained = session.trained(name, chosen, arguments.seed)
    inner, draws = trained.problem.inner, trained.draws
    pool = trained.problem.pools["meta-test"]
    with signals.stopping() as stop:
        keeper = session.counts_file(name, trained, start, stop)
        counts = evaluation.evaluate(inner, trained.checkpoint, pool, draws, progress.shown, keeper)
    done = len(counts["inductive"])
    if done < draws.tasks:
        return stopped(stop, f"{draws.title} stopped after {done:,} of {draws.tasks:,} tasks")
    run = session.run_information(keeper.seconds, inner.engine.name)
    if len(keeper.legs) > 1:
        run["legs"] = keeper.legs  # interrupted, and perhaps evaluated in several places
    else:
        run["cpu_seconds"] = round(time.process_time() - clock, 1)
    for mode, correct in counts.items():
        histogram = evaluation.histogram(correct, draws.shape.way * draws.shape.query)
        cell = settings.Cell(name, mode, arguments.seed)
        record = cells.make_record(session.project, cell, trained.digests, histogram)
        print(cells.write_record(session.root, record, run))
    keeper.discard()
    unfinished.drop_checkpoint(session.root, session.project, chosen.training, arguments.seed)
    return 0
