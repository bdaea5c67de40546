"""Whether a training is finished: its curve is fresh, and its checkpoint is the one that is stated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firstorder.errors import UserError

if TYPE_CHECKING:
    from firstorder.cli.session import Session
    from firstorder.method.training import Problem


def is_done(session: Session, training: str, seed: int) -> bool:
    """Say whether a training's curve is fresh and its checkpoint is the one that is stated; needs no packed data.

    The run file of the curve states it, or else a fresh record, or else the .dvc file. One that nothing states
    may be of an interrupted training or of other data, so it is none.
    """
    from firstorder.records import checkpoints, freshness, unfinished
    from firstorder.upkeep import dvc

    path, curve = session.outputs_of(training, seed)
    unfinished.take_checkpoint(session.root, training, seed)
    if not (path.exists() and curve.exists()):
        return False
    try:
        if freshness.difference(session.root, freshness.curve(session.project, training, seed)) is not None:
            return False
        stated, _ = checkpoints.stated(session.root, session.project, training, seed)
        named = dvc.names(path) if stated is None else stated == dvc.hash_of(path, "sha256")
    except UserError:
        return False
    return named and freshness.is_trained(session.root, session.project, training, seed)


def discard_state(session: Session, training: str, seed: int) -> None:
    """Remove the saved state of a training, and the suspended one, unless they are of other settings or data."""
    from firstorder.records import unfinished

    unfinished.drop(session.root, unfinished.of_training(session.project, training, seed))


def check_recorded(session: Session, problem: Problem, checkpoint_digest: str) -> None:
    """Raise UserError if a checkpoint is not the one that its training's run file or a fresh record names.

    Delete the saved state of the training only now that its checkpoint is known to be complete.
    """
    from firstorder.records import checkpoints, headers

    path, _ = session.outputs(problem)
    recorded, by = checkpoints.stated(session.root, session.project, problem.name, problem.seed)
    if recorded == checkpoint_digest:
        discard_state(session, problem.name, problem.seed)
    elif recorded is not None:
        raise UserError(
            f"{path}: its SHA-256 is {checkpoint_digest[:16]}..., expected {recorded[:16]}... as "
            f"{by} says; restore it ({headers.pulling(path)}), or train it "
            f"again: firstorder train {problem.name} --seed {problem.seed} --again"
        )
