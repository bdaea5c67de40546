"""Verbs that train and evaluate."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from firstorder import progress, settings
from firstorder.cli.session import Session
from firstorder.cli.verbs import COMPILE, DEVICE, ENGINE, SEED, Arguments, argument, verb

if TYPE_CHECKING:
    from firstorder.method.training import Problem, Resumable, TrainingState

OUT_OF_TIME = 3  # exit code of a training that --time-limit stopped


@verb(
    "compute",
    argument("training"),
    argument("--seed", type=int, nargs="+", required=True, help="one or more; engine graph trains them together"),
    DEVICE,
    ENGINE,
    COMPILE,
    argument("--again", action="store_true", help="train from the start, even if a result or a saved state exists"),
    argument(
        "--time-limit", type=float, metavar="SECONDS", help="stop after this time, save the state, exit with code 3"
    ),
)
def train(arguments: Arguments) -> int:
    """Meta-train one training for one or more seeds and write their checkpoints and learning curves."""
    session, name = Session.of(arguments), arguments.training
    seeds = list(dict.fromkeys(arguments.seed))
    problems = session.problems(name, seeds)
    trainings = []
    for problem in problems:
        done = not arguments.again and session.is_done(problem)
        if done or arguments.again:
            # The last state of a training is kept until its results are found to be complete, which is here.
            session.state_file(problem).discard()
        if done:
            print(*session.outputs(problem), sep="\n")
        else:
            trainings.append(session.resumable(problem))
    code = 0
    ended = session.choice(name).train(trainings, progress.shown, arguments.time_limit)
    for training, state in zip(trainings, ended, strict=True):
        seed = training.problem.seed
        if state is None:
            print(f"firstorder: --time-limit: seed {seed} was not started; the same command starts it", file=sys.stderr)
            code = OUT_OF_TIME
        elif state.outer_step < training.problem.settings.outer_steps:
            what = f"{name} seed {seed} stopped at outer step {state.outer_step:,}"
            print(f"firstorder: --time-limit: {what}; the same command goes on from there", file=sys.stderr)
            code = OUT_OF_TIME
        else:
            together = len(seeds) if session.choice(name).side_by_side else 1
            _write(session, training, state, together)
    return code


def _write(session: Session, training: Resumable, state: TrainingState, together: int) -> None:
    """Write the checkpoint, the curve and the run file of a finished training.

    `together` is the number of seeds trained side by side.
    """
    from firstorder.method.training import CURVE_COLUMNS, checkpoint_of
    from firstorder.records import cells, checkpoints
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
        run["legs"] = legs  # trained in several places
    cells.write_sealed(curve, cells.rows_text(CURVE_COLUMNS, state.curve), run)
    print(f"{path}\n{curve}")


@verb("compute", argument("evaluation"), SEED, DEVICE, ENGINE, COMPILE)
def evaluate(arguments: Arguments) -> None:
    """Evaluate a training for one shot and seed and write the records of its two cells."""
    from firstorder.method import evaluation
    from firstorder.records import cells

    start = time.monotonic()
    session, name = Session.of(arguments), arguments.evaluation
    chosen = settings.lookup(session.project.evaluations, name, "evaluation")
    trained = session.trained(name, chosen, arguments.seed)
    inner, draws = trained.problem.inner, trained.draws
    pool = trained.problem.pools["meta-test"]
    counts = evaluation.evaluate(inner, trained.checkpoint, pool, draws, progress.shown)
    run = session.run_information(time.monotonic() - start, inner.engine.name)
    for mode, correct in counts.items():
        histogram = evaluation.histogram(correct, draws.shape.way * draws.shape.query)
        cell = settings.Cell(name, mode, arguments.seed)
        record = cells.make_record(session.project, cell, trained.digests, histogram)
        print(cells.write_record(session.root, record, run))
