"""Figure 4: final accuracies when one hyper-parameter is varied; a panel for each sweep, a line for each variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from firstorder.report.claims.paper import Paper
from firstorder.report.figures import combinations, style, themes
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


def gather(root: Path, project: Project, figure: FigureSettings, paper: Paper) -> pd.DataFrame:
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
    sweeps, rest = style.recorded_and_missing(frame, "sweep")
    if not sweeps:
        return style.nothing(style.progress(0, frame["training"].nunique()))
    # A panel keeps its letter whichever others are drawn, because the caption refers to it.
    letters = {sweep: f"({'abcdefgh'[place % 8]})" for place, sweep in enumerate(frame["sweep"].unique())}
    labels = list(frame["label"].unique())
    of_reptile = set(frame.loc[frame["training"].str.startswith("reptile/"), "label"])
    looks = {
        label: {
            "color": themes.colour("reptile") if label in of_reptile else themes.cycled_colour(place),
            "linestyle": LINES[place % len(LINES)],
            "marker": MARKERS[place % len(MARKERS)],
        }
        for place, label in enumerate(labels)
    }
    figure = style.new_figure(3.4)
    run = frame.loc[frame["accuracy"].notna(), "training"].nunique()
    words = f"Not run yet: {', '.join(letters[sweep] for sweep in rest)}. " if rest else ""
    part = style.write_below(figure, (words + style.progress(run, frame["training"].nunique())).strip())
    axes = part.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
    for place, (axis, sweep) in enumerate(zip(axes, sweeps, strict=True)):
        draw_sweep(frame[frame["sweep"] == sweep], looks, axis)
        axis.set_title(letters[sweep])
        axis.set_ylabel("accuracy, %" if place == 0 else "")
    drawn = set(frame.loc[frame["accuracy"].notna(), "label"])
    entries = [style.legend_entry("", label, **look) for label, look in looks.items() if label in drawn]
    style.add_legend(part, entries, 2, handlelength=3.5)
    return figure


def draw_sweep(frame: pd.DataFrame, looks: dict[str, dict[str, Any]], axis: Axes) -> Axes:
    """Draw one sweep with 95 % intervals; a training that is not run is a gap."""
    varied, values = frame["varied"].iloc[0], sorted(frame["value"].unique())
    is_log = varied == "outer_step_size"
    # Lines are shifted a little, so that their intervals do not overlap.
    shown = frame.loc[frame["accuracy"].notna(), "value"]
    apart = 0.04 if is_log else 0.012 * (shown.max() - shown.min())
    for label, line in frame.groupby("label", sort=False):
        shift = apart * (list(looks).index(label) - (len(looks) - 1) / 2)
        x = line["value"] * 2**shift if is_log else line["value"] + shift
        style.draw_intervals(axis, x, line, label=label, **looks[label])
    if is_log:
        axis.set_xscale("log", base=2)
    style.set_ticks(axis.xaxis, FixedLocator(values))
    axis.set_xlabel(AXES[varied])
    return axis
