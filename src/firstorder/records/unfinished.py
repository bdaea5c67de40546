"""What is kept of unfinished trainings and evaluations: where, what it was made with, and how far it is. No torch.

A training keeps its state and an evaluation its counts in .work/, which is not in Git. `firstorder suspend` copies them
to unfinished/, which is. Both say what they were made with (`of`) and hold a digest of everything in them, so that
another machine goes on from nothing that is damaged, of other settings or of other data.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.errors import UserError, shown
from firstorder.files import replacing
from firstorder.records import cells, freshness, headers
from firstorder.records.freshness import Expected
from firstorder.records.headers import CHECKPOINT_FILE
from firstorder.records.kept_files import (
    KEPT_FILE,
    Whole,
    put_aside,
    read_counts,
    read_state,
    told,
    unfit,
    unfit_state,
)
from firstorder.settings import CURVE, MODEL, MODES, Project, TrainingSettings, digest, paths


@dataclass(frozen=True, kw_only=True)
class Work:
    """A training or an evaluation, for one seed. Paths are relative to the folder of params.yaml."""

    name: str
    seed: int
    results: tuple[Expected, ...]  # what it computes
    training: str  # itself, or the one that is evaluated
    working: str  # where its state or its counts are kept while it works
    suspended: str  # where they are kept in Git
    total: int
    unit: str  # of `total`: outer step or task
    settings: TrainingSettings | None = None  # of a training

    @property
    def places(self) -> tuple[str, ...]:
        """Where its state or its counts may be; the last is the place in Git before there was `suspend`."""
        return self.working, self.suspended, f"unfinished/{self.working}"

    @property
    def is_training(self) -> bool:
        """Say whether it is a training."""
        return self.unit == "outer step"

    def progress(self, root: Path, content: bytes) -> int:
        """Return how many outer steps or tasks are done by a state or by counts.

        Raises ValueError, in one line, if they are damaged or were made with other settings, data or checkpoints than
        the present ones in `root`.
        """
        try:
            about = read_state(content) if self.is_training else read_counts(content)
            made = about["of"] if "of" in about else self._older(root)
            if about["identity"] not in identities(made):
                raise ValueError("it is of other settings, data or seed")
            why = self._unlike(root, made) or (
                unfit(about, self._whole(made)) if self.settings is None else unfit_state(about, self.settings)
            )
            if why is not None:
                raise ValueError(why)
            done: int = about["outer_step"] if self.is_training else len(about["counts"][MODES[0]])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from None
        return done

    def told(self, root: Path, content: bytes) -> bytes:
        """Return a state or counts as they are, or an older state with what it was made with, which all others say."""
        if not self.is_training or "of" in read_state(content):
            return content
        return told(content, self._older(root))

    def said(self, done: int) -> str:
        """Say how far it is."""
        return f"{self.unit} {done:,} of {self.total:,}"

    def _older(self, root: Path) -> dict[str, Any]:
        """Return what a state that does not say so must have been made with."""
        pack = self.results[0].pack or ""
        data = headers.pack_digest(root / pack)
        if not self.is_training or data is None:
            raise ValueError(f"it does not say what it was made from, and {pack} is not here to compare")
        return made_with(self.name, self.seed, self.results[0].wanted, data)

    def _whole(self, made: Mapping[str, Any]) -> Whole:
        """Return the size of the evaluation."""
        wanted = self.results[0].wanted
        queries = wanted["training"]["way"] * wanted["evaluation"].get("query", 1)
        return Whole(tasks=self.total, queries=queries, lanes=made["lanes"])

    def _unlike(self, root: Path, made: Mapping[str, Any]) -> str | None:
        """Name what a state or counts were made with, if that is no longer so."""
        own = {"seed": self.seed, "training": self.name} if self.is_training else {"seed": self.seed}
        for key, wanted in own.items():
            if made[key] != wanted:
                return f"it is that of {key} {made[key]!r:.80}"
        difference = freshness.unlike(root, self.results[0], {**made, "settings_digest": digest(made["settings"])})
        if difference is not None:
            return freshness.since(difference)
        counted = made.get("checkpoint_digest")
        stated = cells.how_trained(root, self.training, self.seed).get("checkpoint_digest")
        if None not in (counted, stated) and counted != stated:
            return f"it was counted with another checkpoint, {counted:.16}..., than that of the curve, {stated:.16}..."
        return None


def of_training(project: Project, name: str, seed: int) -> Work:
    """Return a training."""
    curve = freshness.curve(project, name, seed)
    return Work(
        name=name,
        seed=seed,
        results=(curve,),
        training=name,
        working=paths.STATE.format(digest=digest(curve.wanted), seed=seed),
        suspended=paths.SUSPENDED_STATE.format(training=name, seed=seed),
        total=project.trainings[name].outer_steps,
        unit="outer step",
        settings=project.trainings[name],
    )


def of_evaluation(project: Project, name: str, seed: int) -> Work:
    """Return an evaluation."""
    evaluation = project.evaluations[name]
    both = tuple(freshness.cell(project, name, mode, seed) for mode in MODES)
    return Work(
        name=name,
        seed=seed,
        results=both,
        training=evaluation.training,
        working=paths.COUNTS.format(digest=digest(both[0].wanted), seed=seed),
        suspended=paths.SUSPENDED_COUNTS.format(evaluation=name, seed=seed),
        total=evaluation.tasks,
        unit="task",
    )


def everything(project: Project) -> Iterator[Work]:
    """Yield every training and evaluation, for every seed."""
    for seed in project.seeds:
        yield from (of_training(project, name, seed) for name in project.trainings)
        yield from (of_evaluation(project, name, seed) for name in project.evaluations)


def made_with(training: str, seed: int, settings: dict[str, Any], data_digest: str) -> dict[str, Any]:
    """Return what a training's outcome depends on, except the device."""
    of = {"training": training, "seed": seed, "settings": settings}
    return {**of, "training_digest": digest(settings), "data_digest": data_digest}


