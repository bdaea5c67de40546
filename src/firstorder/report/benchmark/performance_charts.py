"""Charts of the benchmark; each function draws a frame of performance.py."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from firstorder.report.figures import style, themes
from firstorder.settings.engines import ONE, SIDE_BY_SIDE

MARKERS = {"plain": "o", "native": "s", "lanes": "^", "graph": "v"}
HATCHES = {ONE: "///", SIDE_BY_SIDE: ""}


def draw_rates(frame: pd.DataFrame) -> Figure:
    """Draw the percent of the limit that each engine reaches: median, slowest and fastest round."""
    workloads = list(frame["workload"].unique())
    kinds = frame[["engine", "layout"]].drop_duplicates().itertuples(index=False, name=None)
    contenders = {f"{engine}, {layout}": (engine, layout) for engine, layout in kinds}
    figure = style.new_figure(0.9 + 0.11 * len(workloads) * (len(contenders) + 1))
    axis = figure.subplots()
    sns.barplot(
        frame.assign(contender=frame["engine"] + ", " + frame["layout"]),
        x="percent_of_limit",
        y="workload",
        hue="contender",
        order=workloads,
        hue_order=list(contenders),
        palette={name: themes.colour(engine) for name, (engine, _) in contenders.items()},
        saturation=1,
        estimator="median",
        errorbar=("pi", 100),
        err_kws={"linewidth": style.THIN, "color": themes.ink()},
        ax=axis,
    )
    for bars, (_, layout) in zip(axis.containers, contenders.values(), strict=False):
        for bar in bars:
            bar.set(hatch=HATCHES[layout], edgecolor=themes.page(), linewidth=0)
    axis.set_xlabel("percent of the machine's limit in float32 arithmetic")
    axis.set_ylabel("")
    handles, labels = axis.get_legend_handles_labels()
    for handle, (_, layout) in zip(handles, contenders.values(), strict=True):
        handle.set(hatch=HATCHES[layout], edgecolor=themes.page(), linewidth=0)
    axis.legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def draw_scaling(frame: pd.DataFrame) -> Figure:
    """Draw seconds against outer steps, tasks and lanes on logarithmic axes, with the fitted slope of each engine."""
    axes_names = list(frame["axis"].unique())
    figure = style.new_figure(2.9)
    axes = figure.subplots(1, len(axes_names), squeeze=False, sharey=True)[0]
    for axis, name in zip(axes, axes_names, strict=True):
        draw_axis(frame[frame["axis"] == name], axis)
        axis.set_title(f"more {name}")
        axis.set_xlabel(name)
    axes[0].set_ylabel("seconds")
    return figure


def draw_axis(frame: pd.DataFrame, axis: Axes) -> Axes:
    """Draw seconds against one count: a line for each engine, with its slope in the legend."""
    for engine, line in frame.groupby("engine", sort=False):
        label = f"{engine}: slope {line['slope'].iloc[0]:.2f}"
        marker = MARKERS.get(engine, ".")
        axis.plot(line["count"], line["seconds"], marker=marker, color=themes.colour(engine), label=label)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
    axis.legend(loc="lower right")  # below the lines, which rise
    return axis
