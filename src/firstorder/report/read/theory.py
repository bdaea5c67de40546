"""Section 5 from its records: limits of coefficients, slopes of remainders, inner products with their intervals.

A newcomer would get wrong: at any one alpha the fitted coefficients are off by what the expansion leaves out. The
coefficient of AvgGrad is off by alpha^2 and that of alpha AvgGradInner by alpha, so both are taken to alpha = 0, by the
polynomial through the smallest alphas. The slope of the remainder is that of a straight line through all of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from firstorder.records import freshness
from firstorder.report.read import csv_frames, staleness
from firstorder.report.read.statistics import half_width_over_tasks
from firstorder.report.text.formatting import MINUS, MISSING, PrintedTable, algorithm_label
from firstorder.settings import EXPANSION, INNER_PRODUCTS, FigureSettings, Project
from firstorder.studies.expansion import STATED

LIMIT_ALPHAS = 4  # smallest alphas that a limit is taken with: what is left out is of fourth order
_KEYS = ("problem", "algorithm", "inner_steps", "tasks", "mini_batches", "orders")
_EXPANSION_COLUMNS = (*_KEYS, "learning_rate", "average_coefficient", "inner_coefficient", "remainder")
COEFFICIENT_TYPES = {
    "problem": "str",
    "algorithm": "str",
    "inner_steps": "int64",
    "tasks": "int64",
    "mini_batches": "int64",
    "orders": "int64",
    "average_stated": "float64",
    "average_measured": "float64",
    "average_relative_error": "float64",
    "inner_stated": "float64",
    "inner_measured": "float64",
    "inner_relative_error": "float64",
    "remainder_slope": "float64",
}
_MEASURED = ("cosine", "product")
_PRODUCT_COLUMNS = (
    *("algorithm", "mini_batches", "outer_step", "inner_steps", "tasks"),
    *(f"{name}{suffix}" for name in _MEASURED for suffix in ("", "_standard_error", "_other_tasks")),
    *(f"{name}_change{suffix}" for name in _MEASURED for suffix in ("", "_standard_error")),
)
FRAME = (
    *("panel", "problem", "training", "seed", "algorithm", "mini_batches", "pairs", "k"),
    *("x", "y", "stated", "half_width", "tasks"),
)
# Panels of inner products: what is measured, and on which mini-batches.
PRODUCT_PANELS = (("cosine", "trained"), ("cosine", "balanced"), ("product", "trained"))
ONE_TASK, OTHER_TASKS = "one task", "different tasks"


def expansion(root: Path, project: Project) -> pd.DataFrame:
    """Read what theory.py recorded; no rows where nothing is recorded.

    Raises UserError where it was computed with other settings than those of `project`.
    """
    path = root / EXPANSION
    if project.theory is None or not path.exists():
        return pd.DataFrame(columns=list(_EXPANSION_COLUMNS))
    staleness.check(root, [freshness.simulation(project, EXPANSION)])
    return csv_frames.read(path, _EXPANSION_COLUMNS)


def inner_products(root: Path, project: Project) -> pd.DataFrame:
    """Read what inner_products.py recorded, with `training` and `seed` first; what is not recorded is left out.

    Raises UserError where it was computed with other settings than those of `project`.
    """
    parts = []
    if project.theory is not None:
        for training in project.theory.inner_products.trainings:
            for seed in project.seeds:
                path = root / INNER_PRODUCTS.format(training=training, seed=seed)
                if path.exists():
                    staleness.check(root, [freshness.inner_products(project, training, seed)])
                    part = csv_frames.read(path, _PRODUCT_COLUMNS)
                    part.insert(0, "training", training)
                    part.insert(1, "seed", seed)
                    parts.append(part)
    columns = ["training", "seed", *_PRODUCT_COLUMNS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def limit(alphas: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return where the polynomial through all points (Lagrange's) meets alpha = 0."""
    total = 0.0
    for i, alpha in enumerate(alphas):
        others = np.delete(alphas, i)
        total += values[i] * float(np.prod(others / (others - alpha)))
    return total


def slope(alphas: NDArray[np.float64], remainders: NDArray[np.float64]) -> float:
    """Return the slope of the line through log remainder against log alpha; NaN where a remainder is zero."""
    if not (remainders > 0).all():
        return math.nan
    return float(np.polyfit(np.log(alphas), np.log(remainders), 1)[0])


