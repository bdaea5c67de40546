"""What `firstorder bench` measured, as tables and charts, and in docs/performance.md between its markers.

A newcomer would get wrong: the median over rounds is the number, and beside it stand the slowest and the fastest round.
"Of the limit" is the share of the machine's best float32 arithmetic, measured in the same run with all cores, that the
counted operations (flops.py) make up: no code reaches all of it, since a step is more than products.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from firstorder.errors import UserError
from firstorder.files import parse_json, replacing
from firstorder.report.benchmark.performance_charts import draw_rates, draw_scaling
from firstorder.report.figures import style
from firstorder.report.read import csv_frames
from firstorder.report.text.formatting import MISSING
from firstorder.report.text.readme import replace_block

SCHEMA = 1
BLOCK = "bench"
NOTHING = "Nothing is measured yet: `make bench`."
KEYS = {"schema", "device", "machine", "run", "settings", "limits", "workloads", "scaling", "startup_seconds"}
ONE, SIDE_BY_SIDE = "one process", "side by side"
ENGINES = ("plain", "native", "lanes", "graph", "graph, 3 seeds", "jax")  # in tables and charts
SECTIONS = {"cpu": "CPU", "cuda": "GPU"}
RATE_COLUMNS = ("workload", "unit", "engine", "way", "processes", "threads", "round", "rate", "percent_of_limit")
SCALING_COLUMNS = ("axis", "engine", "count", "seconds", "slope")
SLOPE_POINTS = 3  # of the largest counts: below, a device that is not full costs the same for more


def read(path: Path) -> dict[str, Any]:
    """Read a machine's result; raise UserError, naming the file, when it is not one of this schema."""
    mend = "restore it (git checkout) or measure again: make bench"
    try:
        result = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); {mend}") from None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        found = result.get("schema") if isinstance(result, dict) else result
        raise UserError(f"{path}: expected schema {SCHEMA}, found {found!r}; {mend}")
    if set(result) != KEYS:
        raise UserError(f"{path}: keys missing or unknown: {', '.join(sorted(set(result) ^ KEYS))}; {mend}")
    for workload in result["workloads"].values():
        workload["engines"] = _ordered(workload["engines"])
    result["scaling"]["engines"] = _ordered(result["scaling"]["engines"])
    return result


