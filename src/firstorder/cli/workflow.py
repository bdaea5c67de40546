"""Verbs of make: hold a folder's locks while something is computed there."""

from __future__ import annotations

import sys

from firstorder.cli import output
from firstorder.cli.check import SOME, cell_of, check_cell, paths_of, stale_of
from firstorder.cli.session import Session
from firstorder.cli.verbs import Arguments, argument, verb


@verb(
    "internal",
    *SOME,
    argument("--report", action="store_true", help="hold what the report writes, and nothing else"),
    argument("--stale", action="store_true", help="add the files to compute again to the end of the command"),
    argument("--told", default="another command", help="what others are told that wait"),
    argument("command", nargs="+", help="after --"),
)
def hold(arguments: Arguments) -> int:
    """Wait until nothing else computes the same in this folder, then run a command; its end frees the locks."""
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
    locks.take(session.root, wanted, arguments.told, lambda words: print(f"firstorder: {words}", file=sys.stderr))
    # Asked after the wait: who held the locks may have computed it.
    added = paths_of(session, stale_of(session, arguments)) if arguments.stale else []
    output.flush()
    return locks.exec_command([*arguments.command, *added])
