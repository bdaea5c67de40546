"""The files that keep unfinished work, checked without torch: states of trainings, counts of evaluations.

Each holds a digest of everything in it. What is damaged must never be gone on from: it would silently give a wrong
checkpoint or record.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.files import Kind, parse_json
from firstorder.records.headers import about_of, tensor_header
from firstorder.records.measured import wrong_curve
from firstorder.settings import MODES, TrainingSettings, columns

STATE_FORMAT = 2  # states of format 1 have neither a format nor a digest
COUNTS_FORMAT = 1
KEPT_FILE = Kind("a file with a result or unfinished work", 64 * 2**20, "get it again, or delete it")
_TYPES = {"F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64", "BOOL": "bool"}
_TENSORS = ("parameters", "second_moments", "outer_moments")  # of a state
_WITH_MOMENTUM = (*_TENSORS, "first_moments")  # of one whose inner Adam has beta1 > 0
# Of any training by far. Two such factors, summed over 2^11 inputs and squared for a variance, still fit in float32.
LARGEST_WEIGHT = 2**26
BELOW_ZERO = "a second moment is below zero"
Part = tuple[str, tuple[int, ...], bytes]  # type, shape and content of a tensor


class OtherWorkError(ValueError):
    """Unfinished work that is whole, but not the work that is to go on: it has another `identity`."""

    def __init__(self, kept: Mapping[str, Any], made: Mapping[str, Any]) -> None:
        super().__init__(f"it is of {_other(kept.get('of'), made)}")
        self.identity = str(kept["identity"])


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The size of a whole evaluation: its tasks, the queries of each, and the tasks computed side by side."""

    tasks: int
    queries: int
    lanes: int


# What work depends on, as `of` in its file says, and how a difference is called.
_DEPENDS = {
    "training": "another training",
    "seed": "another seed",
    "data_digest": "other data",
    "settings": "other settings",
    "training_digest": "other settings of its training",
    "checkpoint_digest": "another checkpoint",
    "engine": "another engine",
    "lanes": "another number of lanes",
    "device": "another kind of device",
}


def _other(kept: object, made: Mapping[str, Any]) -> str:
    """Name what differs between what was made and what is to be made."""
    for key, what in _DEPENDS.items():
        if not isinstance(kept, Mapping) or key not in kept or key not in made:
            continue
        old, new = (json.dumps(of[key], sort_keys=True) for of in (kept, made))  # where tuples are lists
        if old != new:
            both = "" if key == "settings" else f", {kept[key]!s:.16} and not {made[key]!s:.16}"
            return f"{what}{both}"
    return "other settings, data or seed, or another device or engine"


def put_aside(path: Path, identity: str | None = None) -> Path:
    """Rename a file of unfinished work that cannot be gone on from, and return its new path.

    One that is of other work is found again by its `identity` (see `aside_of`); without one it is damaged.
    """
    label = "damaged" if identity is None else _label(identity)
    aside, number = path.with_suffix(f".{label}{path.suffix}"), 1
    while identity is not None and aside.exists():
        number += 1
        aside = path.with_suffix(f".{label}-{number}{path.suffix}")
    path.replace(aside)
    return aside


def aside_of(path: Path, identities: Iterable[str]) -> list[Path]:
    """List the files that were put aside from `path`, or from that of another seed, by their identities."""
    labels = [_label(identity) for identity in identities]
    return [found for label in labels for found in sorted(path.parent.glob(f"*.{label}*{path.suffix}"))]


def is_aside(path: Path) -> bool:
    """Say whether a file was put aside."""
    return any(suffix == ".damaged" or suffix.startswith(".other-") for suffix in path.suffixes)


def _label(identity: str) -> str:
    return f"other-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def read_sealed(content: bytes) -> tuple[dict[str, Any], dict[str, Part]]:
    """Return the description and the tensors in a state or in what is kept of a study.

    Raises ValueError if it is not whole, or has no digest, as those of format 1.
    """
    size = 8 + int.from_bytes(content[:8], "little")
    try:
        header, about = tensor_header(content), about_of(content)
        del header["__metadata__"]
        parts: dict[str, Part] = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            parts[name] = f"torch.{_TYPES[entry['dtype']]}", tuple(entry["shape"]), content[size + first : size + last]
        if not {"format", "sha256"} & set(about):
            raise ValueError("it has no digest, as it was saved before there were any")
        if (about.get("format"), about.get("sha256")) != (STATE_FORMAT, state_digest(parts, about)):
            raise ValueError("its digest is another one")
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if sum(len(values) for _, _, values in parts.values()) != len(content) - size:
        raise ValueError("it has more or fewer bytes than its tensors")
    return about, parts


