"""Publish checkpoints: track them with DVC and push them, in one step, if nothing is stale and everything verifies.

A newcomer would get wrong: what is pushed to a public place may hold weights, never images. Omniglot's pack is tracked
by its hash alone, and one of mini-ImageNet is refused whatever it is called. Git is left to the user.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firstorder.data.packs import DAMAGED
from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.records.cells import read_records
from firstorder.settings import MODEL, MODES, RECORD, Project
from firstorder.upkeep import dvc, verify_files
from firstorder.upkeep.dvc import Remote, Tracked
from firstorder.upkeep.verify import verify

LARGEST_PUBLISHED_BYTES = 16 * 2**20  # of a remote inside the repository, which every clone brings along


@dataclass(frozen=True)
class Wish:
    """What to publish of a folder: which trainings (none named: all), to which remote (none named: the default)."""

    root: Path
    project: Project
    trainings: Sequence[str] = ()
    remote: str | None = None


def publish(wish: Wish) -> list[str]:
    """Track and push every checkpoint whose evaluations are all recorded; return lines that say what was done.

    Raises UserError, before anything is written, when there is no DVC repository or no remote, a record is stale or
    `verify` finds a mismatch, something other than checkpoints would be pushed, or the set grows too large.
    """
    repository = dvc.repository(wish.root)
    if repository is None:
        raise UserError(f"{wish.root}: no folder from here upwards is a DVC repository; make one: dvc init")
    remote = dvc.remote(repository, wish.remote)
    ready, left_out = _ready(wish)
    _refuse_stale(wish)
    _refuse_unverified(wish, ready)
    tracked = dvc.tracked(repository)
    _refuse_images(repository, tracked, remote)
    _refuse_too_much(repository, tracked, ready, remote)
    lines = [f"left out: {path} ({why})" for path, why in left_out]
    if not ready:
        return [*lines, f"nothing to publish: {wish.root} has no checkpoint whose evaluations are all recorded"]
    names = [str(path.relative_to(wish.root)) for path in ready]
    _dvc(wish.root, "add", *names)
    _dvc(wish.root, "push", "--remote", remote.name, *(f"{name}.dvc" for name in names))
    return [*lines, *_told(wish.root, repository, ready, remote)]


def _ready(wish: Wish) -> tuple[list[Path], list[tuple[Path, str]]]:
    """List the checkpoints to publish, and those that are here but not ready, with the reason."""
    project, ready, left_out = wish.project, [], []
    unknown = [name for name in wish.trainings if name not in project.trainings]
    if unknown:
        raise UserError(f"unknown training {unknown[0]!r}; known are: {', '.join(project.trainings)}")
    for name in wish.trainings or project.trainings:
        if project.trainings[name].outer_steps == 0:
            continue  # a random start is made again in a second
        evaluations = [key for key, entry in project.evaluations.items() if entry.training == name]
        for seed in project.seeds:
            path = wish.root / MODEL.format(training=name, seed=seed)
            cells = [RECORD.format(evaluation=key, mode=mode, seed=seed) for key in evaluations for mode in MODES]
            missing = [cell for cell in cells if not (wish.root / cell).exists()]
            if not path.exists():
                continue
            if missing or not cells:
                left_out.append((path, f"no {missing[0]}" if missing else "params.yaml has no evaluation of it"))
            else:
                ready.append(path)
    return ready, left_out


def _refuse_stale(wish: Wish) -> None:
    stale = freshness.stale(wish.root, wish.project)
    if stale:
        first, difference = stale[0]
        others = f" ({len(stale) - 1} more: firstorder stale)" if len(stale) > 1 else ""
        raise UserError(f"not published, {first.name} is stale, {difference}{others}; make it again: {first.command}")


def _refuse_unverified(wish: Wish, ready: Sequence[Path]) -> None:
    """Let only one mismatch pass: a checkpoint that its records agree with and an older .dvc file does not."""
    known = {record.checkpoint_digest for record in read_records(wish.root, wish.project)}
    new = {path.resolve() for path in ready if dvc.hash_of(path, "sha256") in known}
    found = [entry for entry in verify([wish.root]).mismatches if entry.path.resolve() not in new]
    if found:
        others = f" ({len(found) - 1} more: firstorder verify)" if len(found) > 1 else ""
        raise UserError(f"not published, {found[0].text}{others}")


def _refuse_images(repository: Path, tracked: Sequence[Tracked], remote: Remote) -> None:
    """Refuse to push while anything but checkpoints is marked to be pushed with them."""
    stores = [dvc.cache(repository), *([remote.folder] if remote.folder else [])]
    for output in tracked:
        if not output.pushed:
            continue
        places = [output.path, *(dvc.object_path(store, output.md5) for store in stores)]
        here = next((place for place in places if place.is_file()), None)
        if output.path.suffix == ".safetensors" and (here is None or verify_files.is_checkpoint(here)):
            continue
        what = "no checkpoint"
        if here and _is_of_imagenet(here):
            what = "made of ImageNet's images, which may not be handed on"
        raise UserError(f"{output.note}: {output.path.name} would be pushed and is {what}; add to it: push: false")


def _is_of_imagenet(path: Path) -> bool:
    """Say whether a file is a pack whose classes are named by WordNet ids."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return any(re.search(r"\bn\d{8}\b", str(name)) for name in arrays["class_names"])
    except DAMAGED:
        return False


