"""Verbs that run the benchmark and draw its results."""

from __future__ import annotations

import os
from pathlib import Path

from firstorder import progress, settings
from firstorder.cli.session import Session
from firstorder.cli.verbs import DEVICE, Arguments, argument, seconds, verb, whole_number
from firstorder.settings.engines import CONTENDERS, TIMED


@verb(
    "compute",
    DEVICE,
    argument("--rounds", type=whole_number, default=5, help="number of rounds; each round times every engine once"),
    argument("--seconds", type=seconds, default=0.4, help="minimum duration of one measurement"),
    argument("--output", default="results/bench", help="folder for the results, one file a machine"),
    argument("--workloads", nargs="+", default=[], metavar="W", help="such as W1 W4; default: all"),
    argument("--engines", nargs="+", metavar="E", help="such as plain native; default: those for the device"),
)
def bench(arguments: Arguments) -> None:
    """Time the benchmark's workloads on this machine with every available engine and write one JSON file."""
    from firstorder.bench import benchmark as module
    from firstorder.bench import workloads

    session = Session.of(arguments)
    device = session.device.type
    engines = arguments.engines or TIMED[device]
    for name in engines:
        settings.lookup(CONTENDERS, name, "engine")
    plan = module.Bench(
        device=device,
        workloads=workloads.chosen(session.project, arguments.workloads, device),
        engines=engines,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )
    print(module.write(Path(arguments.output), module.run(plan, progress.shown)))


@verb(
    "look",
    argument("--docs", default="docs/performance.md", help="page with the markers of the section `bench`"),
    argument("--results", default="results/bench", help="folder that `bench` wrote to"),
)
def performance(arguments: Arguments) -> None:
    """Update docs/performance.md with a table and charts of each machine that `bench` measured."""
    from firstorder.report.benchmark import performance as module

    print(*module.update(Path(arguments.docs), Path(arguments.results)), sep="\n")
