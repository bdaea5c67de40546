"""Figure 4: what trainings end at when one hyper-parameter is varied; a panel a sweep, a line a variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from firstorder.report.figures import combinations, drawing, style
from firstorder.settings import FigureSettings, Project

FRAME = (
    "sweep",
    "varied",
    "variant",
    "label",
    "value",
    "training",
    "tasks",
    "seeds",
    "accuracy",
    "low",
    "high",
    "band",
)
AXES = {
    "inner_steps": "inner steps k",
    "inner_batch_size": "images an inner step",
    "outer_step_size": "outer step size at the start",
}
# By place in the sweep: variants are named by the user.
MARKERS, LINES = ("o", "v", "^", "s", "D", "P"), ("-", "--", "-.", ":", "-", "--")


def gather(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return a row a training of the figure's sweeps: columns FRAME, accuracies as fractions.

    Meta-test tasks, inductive, at the end of the training. `low` and `high` are those of the 95 % interval, over seeds
    (Student) or, with one seed, over tasks. A training that is not run has a row without accuracy.
    """
    rows: list[dict[str, Any]] = []
    for name in figure.sweeps or ():
        sweep = (project.sweeps or {})[name]
        for variant, value, training in project.members_of_sweep(name):
            about = {"sweep": name, "varied": sweep.varied, "variant": variant, "label": sweep.variants[variant].label}
            ended = combinations.end(root, project, training)
            rows.append({**about, "value": value, "training": training, "seeds": 0, **ended})
    return pd.DataFrame(rows, columns=list(FRAME))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a panel a sweep, all with the same scale of accuracies; sweeps that are not run are named below them."""
    sweeps, rest = drawing.recorded(frame, "sweep")
    if not sweeps:
        return drawing.nothing()
    # A panel keeps its letter, whichever others are drawn: the caption goes by them.
    letters = {sweep: f"({'abcdefgh'[place % 8]})" for place, sweep in enumerate(frame["sweep"].unique())}
    labels = list(frame["label"].unique())
    of_reptile = set(frame.loc[frame["training"].str.startswith("reptile/"), "label"])
    looks = {
        label: (
            style.colour("reptile") if label in of_reptile else style.in_turn(place),
            LINES[place % len(LINES)],
            MARKERS[place % len(MARKERS)],
        )
        for place, label in enumerate(labels)
    }
    figure = style.new_figure(3.4)
    part = style.below(figure, f"Not run yet: {', '.join(letters[sweep] for sweep in rest)}." if rest else "")
    axes = part.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
    for place, (axis, sweep) in enumerate(zip(axes, sweeps, strict=True)):
        draw_sweep(frame[frame["sweep"] == sweep], looks, axis)
        axis.set_title(letters[sweep])
        axis.set_ylabel("accuracy, %" if place == 0 else "")
    handles = [
        Line2D([], [], color=colour, linestyle=line, marker=marker, label=label)
        for label, (colour, line, marker) in looks.items()
    ]
    part.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3.5)
    return figure


def draw_sweep(frame: pd.DataFrame, looks: dict[str, tuple[style.Colour, str, str]], axis: Axes) -> Axes:
    """Draw one sweep with 95 % intervals; a training that is not run is a gap."""
    varied, values = frame["varied"].iloc[0], sorted(frame["value"].unique())
    is_log = varied == "outer_step_size"
    # Lines stand a little apart, so that their intervals can be told apart.
    apart = 0.04 if is_log else 0.012 * (values[-1] - values[0])
    for label, line in frame.groupby("label", sort=False):
        colour, kind, marker = looks[label]
        shift = apart * (list(looks).index(label) - (len(looks) - 1) / 2)
        errors = [100 * (line["accuracy"] - line["low"]), 100 * (line["high"] - line["accuracy"])]
        axis.errorbar(
            line["value"] * 2**shift if is_log else line["value"] + shift,
            100 * line["accuracy"],
            yerr=errors,
            fmt=marker + kind,
            color=colour,
            capsize=style.CAP,
            label=label,
        )
    if is_log:
        axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(values))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel(AXES[varied])
    return axis
