"""What `firstorder bench` measured, as frames and charts, and in docs/performance.md between its markers.

A rate is the median over rounds; the slowest and the fastest round are printed beside it. "Of the limit" is the share
of the machine's best float32 arithmetic (measured by the same benchmark, with all cores) that the counted operations
(bench/flops.py) reach. No code reaches all of it, because a step is more than matrix products.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.report import BENCH_FILE
from firstorder.report.benchmark import performance_costs, performance_tables
from firstorder.report.benchmark.performance_charts import draw_rates, draw_scaling
from firstorder.report.figures import style
from firstorder.report.read import csv_frames
from firstorder.report.read.statistics import log_slope
from firstorder.report.text.readme import update_section
from firstorder.settings import Project
from firstorder.settings.engines import CONTENDERS, SCHEMA

SECTION = "bench"  # of the page
NOTHING = "Nothing is measured yet: `make bench`."
KEYS = {"schema", "device", "machine", "run", "settings", "limits", "workloads", "scaling", "startup_seconds"}
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
RATE_COLUMNS = ("workload", "unit", "engine", "layout", "processes", "threads", "round", "rate", "percent_of_limit")
SCALING_COLUMNS = ("axis", "engine", "count", "seconds", "slope")
SLOPE_POINTS = 3  # the largest counts: with smaller ones a device is not full, and more work costs no more time


def read(path: Path) -> dict[str, Any]:
    """Read the result of one machine; raise UserError, naming the file, if it does not follow the schema."""
    result = BENCH_FILE.read_json(path)
    if result.get("schema") != SCHEMA:
        raise BENCH_FILE.refused(path, f"expected schema {SCHEMA}, found {result.get('schema')!r:.40}")
    if set(result) != KEYS:
        raise BENCH_FILE.refused(path, f"keys missing or unknown: {', '.join(sorted(set(result) ^ KEYS))[:200]}")
    try:
        for workload in result["workloads"].values():
            workload["engines"] = _ordered(workload["engines"])
        result["scaling"]["engines"] = _ordered(result["scaling"]["engines"])
        rates(result)
        scaling(result)
        performance_tables.markdown(result, "", path)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BENCH_FILE.refused(path, f"not as the benchmark writes it ({type(error).__name__}: {error})") from None
    return result


def rates(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each workload, engine, layout and round (RATE_COLUMNS); a rate is in units a second."""
    limit = result["limits"]["gflop_per_second"]
    rows = [
        (name, workload["unit"], engine, layout, entry["processes"], entry["threads"], number, rate, share)
        for name, workload in result["workloads"].items()
        for engine, layouts in workload["engines"].items()
        for layout, entry in layouts.items()
        for number, rate in enumerate(entry["rounds"])
        for share in [100 * float(rate) * float(workload["operations"]) / 1e9 / limit]
    ]
    return pd.DataFrame(rows, columns=list(RATE_COLUMNS))


def scaling(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return seconds against outer steps, tasks and lanes (SCALING_COLUMNS).

    `slope` is that of log seconds against log count over the SLOPE_POINTS largest counts: 1 if the cost is linear.
    """
    rows = [
        (point["axis"], engine, point["count"], point["seconds"])
        for engine, points in result["scaling"]["engines"].items()
        for point in points
    ]
    frame = pd.DataFrame(rows, columns=list(SCALING_COLUMNS[:-1]))
    slopes = {key: _slope(line.sort_values("count")) for key, line in frame.groupby(["axis", "engine"])}
    keys = zip(frame["axis"], frame["engine"], strict=True)
    return frame.assign(slope=[slopes[key] for key in keys])


def write(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Draw the charts of every machine (PNG, PDF, CSV) beside its JSON file in `folder`; return paths and results."""
    found = [(path, read(path)) for path in sorted(folder.glob("*.json"))]
    for path, result in found:
        charts = {path.stem: (rates(result), draw_rates)}
        if performance_tables.has_scaling(result):
            charts[f"{path.stem}-scaling"] = (scaling(result), draw_scaling)
        for name, (frame, draw) in charts.items():
            with style.applied():
                figure = draw(frame)
                for suffix in ("png", "pdf"):
                    style.save(figure, path.with_name(f"{name}.{suffix}"))
            csv_frames.write(path.with_name(f"{name}.csv"), frame)
    return found


def update(page: Path, folder: Path, project: Project | None = None) -> list[Path]:
    """Draw the charts of `folder`, and write tables and links to the charts into the section `bench` of `page`.

    With a `project`, the hours that its trainings and evaluations take are written too.
    """
    found = write(folder)
    parts = []
    for device, title in DEVICES.items():
        measured = [(path, result) for path, result in found if result["device"] == device]
        machines = [performance_tables.markdown(result, str(path.with_suffix("")), page) for path, result in measured]
        parts += [f"### {title}", *(machines or [NOTHING])]
    costs = performance_costs.markdown([result for _, result in found], project) if project else ""
    update_section(page, SECTION, "\n\n".join([*parts, costs]))
    return [page, *(path for path, _ in found)]


def _ordered(engines: Mapping[str, Any]) -> dict[str, Any]:
    """Return engines in the order of CONTENDERS, others last."""
    return {name: engines[name] for name in dict.fromkeys([*CONTENDERS, *engines]) if name in engines}


def _slope(line: pd.DataFrame) -> float:
    last = line.tail(SLOPE_POINTS).astype({"count": "float64", "seconds": "float64"})
    return log_slope(last["count"].to_numpy(), last["seconds"].to_numpy())
