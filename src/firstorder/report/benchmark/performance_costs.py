"""What the paper's trainings and evaluations cost with each code: lengths of params.yaml by rates of the benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from firstorder.report.text.formatting import MISSING
from firstorder.settings import Project
from firstorder.settings.engines import CONTENDERS, ONE, SIDE_BY_SIDE

# Workload -> what it is a unit of; bench/workloads.py has the same settings.
TRAININGS = {"W1": "reptile/omniglot-5way", "W2": "reptile/omniglot-20way", "W3": "reptile/mini-imagenet-5way"}
EVALUATIONS = {"W5 omniglot": "reptile/omniglot-5way/1shot", "W5 mini-imagenet": "reptile/mini-imagenet-5way/5shot"}
TITLE = "### What the paper's numbers cost on a CPU"
ABOUT = (
    "Hours of a core, from the rates side by side, and in brackets the hours that one process takes which has all "
    "cores. Lengths are those of params.yaml, for one seed; learning curves are not included, and an evaluation is in "
    "one mode."
)


def markdown(results: Iterable[Mapping[str, Any]], project: Project) -> str:
    """Return a table of the hours of each training and evaluation, by machine and code; empty without a benchmark."""
    measured = [result for result in results if result["device"] == "cpu"]
    engines = [
        name
        for name in CONTENDERS
        if any(name in workload["engines"] for result in measured for workload in result["workloads"].values())
    ]
    rows = [row for name, units, what in _lengths(project) for row in _rows(name, units, what, measured, engines)]
    if not rows:
        return ""
    heading = [["Computation", "Machine", *engines], ["---", "---", *["---:"] * len(engines)]]
    return "\n".join([TITLE, "", ABOUT, "", *(f"| {' | '.join(line)} |" for line in [*heading, *rows])])


def _lengths(project: Project) -> Iterator[tuple[str, int, str]]:
    """Yield each workload with the number of its units, and what they are together."""
    for workload, name in TRAININGS.items():
        if name in project.trainings:
            steps = project.trainings[name].outer_steps
            yield workload, steps, f"train {name}, {steps:,} outer steps"
    for workload, name in EVALUATIONS.items():
        if name in project.evaluations:
            tasks = project.evaluations[name].tasks
            yield workload, tasks, f"evaluate {name}, {tasks:,} tasks"


def _rows(
    workload: str, units: int, what: str, results: Iterable[Mapping[str, Any]], engines: list[str]
) -> Iterator[list[str]]:
    """Yield a row for each machine on which the workload was measured."""
    for number, result in enumerate(one for one in results if workload in one["workloads"]):
        measured = result["workloads"][workload]["engines"]
        cores = result["settings"]["cores"]
        hours = [_hours(units, cores, measured.get(engine, {})) for engine in engines]
        yield ["" if number else what, result["machine"], *hours]


def _hours(units: int, cores: int, layouts: Mapping[str, Any]) -> str:
    beside, alone = (layouts.get(layout) for layout in (SIDE_BY_SIDE, ONE))
    if beside is None or alone is None:
        return MISSING
    return f"{units * cores / beside['median'] / 3600:.2f} ({units / alone['median'] / 3600:.2f})"
