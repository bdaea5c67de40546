"""The files that keep unfinished work, checked without torch: states of trainings, counts of evaluations.

Each holds a digest of everything in it. What is damaged must never be gone on from: it would silently give a wrong
checkpoint or record.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.files import open_regular, parse_json
from firstorder.records.headers import about_of, tensor_header
from firstorder.settings import MODES

STATE_FORMAT = 2  # states of format 1 have neither a format nor a digest
COUNTS_FORMAT = 1
LARGEST_BYTES = 64 * 2**20  # of a file that is read
_KEYS = ("format", "sha256")
_TYPES = {"F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64", "BOOL": "bool"}
Part = tuple[str, tuple[int, ...], bytes]  # type, shape and content of a tensor


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The size of a whole evaluation: its tasks, the queries of each, and the tasks computed side by side."""

    tasks: int
    queries: int
    lanes: int


def read_sealed(content: bytes) -> tuple[dict[str, Any], dict[str, Part]]:
    """Return the description and the tensors in a state or in what is kept of a study.

    Raises ValueError if it is not whole. States of format 1 have no digest; no single flipped bit removes both keys.
    """
    size = 8 + int.from_bytes(content[:8], "little")
    try:
        header, about = tensor_header(content), about_of(content)
        del header["__metadata__"]
        parts: dict[str, Part] = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            parts[name] = f"torch.{_TYPES[entry['dtype']]}", tuple(entry["shape"]), content[size + first : size + last]
        found = {key: about[key] for key in _KEYS if key in about}
        if found and found != {"format": STATE_FORMAT, "sha256": state_digest(parts, about)}:
            raise ValueError("its digest is another one")
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if sum(len(values) for _, _, values in parts.values()) != len(content) - size:
        raise ValueError("it has more or fewer bytes than its tensors")
    return about, parts


def read_state(content: bytes) -> dict[str, Any]:
    """Return the description in the content of a training's state; raises ValueError if it is not whole."""
    about, parts = read_sealed(content)
    if set(parts) != {"parameters", "second_moments", "outer_moments"}:
        raise ValueError(f"its tensors are {', '.join(sorted(parts))}")
    for name, (kind, shape, values) in parts.items():
        array = np.frombuffer(values, kind.removeprefix("torch."))
        if array.dtype.kind != "f" or len(array) != math.prod(shape) or not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite, or not of its type and shape")
    return about


def read_counts(content: bytes) -> dict[str, Any]:
    """Return the content of an evaluation's file of counts; raises ValueError if it is not whole."""
    kept = parse_json(content)
    if not isinstance(kept, dict) or kept.get("format") != COUNTS_FORMAT or kept.get("sha256") != counts_digest(kept):
        raise ValueError("its digest is another one")
    return kept


def unfit(kept: Mapping[str, Any], whole: Whole) -> str | None:
    """Say why kept counts cannot be those of an evaluation; None if they can. Raises KeyError or TypeError too."""
    columns = [kept["counts"][mode] for mode in MODES]
    done = len(columns[0])
    if any(len(column) != done for column in columns) or sum(leg["tasks"] for leg in kept["legs"]) != done:
        return "its modes and legs differ in their tasks"
    if done > whole.tasks or (done % whole.lanes and done != whole.tasks):
        return f"{done} tasks of {whole.tasks} in steps of {whole.lanes} cannot be"
    if not all(isinstance(leg["seconds"], float | int) for leg in kept["legs"]):
        return "its seconds are none"
    for column in columns:
        if not all(type(correct) is int and 0 <= correct <= whole.queries for correct in column):
            return f"a count is none of 0 to {whole.queries}"
    return None


def state_digest(parts: Mapping[str, Part], about: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that a state holds, the digest excepted."""
    sha = hashlib.sha256()
    for name in sorted(parts):
        kind, shape, values = parts[name]
        sha.update(f"{name} {kind} {shape}\n".encode())
        sha.update(values)
    sha.update(json.dumps({key: value for key, value in about.items() if key != "sha256"}, sort_keys=True).encode())
    return sha.hexdigest()


def counts_digest(kept: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that a file of counts holds, the digest excepted."""
    return state_digest({}, kept)


def read_regular(path: Path) -> bytes:
    """Read a regular file; raises OSError for anything else (a FIFO, a device), a missing file or one too large."""
    with open_regular(path) as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise OSError(f"has more than {LARGEST_BYTES:,} bytes")
    return content


def parameters_shape(content: bytes) -> tuple[int, ...]:
    """Return the shape of the parameters in the content of a whole state."""
    return read_sealed(content)[1]["parameters"][1]