def coefficients(root: Path, project: Project) -> pd.DataFrame:
    """Return stated and measured coefficients of every problem, algorithm and k: COEFFICIENT_TYPES.

    Relative errors are |measured - stated| / |stated|.
    """
    rows = []
    for key, ladder in expansion(root, project).groupby(list(_KEYS), sort=False):
        ladder = ladder.sort_values("learning_rate")
        alphas = ladder["learning_rate"].to_numpy()
        about = dict(zip(_KEYS, key, strict=True))
        stated = STATED[about["algorithm"]](about["inner_steps"])
        row: dict[str, Any] = {**about, "remainder_slope": slope(alphas, ladder["remainder"].to_numpy())}
        for name, expected in (("average", stated.average), ("inner", stated.inner)):
            values = ladder[f"{name}_coefficient"].to_numpy()
            measured = limit(alphas[:LIMIT_ALPHAS], values[:LIMIT_ALPHAS])
            error = abs(measured - expected) / abs(expected)
            row |= {f"{name}_stated": expected, f"{name}_measured": measured, f"{name}_relative_error": error}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COEFFICIENT_TYPES)).astype(COEFFICIENT_TYPES)


def gather(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return the points of the theory figure: FRAME.

    Panels `average` and `inner`: measured coefficients (y) and `stated` ones against k. Panel `remainder`: against
    alpha, over |AvgGrad|. Panels `cosine` and `product`: against the inner steps taken, over pairs of mini-batches of
    ONE_TASK, with half_width, that of the 95 % interval over `tasks`, and of OTHER_TASKS.
    """
    parts = []
    found = coefficients(root, project).rename(columns={"inner_steps": "k"})
    for name in ("average", "inner"):
        parts.append(
            found.assign(panel=name, x=found["k"], y=found[f"{name}_measured"], stated=found[f"{name}_stated"])
        )
    ladders = expansion(root, project).rename(columns={"inner_steps": "k", "learning_rate": "x", "remainder": "y"})
    parts.append(ladders.assign(panel="remainder"))
    products = inner_products(root, project).rename(columns={"inner_steps": "x"})
    for name, kind in PRODUCT_PANELS:
        lines = products[products["mini_batches"] == kind]
        half_width = lines[f"{name}_standard_error"].astype("float64").map(half_width_over_tasks)
        parts.append(lines.assign(panel=name, pairs=ONE_TASK, y=lines[name], half_width=half_width))
        parts.append(lines.assign(panel=name, pairs=OTHER_TASKS, y=lines[f"{name}_other_tasks"]))
    # In the panels of the expansion, mini_batches would be their number.
    kept = [part.assign(mini_batches=None) if "problem" in part else part for part in parts if len(part)]
    if not kept:
        return pd.DataFrame(columns=list(FRAME))
    return pd.concat([part.reindex(columns=list(FRAME)) for part in kept], ignore_index=True).astype(_FRAME_TYPES)


_FRAME_TYPES = {"seed": "Int64", "k": "Int64", "tasks": "Int64"} | dict.fromkeys(
    ("x", "y", "stated", "half_width"), "float64"
)


def printed(data: pd.DataFrame) -> PrintedTable:
    """Lay out the coefficients (COEFFICIENT_TYPES) for print."""
    rows = []
    for line in data.itertuples():
        pairs = []
        for name in ("average", "inner"):
            stated, measured, error = (
                getattr(line, f"{name}_{what}") for what in ("stated", "measured", "relative_error")
            )
            pairs += [_number(f"{stated:g}"), _number(f"{measured:.6f}"), _number(f"{error:.0e}")]
        slope_ = MISSING if math.isnan(line.remainder_slope) else f"{line.remainder_slope:.3f}"
        rows.append((line.problem, algorithm_label(line.algorithm), str(line.inner_steps), *pairs, slope_))
    coefficient = ("stated", "measured", "relative error")
    heading = (
        *("Problem", "Algorithm", "k"),
        *(f"AvgGrad, {what}" for what in coefficient),
        *(f"alpha AvgGradInner, {what}" for what in coefficient),
        "Slope of the remainder",
    )
    return PrintedTable(
        title="Section 5: coefficients of the expansion of E[g]",
        heading=heading,
        rows=tuple(rows),
        label_columns=2,
        notes=(_note(data),) if rows else ("Not run.",),
    )


def _note(data: pd.DataFrame) -> str:
    tasks, batches, orders = (_range(data[name]) for name in ("tasks", "mini_batches", "orders"))
    return (
        f"E over {tasks} tasks and all orders ({orders}) of k of {batches} mini-batches, without sampling error. "
        "Measured: least squares on AvgGrad and AvgGradInner, taken to alpha = 0. The slope is that of the remainder "
        "against alpha, both logarithmic; the expansion says 2. A relative error near 1e-7 is the record's rounding to "
        "eight digits."
    )


def _number(text: str) -> str:
    return text.replace("-", MINUS)


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
