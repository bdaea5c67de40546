"""DVC's .dvc files, its cache and its remotes, read from disk without running DVC.

DVC never rehashes its cache: it reports an object with a flipped byte as "up to date". The file name of an
object is the MD5 of its content, so an object can be checked without DVC.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.errors import UserError, one_line
from firstorder.files import Kind, MissingFileError, open_regular, unreadable
from firstorder.settings.yaml_files import MOST_BYTES, parse_yaml

CHUNK_BYTES = 1 << 20
# Layout of a cache or remote since DVC 3: files/md5/ab/cdef... holds the object with the MD5 abcdef...
OBJECTS = Path("files/md5")
DVC_FILE = Kind("a .dvc file", MOST_BYTES, "restore it: git checkout -- {path}")
CONFIG_FILE = Kind("a configuration of DVC", MOST_BYTES, "correct or restore it")
# Large folders without .dvc files, not searched for any.
SKIPPED_FOLDERS = {"__pycache__", "logs", "node_modules"}


@dataclass(frozen=True)
class Tracked:
    """One file tracked by DVC: its .dvc file, its own path, its MD5 and its size in bytes."""

    dvc_file: Path
    path: Path
    md5: str
    size: int
    is_executable: bool | None  # where the .dvc file says so
    pushed: bool  # False where the .dvc file says `push: false`: `dvc push` skips it

    @property
    def is_beside(self) -> bool:
        """Say whether it lies beside its .dvc file and has its name, as DVC makes it."""
        return self.path == self.dvc_file.parent / self.dvc_file.stem


@dataclass(frozen=True)
class Remote:
    """A remote: its name, its URL, and its folder if it is a folder on this machine."""

    name: str
    url: str
    folder: Path | None


def repository(folder: Path) -> Path | None:
    """Return the DVC repository that `folder` is in, or None."""
    here = folder.resolve()
    found = next((parent for parent in (here, *here.parents) if (parent / ".dvc").is_dir()), None)
    return Path(os.path.relpath(found)) if found else None  # relative, as messages name paths


def dvc_files(top: Path) -> list[Path]:
    """List the .dvc files below `top`, sorted; hidden folders are not searched."""
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in files if name.endswith(".dvc") and name != ".dvc"]
    return sorted(found)


def read_dvc_file(path: Path) -> list[Tracked]:
    """List the files that a .dvc file tracks. Raises UserError if it is not a valid .dvc file."""
    text = DVC_FILE.read_text(path)
    try:
        content = parse_yaml(text)
        if isinstance(content, dict) and content.get("wdir", ".") != ".":
            raise ValueError(f"wdir is {content['wdir']!r:.80}, expected none: a .dvc file lies beside what it tracks")
        outputs = content.get("outs") if isinstance(content, dict) else None
        if not isinstance(outputs, list) or not outputs:
            raise ValueError("it lists no outs")
        return [_tracked(path, output) for output in outputs]
    except ValueError as error:
        raise DVC_FILE.refused(path, f"not a valid .dvc file ({error})") from None


def _tracked(path: Path, output: Any) -> Tracked:
    """Return one of the outs of a .dvc file; raises ValueError for what DVC does not write."""
    if not isinstance(output, dict):
        raise ValueError("one of its outs is no mapping")
    name, md5, size, push = (output.get(key) for key in ("path", "md5", "size", "push"))
    if not isinstance(name, str) or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"path is {name!r:.80}, expected that of a file beside it")
    if not isinstance(md5, str) or not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5):
        raise ValueError(f"md5 is {md5!r:.80}")
    if type(size) is not int or size < 0:
        raise ValueError(f"size is {size!r:.80}, expected a number of bytes")
    if output.get("hash", "md5") != "md5":
        raise ValueError(f"hash is {output['hash']!r:.80}, expected md5")
    executable = output.get("isexec")
    for key, value in (("push", push), ("isexec", executable)):
        if not isinstance(value, bool | None):
            raise ValueError(f"{key} is {value!r:.80}, expected true or false")
    if "nfiles" in output and not md5.endswith(".dir"):
        raise ValueError("nfiles is given, for what is no folder")
    where = path.parent / name
    return Tracked(dvc_file=path, path=where, md5=md5, size=size, is_executable=executable, pushed=push is not False)


def restores(dvc_file: Path) -> bool:
    """Say whether there is a .dvc file that DVC would restore the file beside it from, and no other one."""
    try:
        return all(output.is_beside for output in read_dvc_file(dvc_file))
    except UserError:
        return False


def names(path: Path) -> bool:
    """Say whether the .dvc file beside a file names its content. Raises UserError if the .dvc file is not valid."""
    dvc_file = path.with_name(f"{path.name}.dvc")
    outputs = read_dvc_file(dvc_file) if dvc_file.exists() else []
    return any(output.path == path and output.md5 == hash_of(path, "md5") for output in outputs)


def tracked(top: Path) -> list[Tracked]:
    """List all files that DVC tracks below `top`. Raises UserError if a .dvc file is not valid."""
    return [output for path in dvc_files(top) for output in read_dvc_file(path)]


def cache(repository: Path) -> Path:
    """Return the folder of DVC's cache."""
    named = _config(repository).get("cache", {}).get("dir")
    return _folder(repository, named) if named else repository / ".dvc/cache"


