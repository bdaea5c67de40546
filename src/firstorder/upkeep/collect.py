"""Take over results, checkpoints and states of another working folder: a clone, a GPU machine, a cluster's scratch.

Nothing in that folder is believed. Each file is copied first and the copy is checked: its seal, its content, and
whether it is fresh against params.yaml and the data here. Links are not followed. What is valid here is never replaced,
and a state only by one that is further. Each result is taken together with its run file, a checkpoint before the curve
that names it, so that whoever is killed here leaves nothing that looks whole and is not.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from firstorder.errors import UserError, reason
from firstorder.files import MissingFileError, replacing
from firstorder.records import cells, freshness, unfinished
from firstorder.records.freshness import Expected
from firstorder.records.headers import model_header
from firstorder.records.kept_files import KEPT_FILE, is_aside, misfit, put_aside
from firstorder.records.unfinished import Work
from firstorder.records.value_types import REPLACES
from firstorder.settings import CURVE, MODEL, Project, checks, digest, paths
from firstorder.upkeep import stages, suspend, verify_records
from firstorder.upkeep.mismatches import Verification
from firstorder.upkeep.verify_files import is_checkpoint

# Folder -> names of the files that are looked at.
PLACES = {
    "results/curves": ("[!.]*.csv",),
    "results/cells": ("seed-*.json",),
    "models": ("seed-*.safetensors",),
    ".work": suspend.PATTERNS,
    "unfinished": suspend.PATTERNS,
}


@dataclass
class Collection:
    """One folder's collection of what `source` has; `stage` holds the copies that are checked."""

    root: Path
    project: Project
    source: Path
    stage: Path
    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        """The number of files that do not verify or are stale."""
        return self.counts["refused"]

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        took, refused, left, here = (self.counts[what] for what in ("took", "refused", "left", "here"))
        return f"took {took}, refused {refused}, left {left} that are no further than here; {here} are here already"

    def say(self, what: str, path: str, why: str) -> bool:
        """Add a line about a file of the source; return False."""
        self.counts[what] += 1
        self.lines.append(f"{what}: {self.source / path} ({why})")
        return False

    def collect(self) -> None:
        """Take over everything."""
        found = self._found()
        known: set[str] = set()
        results = {item.path: item for item in freshness.everything(self.project)}
        work = list(unfinished.everything(self.project))
        for training in (one for one in work if one.is_training):
            names = {"training": training.name, "seed": training.seed}
            curve = results.pop(CURVE.format(**names))
            copies = [MODEL.format(**names), paths.SUSPENDED_MODEL.format(**names)]
            known |= {curve.path, *copies}
            self._training(curve, [path for path in copies if path in found], is_there=curve.path in found)
        for path in (path for path in found if path in results):
            if self._is_wanted(results[path]):
                self._write_sealed(path)
        awaited = unfinished.awaited(self.root, self.project)
        for one in work:
            known |= {*one.places}
            self._state(one, [path for path in one.places if path in found], awaited)
        for path in found:
            if path not in known and path not in results:
                self.say("refused", path, "params.yaml here lists nothing with this name, seed or these settings")

    def _found(self) -> dict[str, None]:
        """List the files of the source to look at, relative to it. Links to folders are refused."""

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                self.say("refused", os.path.relpath(error.filename, self.source), reason(error, ""))

        found: dict[str, None] = {}
        for place, patterns in PLACES.items():
            for folder, folders, files in os.walk(self.source / place, onerror=fail):
                folders.sort()
                for name in sorted([*folders, *files]):
                    path = Path(folder, name)
                    relative = path.relative_to(self.source).as_posix()
                    if any(fnmatch(name, pattern) for pattern in patterns):
                        if ".run" not in path.suffixes and not is_aside(path):
                            found[relative] = None
                    elif path.is_symlink() and path.is_dir():
                        self.say("refused", relative, "it is a link, expected a folder")
        return found

    def _copy(self, path: str) -> bytes:
        """Copy a file of the source to the stage; raises an error for anything but a file."""
        if (self.source / path).is_symlink():
            raise ValueError("it is a link, expected a file")
        content = KEPT_FILE.read(self.source / path)
        copy = self.stage / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        return content

    def _training(self, curve: Expected, copies: list[str], *, is_there: bool) -> None:
        """Take over a training: its checkpoint, of which there are `copies`, and its curve if that `is_there`."""
        wanted = is_there and self._is_wanted(curve)
        stated = None
        if wanted or (copies and self._is_valid_here(curve)):
            run = cells.how_made((self.stage if wanted else self.root) / curve.path)
            stated = run.get("checkpoint_digest")
        for path in copies:
            self._checkpoint(path, stated, MODEL.format(training=curve.about, seed=Path(curve.path).stem[5:]))
        if wanted:
            self._write_sealed(curve.path)

    def _checkpoint(self, path: str, stated: str | None, model: str) -> None:
        """Take over a checkpoint whose SHA-256 is the one stated."""
        try:
            content = self._copy(path)
        except (OSError, UserError, ValueError) as error:
            self.say("refused", path, reason(error, self.source / path))
            return
        found, mine = hashlib.sha256(content).hexdigest(), self.root / model
        if stated is None:
            self.say("refused", path, "no curve that verifies and is fresh states its SHA-256")
        elif found != stated:
            why = f"its SHA-256 is {found:.16}..., expected {stated:.16}... as the curve's run file says"
            self.say("refused", path, why)
        elif mine.is_file() and hashlib.sha256(mine.read_bytes()).hexdigest() == found:
            self.counts["here"] += 1
        elif not is_checkpoint(self.stage / path) or not _is_of(self.stage / path, model):
            self.say("refused", path, "it does not describe itself as the checkpoint of this training and seed")
        elif self._may_write(path, model):
            if mine.is_file():
                aside = put_aside(mine, hashlib.sha256(mine.read_bytes()).hexdigest())
                self.lines.append(f"set aside: {mine} as {aside.name} (no curve here that is valid states it)")
            self._write(model, content)

    def _is_wanted(self, item: Expected) -> bool:
        """Say whether a result of the source is sound and fresh, and there is none of this kind here."""
        try:
            content = self._copy(item.path)
            self._copy(_beside(item.path))
        except MissingFileError:
            return self.say("refused", item.path, "it is not sealed: it has no run file")
        except (OSError, UserError, ValueError) as error:
            return self.say("refused", item.path, reason(error, self.source / item.path))
        if (why := self._fault(self.stage, item)) is not None:
            return self.say("refused", item.path, why)
        if not all(self._may_write(item.path, path) for path in (item.path, _beside(item.path))):
            return False
        if not self._is_valid_here(item):
            return True
        if content == (self.root / item.path).read_bytes():
            self.counts["here"] += 1
            return False
        return self.say("left", item.path, "another one is here, which is valid")

    def _is_valid_here(self, item: Expected) -> bool:
        return (self.root / item.path).exists() and self._fault(self.root, item) is None

    def _fault(self, root: Path, item: Expected) -> str | None:
        """Say what is wrong with a result below `root`, or since when it is stale; None if it is sound and fresh.

        It must be as `verify` wants it.
        """
        verification, path = Verification(), root / item.path
        target = verify_records.Target(root, self.project, verification)
        record = None
        if path.suffix == ".json":
            record = verify_records.check_record(target, path)
        else:
            verify_records.check_curve(target, path)
        if verification.mismatches:
            return _without_advice(verification.mismatches[0].text, root, item.path)
        run = cells.how_made(path)
        made = run if record is None else vars(record)
        if (difference := freshness.unlike(self.root, item, made)) is not None:
            return f"stale: {freshness.since(difference)}"
        return self._other_checkpoint(item, made.get("checkpoint_digest"))

    def _other_checkpoint(self, item: Expected, measured: str | None) -> str | None:
        """Say so if a result was measured on another checkpoint than that of the training's curve here."""
        if item.training is None:
            return None
        run = cells.how_trained(self.root, item.training, item.seed or 0)
        stated = run.get("checkpoint_digest")
        same = run.get("settings_digest") == digest(self.project.settings_of_training(item.training))
        if not same or None in (stated, measured) or stated == measured:
            return None
        return f"measured on another checkpoint, {measured:.16}..., than that of the curve here, {stated:.16}..."

    def _state(self, work: Work, copies: list[str], awaited: set[tuple[str, int]]) -> None:
        """Take over the state of a training or the counts of an evaluation if it is further than here."""
        for path in copies:
            try:
                content = self._copy(path)
                done = work.progress(self.root, content)
            except (OSError, UserError, ValueError) as error:
                self.say("refused", path, reason(error, self.source / path))
                continue
            mine = suspend.furthest(self.root, work, [])
            if unfinished.is_finished(self.root, work, awaited):
                self.say("left", path, "it is finished here")
            elif mine is not None and mine[0] == done:
                self.counts["here"] += 1
            elif mine is not None and mine[0] > done:
                self.say("left", path, f"{work.said(done)}; here it is at {mine[0]:,}")
            elif mine is not None and work.is_training and (why := misfit(content, mine[1])) is not None:
                self.say("refused", path, why)
            elif self._may_write(path, work.working):
                if (aside := unfinished.make_room(self.root / work.working, work, content)) is not None:
                    self.lines.append(f"set aside: {self.root / work.working} as {aside.name} (it is of other work)")
                self._write(work.working, content, f", at {work.said(done)}")

    def _may_write(self, path: str, target: str) -> bool:
        """Refuse `path` if what is in its place here is no file."""
        mine = self.root / target
        if not os.path.lexists(mine) or stat.S_ISREG(mine.lstat().st_mode):
            return True
        return self.say("refused", path, f"{mine} is there and is no file")

    def _write(self, path: str, content: bytes, how: str = "") -> None:
        with replacing(self.root / path) as part:
            part.write_bytes(content)
        self._took(path, how)

    def _write_sealed(self, path: str) -> None:
        """Write a result and its run file from their copies in the stage."""
        run = {key: value for key, value in cells.read_run(self.stage / path).items() if key != REPLACES}
        cells.write_sealed(self.root / path, (self.stage / path).read_bytes().decode(), run)
        self._took(path)

    def _took(self, path: str, how: str = "") -> None:
        self.counts["took"] += 1
        self.lines.append(f"took: {self.root / path}{how}")


