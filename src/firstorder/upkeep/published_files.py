"""Where the content of a file that DVC tracks lies on this machine, without running DVC or Git.

A ZIP download of the repository has the published checkpoints too (in `published/`), under the names that DVC gives.
"""

from __future__ import annotations

from pathlib import Path

from firstorder.errors import UserError
from firstorder.upkeep import dvc


def find(path: Path) -> Path:
    """Return `path` if it exists; else the object in DVC's cache or remote folder that its .dvc file names.

    Raises UserError, with the command that gets it, if neither is here, or if the object is damaged.
    """
    if path.exists():
        return path
    dvc_file = path.with_name(f"{path.name}.dvc")
    if not dvc_file.exists():
        raise UserError(f"{path}: no such file; check the path, or get it with: dvc pull --allow-missing")
    wanted = next((output.md5 for output in dvc.read_dvc_file(dvc_file) if output.path == path), None)
    top = dvc.repository(path.parent)
    if wanted is not None and top is not None:
        stores = [dvc.cache(top)]
        remote = dvc.remote(top).folder
        for store in [*stores, *([remote] if remote is not None else [])]:
            there = dvc.object_path(store, wanted)
            if there.exists():
                if dvc.hash_of(there, "md5") != wanted:
                    raise UserError(f"{there}: damaged, its MD5 is not its name; get it again: git checkout -- {there}")
                return there
    raise UserError(f"{path}: not here yet; get it with: dvc pull {dvc_file} ({how_to_pull(path.parent)})")


def how_to_pull(folder: Path) -> str:
    """Say what DVC needs first where the repository was downloaded without Git."""
    top = dvc.repository(folder)
    if top is None or (top / ".git").exists():
        return "in the repository's folder"
    return "once before, as this folder has no .git: dvc config --local core.no_scm true"
