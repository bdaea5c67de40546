"""Suspend unfinished work: copy what it needs to go on elsewhere to unfinished/, which is in Git.

That is the states of trainings, the counts of evaluations, and the checkpoints that evaluations still wait for. The
trainings and evaluations that go on from them find them by themselves. What is finished is removed; what is damaged or
of other settings or data is named and left. `git add` and `git commit` are left to the user.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from firstorder.errors import UserError, reason
from firstorder.files import replacing
from firstorder.records import unfinished
from firstorder.records.headers import CHECKPOINT_FILE
from firstorder.records.kept_files import KEPT_FILE, is_aside
from firstorder.records.unfinished import Work
from firstorder.settings import CURVE, MODEL, Project, paths
from firstorder.upkeep import dvc

LARGEST_BYTES = 2_000_000  # of a file in Git
PATTERNS = ("seed-*.safetensors", "counts-*.json", "checkpoint-*.safetensors")


@dataclass
class Suspended:
    """What was done: lines to print, the files for `git add`, and the number of files too large to suspend."""

    lines: list[str] = field(default_factory=list)
    added: list[Path] = field(default_factory=list)
    too_large: int = 0

    def write(self, path: Path, content: bytes, what: str) -> bool:
        """Write a file of unfinished/ unless it is there already; return False if it is too large."""
        if len(content) > LARGEST_BYTES:
            self.too_large += 1
            size = f"{len(content):,} bytes, expected at most {LARGEST_BYTES:,} in Git"
            self.lines.append(f"left here: {what} ({size}); take it over elsewhere with: firstorder collect FOLDER")
            return False
        there = path.is_file() and KEPT_FILE.read(path) == content
        if not there:
            with replacing(path) as part:
                part.write_bytes(content)
        self.lines.append(f"{'already there' if there else 'suspended'}: {path} ({what}, {len(content):,} bytes)")
        return True


def suspend(root: Path, project: Project) -> Suspended:
    """Suspend the unfinished work of the folder `root`; return what was done."""
    done, known, below = Suspended(), set(), root / "unfinished"
    before = _stamps(below)
    awaited = unfinished.awaited(root, project)
    for work in unfinished.everything(project):
        known |= {root / place for place in work.places}
        finished = unfinished.is_finished(root, work, awaited) and not unfinished.is_begun_again(root, work)
        if finished:
            unfinished.drop(root, work)
        elif (best := furthest(root, work, done.lines)) is not None:
            what = f"{work.name} seed {work.seed} at {work.said(best[0])}"
            if (aside := unfinished.make_room(root / work.suspended, work, best[1], damaged=False)) is not None:
                done.lines.append(f"set aside: {root / work.suspended} as {aside.name} (it is of other work)")
            if done.write(root / work.suspended, work.told(root, best[1]), what):
                unfinished.remove(root / work.places[-1])
        if work.is_training:
            carried = root / paths.SUSPENDED_MODEL.format(training=work.name, seed=work.seed)
            known.add(carried)
            if (work.name, work.seed) not in awaited or _is_published(root, work):
                unfinished.remove(carried)
            elif finished and work.total:
                _carry(root, work, carried, done)
    for path in kept_below(root):
        if path not in known:
            done.lines.append(f"passed over: {path} (params.yaml has no training or evaluation with these settings)")
    if (after := _stamps(below)) and after != before:
        command = ["git", "add", "--force", str(below), *map(str, done.added)]
        done.lines += [shlex.join(command), "git commit --message 'Suspend unfinished work'"]
    return done


def _stamps(below: Path) -> dict[Path, tuple[int, int]]:
    """Map every file of a folder to its number and time, of which a new one has others."""
    found = {path: path.stat() for path in below.rglob("*") if path.is_file()}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def _is_published(root: Path, work: Work) -> bool:
    """Say whether DVC has the checkpoint that is here, so that a clone gets it by `dvc pull`."""
    path = root / MODEL.format(training=work.name, seed=work.seed)
    with suppress(UserError):
        return path.is_file() and dvc.names(path)
    return False


def kept_below(root: Path) -> Iterator[Path]:
    """Yield every file of unfinished work in a folder, sorted; those that were set aside are none."""
    for folder in (".work", "unfinished"):
        found = {path for pattern in PATTERNS for path in (root / folder).rglob(pattern)}
        yield from sorted(path for path in found if not is_aside(path))


def furthest(root: Path, work: Work, lines: list[str]) -> tuple[int, bytes] | None:
    """Return how far the work in the folder `root` is, and its state or counts; None if there are none.

    Files that are of no use are named in `lines`.
    """
    best = None
    for path in (root / place for place in work.places):
        if not path.exists():
            continue
        try:
            content = KEPT_FILE.read(path)
            done = work.progress(root, content)
        except (UserError, ValueError) as error:
            lines.append(f"passed over: {path} ({reason(error, path)})")
            continue
        if best is None or done > best[0]:
            best = done, content
    return best


def _carry(root: Path, work: Work, carried: Path, done: Suspended) -> None:
    """Copy the checkpoint of a finished training, for which an evaluation waits."""
    names = {"training": work.name, "seed": work.seed}
    content = CHECKPOINT_FILE.read(root / MODEL.format(**names))
    done.write(carried, content, f"checkpoint of {work.name} seed {work.seed}, which evaluations wait for")
    curve = root / CURVE.format(**names)
    done.added += [curve, curve.with_suffix(".run.json")]
