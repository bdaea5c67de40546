"""Computed CSV files, read only where they exist and are not stale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from firstorder.records import freshness
from firstorder.records.cells import CSV_FILE
from firstorder.records.freshness import Expected
from firstorder.report.read import csv_frames, staleness
from firstorder.settings import EXPANSION, MANIFOLD_POINTS, SINE_FITS, SINE_LOSSES, Project, columns

# Path -> section of params.yaml, and columns.
SIMULATIONS = {
    SINE_LOSSES: ("sine", columns.SINE_LOSSES),
    SINE_FITS: ("sine", columns.SINE_FITS),
    MANIFOLD_POINTS: ("manifolds", columns.MANIFOLD_POINTS),
    EXPANSION: ("theory", columns.EXPANSION),
}
# Columns that hold texts; all others hold numbers.
_TEXTS = {"algorithm", "alphabet", "answered", "mini_batches", "mode", "pool", "problem", "toward", "what"}


def read(root: Path, expected: Expected, names: Sequence[str]) -> pd.DataFrame | None:
    """Read the columns `names` of the file that `expected` describes; return None if there is no such file.

    Raises UserError, naming the command that makes the file again, if it is stale and staleness.py does not allow that.
    """
    path = root / expected.path
    if not path.exists():
        return None
    staleness.check(root, [expected])
    frame = csv_frames.read(path, names)
    for column in names:
        if len(frame) and column not in _TEXTS and not pd.api.types.is_numeric_dtype(frame[column]):
            raise CSV_FILE.refused(path, f"expected numbers under {column}")
    return frame


def simulation(root: Path, project: Project, path: str) -> pd.DataFrame:
    """Read one of SIMULATIONS, with its columns; no rows if nothing is recorded. Raises UserError as `read` does."""
    section, names = SIMULATIONS[path]
    found = None
    if getattr(project, section) is not None:
        found = read(root, freshness.simulation(project, path), names)
    return pd.DataFrame(columns=list(names)) if found is None else found


def of_seeds(
    root: Path, project: Project, expected: Callable[[Project, str, int], Expected], name: str, names: Sequence[str]
) -> pd.DataFrame:
    """Read what is recorded for the seeds of params.yaml: the column `seed`, then `names`; no rows if nothing is.

    `expected` is the function of freshness.py for the kind of file. Raises UserError as `read` does.
    """
    parts = []
    for seed in project.seeds:
        if (part := read(root, expected(project, name, seed), names)) is not None:
            part.insert(0, "seed", seed)
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["seed", *names])