def _refuse_too_much(repository: Path, tracked: Sequence[Tracked], ready: Sequence[Path], remote: Remote) -> None:
    if remote.folder is None or repository.resolve() not in remote.folder.resolve().parents:
        return
    new = {path.resolve() for path in ready}
    sizes = {output.md5: output.size for output in tracked if output.pushed and output.path.resolve() not in new}
    sizes |= {dvc.hash_of(path, "md5"): path.stat().st_size for path in ready}
    if sum(sizes.values()) > LARGEST_PUBLISHED_BYTES:
        raise UserError(
            f"{remote.folder}: the published set would have {sum(sizes.values()):,} bytes in {len(sizes)} checkpoints, "
            f"at most {LARGEST_PUBLISHED_BYTES:,} go into a clone; name some with --trainings, or with --remote a "
            "remote outside the repository"
        )


def _dvc(folder: Path, *arguments: str) -> None:
    """Run DVC in `folder`. Raises UserError with its last word when it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        reason = (errors or said[-1:] or [f"exit code {done.returncode}"])[0]
        raise UserError(f"dvc {arguments[0]} failed: {reason}; mend that and publish again, nothing is lost")


def _told(root: Path, repository: Path, ready: Sequence[Path], remote: Remote) -> list[str]:
    """Say what was published, and which `git add` records it; check that the objects arrived."""
    tracked = dvc.tracked(repository)
    of_path = {output.path.resolve(): output for output in tracked}
    added = [str(root / "results")]
    lines = []
    for path in ready:
        output = of_path[path.resolve()]
        lines.append(f"published to {remote.name}: {path} ({output.size:,} bytes)")
        added.append(str(output.note))
        if remote.folder:
            arrived = dvc.object_path(remote.folder, output.md5)
            if not arrived.exists() or dvc.hash_of(arrived, "md5") != output.md5:
                raise UserError(f"{arrived}: did not arrive whole; remove it and publish again")
            if repository.resolve() in arrived.resolve().parents:
                added.append(str(arrived))
    wanted = {output.md5 for output in tracked if output.pushed}
    if remote.folder and repository.resolve() in remote.folder.resolve().parents:
        old = [str(path) for path, md5 in dvc.objects(remote.folder) if md5 not in wanted]
        lines += [f"git rm {' '.join(old)}"] if old else []
    return [*lines, f"git add {' '.join(added)}"]
