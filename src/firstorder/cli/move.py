"""Verbs that carry work from one machine to another."""

from __future__ import annotations

import sys
from pathlib import Path

from firstorder.cli.output import typed
from firstorder.cli.session import Session
from firstorder.cli.verbs import Arguments, argument, verb
from firstorder.errors import UserError, shown


@verb("move")
def suspend(arguments: Arguments) -> int:
    """Copy the states of unfinished trainings and evaluations to unfinished/, from which others go on after a clone."""
    from firstorder.upkeep import suspend as module

    session = Session.of(arguments)
    done = module.suspend(session.root, session.project)
    print(*(typed(shown(line)) for line in done.lines or ["nothing is unfinished"]), sep="\n")
    return 1 if done.too_large else 0


@verb("move", argument("folder", help="with a params.yaml: a clone on another machine, a cluster's scratch"))
def collect(arguments: Arguments) -> int:
    """Take over results, checkpoints and states of another working folder that verify and are fresh here."""
    from firstorder.upkeep import collect as module
    from firstorder.upkeep import locks

    session = Session.of(arguments)
    if not arguments.folder:
        raise UserError("which folder? Name one with a params.yaml, like: FROM=/mnt/gpu/firstorder")
    module.check_source(session.root, Path(arguments.folder))
    told = f"firstorder collect {arguments.folder}"
    with locks.held(session.root, locks.WHOLE, told, lambda text: print(f"firstorder: {shown(text)}", file=sys.stderr)):
        found = module.collect(session.root, session.project, Path(arguments.folder))
    print(*map(shown, found.lines), found.summary, sep="\n")
    return 1 if found.refused else 0
