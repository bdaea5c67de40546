"""Read the simulations: Figure 1's losses and fits, Figure 2's points.

A frame is empty if nothing is recorded. A stale file raises UserError, which names the command that makes it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from firstorder.records import freshness
from firstorder.report.read import measurements
from firstorder.settings import MANIFOLD_POINTS, SINE_FITS, SINE_LOSSES, Project

LOSSES = ("algorithm", "inner_steps", "tasks", "loss", "standard_error")
FITS = ("task", "algorithm", "inner_steps", "x", "y")
POINTS = ("what", "outer_step", "toward", "x", "y")


def losses(root: Path, project: Project) -> pd.DataFrame:
    """Read Figure 1's losses: columns LOSSES."""
    return _read(root, project, SINE_LOSSES, LOSSES) if project.sine else pd.DataFrame(columns=list(LOSSES))


def fits(root: Path, project: Project) -> pd.DataFrame:
    """Read Figure 1's fits: columns FITS."""
    return _read(root, project, SINE_FITS, FITS) if project.sine else pd.DataFrame(columns=list(FITS))


def manifold_points(root: Path, project: Project) -> pd.DataFrame:
    """Read Figure 2's points: columns POINTS."""
    return _read(root, project, MANIFOLD_POINTS, POINTS) if project.manifolds else pd.DataFrame(columns=list(POINTS))


def _read(root: Path, project: Project, path: str, columns: Sequence[str]) -> pd.DataFrame:
    found = measurements.read(root, freshness.simulation(project, path), columns)
    return pd.DataFrame(columns=list(columns)) if found is None else found
