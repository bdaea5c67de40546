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
    argument(
        "--time-limit", type=float, metavar="SECONDS", help="stop after this time, save the state, exit with code 3"
    ),
)
def train(arguments: Arguments) -> int:
    """Meta-train one training for one or more seeds and write their checkpoints and learning curves."""
    session, name = Session.of(arguments), arguments.training
    seeds = list(dict.fromkeys(arguments.seed))
    problems = session.problems(name, seeds)
    trainings = [session.resumable(problem) for problem in problems]
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
    path = session.root / settings.MODEL.format(**names)
    checkpoints.write(path, problem.network, checkpoint_of(problem, state, about))
    curve = session.root / settings.CURVE.format(**names)
    cells.write_rows(curve, CURVE_COLUMNS, state.curve)
    choice = session.choice(problem.name)
    run = {**session.run_information(state.seconds, choice.name), **names, **cells.made_with(about["settings"])}
    run |= {"data_digest": about["data_digest"], "outer_steps": state.outer_step, "together": together}
    run |= {"checkpoint_digest": dvc.hash_of(path, "sha256")}
    cells.write_run(curve, run)
    session.state_file(problem).discard()
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
        record = cells.make_record(session.project, (name, mode, arguments.seed), trained.digests, histogram)
        print(cells.write_record(session.root, record, run))
