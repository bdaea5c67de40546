"""The tables of the benchmark in Markdown: one machine's part of docs/performance.md."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firstorder.report.text.formatting import MISSING, PrintedTable
from firstorder.settings.engines import ONE, SIDE_BY_SIDE


def markdown(result: Mapping[str, Any], name: str, page: Path) -> str:
    """Return one machine's part of the page: machine, table, remarks, charts (`name` without suffix)."""
    run, settings = result["run"], result["settings"]
    versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items() if version != "absent")
    starts = [f"`{what}` {seconds:.2f} s" for what, seconds in result["startup_seconds"].items()]
    charts = [
        f"![{alt}]({_relative(f'{name}{suffix}.png', page)})"
        for alt, suffix, drawn in (
            (f"Percent of the limit on {result['machine']}", "", True),
            (f"Seconds against outer steps, tasks and lanes on {result['machine']}", "-scaling", has_scaling(result)),
        )
        if drawn
    ]
    return "\n\n".join(
        [
            f"#### {result['machine']}",
            f"{run['ended'][:10]}, commit {run['commit']}, Python {run['python']}, {versions}. {settings['rounds']} "
            f"rounds, measurements of at least {settings['seconds_per_measurement']:g} s, "
            f"{run['seconds'] / 60:.1f} min in all.",
            "\n".join(f"| {' | '.join(line)} |" for line in _table(result)),
            f"{limit_of(result)}. Starting: {', '.join([*starts, *_first_steps(result['workloads'])])}.",
            _inputs(result["workloads"]),
            *_threads(result),
            *_left_out(result["workloads"]),
            *_software(result["workloads"]),
            *charts,
        ]
    )


def printed(result: Mapping[str, Any]) -> PrintedTable:
    """Lay out the rates of a machine for a page: a row for each workload and engine, as in the table in Markdown."""
    numbers, row = (_GPU, _gpu_row) if result["device"] == "cuda" else (_CPU, _cpu_row)
    rows = [
        (f"{name}: {workload['title']}", engine, *row(workload, layouts))
        for name, workload in result["workloads"].items()
        for engine, layouts in workload["engines"].items()
    ]
    units = [f"{name}: {workload['unit']}" for name, workload in result["workloads"].items()]
    return PrintedTable(
        title=f"Rates on {result['machine']}",
        heading=("Workload", "Engine", *(name.capitalize() for name in numbers)),
        rows=tuple(tuple(entries) for entries in rows),
        label_columns=2,
        footnotes=(
            f"Units a second: median over {result['settings']['rounds']} rounds, in brackets slowest and fastest. "
            f"A unit is, in {'; '.join(units)}.",
            f"{limit_of(result)}. Peak: of the memory of the timed process.",
        ),
    )


def limit_of(result: Mapping[str, Any]) -> str:
    """Say what the machine's limit is and how it was found."""
    limits = result["limits"]
    limit = f"Limit: {limits['gflop_per_second']:,.0f} GFLOP/s in float32 {_hardest(limits)}"
    if result["device"] == "cuda":
        return (
            f"{limit}, copies {limits['copy_gigabytes_per_second']:,.0f} GB/s, an idle kernel in a graph "
            f"{1e6 * limits['launch_seconds']:.2f} µs"
        )
    return f"{limit} with all cores, {limits['gflop_per_second_one_thread']:,.0f} with one thread"


def has_scaling(result: Mapping[str, Any]) -> bool:
    """Say whether the growth with outer steps, tasks and lanes was measured."""
    return any(result["scaling"]["engines"].values())


def _hardest(limits: Mapping[str, Any]) -> str:
    """Name the operation that reached the limit: matrix products, or multiply-adds in registers."""
    rates = limits["arithmetic"].values()
    products = max(rate for one in rates for what, rate in one.items() if what != "registers")
    if products >= limits["gflop_per_second"]:
        return "matrix products"
    return f"multiply-adds in registers (PyTorch's matrix products: {products:,.0f})"


_CPU = (ONE, SIDE_BY_SIDE, "against plain", "of the limit, %", "peak, MiB")
_GPU = (
    *("rate", "ms a step", "kernels a step", "launch floor, ms", "bandwidth floor, ms"),
    *("of the limit, %", "peak on the GPU, MiB"),
)


def _table(result: Mapping[str, Any]) -> list[list[str]]:
    """Return the lines of a machine's table: heading, rule, and one for each workload and engine."""
    numbers, row = (_GPU, _gpu_row) if result["device"] == "cuda" else (_CPU, _cpu_row)
    lines = [["Workload, units a second", "engine", *numbers], ["---", "---", *["---:"] * len(numbers)]]
    for name, workload in result["workloads"].items():
        title = f"**{name}** {workload['title']} ({workload['unit']}, {workload['operations'] / 1e9:.3g} GFLOP)"
        for number, (engine, layouts) in enumerate(workload["engines"].items()):
            lines.append([title if number == 0 else "", engine, *row(workload, layouts)])
    return lines


