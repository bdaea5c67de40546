"""Computed CSV files, read only where they exist and are not stale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from firstorder.records import freshness
from firstorder.records.cells import CSV_FILE
from firstorder.records.freshness import Expected
from firstorder.report.read import csv_frames, staleness
from firstorder.settings import EXPANSION, MANIFOLD_POINTS, SINE_FITS, SINE_LOSSES, Project

# Path -> section of params.yaml, and columns.
SIMULATIONS = {
    SINE_LOSSES: ("sine", ("algorithm", "inner_steps", "tasks", "loss", "standard_error")),
    SINE_FITS: ("sine", ("task", "algorithm", "inner_steps", "x", "y")),
    MANIFOLD_POINTS: ("manifolds", ("what", "outer_step", "toward", "x", "y")),
    EXPANSION: (
        "theory",
        (
            *("problem", "algorithm", "inner_steps", "tasks", "mini_batches", "orders"),
            *("learning_rate", "average_coefficient", "inner_coefficient", "remainder"),
        ),
    ),
}

# Columns that hold texts; all others hold numbers.
_TEXTS = {"algorithm", "alphabet", "answered", "mini_batches", "mode", "pool", "problem", "toward", "what"}


def read(root: Path, expected: Expected, columns: Sequence[str]) -> pd.DataFrame | None:
    """Read the columns of the file that `expected` describes; return None if there is no such file.

    Raises UserError, naming the command that makes the file again, if it is stale and staleness.py does not allow that.
    """
    path = root / expected.path
    if not path.exists():
        return None
    staleness.check(root, [expected])
    frame = csv_frames.read(path, columns)
    for column in columns:
        if len(frame) and column not in _TEXTS and not pd.api.types.is_numeric_dtype(frame[column]):
            raise CSV_FILE.refused(path, f"expected numbers under {column}")
    return frame


def simulation(root: Path, project: Project, path: str) -> pd.DataFrame:
    """Read one of SIMULATIONS, with its columns; no rows if nothing is recorded. Raises UserError as `read` does."""
    section, columns = SIMULATIONS[path]
    found = None
    if getattr(project, section) is not None:
        found = read(root, freshness.simulation(project, path), columns)
    return pd.DataFrame(columns=list(columns)) if found is None else found


def of_seeds(
    root: Path, project: Project, expected: Callable[[Project, str, int], Expected], name: str, columns: Sequence[str]
) -> pd.DataFrame:
    """Read what is recorded for the seeds of params.yaml: the column `seed`, then `columns`; no rows if nothing is.

    `expected` is the function of freshness.py for the kind of file. Raises UserError as `read` does.
    """
    parts = []
    for seed in project.seeds:
        if (part := read(root, expected(project, name, seed), columns)) is not None:
            part.insert(0, "seed", seed)
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["seed", *columns])
