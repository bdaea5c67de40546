"""The table of section 5's coefficients, as printed."""

from __future__ import annotations

import math

import pandas as pd

from firstorder.report.text.formatting import MINUS, MISSING, PrintedTable, algorithm_label, count_range


def lay_out(data: pd.DataFrame) -> PrintedTable:
    """Lay out the coefficients (theory.COEFFICIENT_TYPES) for print."""
    rows = []
    for line in data.itertuples():
        pairs = []
        for name in ("average", "inner"):
            stated, measured, error = (
                getattr(line, f"{name}_{what}") for what in ("stated", "measured", "relative_error")
            )
            pairs += [_number(f"{stated:g}"), _number(f"{measured:.6f}"), _number(f"{error:.0e}")]
        slope = MISSING if math.isnan(line.remainder_slope) else f"{line.remainder_slope:.3f}"
        rows.append((line.problem, algorithm_label(line.algorithm), str(line.inner_steps), *pairs, slope))
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
        footnotes=(_explanation(data),) if rows else ("Not run.",),
    )


def _explanation(data: pd.DataFrame) -> str:
    tasks, batches, orders = (count_range(data[name]) for name in ("tasks", "mini_batches", "orders"))
    return (
        f"E over {tasks} tasks and all orders ({orders}) of k of {batches} mini-batches, without sampling error. "
        "Measured: least squares on AvgGrad and AvgGradInner, taken to alpha = 0. The slope is that of the remainder "
        "against alpha, both logarithmic; the expansion says 2. A relative error near 1e-7 is the record's rounding to "
        "eight digits."
    )


def _number(text: str) -> str:
    return text.replace("-", MINUS)
