"""Verbs that show where a number comes from and what is left to compute."""

from __future__ import annotations

from pathlib import Path

from firstorder.cli.check import check_named
from firstorder.cli.session import Session
from firstorder.cli.verbs import CELL, PUBLISHED, Arguments, argument, verb


@verb(
    "look",
    CELL,
    argument("--seed", type=int, help="one seed; default: all seeds of params.yaml"),
    PUBLISHED,
)
def why(arguments: Arguments) -> None:
    """Trace a cell's number: the paper's value, ours, settings, seeds, digests, commit, machine, time."""
    from firstorder.report.text import why as module

    session = Session.of(arguments)
    seeds = session.project.seeds if arguments.seed is None else (arguments.seed,)
    session.check_seeds(seeds)
    check_named(session, arguments.cell)
    print(module.explain(session.root, session.project, arguments.cell, seeds, Path(arguments.published)))


@verb(
    "look",
    argument("--device", default="cpu", help="cpu, or a GPU's name as in a run file (.run.json)"),
    argument("folders", nargs="*", help="other folders to take measured times from"),
)
def plan(arguments: Arguments) -> None:
    """List trainings and evaluations as done, stale or missing, with their times on a device."""
    from firstorder.records import provenance
    from firstorder.upkeep import plan as module

    device = module.Device(arguments.device, provenance.run_information(0, arguments.device)["machine"])
    session = Session.of(arguments)
    print(module.describe(session.root, device, [Path(path) for path in arguments.folders], session.project))
