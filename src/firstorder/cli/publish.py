"""Verbs that publish results."""

from __future__ import annotations

from pathlib import Path

from firstorder.cli.session import Session
from firstorder.cli.verbs import ALLOW_STALE, PUBLISHED, Arguments, argument, verb


@verb(
    "publish",
    argument("--trainings", nargs="+", default=[], metavar="TRAINING", help="publish these; default: all"),
    argument("--remote", help="name of a DVC remote; default: DVC's default remote"),
)
def publish(arguments: Arguments) -> None:
    """Track checkpoints with DVC and push them; refused if anything is stale or does not verify."""
    from firstorder.upkeep import publish as module

    session = Session.of(arguments)
    request = module.Request(session.root, session.project, arguments.trainings, arguments.remote)
    print(*module.publish(request), sep="\n")


@verb(
    "publish",
    argument("readme", help="the page with the table's markers, such as README.md"),
    PUBLISHED,
    ALLOW_STALE,
    argument("folders", nargs="+", help="whose results the table shows, such as . reduced"),
)
def readme(arguments: Arguments) -> None:
    """Update the README's table from the records in one or more folders."""
    from firstorder.report.text import readme as module

    roots = [Path(folder) for folder in arguments.folders]
    module.update(Path(arguments.readme), roots, Path(arguments.published))
    print(arguments.readme)
