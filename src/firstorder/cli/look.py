"""Verbs that tell what is recorded and what is left to do."""

from __future__ import annotations

from pathlib import Path

from firstorder.cli.session import Session
from firstorder.cli.verbs import PUBLISHED, Arguments, argument, verb


@verb("look", argument("cell"), argument("--seed", type=int, help="one seed; else all of params.yaml"), PUBLISHED)
def why(arguments: Arguments) -> None:
    """Walk a cell's number back: the paper's, ours, settings, seeds, digests, commit, machine, time."""
    from firstorder.report.text import why as module

    session = Session.of(arguments)
    seeds = session.project.seeds if arguments.seed is None else (arguments.seed,)
    session.check_seeds(seeds)
    print(module.explain(session.root, session.project, arguments.cell, seeds, Path(arguments.published)))


@verb(
    "look",
    argument("--device", default="cpu", help="cpu, or a GPU's name as in a .run.json"),
    argument("folders", nargs="*", help="other folders whose measured times count"),
)
def plan(arguments: Arguments) -> None:
    """List trainings and cells: done, stale, missing, and the time they take on this device as far as measured."""
    from firstorder.records import provenance
    from firstorder.upkeep import plan as module

    device = module.Device(arguments.device, provenance.run_information(0, arguments.device)["machine"])
    session = Session.of(arguments)
    print(module.describe(session.root, device, [Path(folder) for folder in arguments.folders]))
