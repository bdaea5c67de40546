"""Track checkpoints with DVC and push them in one step, provided that no record is stale and everything verifies.

Only weights may be pushed to a public remote, never images: Omniglot's pack is tracked but not pushed, and a pack of
mini-ImageNet is recognised by its content and refused. `git add` and `git commit` are left to the user.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firstorder.data.arrays import DAMAGED, read_arrays
from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.records.cells import read_records
from firstorder.settings import MODEL, MODES, RECORD, Project, lookup
from firstorder.upkeep import dvc, verify_files
from firstorder.upkeep.dvc import Remote, Tracked
from firstorder.upkeep.mismatches import counted
from firstorder.upkeep.verify import verify

LARGEST_PUBLISHED_BYTES = 16 * 2**20  # limit for a remote inside the repository, which every clone downloads


@dataclass(frozen=True)
class Request:
    """What to publish: the project in `root`, these trainings (empty: all), to this remote (None: the default)."""

    root: Path
    project: Project
    trainings: Sequence[str] = ()
    remote: str | None = None


@dataclass
class Checkpoints:
    """The checkpoints that are present: those ready to publish, and the reason why each other one is left out."""

    ready: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)


def publish(request: Request) -> list[str]:
    """Track and push every checkpoint whose evaluations are all recorded; return lines that say what was done.

    Raises UserError, before anything is written, if there is no DVC repository or no remote, a record is stale,
    `verify` finds a mismatch, something other than checkpoints would be pushed, or the published set grows too large.
    """
    root = request.root
    repository = dvc.repository(root)
    if repository is None:
        raise UserError(f"{root}: neither this folder nor one above it is a DVC repository; make one: dvc init")
    remote = dvc.remote(repository, request.remote)
    checkpoints = _find_checkpoints(request)
    ready = checkpoints.ready
    _refuse_stale(request)
    _refuse_unverified(request, ready)
    tracked = dvc.tracked(repository)
    _refuse_images(repository, tracked, remote)
    _refuse_too_much(repository, tracked, ready, remote)
    lines = [f"left out: {path} ({reason})" for path, reason in checkpoints.left_out.items()]
    if not ready:
        return [*lines, f"nothing to publish: {root} has no checkpoint whose evaluations are all recorded"]
    names = [str(path.relative_to(root)) for path in ready]
    _dvc(root, "add", *names)
    _dvc(root, "push", "--remote", remote.name, *(f"{name}.dvc" for name in names))
    return [*lines, *_summary(root, repository, ready, remote)]


def _find_checkpoints(request: Request) -> Checkpoints:
    """Find the checkpoints of the requested trainings and say which of them can be published."""
    project, found = request.project, Checkpoints()
    for name in request.trainings or project.trainings:
        if lookup(project.trainings, name, "training").outer_steps == 0:
            continue  # a random initialisation is recomputed in a second
        evaluations = [key for key, entry in project.evaluations.items() if entry.training == name]
        for seed in project.seeds:
            path = request.root / MODEL.format(training=name, seed=seed)
            if not path.exists():
                continue
            cells = [RECORD.format(evaluation=key, mode=mode, seed=seed) for key in evaluations for mode in MODES]
            missing = [cell for cell in cells if not (request.root / cell).exists()]
            if missing or not cells:
                found.left_out[path] = f"no {missing[0]}" if missing else "params.yaml has no evaluation of it"
            else:
                found.ready.append(path)
    return found


def _refuse_stale(request: Request) -> None:
    stale = freshness.stale(request.root, request.project)
    if stale:
        first, difference = stale[0]
        others = f" ({len(stale) - 1} more: firstorder stale)" if len(stale) > 1 else ""
        raise UserError(f"not published, {first.name} is stale, {difference}{others}; make it again: {first.command}")


def _refuse_unverified(request: Request, ready: Sequence[Path]) -> None:
    """Raise UserError on a mismatch, except for a newly trained checkpoint.

    That one agrees with its records and differs from the older .dvc file, which publishing replaces.
    """
    stated: dict[Path, set[str]] = {}  # by checkpoint: what its own records say
    for record in read_records(request.root, request.project):
        training = request.project.evaluations[record.evaluation].training
        path = (request.root / MODEL.format(training=training, seed=record.seed)).resolve()
        stated.setdefault(path, set()).add(record.checkpoint_digest)
    new = {path.resolve() for path in ready if stated.get(path.resolve()) == {dvc.hash_of(path, "sha256")}}
    found = [
        mismatch
        for mismatch in verify({request.root: request.project}).mismatches
        if mismatch.path.resolve() not in new
    ]
    if found:
        others = f" ({len(found) - 1} more: firstorder verify)" if len(found) > 1 else ""
        raise UserError(f"not published, {found[0].text}{others}")


def _refuse_images(repository: Path, tracked: Sequence[Tracked], remote: Remote) -> None:
    """Raise UserError if `dvc push` would push anything but checkpoints."""
    stores = [dvc.cache(repository), *([remote.folder] if remote.folder else [])]
    for output in tracked:
        if not output.pushed:
            continue
        copies = [output.path, *(dvc.object_path(store, output.md5) for store in stores)]
        content = next((path for path in copies if path.is_file()), None)
        if output.path.suffix == ".safetensors" and (content is None or verify_files.is_checkpoint(content)):
            continue
        what = "no checkpoint"
        if content and _is_of_imagenet(content):
            what = "made of ImageNet's images, which may not be redistributed"
        name = output.path.name
        raise UserError(f"{output.dvc_file}: {name} would be pushed and is {what}; add to that file: push: false")


def _is_of_imagenet(path: Path) -> bool:
    """Say whether a file is a pack whose class names contain WordNet ids (n01532829), as ImageNet's do."""
    try:
        names = read_arrays(path, ["class_names"])["class_names"]
        return any(re.search(r"\bn\d{8}\b", str(name)) for name in names.flat)
    except DAMAGED:
        return False