def check_source(root: Path, source: Path) -> None:
    """Raise UserError unless `source` is another working folder of the project."""
    if not (source / "params.yaml").is_file():
        raise UserError(f"{source}: no working folder of this project, as it has no params.yaml; name one that has")
    if source.resolve() == root.resolve():
        raise UserError(f"{source}: it is the folder to collect into; name another one")
    checks.load(source / "params.yaml")


def collect(root: Path, project: Project, source: Path) -> Collection:
    """Take over what the working folder `source` has into the folder `root`; return what was done."""
    work = root / ".work"
    work.mkdir(parents=True, exist_ok=True)
    with stages.stage(work) as stage:
        collection = Collection(root, project, source, stage)
        collection.collect()
    return collection


def _is_of(path: Path, model: str) -> bool:
    """Say whether a checkpoint names the training and the seed of the path `model`."""
    about = model_header(path)
    return MODEL.format(training=about.get("training"), seed=about.get("seed")) == model


def _beside(path: str) -> str:
    """Return the path of a result's run file."""
    return Path(path).with_suffix(".run.json").as_posix()


def _without_advice(text: str, root: Path, path: str) -> str:
    """Return what a mismatch of a file below `root` says, without the file's path and how to repair it."""
    for advice in ("; fix: ", "; restore it "):
        text = text.partition(advice)[0]
    return text.removeprefix(f"{root / path}: ").replace(f"{root}{os.sep}", "")
