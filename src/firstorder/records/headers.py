"""What checkpoints, states and packs say about themselves, read without tensors and images. No torch, no NumPy."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.files import Kind, open_regular, parse_json

CHECKPOINT_FILE = Kind(
    "a checkpoint",
    1 << 30,
    "delete it and train again",
    "no such checkpoint; train it, or get it with: dvc pull --allow-missing (in a folder without .git, as after a ZIP "
    "download, once before: dvc config --local core.no_scm true)",
)
LARGEST_HEADER = 1 << 20  # bytes of a checkpoint's header; ours have a few thousand
_LARGEST_DIGEST = 4096  # bytes; ours have 384


def model_header(path: Path) -> dict[str, Any]:
    """Read the description in a checkpoint's header, without torch; empty if the file is missing or not one of ours."""
    try:
        with open_regular(path) as file:
            return about_of(file.read(8 + LARGEST_HEADER))
    except (OSError, ValueError):
        return {}


def check_model(path: Path, training: str, seed: int) -> None:
    """Raise UserError if the file to be trained anew is another checkpoint, which would be overwritten."""
    made = model_header(path)
    if (made.get("training"), made.get("seed")) != (training, seed):
        another = f"the checkpoint of {made.get('training')}, seed {made.get('seed')}"
        raise UserError(
            f"{path}: it is {another if made else 'no checkpoint of this package'}, expected {training}, seed {seed}; "
            "move it away, then fetch the right one (dvc pull) or train it"
        )


def tensor_header(content: bytes) -> dict[str, Any]:
    """Return the header with which a safetensors file begins; raises ValueError for anything else.

    It is JSON, preceded by its length as eight little-endian bytes.
    """
    size = int.from_bytes(content[:8], "little")
    header = parse_json(content[8 : 8 + size]) if size <= LARGEST_HEADER else None
    if not isinstance(header, dict):
        raise ValueError("no header of a safetensors file")
    return header


def about_of(content: bytes) -> dict[str, Any]:
    """Return the description in the header of a checkpoint or state; raises ValueError if there is none."""
    metadata = tensor_header(content).get("__metadata__")
    text = metadata.get("about") if isinstance(metadata, dict) else None
    about = parse_json(text) if isinstance(text, str) else None
    if not isinstance(about, dict):
        raise ValueError("its header does not describe it")
    return about


def file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, read once as long as its time and size stay the same; None if it cannot be read."""
    try:
        stamp = path.stat()
        return _sha256(path, stamp.st_mtime_ns, stamp.st_size)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _sha256(path: Path, changed: int, size: int) -> str:
    with open_regular(path) as file:
        return hashlib.sha256(file.read()).hexdigest()


def pack_digest(path: Path) -> str | None:
    """Read the content digest stored in a packed data set, without its images; None if there is none to read.

    Whether the content has this digest is checked when it is used (packs.read_pack) and by `firstorder verify`.
    """
    try:
        stamp = path.stat()
    except OSError:
        return None
    return _claimed_digest(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=16)
def _claimed_digest(path: Path, changed: int, size: int) -> str | None:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive, archive.open("digest.npy") as member:
            array = member.read(_LARGEST_DIGEST)  # not all of what may unpack to gigabytes
    # RuntimeError and its NotImplementedError: an encrypted member, an unknown compression.
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error):
        return None
    # Layout of an npy file: ten bytes, of which the last two are the length of the header that follows (its dtype is
    # `<U64`); then the text in UTF-32.
    start = 10 + int.from_bytes(array[8:10], "little")
    return array[start:].decode("utf-32-le", errors="replace").rstrip("\0")


def pulling(path: Path) -> str:
    """Return the command that gets a checkpoint back from DVC, as a shell reads it."""
    import shlex  # for errors only

    return f"dvc pull --force {shlex.quote(f'{path}.dvc')}"