def rates(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each workload, engine, way and round (RATE_COLUMNS); rates are units a second."""
    limit = result["limits"]["gflop_per_second"]
    rows = [
        (name, workload["unit"], engine, way, entry["processes"], entry["threads"], number, rate, share)
        for name, workload in result["workloads"].items()
        for engine, ways in workload["engines"].items()
        for way, entry in ways.items()
        for number, rate in enumerate(entry["rounds"])
        for share in [100 * rate * workload["operations"] / 1e9 / limit]
    ]
    return pd.DataFrame(rows, columns=list(RATE_COLUMNS))


def scaling(result: Mapping[str, Any]) -> pd.DataFrame:
    """Return seconds against outer steps, tasks and lanes (SCALING_COLUMNS).

    `slope` is that of log seconds against log count over the largest SLOPE_POINTS: 1 where cost is linear.
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


def _hardest(limits: Mapping[str, Any]) -> str:
    """Say what reached the limit: matrix products, or multiply-adds in registers beside what products reached."""
    rates = limits["arithmetic"].values()
    products = max(rate for one in rates for what, rate in one.items() if what != "registers")
    if products >= limits["gflop_per_second"]:
        return "matrix products"
    return f"multiply-adds in registers (PyTorch's matrix products: {products:,.0f})"


def markdown(result: Mapping[str, Any], name: str, page: Path) -> str:
    """Return one machine's part of the page: what it is, table, notes, and its charts (`name` without suffix)."""
    run, settings, limits = result["run"], result["settings"], result["limits"]
    versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items() if version != "absent")
    heading, rows = (_gpu_table if result["device"] == "cuda" else _cpu_table)(result["workloads"])
    lines = [heading, ["---", "---", *["---:"] * (len(heading) - 2)], *rows]
    limit = f"Limit: {limits['gflop_per_second']:,.0f} GFLOP/s in float32 {_hardest(limits)}"
    if result["device"] == "cuda":
        limit += (
            f", copies {limits['copy_gigabytes_per_second']:,.0f} GB/s, an idle kernel in a graph "
            f"{1e6 * limits['launch_seconds']:.2f} µs"
        )
    else:
        limit += f" with all cores, {limits['gflop_per_second_one_thread']:,.0f} with one thread"
    starts = [f"`{what}` {seconds:.2f} s" for what, seconds in result["startup_seconds"].items()]
    charts = [
        f"![{alt}]({_relative(f'{name}{suffix}.png', page)})"
        for alt, suffix, drawn in (
            (f"Percent of the limit on {result['machine']}", "", True),
            (f"Seconds against outer steps, tasks and lanes on {result['machine']}", "-scaling", _scaled(result)),
        )
        if drawn
    ]
    return "\n\n".join(
        [
            f"#### {result['machine']}",
            f"{run['ended'][:10]}, commit {run['commit']}, Python {run['python']}, {versions}. {settings['rounds']} "
            f"rounds, turns of at least {settings['seconds_per_turn']:g} s, {run['seconds'] / 60:.1f} min in all.",
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
            f"{limit}. Starting: {', '.join([*starts, *_first_steps(result['workloads'])])}.",
            _inputs(result["workloads"]),
            *_left_out(result["workloads"]),
            *charts,
        ]
    )


