"""Verbs of the report's rules: a table, a figure, the claims, the page. No torch, no data."""

from __future__ import annotations

from pathlib import Path

from firstorder.cli.session import Session
from firstorder.cli.verbs import ALLOW_STALE, PUBLISHED, Arguments, argument, verb


@verb("internal", ALLOW_STALE)
def accuracies(arguments: Arguments) -> None:
    """Gather all recorded cells into results/accuracies.csv."""
    from firstorder.report.read import accuracies as module

    session = Session.of(arguments)
    print(module.write(session.root, session.project))


@verb("internal", argument("table"), PUBLISHED, ALLOW_STALE)
def table(arguments: Arguments) -> None:
    """Write one table (or `sine`): CSV, Markdown and LaTeX."""
    from firstorder.report.text import tables

    session = Session.of(arguments)
    print(*tables.write(session.root, session.project, arguments.table, Path(arguments.published)), sep="\n")


@verb("internal", PUBLISHED, ALLOW_STALE)
def claims(arguments: Arguments) -> None:
    """Judge the paper's claims by what is recorded: CSV and Markdown."""
    from firstorder.report.claims import claim_tables

    session = Session.of(arguments)
    print(*claim_tables.write(session.root, session.project, Path(arguments.published)), sep="\n")


WHOLE = argument(
    "--whole", action="store_true", help="refuse where a curve is missing or cut short; else there is a gap"
)


@verb("internal", argument("figure"), PUBLISHED, WHOLE, ALLOW_STALE)
def figure(arguments: Arguments) -> None:
    """Draw one figure: PNG, PDF and the CSV behind it."""
    from firstorder.report.figures import figures

    session, published = Session.of(arguments), Path(arguments.published)
    paths = figures.write(session.root, session.project, arguments.figure, published, whole=arguments.whole)
    print(*paths, sep="\n")


@verb("internal", argument("--captions", default="workflow/report", help="folder of the captions"), ALLOW_STALE)
def page(arguments: Arguments) -> None:
    """Put tables and figures on one HTML page."""
    from firstorder.report.text import page as module

    session = Session.of(arguments)
    print(module.write(session.root, session.project, Path(arguments.captions)))