def _cpu_row(workload: Mapping[str, Any], layouts: Mapping[str, Any]) -> list[str]:
    """Return the columns _CPU of one engine, whose measurements are `layouts`."""
    plain = max((entry["median"] for entry in workload["engines"].get("plain", {}).values()), default=float("nan"))
    best = max(layouts.values(), key=lambda entry: entry["median"])
    return [
        *(_rate(layouts.get(layout)) for layout in (ONE, SIDE_BY_SIDE)),
        MISSING if np.isnan(plain) else f"{best['median'] / plain:.2f}",
        f"{100 * best['fraction_of_limit']:.1f}",
        f"{max(entry['peak_memory_mib'] for entry in layouts.values()):,.0f}",
    ]


def _gpu_row(workload: Mapping[str, Any], layouts: Mapping[str, Any]) -> list[str]:
    """Return the columns _GPU of one engine."""
    entry = layouts[ONE]
    floors = [entry.get(f"{kind}_floor_seconds") for kind in ("launch", "bandwidth")]
    return [
        _rate(entry),
        f"{1e3 * entry['units'] / entry['median']:.3g}",
        f"{entry['kernels']:,.0f}",
        *(MISSING if floor is None else f"{1e3 * floor:.3g}" for floor in floors),
        f"{100 * entry['fraction_of_limit']:.1f}",
        f"{entry['peak_device_memory_mib']:,.0f}",
    ]


def _rate(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return MISSING
    return f"{entry['median']:.3g} ({entry['minimum']:.3g} to {entry['maximum']:.3g})"


def _first_steps(workloads: Mapping[str, Any]) -> list[str]:
    """List the time from a process's start to the end of its first step, for each engine of the first workload."""
    if not workloads:
        return []
    name, workload = next(iter(workloads.items()))
    return [
        f"first step of {name} with {engine} {min(entry['first_step_seconds'] for entry in layouts.values()):.1f} s"
        for engine, layouts in workload["engines"].items()
    ]


def _inputs(workloads: Mapping[str, Any]) -> str:
    """Return a sentence on the time that drawing tasks and gathering images take in a step."""
    times = [
        f"{name} {1e3 * workload['sampling_seconds']:.2f} and {1e3 * workload['gather_seconds']:.2f}"
        for name, workload in workloads.items()
        if "sampling_seconds" in workload
    ]
    what = "Drawing the tasks of a step, and gathering its images (on a GPU: sending the indices), ms"
    return f"{what}: {'; '.join(times) or MISSING}."


def _threads(result: Mapping[str, Any]) -> list[str]:
    """Return a table of the rates of one process with more and more threads; nothing if that was not measured."""
    measured = result["scaling"].get("threads", {})
    counts = sorted({int(count) for each in measured.values() for rates in each.values() for count in rates})
    if not counts:
        return []
    heading = [str(count) if count > 1 else "1 thread" for count in counts]
    lines = [["One process, units a second", "engine", *heading], ["---", "---", *["---:"] * len(counts)]]
    for engine, each in measured.items():
        for name in result["workloads"]:
            if name in each:
                lines.append([f"**{name}**", engine, *_growth(each[name], counts)])
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _growth(rates: Mapping[str, Any], counts: Sequence[int]) -> list[str]:
    """Return the rate with each number of threads, and behind it how many times that with one thread it is."""
    medians = {int(count): float(entry["median"]) for count, entry in rates.items()}
    texts = [
        f"{medians[count]:.3g} (x{medians[count] / medians[1]:.2f})" if count in medians else "" for count in counts
    ]
    return [texts[0].split(" ")[0], *texts[1:]]


def _left_out(workloads: Mapping[str, Any]) -> list[str]:
    """Return a paragraph on the missing engines: where and why, a sentence for each engine and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, workload in workloads.items():
        for engine, reason in workload["left_out"].items():
            found.setdefault((engine, reason), []).append(name)
    sentences = []
    for (engine, reason), names in found.items():
        where = "" if len(names) == len(workloads) else f" in {', '.join(names)}"
        sentences.append(f"{engine} is left out{where}: {reason.rstrip('.')}.")
    return [" ".join(sentences)] if sentences else []


def _software(workloads: Mapping[str, Any]) -> list[str]:
    """Return a paragraph on the contenders that run with software of their own, such as the authors' code."""
    found = {
        f"{engine} ran with {entry['software']}."
        for workload in workloads.values()
        for engine, layouts in workload["engines"].items()
        for entry in layouts.values()
        if "software" in entry
    }
    return [" ".join(sorted(found))] if found else []


def _relative(path: str, page: Path) -> str:
    """Return `path` relative to the folder of the page."""
    return Path(os.path.relpath(path, page.parent)).as_posix()
