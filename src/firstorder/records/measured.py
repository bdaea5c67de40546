"""What the rows of a CSV in results/curves can be: a seal proves only that nobody changed them since. No torch.

Every accuracy is a number from 0 to 1 and every error a number from 0. The rows of a learning curve are those that its
training's settings ask for. Of a study, the columns are known, and its rows are every combination of their first
columns once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from firstorder.settings import MODES, columns

Wrong = tuple[str, str]  # what was expected and what was found
Rows = Sequence[Sequence[str]]
POOLS = ("meta-train", "meta-test")
# Of each study: its columns, those whose every combination has one row, and those that hold text.
STUDIES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "adaptation": (columns.ADAPTATION, ("inner_steps", "mode"), ("mode",)),
    "alphabets": (columns.ALPHABETS, (), ("mode", "alphabet", "answered")),
    "sine/losses": (columns.SINE_LOSSES, ("seed", "algorithm", "inner_steps"), ("algorithm",)),
    "sine/fits": (columns.SINE_FITS, (), ("algorithm",)),
    "manifolds": (columns.MANIFOLD_POINTS, (), ("what", "toward")),
    "theory/expansion": (
        columns.EXPANSION,
        ("problem", "algorithm", "inner_steps", "learning_rate"),
        ("problem", "algorithm"),
    ),
    "theory": (
        columns.INNER_PRODUCTS,
        ("algorithm", "mini_batches", "inner_steps"),
        ("algorithm", "mini_batches"),
    ),
}
_BETWEEN = {"accuracy": (0.0, 1.0), "cosine": (-1.0, 1.0), "cosine_other_tasks": (-1.0, 1.0), "loss": (0.0, math.inf)}
_COUNTS = ("queries", "offered", "errors", "tasks", "shot", "inner_steps", "outer_step", "orders")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)


def wrong_values(header: Sequence[str], rows: Rows) -> Wrong | None:
    """Say what the first impossible value of a learning curve should be, and what it is; None if there is none."""
    if tuple(header) != columns.CURVE:
        return f"columns {', '.join(columns.CURVE)}", ", ".join(header)
    return _wrong_number(header, rows, ("pool", "mode"))


def wrong_curve(header: Sequence[str], rows: Rows, training: Mapping[str, Any], done: int) -> Wrong | None:
    """Say the same, and compare the rows with the settings of its training, as in a run file, after `done` steps."""
    if (wrong := wrong_values(header, rows)) is not None:
        return wrong
    try:
        every, last = training["curve"]["every"], training["outer_steps"]
        constant = (str(training["curve"]["shot"]), str(training["curve"]["tasks"]))
        if min(done, last) // every > len(rows):
            return f"{4 * (min(done, last) // every)} rows or more", f"{len(rows)}"
        steps = sorted({*range(every, min(done, last) + 1, every), last if done >= last else 0} - {0})
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        return "the settings of a training in its run file", f"{type(error).__name__}: {error}"
    expected = [(str(step), pool, mode, *constant) for step, pool, mode in product(steps, POOLS, MODES)]
    for number, (wanted, row) in enumerate(zip(expected, rows, strict=False), 1):
        if wanted != tuple(row[:5]):
            return f"{','.join(wanted)} in row {number}", ",".join(row[:5])
    if len(rows) != len(expected):
        return f"{len(expected)} rows", f"{len(rows)}"
    return None


def wrong_study(kind: str, header: Sequence[str], rows: Rows, settings: Mapping[str, Any]) -> Wrong | None:
    """Say the same of the CSV of a study, one of STUDIES, made with `settings` as in a run file."""
    expected, keys, texts = STUDIES[kind]
    if tuple(header) != expected:
        return f"columns {', '.join(expected)}", ", ".join(header)
    places = [expected.index(key) for key in keys]
    found = [tuple(row[place] for place in places) for row in rows]
    levels = [set(level) for level in zip(*found, strict=True)]
    if keys and not len(set(found)) == len(rows) == math.prod(map(len, levels)):
        return f"each combination of {', '.join(keys)} once", f"{len(rows)} rows"
    wanted = _wanted(kind, settings)
    for column, values in wanted.items():
        others = {row[expected.index(column)] for row in rows} ^ values
        if others:
            return f"{column} {', '.join(sorted(values))[:80]}", f"also or not {min(others)!r:.40}"
    return _wrong_number(header, rows, texts)


def _wanted(kind: str, settings: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the values that some columns of a study must have, by its settings; none if they do not say so."""
    try:
        if kind == "adaptation":
            own, shot = settings["adaptation"], settings["evaluation"]["shot"]
            steps, modes = set(map(str, own["inner_steps"])), set[str](MODES)
            return {"inner_steps": steps, "mode": modes, "tasks": {str(own["tasks"])}, "shot": {str(shot)}}
        if kind == "sine/losses":
            own = settings["sine"]
            return {"inner_steps": set(map(str, own["evaluation_steps"])), "tasks": {str(own["evaluation_tasks"])}}
    except (KeyError, TypeError):
        return {}
    return {"mode": set(MODES)} if kind == "alphabets" else {}


def _wrong_number(header: Sequence[str], rows: Rows, texts: Sequence[str]) -> Wrong | None:
    """Say which value outside the columns `texts` is no number that can be; None if there is none."""
    for number, row in enumerate(rows, 1):
        values = dict(zip(header, row, strict=True))
        for column, text in values.items():
            if column not in texts and (limit := _unlike_a_number(column, text, values)) is not None:
                return f"{column} {limit} in row {number}", text[:40]
    return None


def _unlike_a_number(column: str, text: str, row: Mapping[str, str]) -> str | None:
    """Say what a value should be, if it is something else."""
    if column in _COUNTS:
        return None if re.fullmatch(r"\d+", text, re.ASCII) else "a whole number from 0"
    if column == "standard_error" and text == "nan" and row.get("tasks") == "1":
        return None  # one task has none
    low, high = _BETWEEN.get(column, (-math.inf, math.inf))
    if column.endswith("standard_error"):
        low = 0.0  # of two accuracies at most 0.5, of losses at most their mean
        high = 0.5 if "accuracy" in row else _float(row.get("loss")) + 1e-6 if column == "standard_error" else math.inf
    if _NUMBER.fullmatch(text) and math.isfinite(value := float(text)) and low <= value <= high:
        return None
    return f"from {low:g} to {high:g}"


def _float(text: str | None) -> float:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else math.inf
