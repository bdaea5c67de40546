"""The benchmark on the page of runtimes: for each machine the charts, what is seen in them, and the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from firstorder.report.benchmark import performance, performance_charts, performance_tables
from firstorder.report.figures import style, themes
from firstorder.report.read import csv_frames
from firstorder.report.site.writer import Pages
from firstorder.report.text.formatting import PrintedTable

FOLDER = "benchmark"  # of the site


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart: paths of its pictures for a light and a dark page and of its numbers, and what is seen in it."""

    title: str
    image: str
    dark: str
    numbers: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured on one machine, when, and with which commit."""

    name: str
    measured: str
    charts: tuple[Chart, ...]
    table: PrintedTable


def add(pages: Pages, folder: Path) -> list[Machine]:
    """Add the charts of every result of the benchmark in a folder; return what the page shows, a machine each.

    The charts are drawn here from the results. Raises UserError for a result that does not follow the schema.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        result = performance.read(path)
        rates, scaling = performance.rates(result), performance.scaling(result)
        charts = [_chart(pages, path.stem, "Percent of the limit", rates, performance_charts.draw_rates, _of_rates)]
        if performance_tables.has_scaling(result):
            more = (f"{path.stem}-scaling", "Seconds as the work grows", scaling)
            charts.append(_chart(pages, *more, performance_charts.draw_scaling, _of_scaling))
        run = result["run"]
        found.append(
            Machine(
                name=result["machine"],
                measured=f"{run['ended'][:10]}, commit {run['commit']}, {run['seconds'] / 60:.1f} min in all",
                charts=tuple(charts),
                table=performance_tables.printed(result),
            )
        )
    return found


def _chart(
    pages: Pages,
    name: str,
    title: str,
    frame: pd.DataFrame,
    draw: Callable[[pd.DataFrame], Figure],
    describe: Callable[[pd.DataFrame], str],
) -> Chart:
    """Draw a frame for both kinds of pages and add the pictures and the numbers."""
    paths = {kind: f"{FOLDER}/{name}{ending}" for kind, ending in _ENDINGS.items()}
    for kind, theme in (("image", themes.LIGHT), ("dark", themes.DARK)):
        with style.applied(theme):
            pages.files[paths[kind]] = style.content(draw(frame), "png")
    pages.files[paths["numbers"]] = csv_frames.text(frame).encode("utf-8")
    return Chart(title=title, alt=describe(frame), **paths)


_ENDINGS = {"image": ".png", "dark": "-dark.png", "numbers": ".csv"}


def _of_rates(frame: pd.DataFrame) -> str:
    """Say which part of the limit each engine reaches, and where it is most."""
    medians = frame.groupby(["workload", "engine", "layout"], sort=False)["percent_of_limit"].median().reset_index()
    best = medians.groupby(["workload", "engine"], sort=False)["percent_of_limit"].max().reset_index()
    parts = []
    for engine, lines in best.groupby("engine", sort=False):
        low, high = lines["percent_of_limit"].min(), lines["percent_of_limit"].max()
        where = lines.loc[lines["percent_of_limit"].idxmax(), "workload"]
        parts.append(f"{engine} {low:.1f} to {high:.1f} % (most in {where})")
    return f"Bars by workload and engine. Of the machine's float32 limit, at its better layout, {'; '.join(parts)}."


def _of_scaling(frame: pd.DataFrame) -> str:
    """Say how the time of each engine grows: a slope of 1 is linear."""
    parts = []
    for axis, lines in frame.groupby("axis", sort=False):
        slopes = lines.groupby("engine", sort=False)["slope"].first()
        parts.append(f"with more {axis} {', '.join(f'{engine} {slope:.2f}' for engine, slope in slopes.items())}")
    return f"Lines of seconds on logarithmic axes. Their slopes, 1 being linear: {'; '.join(parts)}."
