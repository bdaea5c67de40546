"""Section 5 from its records: limits of coefficients, slopes of remainders, inner products.

At any one alpha the fitted coefficients contain an error from the terms that the expansion neglects: of order alpha^2
in the coefficient of AvgGrad, of order alpha in that of alpha AvgGradInner. So both are extrapolated to alpha = 0, by
the polynomial through the smallest alphas. The slope of the remainder is that of a straight line through all alphas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from firstorder.records import freshness
from firstorder.report.read import measurements
from firstorder.report.read.statistics import log_slope
from firstorder.settings import EXPANSION, Project
from firstorder.studies.expansion import STATED

LIMIT_ALPHAS = 4  # smallest alphas that a limit is taken with: the error is of fourth order
_KEYS = ("problem", "algorithm", "inner_steps", "tasks", "mini_batches", "orders")
COEFFICIENT_TYPES = (
    dict.fromkeys(("problem", "algorithm"), "str")
    | dict.fromkeys(("inner_steps", "tasks", "mini_batches", "orders"), "int64")
    | dict.fromkeys(
        [f"{name}_{what}" for name in ("average", "inner") for what in ("stated", "measured", "relative_error")],
        "float64",
    )
    | {"remainder_slope": "float64"}
)
_MEASURED = ("cosine", "product")
_PRODUCT_COLUMNS = (
    *("algorithm", "mini_batches", "outer_step", "inner_steps", "tasks"),
    *(f"{name}{suffix}" for name in _MEASURED for suffix in ("", "_standard_error", "_other_tasks")),
    *(f"{name}_change{suffix}" for name in _MEASURED for suffix in ("", "_standard_error")),
)


def inner_products(root: Path, project: Project) -> pd.DataFrame:
    """Read the records of studies/inner_products.py, with `training` and `seed` first; missing ones are left out.

    Raises UserError if one is stale.
    """
    parts = []
    for training in project.theory.inner_products.trainings if project.theory else ():
        part = measurements.of_seeds(root, project, freshness.inner_products, training, _PRODUCT_COLUMNS)
        part.insert(0, "training", training)
        parts.append(part)
    parts = [part for part in parts if len(part)]
    columns = ["training", "seed", *_PRODUCT_COLUMNS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def limit(alphas: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the value at alpha = 0 of the polynomial through all points (Lagrange)."""
    total = 0.0
    for i, alpha in enumerate(alphas):
        others = np.delete(alphas, i)
        total += values[i] * float(np.prod(others / (others - alpha)))
    return total


def coefficients(root: Path, project: Project) -> pd.DataFrame:
    """Return the stated and measured coefficients of each problem, algorithm and k: COEFFICIENT_TYPES.

    Relative errors are |measured - stated| / |stated|.
    """
    rows = []
    for key, ladder in measurements.simulation(root, project, EXPANSION).groupby(list(_KEYS), sort=False):
        ladder = ladder.sort_values("learning_rate")
        alphas = ladder["learning_rate"].to_numpy()
        about = dict(zip(_KEYS, key, strict=True))
        stated = STATED[about["algorithm"]](about["inner_steps"])
        row: dict[str, Any] = {**about, "remainder_slope": log_slope(alphas, ladder["remainder"].to_numpy())}
        for name, expected in (("average", stated.average), ("inner", stated.inner)):
            values = ladder[f"{name}_coefficient"].to_numpy()
            measured = limit(alphas[:LIMIT_ALPHAS], values[:LIMIT_ALPHAS])
            error = abs(measured - expected) / abs(expected)
            row |= {f"{name}_stated": expected, f"{name}_measured": measured, f"{name}_relative_error": error}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COEFFICIENT_TYPES)).astype(COEFFICIENT_TYPES)