def _refuse_too_much(repository: Path, tracked: Sequence[Tracked], ready: Sequence[Path], remote: Remote) -> None:
    """Raise UserError if a remote inside the repository would exceed its size limit."""
    if remote.folder is None or repository.resolve() not in remote.folder.resolve().parents:
        return
    new = {path.resolve() for path in ready}
    sizes = {output.md5: output.size for output in tracked if output.pushed and output.path.resolve() not in new}
    sizes |= {dvc.hash_of(path, "md5"): path.stat().st_size for path in ready}
    if sum(sizes.values()) > LARGEST_PUBLISHED_BYTES:
        raise UserError(
            f"{remote.folder}: the published set would have {sum(sizes.values()):,} bytes in "
            f"{counted(len(sizes), 'checkpoints')}, expected at most {LARGEST_PUBLISHED_BYTES:,}, as every clone "
            "downloads it; choose fewer with "
            "--trainings, or a remote outside the repository with --remote"
        )


def _dvc(folder: Path, *arguments: str) -> None:
    """Run DVC in `folder`. Raises UserError with DVC's error message if it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        output = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in output if line.startswith("ERROR: ")]
        reason = (errors or output[-1:] or [f"exit code {done.returncode}"])[0]
        raise UserError(f"dvc {arguments[0]} failed: {reason}; correct that and publish again, nothing is lost")


def _summary(root: Path, repository: Path, ready: Sequence[Path], remote: Remote) -> list[str]:
    """Return lines that name what was published and the Git commands to commit it; check that the objects arrived."""
    tracked = dvc.tracked(repository)
    of_path = {output.path.resolve(): output for output in tracked}
    added = [str(root / "results")]
    lines = []
    for path in ready:
        output = of_path[path.resolve()]
        lines.append(f"published to {remote.name}: {path} ({output.size:,} bytes)")
        added.append(str(output.dvc_file))
        if remote.folder:
            arrived = dvc.object_path(remote.folder, output.md5)
            if not arrived.exists() or dvc.hash_of(arrived, "md5") != output.md5:
                raise UserError(
                    f"{arrived}: expected MD5 {output.md5} after the push, found another or no file; remove it and "
                    "publish again"
                )
            if repository.resolve() in arrived.resolve().parents:
                added.append(str(arrived))
    published = {output.md5 for output in tracked if output.pushed}
    if remote.folder and repository.resolve() in remote.folder.resolve().parents:
        old = [str(path) for path, md5 in dvc.objects(remote.folder) if md5 not in published]
        lines += [shlex.join(["git", "rm", *old])] if old else []
    return [*lines, shlex.join(["git", "add", *added])]
