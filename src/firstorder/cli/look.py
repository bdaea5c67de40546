"""Verbs that show where a number comes from and what is left to compute."""

from __future__ import annotations

from pathlib import Path

from firstorder.cli.check import check_named
from firstorder.cli.session import Session
from firstorder.cli.verbs import CELL, PUBLISHED, Arguments, argument, verb, whole_number


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


@verb("look")
def show(arguments: Arguments) -> None:
    """Print the recorded accuracy of every cell with its 95 % interval over tasks, and where the report is."""
    from firstorder.report import PAGE
    from firstorder.report.read import accuracies
    from firstorder.report.text.formatting import percent

    session = Session.of(arguments)
    records = accuracies.fresh_records(session.root, session.project)
    rows = accuracies.frame(records).itertuples()
    names = [f"{record.evaluation}/{record.mode} seed {record.seed}" for record in records]
    wide = max(map(len, names), default=0)
    print(f"{session.project.title}: accuracy in %")
    for name, row in zip(names, rows, strict=True):
        print(f"  {name:{wide}}  {percent(row.accuracy, row.half_width_tasks)}")
    page = session.root / PAGE
    print(f"report: {page if page.exists() else 'not drawn yet (make report)'}")


@verb(
    "look",
    argument("--seeds", type=whole_number, help="planned seeds; default: those of params.yaml"),
    argument("--tasks", type=whole_number, help="planned tasks of each evaluation; default: those of params.yaml"),
    PUBLISHED,
)
def power(arguments: Arguments) -> None:
    """Say what the planned seeds and tasks can decide: the chance of each verdict if the paper is exactly right."""
    from firstorder.report.claims import power as module
    from firstorder.report.claims.paper import Paper
    from firstorder.report.read import accuracies

    session = Session.of(arguments)
    ours = accuracies.frame(accuracies.fresh_records(session.root, session.project))
    plan = module.Plan(seeds=arguments.seeds or len(session.project.seeds), tasks=arguments.tasks)
    paper = Paper.of(session.root, Path(arguments.published))
    print(module.table(session.project, paper, ours, plan).to_markdown(), end="")


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
