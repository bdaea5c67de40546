"""The verb `hold`, with which make holds a folder's locks while a command computes there."""

from __future__ import annotations

import sys

from firstorder.cli import output
from firstorder.cli.check import SELECTION, cell_of, check_cell, paths_of, stale_of
from firstorder.cli.session import Session
from firstorder.cli.verbs import ALLOW_STALE, Arguments, argument, verb


@verb(
    "internal",
    *SELECTION,
    argument("--report", action="store_true", help="take only the lock of the report; refuse it if it is stale"),
    ALLOW_STALE,
    argument("--stale", action="store_true", help="append the stale files to the command, to be computed again"),
    argument("--told", default="another command", help="description shown to commands that wait for this one"),
    argument("command", nargs="+", help="the command, after --"),
)
def hold(arguments: Arguments) -> int:
    """Wait for the folder's locks, then run a command that holds them until it ends."""
    from firstorder.upkeep import locks

    session = Session.of(arguments)
    if arguments.report:
        wanted = [locks.Lock("report")]
    elif arguments.cell is None:
        wanted = locks.WHOLE
    else:
        check_cell(arguments)
        cell = cell_of(session, arguments)
        wanted = [locks.Lock(locks.FOLDER, shared=True), locks.Lock(f"training/{cell.training}/seed-{cell.seed}")]
    locks.take(session.root, wanted, arguments.told, lambda text: print(f"firstorder: {text}", file=sys.stderr))
    # Only now, after the wait: the previous holder of the locks may have computed them.
    if arguments.report:
        from firstorder.report.read import staleness

        # Here and not in each job of Snakemake, which would say it again in lines of its own.
        staleness.check(session.root, staleness.shown(session.project))
    added = paths_of(session, stale_of(session, arguments)) if arguments.stale else []
    output.flush()
    return locks.exec_command([*arguments.command, *added])
