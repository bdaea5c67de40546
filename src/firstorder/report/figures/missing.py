"""What a figure says in words where there are no numbers yet."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from firstorder.report.figures import style
from firstorder.report.text.formatting import training_label

NOTHING = "Nothing is recorded yet for this figure."


def recorded_and_missing(frame: pd.DataFrame, by: str) -> tuple[list[str], list[str]]:
    """Split the names in column `by` into those with an accuracy and those without, each in the frame's order."""
    known = frame["accuracy"].notna().groupby(frame[by], sort=False).any()
    return list(known.index[known]), list(known.index[~known])


def not_run(names: Iterable[str]) -> str:
    """Name trainings or evaluations by algorithm, like `Not run yet: MAML (Omniglot 5-way).`; empty without any."""
    columns: dict[str, list[str]] = {}
    for name in names:
        algorithm, _, column = training_label(name).partition(", ")
        columns.setdefault(algorithm, []).append(column)
    groups = [f"{algorithm} ({', '.join(found)})" for algorithm, found in columns.items()]
    return f"Not run yet: {'; '.join(groups)}." if groups else ""


def nothing() -> Figure:
    """Return a figure that says only that nothing is recorded yet."""
    figure = style.new_figure(2.0)
    style.say(figure.subplots(), NOTHING)
    return figure
