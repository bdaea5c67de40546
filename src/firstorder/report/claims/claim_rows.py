"""How one line of the table of claims is printed, for each kind of claim."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from firstorder.report.claims.outcomes import REDUCED, UNDECIDABLE
from firstorder.report.text.formatting import MINUS, MISSING, percent, points, training_label

WHOSE = (
    "Whose: paper, if its text or numbers say so; memory, if we only remember that it does, without a text to check it "
    "by; ours, if it is a check that the paper does not make."
)


def value_row(line: Any) -> tuple[str, ...]:
    """Lay out a claim of value."""
    paper, ours = line.paper_printed, percent(line.ours_fraction)
    wide = MISSING if pd.isna(line.verdict_wide) else line.verdict_wide
    return (line.sentence, paper, ours, *_cell_numbers(line), verdict_text(line), wide)


def order_row(line: Any) -> tuple[str, ...]:
    """Lay out a claim of order."""
    is_short = line.length == "reduced" and not pd.isna(line.seeds) and line.verdict != REDUCED
    verdict = f"{line.verdict} ({REDUCED})" if is_short else verdict_text(line)
    return (line.sentence, points(line.paper_fraction), *_cell_numbers(line), verdict)


def simulation_row(line: Any) -> tuple[str, ...]:
    """Lay out a claim about a simulation."""
    bound = f"{line.relation} {_plain(line.bound)}"
    return (
        line.sentence,
        line.origin,
        _within(line, _plain),
        bound,
        _seeds(line),
        known_text(line),
        verdict_text(line),
    )


def curves_row(line: Any) -> tuple[str, ...]:
    """Lay out a claim about curves or a sweep."""
    wanted = f"{'less' if line.relation == 'stays' else 'more'} than {100 * line.bound:g}"
    numbers = (_within(line, points), *_errors(line), wanted, _seeds(line))
    return (line.sentence, line.origin, *numbers, known_text(line), verdict_text(line))


def theory_row(line: Any) -> tuple[str, ...]:
    """Lay out a claim of section 5."""
    training = MISSING if pd.isna(line.theory_training) else training_label(line.theory_training)
    measured = _interval(_plain, line.theory_measured, line.theory_low, line.theory_high)
    numbers = (measured, f"{line.theory_margin:g}", _seeds(line), known_text(line))
    return (line.sentence, training, line.origin, *numbers, verdict_text(line))


def known_text(line: Any) -> str:
    """Return what was known before; at reduced length that is not said, as it is about full-length results."""
    return MISSING if line.length == "reduced" else line.known


def verdict_text(line: Any) -> str:
    """Return the verdict, with its reason or the verdict in advance."""
    if line.verdict == UNDECIDABLE:
        return f"{UNDECIDABLE}: the paper's ± is {100 * line.paper_half_width_fraction:g}"
    ahead = "" if pd.isna(line.verdict_in_advance) else f"; in advance alone: {line.verdict_in_advance}"
    return f"{line.verdict}{ahead}"


def _cell_numbers(line: Any) -> tuple[str, ...]:
    interval = _interval(points, line.judged_fraction, line.low_fraction, line.high_fraction)
    # `above` claims only the sign, so it has no margin.
    margins = MISSING if line.relation == "above" else _margins(line.margin_below_fraction, line.margin_above_fraction)
    return (interval, *_errors(line), margins, _seeds(line), known_text(line))


def _margins(below: float, above: float) -> str:
    """Return both margins in points, like `±1.0`, or `−0.28/+0.22` where they differ."""
    if math.isclose(below, above):
        return f"±{100 * below:.1f}"
    return f"{points(-below)}/{points(above)}"


def _within(line: Any, text: Callable[[float], str]) -> str:
    """Return the judged number as text, with its interval if it has one."""
    low, high = line.low_fraction, line.high_fraction
    return text(line.judged_fraction) if low == high else _interval(text, line.judged_fraction, low, high)


def _interval(text: Callable[[float], str], number: float, low: float, high: float) -> str:
    return text(number) + ("" if math.isnan(low) else f" [{text(low)}, {text(high)}]")


def _errors(line: Any) -> list[str]:
    widths = (line.half_width_tasks_fraction, line.half_width_seeds_fraction)
    return [MISSING if math.isnan(width) else f"{100 * width:.2f}" for width in widths]


def _seeds(line: Any) -> str:
    return MISSING if pd.isna(line.seeds) else str(line.seeds)


def _plain(number: float) -> str:
    """Return a plain number as text with three significant digits."""
    return MISSING if math.isnan(number) else f"{number:.3g}".replace("-", MINUS)
