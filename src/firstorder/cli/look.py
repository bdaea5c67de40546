"""Verbs that show where a number comes from and what is left to compute."""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstorder import settings
from firstorder.cli.check import cell_of, check_named
from firstorder.cli.output import say, typed
from firstorder.cli.session import Session
from firstorder.cli.verbs import (
    ALLOW_STALE,
    CELL,
    PUBLISHED,
    SEED,
    Arguments,
    argument,
    seed_number,
    verb,
    whole_number,
)
from firstorder.errors import UserError

if TYPE_CHECKING:
    from firstorder.records.cells import CellRecord

SECONDS_BETWEEN_LOOKS = 2.0
REPORT_DUE = ".work/report-due"  # make puts it there before it computes a cell, and removes it after the report
NOT_FRESH = 3  # exit code of `number --if-fresh` for a cell that is to be computed
FOLDERS = argument("folders", nargs="*", help="other folders to take measured times from")


@verb(
    "look",
    CELL,
    argument("--seed", type=seed_number, help="one seed; default: all seeds of params.yaml"),
    argument("--claim", default="", help="a claim instead: its id, or a part of its id, sentence or verdict"),
    PUBLISHED,
    FOLDERS,
)
def why(arguments: Arguments) -> None:
    """Trace a cell's number (the paper's, ours, settings, digests, commit, machine, time) or a claim's verdict."""
    from firstorder.cli import machine
    from firstorder.report.read import staleness
    from firstorder.report.text import why as module
    from firstorder.report.text import why_claim
    from firstorder.upkeep import plan as plans
    from firstorder.upkeep import plan_text

    session = Session.of(arguments)
    if arguments.claim:
        if arguments.cell:
            raise UserError("a cell or a claim? Name one of the two: CELL=... or CLAIM=...")
        found = why_claim.explain(session.root, session.project, arguments.claim, Path(arguments.published))
        print(found + why_claim.elsewhere(session.root, map(Path, arguments.folders), arguments.claim))
        return
    seeds = session.project.seeds if arguments.seed is None else (arguments.seed,)
    session.check_seeds(seeds)
    check_named(session, arguments.cell)
    print(module.explain(session.root, session.project, arguments.cell, seeds, Path(arguments.published)))
    device, room = machine.asked(machine.AUTO, "all", None)
    made = plans.make(session.root, device, map(Path, arguments.folders), session.project, room=room, tell=say)
    evaluation = arguments.cell.rpartition("/")[0]
    if todo := [seed for seed in seeds if seed in made.named("evaluation", evaluation).todo]:
        print(typed(f"\nTo compute what is missing or stale: {plan_text.describe_cell(made, arguments.cell, todo)}"))
    if recorded := [seed for seed in seeds if seed not in todo]:
        again = f"make cell CELL={arguments.cell} SEED={recorded[0]}{staleness.directory(session.root)} FORCE=1"
        print(f"\nTo compute what is recorded yourself: {again}")


@verb(
    "look",
    CELL,
    SEED,
    PUBLISHED,
    argument("--if-fresh", action="store_true", help="exit with code 3 unless it is fresh and reported"),
)
def number(arguments: Arguments) -> int:
    """Print one recorded number in one line: how it compares with what is committed, and the paper's."""
    from firstorder.records import freshness
    from firstorder.records.cells import read_record, read_run
    from firstorder.report.claims.paper import Paper
    from firstorder.report.text import number as module

    session = Session.of(arguments)
    cell = cell_of(session, arguments)
    path, evaluation = session.root / cell.path, cell.about.rpartition("/")[0]
    both = (freshness.cell(session.project, evaluation, mode, arguments.seed) for mode in settings.MODES)
    if arguments.if_fresh and (session.root / REPORT_DUE).exists():
        return NOT_FRESH
    if (state := freshness.state(session.root, *both)) != freshness.DONE:
        if arguments.if_fresh:
            return NOT_FRESH
        raise UserError(f"{cell.name}: {state}; to compute it: {cell.command}")
    if arguments.if_fresh:
        print("firstorder: the cell is recorded; to compute it yourself, add FORCE=1", file=sys.stderr)
    paper = Paper.of(session.root, Path(arguments.published))
    printed = [
        str(paper.lines.loc[about.line]["printed"])
        for claim in paper.claims.entries.values()
        for about in claim.cells
        if about.cell == cell.about
    ]
    before = _committed(path)
    print(module.line(read_record(path), read_run(path), before, printed[0] if printed else None))
    return 0


