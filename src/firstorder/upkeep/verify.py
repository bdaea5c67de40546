"""Rehash data, checkpoints, DVC's objects and results, and compare them with the digests stated about them.

Those stand in a file itself, in the run file beside it, in a record or in a .dvc file. Nothing is computed or repaired:
each mismatch is a line with the command that repairs it. Files that are absent (in a clone: data, checkpoints, DVC's
cache) are counted and are no mismatch. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from firstorder.errors import UserError, one_line
from firstorder.files import MissingFileError
from firstorder.progress import Track, silent
from firstorder.settings import Project, checks
from firstorder.upkeep import dvc, verify_files, verify_records
from firstorder.upkeep.dvc import Tracked
from firstorder.upkeep.mismatches import Mismatch, Verification, restoring

_RESTORE = "correct {0}, or get it again from where it was made"


def verify(folders: Mapping[Path, Project | None], track: Track = silent) -> Verification:
    """Check the projects in `folders` and the DVC repositories that they are in.

    A folder's project is that of its params.yaml where none is given; one that is refused is a mismatch.
    """
    verification = Verification()
    data: set[Path] = set()
    repositories: dict[Path, None] = {}
    with track("verify", len(folders), "folders") as bar:
        for folder, project in folders.items():
            try:
                project = project or checks.load(folder / "params.yaml")
            except MissingFileError:
                raise
            except UserError as error:  # one that is being written must not hide what is wrong elsewhere
                verification.mismatches.append(Mismatch(folder / "params.yaml", one_line(str(error))))
                bar.advance()
                continue
            target = verify_records.Target(folder, project, verification)
            valid = verify_records.check_records(target)
            verify_records.check_curves(target)
            verify_records.check_lost(target)
            verify_records.check_derived(target, valid)
            verify_files.check_checkpoints(target, valid)
            verify_files.check_packs(target, valid)
            verify_files.check_suspended(target)
            raw = (folder / target.project.data_folder).resolve()
            if raw not in data:  # several folders may share one data folder
                data.add(raw)
                verify_files.check_archives(target, track)
            if repository := dvc.repository(folder):
                repositories[repository] = None
            bar.advance()
    for repository in repositories:
        check_repository(repository, verification)
    return verification


def check_repository(repository: Path, verification: Verification) -> None:
    """Check the files that DVC tracks, the objects in its cache, and those in its remote if that is a folder."""
    tracked = []
    for path in dvc.dvc_files(repository):
        try:
            tracked += dvc.read_dvc_file(path)
        except UserError as error:
            verification.mismatches.append(Mismatch(path, str(error)))
    stores = {"cache": dvc.cache(repository)}
    elsewhere = False
    try:
        remote = dvc.remote(repository)
        elsewhere = remote.folder is None
        if remote.folder:
            stores["remote"] = remote.folder
    except UserError as error:
        if any(output.pushed for output in tracked):
            verification.mismatches.append(Mismatch(repository / ".dvc/config", str(error)))
            elsewhere = True
    if elsewhere:
        verification.skipped["remotes (not a folder here)"] += 1
    for output in tracked:
        _check_tracked(output, stores, verification, elsewhere=elsewhere)
    for kind, store in stores.items():
        for path, md5 in dvc.objects(store):
            verification.checked[f"objects in DVC's {kind}"] += 1
            if (found := verification.hash_of(path, "md5")) not in (None, md5):
                verification.differs(path, f"MD5 {md5} as its name says", found, _fix(kind, path, md5, tracked, stores))


def _check_tracked(output: Tracked, stores: dict[str, Path], verification: Verification, *, elsewhere: bool) -> None:
    dvc_file = output.dvc_file
    if not output.is_beside:
        # No command of DVC: it would replace the file that is named, which may be another's and in order.
        named = output.path.relative_to(dvc_file.parent)
        verification.differs(dvc_file, f"path: {dvc_file.stem}", named, restoring(dvc_file, _RESTORE.format(dvc_file)))
        return
    kept = [store for store in stores.values() if dvc.object_path(store, output.md5).exists()]
    _check_size(output, kept, verification)
    if output.path.is_file():
        verification.checked["files that DVC tracks"] += 1
        found = verification.hash_of(output.path, "md5")
        if found not in (None, output.md5):
            restore, keep = (f"dvc {verb} --force {dvc_file}" for verb in ("pull", "commit"))
            fix = f"{restore}; or keep the new one: {keep}"
            if output.path.resolve() in verification.sound:  # a record names it, so the .dvc file is what is wrong
                fix = restoring(dvc_file, keep)
            verification.differs(output.path, f"MD5 {output.md5} as in {dvc_file.name}", found, fix)
        elif output.is_executable is not None and output.is_executable != os.access(output.path, os.X_OK):
            again = restoring(dvc_file, _RESTORE.format(dvc_file))
            verification.differs(dvc_file, f"isexec: {not output.is_executable}", output.is_executable, again)
        return
    verification.skipped["files that DVC tracks (not here)"] += 1
    if output.pushed and not kept and not elsewhere:
        verification.differs(
            dvc_file,
            f"its object {output.md5} in the cache or the remote",
            "none",
            f"dvc push {dvc_file} where it was made; or make it again and: dvc commit --force {dvc_file}",
        )


def _check_size(output: Tracked, kept: Sequence[Path], verification: Verification) -> None:
    """Compare the size in a .dvc file with that of the content that it names, if that is here."""
    copies = [output.path, *(dvc.object_path(store, output.md5) for store in kept)]
    for path in (path for path in copies if path.is_file() and not output.md5.endswith(".dir")):
        with suppress(UserError):  # where it is rehashed, that is said
            if path.stat().st_size != output.size and dvc.hash_of(path, "md5") == output.md5:
                size, again = path.stat().st_size, restoring(output.dvc_file, _RESTORE.format(output.dvc_file))
                verification.differs(output.dvc_file, f"size: {size}", output.size, again)
                return


def _fix(kind: str, path: Path, md5: str, tracked: Sequence[Tracked], stores: dict[str, Path]) -> str:
    """Return the command that restores a damaged object of the cache or the remote."""
    wanted = [output for output in tracked if output.md5 == md5 and output.is_beside]
    if kind == "remote":
        return restoring(path, f"rm -f {path} && dvc push" if wanted else f"rm -f {path}")
    if not wanted:
        return f"rm -f {path}"  # no .dvc file refers to it
    if "remote" in stores and dvc.object_path(stores["remote"], md5).exists():
        return f"rm -f {path} && dvc fetch {wanted[0].dvc_file}"
    if wanted[0].path.is_file() and dvc.hash_of(wanted[0].path, "md5") == md5:
        return f"rm -f {path} && dvc commit --force {wanted[0].dvc_file}"
    return f"rm -f {path}, then make {wanted[0].path} again and: dvc commit --force {wanted[0].dvc_file}"