def remote(repository: Path, name: str | None = None) -> Remote:
    """Return the remote `name`, or the default remote.

    Raises UserError if there is no such remote, or if it is a folder on this machine that does not exist.
    """
    config = _config(repository)
    where = repository / ".dvc/config"
    chosen = name or config.get("core", {}).get("remote")
    if not chosen:
        raise UserError(f"{where}: no default remote; add one: dvc remote add --default NAME URL")
    remotes = {found[1]: config[section] for section in config if (found := re.fullmatch(r'remote "(.+)"', section))}
    if chosen not in remotes:
        names = ", ".join(remotes) or "none"
        raise UserError(f"{where}: no remote {chosen!r}, known are: {names}; add it: dvc remote add {chosen} URL")
    url = remotes[chosen].get("url", "")
    if "://" in url:
        return Remote(chosen, url, None)
    folder = _folder(repository, url)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the folder of remote {chosen!r} does not exist; mount or create it, or set another in {where}: "
            f"dvc remote modify {chosen} url URL"
        )
    return Remote(chosen, url, folder)


def _folder(repository: Path, named: str) -> Path:
    """Return a folder that the configuration names; raises UserError if there cannot be such a folder."""
    try:
        folder = Path(os.path.normpath(repository / ".dvc" / Path(named).expanduser()))
        object_path(folder, "0" * 32).exists()  # raises OSError if the name is too long
        return folder
    except RuntimeError:
        why = "is in the home of a user that is not known here"
    except OSError as error:
        why = f"cannot be reached ({error.strerror})"
    raise CONFIG_FILE.refused(repository / ".dvc/config", f"the folder {named:.200} {why}")


def _config(repository: Path) -> dict[str, dict[str, str]]:
    """Map section to key to value, from .dvc/config and .dvc/config.local; the latter takes precedence."""
    read = configparser.ConfigParser(interpolation=None)
    for path in (repository / ".dvc/config", repository / ".dvc/config.local"):
        try:
            read.read_string(CONFIG_FILE.read_text(path))
        except MissingFileError:
            continue
        except configparser.Error as error:
            raise CONFIG_FILE.refused(path, f"cannot be understood ({one_line(error)[:200]})") from None
    return {section.strip("'"): dict(read[section]) for section in read.sections()}


def objects(store: Path) -> Iterator[tuple[Path, str]]:
    """Yield each object of a cache or remote and the MD5 that its file name states, sorted."""
    for path in sorted((store / OBJECTS).glob("*/*")):
        if path.is_file() and len(path.parent.name) == 2:
            yield path, path.parent.name + path.name.removesuffix(".dir")


def object_path(store: Path, md5: str) -> Path:
    """Return where a cache or remote keeps the object with this MD5."""
    return store / OBJECTS / md5[:2] / md5[2:]


def hash_of(path: Path, algorithm: str) -> str:
    """Return the digest of a file (`md5` or `sha256`) in hex digits; raises UserError if it cannot be read."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open_regular(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                hashed.update(chunk)
    except OSError as error:
        raise unreadable(path, error, "a file to hash") from None
    return hashed.hexdigest()
