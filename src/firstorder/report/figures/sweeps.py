"""Figure 4: final accuracies when one hyper-parameter is varied; a panel for each sweep, a line for each variant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from firstorder.report.figures import combinations, missing, style
from firstorder.settings import FigureSettings, Project

FRAME = (
    *("sweep", "varied", "variant", "label", "value", "training", "tasks", "seeds"),
    *("accuracy", "low", "high", "band"),
)
AXES = {
    "inner_steps": "inner steps k",
    "inner_batch_size": "images an inner step",
    "outer_step_size": "outer step size at the start",
}
# By position in the sweep, because params.yaml names the variants.
MARKERS, LINES = ("o", "v", "^", "s", "D", "P"), ("-", "--", "-.", ":", "-", "--")


@dataclass(frozen=True)
class Look:
    """How the line of one variant looks."""

    colour: style.Colour
    line: str
    marker: str


def gather(root: Path, project: Project, figure: FigureSettings, published_path: Path) -> pd.DataFrame:
    """Return a row for each training of the figure's sweeps: columns FRAME, accuracies as fractions.

    Final accuracies: meta-test tasks, inductive. `low` and `high` are the ends of the 95 % interval, over seeds
    (Student) or, with one seed, over tasks. A training that is not run has a row without accuracy.
    """
    rows: list[dict[str, Any]] = []
    for name in figure.sweeps or ():
        sweep = (project.sweeps or {})[name]
        for variant, value, training in project.members_of_sweep(name):
            about = {"sweep": name, "varied": sweep.varied, "variant": variant, "label": sweep.variants[variant].label}
            point = combinations.final_point(root, project, training)
            rows.append({**about, "value": value, "training": training, "seeds": 0, **point})
    return pd.DataFrame(rows, columns=list(FRAME))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a panel for each sweep, all with one scale of accuracies; name sweeps that are not run below them."""
    sweeps, rest = missing.recorded_and_missing(frame, "sweep")
    if not sweeps:
        return missing.nothing()
    # A panel keeps its letter whichever others are drawn, because the caption refers to it.
    letters = {sweep: f"({'abcdefgh'[place % 8]})" for place, sweep in enumerate(frame["sweep"].unique())}
    labels = list(frame["label"].unique())
    of_reptile = set(frame.loc[frame["training"].str.startswith("reptile/"), "label"])
    looks = {
        label: Look(
            colour=style.colour("reptile") if label in of_reptile else style.cycled_colour(place),
            line=LINES[place % len(LINES)],
            marker=MARKERS[place % len(MARKERS)],
        )
        for place, label in enumerate(labels)
    }
    figure = style.new_figure(3.4)
    part = style.write_below(figure, f"Not run yet: {', '.join(letters[sweep] for sweep in rest)}." if rest else "")
    axes = part.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
    for place, (axis, sweep) in enumerate(zip(axes, sweeps, strict=True)):
        draw_sweep(frame[frame["sweep"] == sweep], looks, axis)
        axis.set_title(letters[sweep])
        axis.set_ylabel("accuracy, %" if place == 0 else "")
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker, label=label)
        for label, look in looks.items()
    ]
    part.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3.5)
    return figure


def draw_sweep(frame: pd.DataFrame, looks: dict[str, Look], axis: Axes) -> Axes:
    """Draw one sweep with 95 % intervals; a training that is not run is a gap."""
    varied, values = frame["varied"].iloc[0], sorted(frame["value"].unique())
    is_log = varied == "outer_step_size"
    # Lines are shifted a little, so that their intervals do not overlap.
    apart = 0.04 if is_log else 0.012 * (values[-1] - values[0])
    for label, line in frame.groupby("label", sort=False):
        shift = apart * (list(looks).index(label) - (len(looks) - 1) / 2)
        errors = [100 * (line["accuracy"] - line["low"]), 100 * (line["high"] - line["accuracy"])]
        axis.errorbar(
            line["value"] * 2**shift if is_log else line["value"] + shift,
            100 * line["accuracy"],
            yerr=errors,
            fmt=looks[label].marker + looks[label].line,
            color=looks[label].colour,
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
