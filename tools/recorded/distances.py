"""Distances between a recording and its repetition, as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recorded.made_up import Array
from recorded.repeat import Recording, Repetition, Results


@dataclass(frozen=True)
class Row:
    """One result: distances relative to the change made by the steps or, of logits and moments, to their size."""

    name: str
    single: float  # authors' float32 to ours in float32
    authors_rounding: float  # authors' float32 to authors' float64
    our_rounding: float  # ours in float32 to ours in float64
    double: float  # authors' float64 to ours in float64
    worst: float  # the largest `double` of one variable by itself
    answers: str = ""  # how many of the predicted classes are the same in float32 and in float64

    def __str__(self) -> str:
        """Return a line of the table."""
        figures = (self.single, self.authors_rounding, self.our_rounding, self.double)
        return f"{self.name:38}" + "".join(f"{figure:18.1e}" for figure in figures) + self.answers


COLUMNS = ("authors32-ours32", "authors32-64", "ours32-64", "authors64-ours64")
HEADING = f"{'':38}" + "".join(f"{name:>18}" for name in COLUMNS)


def rows(recording: Recording, repeated: Mapping[str, Results]) -> list[Row]:
    """Compare a recording with its repetitions in both precisions."""
    groups: dict[str, list[str]] = {}
    theirs = {precision: recording.authors(precision) for precision in ("float32", "float64")}
    ours = {precision: repeated[precision].values for precision in theirs}
    if not theirs["float64"].keys() == ours["float64"].keys():
        raise ValueError(f"repeated {sorted(theirs['float64'].keys() ^ ours['float64'].keys())} only once")
    for key in theirs["float64"]:
        if not key.endswith("answers"):
            groups.setdefault("|".join(key.split("|")[:2]), []).append(key)
    found = []
    for group, keys in groups.items():
        change = {key: theirs["float64"][key] - repeated["float64"].before.get(key, 0) for key in keys}
        pairs = (
            (theirs["float32"], ours["float32"]),
            (theirs["float32"], theirs["float64"]),
            (ours["float32"], ours["float64"]),
            (theirs["float64"], ours["float64"]),
        )
        figures = [relative(one, other, change, keys) for one, other in pairs]
        worst = max(relative(*pairs[-1], change, [key]) for key in keys)
        found.append(Row(group.replace("|", ": "), *figures, worst, answers(group, theirs, ours)))
    return found


def answers(group: str, theirs: Mapping[str, Mapping[str, Array]], ours: Mapping[str, Mapping[str, Array]]) -> str:
    """Say how many answers agree, if logits of an evaluation are compared."""
    key = group.replace("_logits", "_answers")
    if key == group:
        return ""
    same = [theirs[precision][key] == ours[precision][key] for precision in ("float32", "float64")]
    return "  same answers " + ", ".join(f"{int(equal.sum())}/{len(equal)}" for equal in same)


def relative(
    one: Mapping[str, Array], other: Mapping[str, Array], change: Mapping[str, Array], keys: list[str]
) -> float:
    """Return the Euclidean distance of several arrays together, divided by the size of `change`."""
    distance = sum(float(np.square(one[key] - other[key]).sum()) for key in keys)
    return float(np.sqrt(distance / max(sum(float(np.square(change[key]).sum()) for key in keys), 1e-300)))


def measured(recording: Recording) -> list[Row]:
    """Repeat a recording in both precisions and compare."""
    return rows(recording, {precision: Repetition(recording, precision).run() for precision in ("float32", "float64")})