def identities(made: dict[str, Any]) -> tuple[str, ...]:
    """Return the digests that name what something was made with, the present one first.

    The oldest states name the kind of device too.
    """
    return digest(made), *(digest({**made, "device": kind}) for kind in ("cpu", "cuda"))


def is_finished(root: Path, work: Work, awaited: Set[tuple[str, int]]) -> bool:
    """Say whether nothing of it is to be computed: its results are fresh and its checkpoint is here or not needed.

    `awaited` is what the function of that name returns.
    """
    done = all(_is_done(root, result) for result in work.results)
    key = work.name, work.seed
    if not done or not work.is_training or key not in awaited:
        return done
    model = root / MODEL.format(training=work.name, seed=work.seed)
    return _stated_checkpoint(root, model, *key) is not None


def is_begun_again(root: Path, work: Work) -> bool:
    """Say whether what is recorded was being computed once more (FORCE=1), so that the same command goes on from it.

    A training keeps its state until its checkpoint is found whole; an evaluation removes its counts when it ends.
    """
    if work.is_training and (root / MODEL.format(training=work.name, seed=work.seed)).exists():
        return False
    return (root / work.working).exists()


def awaited(root: Path, project: Project) -> set[tuple[str, int]]:
    """Return each training and seed on whose checkpoint something is still to be measured."""
    measured = (item for item in freshness.everything(project) if item.training is not None and item.seed is not None)
    return {(item.training or "", item.seed or 0) for item in measured if not _is_done(root, item)}


def _stated_checkpoint(root: Path, path: Path, training: str, seed: int) -> bytes | None:
    """Return the content of a checkpoint if its SHA-256 is the one in the run file of the training's curve."""
    with suppress(UserError):
        content = CHECKPOINT_FILE.read(path)
        if hashlib.sha256(content).hexdigest() == cells.how_trained(root, training, seed).get("checkpoint_digest"):
            return content
    return None


def make_room(path: Path, work: Work, content: bytes, *, damaged: bool = True) -> Path | None:
    """Put aside what is at `path`, unless it is a state or counts of the same work as `content`; return where it is.

    Without `damaged`, what is none is left to be replaced.
    """
    if not path.is_file():
        return None
    read = read_state if work.is_training else read_counts
    identity = None
    with suppress(UserError, ValueError, KeyError, TypeError):
        identity = str(read(KEPT_FILE.read(path))["identity"])
    if identity == read(content)["identity"] or (identity is None and not damaged):
        return None
    return put_aside(path, identity)


def take_checkpoint(root: Path, training: str, seed: int) -> None:
    """Copy the checkpoint from unfinished/ to its place if there is none, and say so."""
    names = {"training": training, "seed": seed}
    path, carried = root / MODEL.format(**names), root / paths.SUSPENDED_MODEL.format(**names)
    if path.exists() or not carried.exists():
        return
    content = _stated_checkpoint(root, carried, training, seed)
    if content is None:
        say(f"{carried}: passed over (it is not what the run file of {root / CURVE.format(**names)} states)")
    else:
        with replacing(path) as part:
            part.write_bytes(content)
        say(f"{carried}: taken as {path}")


def drop(root: Path, work: Work) -> None:
    """Remove what is kept of a work that is finished or begins again.

    What lies in its places and is of other settings, data or seed stays, as it serves again once those are back. What
    is damaged serves nothing and is removed.
    """
    for place in work.places:
        path = root / place
        if not path.is_file() or _is_of_other_work(root, work, KEPT_FILE.read(path)):
            continue
        if place == work.working:
            path.unlink()
        else:
            remove(path)


def _is_of_other_work(root: Path, work: Work, content: bytes) -> bool:
    """Say whether a state or counts are whole, but of other settings, data or seed than the work has here."""
    try:
        (read_state if work.is_training else read_counts)(content)
    except (KeyError, TypeError, AttributeError, ValueError):
        return False
    try:
        work.progress(root, content)
    except ValueError:
        return True
    return False


def drop_checkpoint(root: Path, project: Project, training: str, seed: int) -> None:
    """Remove the checkpoint from unfinished/ once nothing waits for it, and say so."""
    carried = root / paths.SUSPENDED_MODEL.format(training=training, seed=seed)
    if carried.exists() and (training, seed) not in awaited(root, project):
        remove(carried)


def remove(path: Path) -> None:
    """Remove a file of unfinished/ that nothing needs any more, and say so, because Git keeps it."""
    if path.is_file():
        path.unlink()
        say(f"{path}: removed, as nothing needs it any more")


def say(text: str) -> None:
    """Print a line for the user."""
    print(f"firstorder: {shown(text)}", file=sys.stderr)


def _is_done(root: Path, expected: Expected) -> bool:
    with suppress(UserError):
        return freshness.state(root, expected) == freshness.DONE
    return False  # it was changed after it was recorded
