"""Verbs that run the benchmark and draw its results."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from firstorder import progress, settings
from firstorder.cli.session import Session
from firstorder.cli.verbs import DEVICE, Arguments, argument, duration, verb, whole_number
from firstorder.settings.engines import AUTHORS, CONTENDERS, TIMED

if TYPE_CHECKING:
    from firstorder.bench.workloads import Workload

RESULTS = "results/bench"


@verb(
    "compute",
    DEVICE,
    argument("--rounds", type=whole_number, default=5, help="number of rounds; each round times every engine once"),
    argument("--seconds", type=duration("seconds"), default=0.4, help="minimum duration of one measurement"),
    argument(
        "--output", help="folder for the results, one file a machine (default: results/bench; none with --profile)"
    ),
    argument("--workloads", nargs="+", default=[], metavar="W", help="such as W1 W4; default: all"),
    argument("--engines", nargs="+", metavar="E", help="such as plain native; default: those for the device"),
    argument(
        "--with-authors",
        metavar="PATH",
        help="time the authors' code too: a checkout of openai/supervised-reptile; needs TensorFlow 2.15",
    ),
    argument(
        "--authors-python", default=sys.executable, metavar="PYTHON", help="one with TensorFlow (default: this one)"
    ),
    argument(
        "--profile",
        action="store_true",
        help="instead: print where the time of an inner step goes in engine native with one thread, by phase and block",
    ),
)
def bench(arguments: Arguments) -> None:
    """Time the benchmark's workloads on this machine with every available engine and write one JSON file."""
    from firstorder.bench import benchmark as module
    from firstorder.bench import workloads
    from firstorder.bench.authors import AuthorsCode

    session = Session.of(arguments)
    if arguments.profile:
        _profile(arguments, workloads.chosen(session.project, arguments.workloads, "cpu"))
        return
    device = session.device.type
    engines = [*(arguments.engines or TIMED[device])]
    theirs = None
    if arguments.with_authors is not None:
        theirs = AuthorsCode(Path(arguments.with_authors), arguments.authors_python)
        engines = [*dict.fromkeys([*engines, AUTHORS])]
    for name in engines:
        settings.lookup(CONTENDERS, name, "engine")
    plan = module.Bench(
        device=device,
        workloads=workloads.chosen(session.project, arguments.workloads, device),
        engines=engines,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        authors=theirs,
    )
    print(module.write(Path(arguments.output or RESULTS), module.run(plan, progress.shown)))


def _profile(arguments: Arguments, workloads: Mapping[str, Workload]) -> None:
    """Print the profile of each workload's inner loop and, with --output, write all as one CSV file."""
    from firstorder.bench import allocator, benchmark, profiling

    allocator.keep_freed_memory()
    profiles, limit = profiling.run(workloads, arguments.rounds, arguments.seconds, progress.shown)
    for name, profile in profiles.items():
        print(profiling.table(name, profile, limit), end="\n\n")
    print(f"The limit is {limit:,.0f} GFLOP/s: float32 multiply-adds in registers with one thread.")
    if arguments.output is not None:
        path = Path(arguments.output) / f"{benchmark.file_name(benchmark.machine_name())}-profile.csv"
        print(profiling.write(path, profiles, limit))


@verb(
    "look",
    argument("--docs", default="docs/performance.md", help="page with the markers of the section `bench`"),
    argument("--results", default=RESULTS, help="folder that `bench` wrote to"),
)
def performance(arguments: Arguments) -> None:
    """Update docs/performance.md with a table and charts of each machine that `bench` measured."""
    from firstorder.report.benchmark import performance as module

    project = Session.of(arguments).project
    print(*module.update(Path(arguments.docs), Path(arguments.results), project), sep="\n")
