"""The types of what records and run files say: JSON that parses may still hold anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field
from typing import Any

from firstorder.settings import MODES

REPLACES = "replaces_sha256"  # in a run file, while the result beside it is being replaced
_OTHER = "expected a value of another type"
_TYPES = {"str": str, "int": int, "Mode": str, "dict[str, Any]": dict, "tuple[int, ...]": list}  # in JSON
_TEXTS = (
    *("sha256", "run_digest", REPLACES, "settings_digest", "training_digest", "data_digest", "checkpoint_digest"),
    *("training", "evaluation", "engine", "device", "machine", "commit", "python", "ended"),
)
# The types of what a run file may say, where something reads it.
_RUN_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, (str,)),
    **dict.fromkeys(("seed", "outer_steps", "numerics_version", "together"), (int,)),
    "seconds": (int, float),
    "cpu_seconds": (int, float),
    "settings": (dict,),
    "versions": (dict,),
    "legs": (list,),
}


def wrong_record(values: Mapping[str, Any], fields: Sequence[Field[Any]]) -> str | None:
    """Say what keeps a mapping from being a record with these fields: keys or the type of a value; None: nothing."""
    if differing := sorted({field.name for field in fields} ^ set(values)):
        return f"keys missing or unknown: {', '.join(differing)[:200]}"
    for field in fields:
        if type(values[field.name]) is not _TYPES[str(field.type)]:
            return f"{field.name} is {values[field.name]!r:.40}, {_OTHER}"
    parts = [values["settings"].get(name) for name in ("training", "evaluation", "dataset")]
    if not all(isinstance(part, dict) for part in parts):
        return "settings without those of training, evaluation and dataset"
    if type(parts[1].get("training")) is not str or type(parts[1].get("query", 1)) is not int:
        return "settings.evaluation without the name of its training, or with a query that is no whole number"
    counts = values["correct_histogram"]
    if {*map(type, counts)} - {int} or min(counts, default=0) < 0 or values["tasks"] < 1:
        return "correct_histogram and tasks must be counts"
    return None if values["mode"] in MODES else f"mode is {values['mode']!r:.40}, expected {' or '.join(MODES)}"


def wrong_run(run: Mapping[str, Any]) -> str | None:
    """Say which value of a run file has a type that the package does not write; None if none has."""
    for key, types in _RUN_TYPES.items():
        if key in run and type(run[key]) not in types:
            return f"{key} is {run[key]!r:.40}, {_OTHER}"
    return None
