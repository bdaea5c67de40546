"""Verbs of the benchmark."""

from __future__ import annotations

import os
from pathlib import Path

from firstorder import progress, settings
from firstorder.cli.session import Session
from firstorder.cli.verbs import DEVICE, Arguments, argument, verb, whole_number


@verb(
    "compute",
    DEVICE,
    argument("--rounds", type=whole_number, default=5, help="turns of each engine"),
    argument("--seconds", type=float, default=0.4, help="least length of a turn"),
    argument("--output", default="results/bench", help="folder of the machines' results"),
    argument("--workloads", nargs="+", default=[], metavar="W", help="like W1 W4; else all"),
    argument("--engines", nargs="+", metavar="E", help="like plain native; else those meant for the device"),
)
def bench(arguments: Arguments) -> None:
    """Time the benchmark's workloads on this machine with every engine there is: one JSON for the machine."""
    from firstorder.bench import benchmark as module
    from firstorder.bench import contenders, workloads

    session = Session.of(arguments)
    device = session.device.type
    engines = arguments.engines or contenders.DEFAULTS[device]
    for name in engines:
        settings.lookup(dict.fromkeys(contenders.CONTENDERS), name, "engine")
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
    argument("--results", default="results/bench", help="folder that `bench` wrote into"),
)
def performance(arguments: Arguments) -> None:
    """Draw what `bench` measured, each machine's table and charts, and put them into docs/performance.md."""
    from firstorder.report.benchmark import performance as module

    print(*module.update(Path(arguments.docs), Path(arguments.results)), sep="\n")