def told(content: bytes, made: Mapping[str, Any]) -> bytes:
    """Return a state with what it was made with added to its description, and its tensors as they are."""
    about, parts = read_sealed(content)
    about["of"] = made
    header = tensor_header(content)
    header["__metadata__"] = {"about": json.dumps({**about, "sha256": state_digest(parts, about)})}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tensors that follow are aligned
    return len(text).to_bytes(8, "little") + text + content[8 + int.from_bytes(content[:8], "little") :]


def read_state(content: bytes) -> dict[str, Any]:
    """Return the description in the content of a training's state; raises ValueError if it is not whole."""
    about, parts = read_sealed(content)
    if set(parts) not in (set(_TENSORS), set(_WITH_MOMENTUM)):
        raise ValueError(f"its tensors are {', '.join(sorted(parts))}")
    arrays = {}
    for name, (kind, shape, values) in parts.items():
        array = np.frombuffer(values, kind.removeprefix("torch."))
        if array.dtype.kind != "f" or len(array) != math.prod(shape) or not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite, or not of its type and shape")
        arrays[name] = array.reshape(shape)
    phi, moments, outer = (arrays[name].shape for name in _TENSORS)
    if "first_moments" in arrays and arrays["first_moments"].shape != moments:
        raise ValueError(f"its first moments have the shape {arrays['first_moments'].shape}, its second ones {moments}")
    if len(phi) != 2 or moments[1:] != phi[1:] or outer not in ((2, 1, 1), (2, *phi)):
        raise ValueError(f"its tensors have the shapes {phi}, {moments} and {outer}")
    if (arrays["second_moments"] < 0).any() or (arrays["outer_moments"][1] < 0).any():
        raise ValueError(BELOW_ZERO)
    if (np.abs(arrays["parameters"]) > LARGEST_WEIGHT).any():
        raise ValueError(f"a parameter is beyond {LARGEST_WEIGHT:,}")
    return about


def misfit(content: bytes, other: bytes) -> str | None:
    """Say in what shape or type the tensors of two whole states of one training differ; None if in none."""
    (_, parts), (_, others) = read_sealed(content), read_sealed(other)
    if parts.keys() != others.keys():
        return f"its tensors are {', '.join(sorted(parts))}, expected {', '.join(sorted(others))} as in the state here"
    for name in parts:
        (kind, shape, _), (wanted_kind, wanted, _) = parts[name], others[name]
        narrow = name == "outer_moments" and (2, 1, 1) in (shape, wanted)  # as before the first outer step
        if kind != wanted_kind or (shape != wanted and not narrow):
            return f"{name} has type {kind} and shape {shape}, expected {wanted_kind} and {wanted} as in the state here"
    return None


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


def unfit_state(about: Mapping[str, Any], settings: TrainingSettings) -> str | None:
    """Say why what a state says of itself cannot be said of such a training; None if it can. Raises KeyError too."""
    done, steps = about["outer_step"], about["optimiser_steps"]
    for name, count in (("outer_step", done), ("optimiser_steps", steps)):
        if type(count) is not int or count < 0:
            return f"{name} is {count!r:.40}"
    if done > settings.outer_steps:
        return f"outer_step is {done}, beyond the last one"
    if steps != (wanted := done * settings.inner_steps_taken):
        return f"optimiser_steps is {steps}, expected {wanted} after {done} outer steps"
    if not isinstance(about["curve"], list) or not all(isinstance(row, list) for row in about["curve"]):
        return "its curve is none"
    rows = [[str(value) for value in row] for row in about["curve"]]
    if any(len(row) != len(columns.CURVE) for row in rows):
        return "its curve has rows of another length"
    if (wrong := wrong_curve(columns.CURVE, rows, asdict(settings), done)) is not None:
        return f"its curve has {wrong[1]}, expected {wrong[0]}"
    legs = about["legs"]
    if not _is_time(about["seconds"]) or not isinstance(legs, list) or not all(map(_is_leg, legs)):
        return "its seconds or its legs are none"
    if legs and sum(leg["outer_steps"] for leg in legs) != done:
        return f"its legs do not add up to {done} outer steps"
    return None


def _is_leg(leg: Any) -> bool:
    texts = ("device", "engine", "machine", "commit")
    return (
        isinstance(leg, dict)
        and type(leg.get("outer_steps")) is int
        and leg["outer_steps"] >= 0
        and _is_time(leg.get("seconds"))
        and all(isinstance(leg.get(text, ""), str) for text in texts)
        and isinstance(leg.get("versions", {}), dict)
    )


def _is_time(seconds: Any) -> bool:
    return type(seconds) in (int, float) and math.isfinite(seconds) and seconds >= 0


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