def _committed(path: Path) -> tuple[CellRecord, dict[str, Any]] | None:
    """Read a record and its run file as the last commit has them; None if it has none, or Git is not here."""
    from firstorder.records.cells import read_record, read_run
    from firstorder.upkeep import committed

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for source, target in ((path, copy), (path.with_suffix(".run.json"), copy.with_suffix(".run.json"))):
            if (content := committed.content(source)) is None:
                return None
            target.write_bytes(content)
        try:
            return read_record(copy), read_run(copy)
        except UserError:
            return None  # `verify` says what is wrong with it


@verb("look", argument("--watch", action="store_true", help="show it again every two seconds until Ctrl-C"))
def status(arguments: Arguments) -> None:
    """Show what computes in the folder just now: step, rate, time left, accuracy."""
    from firstorder.upkeep import locks
    from firstorder.upkeep import status as module

    root = Session.of(arguments).root
    while True:
        text = module.describe(module.running(root), locks.holders(root), datetime.now())
        if not arguments.watch:
            print(text)
            return
        print(f"\x1b[H\x1b[2J{text}" if sys.stdout.isatty() else text, flush=True)
        time.sleep(SECONDS_BETWEEN_LOOKS)


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
    argument("--device", default="auto", help="cpu, or a GPU's name as in a run file; auto: the GPU here, else cpu"),
    argument("--cores", default="all", help="cores that jobs share, or all"),
    argument("--gpus", help="number of GPUs; default: those here, or 1 if another device is named"),
    argument("--cell", default="", help="only what this cell needs, such as reptile/omniglot-5way/1shot/inductive"),
    argument("--seed", type=seed_number, help="with --cell: one seed; default: all seeds of params.yaml"),
    argument("--probe", action="store_true", help="measure for five seconds how fast this machine is just now"),
    FOLDERS,
)
def plan(arguments: Arguments) -> None:
    """List what is done, stale or missing, with the time that the rest takes on a device."""
    from firstorder.cli import machine
    from firstorder.upkeep import plan as module
    from firstorder.upkeep import plan_text

    session = Session.of(arguments)
    folders = [Path(path) for path in arguments.folders]
    device, room = machine.asked(arguments.device, arguments.cores, arguments.gpus)
    made = module.make(session.root, device, folders, session.project, room=room, tell=say)
    if arguments.probe:
        probed = machine.probe(made)
        made = module.make(session.root, device, folders, session.project, room=room, probed=probed)
    if arguments.cell:
        seeds = session.project.seeds if arguments.seed is None else (arguments.seed,)
        session.check_seeds(seeds)
        print(plan_text.describe_cell(made, arguments.cell, seeds))
    else:
        print(plan_text.describe(made))


@verb("look", ALLOW_STALE)
def headline(arguments: Arguments) -> None:
    """Say what the report of a folder says: how many of the paper's numbers are run, how close, the verdicts."""
    from firstorder.report import CLAIMS, PAGE
    from firstorder.report.claims import claim_tables
    from firstorder.report.text import headline as module

    session = Session.of(arguments)
    root, project = session.root, session.project
    print(f"{project.title}: {module.sentence(root, project, module.read(root, project))}")
    claims = claim_tables.of_paper(claim_tables.read(root))
    if project.is_judged and len(claims):
        print(f"Claims of the paper: {claim_tables.in_short(claims['verdict'])} ({root / CLAIMS.format(suffix='md')})")
    print(f"Report: {root / PAGE}")


@verb("look")
def about(arguments: Arguments) -> None:
    """Print version, commit, machine and packages: what to paste into a report of a problem."""
    import firstorder
    from firstorder.records import provenance

    made = provenance.run_information(0, "cpu")
    packages = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    numerics = f"numerics version {firstorder.NUMERICS_VERSION}"
    print(f"firstorder {firstorder.__version__}, commit {made['commit']}, {numerics}")
    print(f"Python {made['python']}, {packages}")
    print(made["machine"])
