"""Whose result a file is. No torch.

A path names its evaluation or training and its seed. What the record or the run file says of itself must fit that, or
the result was copied or moved there from another seed or training. The oldest run files of studies name no seed: their
checkpoint must be that of the records of the same evaluation, and their content must not be that of another seed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from firstorder.errors import UserError
from firstorder.records import cells
from firstorder.settings import ADAPTATION, ALPHABETS, CURVE, INNER_PRODUCTS, RECORD

ANOTHERS = "it is the result of another"  # how each difference begins
_NAMELESS = INNER_PRODUCTS.partition("{")[0]  # once, their run files named neither seed nor checkpoint
_PARTS = {"evaluation": ".+", "training": ".+", "mode": "[^/]+", "seed": r"\d+"}


def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for name, part in _PARTS.items():
        text = text.replace(rf"\{{{name}\}}", f"(?P<{name}>{part})")
    return re.compile(text, re.ASCII)


# The first that fits counts: every path of a study looks like that of a curve.
_PATTERNS = tuple(map(_pattern, (RECORD, ADAPTATION, ALPHABETS, INNER_PRODUCTS, CURVE)))


def named_by(path: str) -> dict[str, Any]:
    """Return what a path, relative to the folder of params.yaml, names: training or evaluation, mode and seed.

    Nothing for a file that belongs to no seed, such as one of the simulations.
    """
    found = next((found for pattern in _PATTERNS if (found := pattern.fullmatch(path)) is not None), None)
    return {} if found is None else {**found.groupdict(), "seed": int(found["seed"])}


def misplaced(root: Path, path: str, made: Mapping[str, Any]) -> str | None:
    """Say whose result the file at `path` below `root` is, if its record or run file, `made`, does not fit the path."""
    named = named_by(path)
    for key, wanted in named.items():
        if key in made and made[key] != wanted:
            return f"{ANOTHERS} {key}: {made[key]!r:.80}, expected {wanted!r} as its path says"
    if not named or "seed" in made:
        return None
    if "evaluation" in named:
        return _unlike_records(root, named, made)
    return _same_as_another_seed(root / path, made) if path.startswith(_NAMELESS) else None


def _unlike_records(root: Path, named: Mapping[str, Any], made: Mapping[str, Any]) -> str | None:
    """Say so if a study was measured on another checkpoint than the records of its evaluation and seed."""
    measured = made.get("checkpoint_digest")
    if measured is None:
        return None
    for record in _records_of(root, named["evaluation"]):
        if record.training_digest != made.get("training_digest"):
            continue
        if (record.seed == named["seed"]) != (record.checkpoint_digest == measured):
            of = f"{record.checkpoint_digest:.16}... as in the record of seed {record.seed}"
            return f"{ANOTHERS} checkpoint: {measured:.16}..., expected that of seed {named['seed']} ({of})"
    return None


def _records_of(root: Path, evaluation: str) -> Iterator[cells.CellRecord]:
    """Yield the whole records of an evaluation, those of all modes and seeds."""
    for path in sorted(
        (root / Path(RECORD.format(evaluation=evaluation, mode="", seed=0)).parent).glob("*/seed-*.json")
    ):
        if not path.name.endswith(".run.json"):
            with suppress(UserError):
                record = cells.read_record(path)
                if path == root / record.cell.path:
                    yield record


def _same_as_another_seed(path: Path, made: Mapping[str, Any]) -> str | None:
    """Say so if another seed's result has the same bytes: then at most one of the two can be genuine."""
    for other in sorted(path.parent.glob(f"seed-*{path.suffix}")):
        if other != path and made.get("sha256") is not None and cells.how_made(other).get("sha256") == made["sha256"]:
            return f"{ANOTHERS} seed: it has the same content as {other.name}"
    return None