def write(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Draw the charts of every machine in `folder` beside its JSON (PNG, PDF, CSV); return paths and results."""
    found = [(path, read(path)) for path in sorted(folder.glob("*.json"))]
    for path, result in found:
        charts = {path.stem: (rates(result), draw_rates)}
        if _scaled(result):
            charts[f"{path.stem}-scaling"] = (scaling(result), draw_scaling)
        for name, (frame, draw) in charts.items():
            with style.applied():
                figure = draw(frame)
                for suffix in ("png", "pdf"):
                    style.save(figure, path.with_name(f"{name}.{suffix}"))
            csv_frames.write(path.with_name(f"{name}.csv"), frame)
    return found


def update(page: Path, folder: Path) -> list[Path]:
    """Draw everything in `folder`, and write the tables and charts into the block `bench` of `page`."""
    found = write(folder)
    parts = []
    for device, title in SECTIONS.items():
        measured = [(path, result) for path, result in found if result["device"] == device]
        machines = [markdown(result, str(path.with_suffix("")), page) for path, result in measured]
        parts += [f"### {title}", *(machines or [NOTHING])]
    try:
        text = replace_block(page.read_text(encoding="utf-8"), BLOCK, "\n\n".join(parts))
    except FileNotFoundError:
        raise UserError(f"{page}: no such file; run from the folder of the README") from None
    except UserError as error:
        raise UserError(f"{page}: {error}") from None
    with replacing(page) as part:
        part.write_text(text, encoding="utf-8")
    return [page, *(path for path, _ in found)]


def _cpu_table(workloads: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    heading = ["Workload, units a second", "engine", ONE, SIDE_BY_SIDE, "against plain", "of the limit, %", "peak, MiB"]
    rows = []
    for name, workload in workloads.items():
        plain = max((entry["median"] for entry in workload["engines"].get("plain", {}).values()), default=float("nan"))
        for number, (engine, ways) in enumerate(workload["engines"].items()):
            best = max(ways.values(), key=lambda entry: entry["median"])
            rows.append(
                [
                    _title(name, workload) if number == 0 else "",
                    engine,
                    *(_rate(ways.get(way)) for way in (ONE, SIDE_BY_SIDE)),
                    MISSING if np.isnan(plain) else f"{best['median'] / plain:.2f}",
                    f"{100 * best['fraction_of_limit']:.1f}",
                    f"{max(entry['peak_memory_mib'] for entry in ways.values()):,.0f}",
                ]
            )
    return heading, rows


def _gpu_table(workloads: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    heading = ["Workload, units a second", "engine", "rate", "ms a step", "kernels a step", "launch floor, ms"]
    heading += ["bandwidth floor, ms", "of the limit, %", "peak on the GPU, MiB"]
    rows = []
    for name, workload in workloads.items():
        for number, (engine, ways) in enumerate(workload["engines"].items()):
            entry = ways[ONE]
            floors = [entry.get(f"{kind}_floor_seconds") for kind in ("launch", "bandwidth")]
            rows.append(
                [
                    _title(name, workload) if number == 0 else "",
                    engine,
                    _rate(entry),
                    f"{1e3 * entry['units'] / entry['median']:.3g}",
                    f"{entry['kernels']:,.0f}",
                    *(MISSING if floor is None else f"{1e3 * floor:.3g}" for floor in floors),
                    f"{100 * entry['fraction_of_limit']:.1f}",
                    f"{entry['peak_device_memory_mib']:,.0f}",
                ]
            )
    return heading, rows


def _title(name: str, workload: Mapping[str, Any]) -> str:
    return f"**{name}** {workload['title']} ({workload['unit']}, {workload['operations'] / 1e9:.3g} GFLOP)"


def _rate(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return MISSING
    return f"{entry['median']:.3g} ({entry['minimum']:.3g} to {entry['maximum']:.3g})"


def _first_steps(workloads: Mapping[str, Any]) -> list[str]:
    """Say how long a process needs to the end of its first step, for each engine of the first workload."""
    if not workloads:
        return []
    name, workload = next(iter(workloads.items()))
    return [
        f"first step of {name} with {engine} {min(entry['first_step_seconds'] for entry in ways.values()):.1f} s"
        for engine, ways in workload["engines"].items()
    ]


def _inputs(workloads: Mapping[str, Any]) -> str:
    """Say what of a step is drawing tasks and gathering images."""
    told = [
        f"{name} {1e3 * workload['sampling_seconds']:.2f} and {1e3 * workload['gather_seconds']:.2f}"
        for name, workload in workloads.items()
        if "sampling_seconds" in workload
    ]
    what = "Drawing the tasks of a step, and gathering its images (on a GPU: sending the indices), ms"
    return f"{what}: {'; '.join(told) or MISSING}."


def _left_out(workloads: Mapping[str, Any]) -> list[str]:
    """Say which engines are missing, where and why; one sentence an engine and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, workload in workloads.items():
        for engine, reason in workload["left_out"].items():
            found.setdefault((engine, reason), []).append(name)
    sentences = []
    for (engine, reason), names in found.items():
        where = "" if len(names) == len(workloads) else f" in {', '.join(names)}"
        sentences.append(f"{engine} is left out{where}: {reason.rstrip('.')}.")
    return [" ".join(sentences)] if sentences else []


def _ordered(engines: Mapping[str, Any]) -> dict[str, Any]:
    """Return engines in the order of ENGINES, others last."""
    known = [name for name in ENGINES if name in engines]
    return {name: engines[name] for name in [*known, *(name for name in engines if name not in ENGINES)]}


def _scaled(result: Mapping[str, Any]) -> bool:
    return any(result["scaling"]["engines"].values())


def _slope(line: pd.DataFrame) -> float:
    last = line.tail(SLOPE_POINTS)
    if len(last) < 2:
        return float("nan")
    slope, _ = np.polyfit(np.log(last["count"].astype(float)), np.log(last["seconds"].astype(float)), 1)
    return float(slope)


def _relative(path: str, page: Path) -> str:
    """Return `path` as the page links to it."""
    return Path(os.path.relpath(path, page.parent)).as_posix()
