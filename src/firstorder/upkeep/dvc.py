"""What DVC keeps: its small .dvc files, its cache and its default remote, read from disk without running DVC.

A newcomer would get wrong: DVC hands out what its cache holds without hashing it again, so a flipped byte there
comes back as "up to date". An object's file name is the MD5 of its content, which is all that is needed to check it.
"""

from __future__ import annotations

import configparser
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from firstorder.errors import UserError

BLOCK_BYTES = 1 << 20
# Of a store in DVC's present layout: files/md5/ab/cdef... for the MD5 abcdef...
OBJECTS = Path("files/md5")
# Names that hold no .dvc file of ours, and much else.
PASSED_OVER = {"__pycache__", "logs", "node_modules"}


@dataclass(frozen=True)
class Tracked:
    """One file that DVC keeps: its .dvc file, where the file itself belongs, its MD5 and size in bytes."""

    note: Path
    path: Path
    md5: str
    size: int
    pushed: bool  # goes to the remote; `push: false` keeps it out


@dataclass(frozen=True)
class Remote:
    """A remote: its name, its address, and its folder where it is one on this machine."""

    name: str
    url: str
    folder: Path | None


def repository(folder: Path) -> Path | None:
    """Return the nearest folder from `folder` upwards that DVC works in; None where there is none."""
    here = folder.resolve()
    found = next((place for place in (here, *here.parents) if (place / ".dvc").is_dir()), None)
    return Path(os.path.relpath(found)) if found else None  # messages name paths as one would type them


def notes(top: Path) -> list[Path]:
    """List the .dvc files below `top`, sorted; hidden folders are left out."""
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in PASSED_OVER]
        found += [Path(folder, name) for name in files if name.endswith(".dvc") and name != ".dvc"]
    return sorted(found)


def read_note(note: Path) -> list[Tracked]:
    """Read a .dvc file. Raises UserError when it is not one."""
    try:
        outputs = yaml.safe_load(note.read_text(encoding="utf-8"))["outs"]
        return [
            Tracked(
                note, note.parent / output["path"], _md5(output), int(output["size"]), bool(output.get("push", True))
            )
            for output in outputs
        ]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{note}: not a whole .dvc file ({reason}); restore it: git checkout -- {note}") from None


def _md5(output: dict[str, Any]) -> str:
    md5 = output["md5"]
    if len(bytes.fromhex(md5.removesuffix(".dir"))) != 16:
        raise ValueError(f"md5 is {md5!r}")
    return str(md5)


def tracked(top: Path) -> list[Tracked]:
    """List all that the .dvc files below `top` track. Raises UserError when one of them is broken."""
    return [output for note in notes(top) for output in read_note(note)]


def cache(repository: Path) -> Path:
    """Return the folder of DVC's cache."""
    named = _config(repository).get("cache", {}).get("dir")
    return repository / ".dvc" / named if named else repository / ".dvc/cache"


def remote(repository: Path, name: str | None = None) -> Remote:
    """Return the remote `name`, or the default one.

    Raises UserError when there is no such remote, or its folder on this machine is not there.
    """
    config = _config(repository)
    where = repository / ".dvc/config"
    chosen = name or config.get("core", {}).get("remote")
    if not chosen:
        raise UserError(f"{where}: no default remote; add one: dvc remote add --default NAME URL")
    known = [section[len('remote "') : -1] for section in config if section.startswith('remote "')]
    if chosen not in known:
        names = ", ".join(known) or "none"
        raise UserError(f"{where}: no remote {chosen!r}, known are: {names}; add it: dvc remote add {chosen} URL")
    url = config[f'remote "{chosen}"'].get("url", "")
    if "://" in url:
        return Remote(chosen, url, None)
    folder = Path(os.path.normpath(repository / ".dvc" / Path(url).expanduser()))
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the folder of remote {chosen!r} is not there; mount or make it, or name another in {where}: "
            f"dvc remote modify {chosen} url URL"
        )
    return Remote(chosen, url, folder)


def _config(repository: Path) -> dict[str, dict[str, str]]:
    """Read .dvc/config and, over it, .dvc/config.local: section -> key -> value."""
    read = configparser.ConfigParser(interpolation=None)
    try:
        read.read([repository / ".dvc/config", repository / ".dvc/config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{repository / '.dvc'}: its config cannot be read ({reason}); mend or restore it") from None
    return {section.strip("'"): dict(read[section]) for section in read.sections()}


def objects(store: Path) -> Iterator[tuple[Path, str]]:
    """Give each object of a cache or remote with the MD5 that its name claims, sorted."""
    for path in sorted((store / OBJECTS).glob("*/*")):
        if path.is_file() and len(path.parent.name) == 2:
            yield path, path.parent.name + path.name.removesuffix(".dir")


def object_path(store: Path, md5: str) -> Path:
    """Return where a store keeps the object of this MD5."""
    return store / OBJECTS / md5[:2] / md5[2:]


def hash_of(path: Path, algorithm: str) -> str:
    """Return the digest of a file (`md5` or `sha256`) in hex digits."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            hashed.update(block)
    return hashed.hexdigest()
