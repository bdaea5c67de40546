"""Verbs of the report's rules: accuracies, tables, claims, figures, the page. No torch, no data."""

from __future__ import annotations

from pathlib import Path

from firstorder.cli.session import Session
from firstorder.cli.verbs import ALLOW_STALE, PUBLISHED, Arguments, argument, verb


@verb("internal", ALLOW_STALE)
def accuracies(arguments: Arguments) -> None:
    """Collect the records of all cells in results/accuracies.csv."""
    from firstorder.report.read import accuracies as module

    session = Session.of(arguments)
    print(module.write(session.root, session.project))


TABLE = argument("table", help="its name in params.yaml, such as table-2, or sine or theory")


@verb("internal", TABLE, PUBLISHED, ALLOW_STALE)
def table(arguments: Arguments) -> None:
    """Write one table of params.yaml, `sine` or `theory` as CSV, Markdown and LaTeX."""
    from firstorder.report.text import tables

    session = Session.of(arguments)
    print(*tables.write(session.root, session.project, arguments.table, Path(arguments.published)), sep="\n")


@verb("internal", PUBLISHED, ALLOW_STALE)
def claims(arguments: Arguments) -> None:
    """Judge the paper's claims by the results and write the verdicts as CSV and Markdown."""
    from firstorder.report.claims import claim_tables

    session = Session.of(arguments)
    print(*claim_tables.write(session.root, session.project, Path(arguments.published)), sep="\n")


FIGURE = argument("figure", help="its name in params.yaml, such as learning-curves")
WHOLE = argument("--whole", action="store_true", help="refuse a missing or incomplete curve; default: draw a gap")


@verb("internal", FIGURE, PUBLISHED, WHOLE, ALLOW_STALE)
def figure(arguments: Arguments) -> None:
    """Draw one figure as PNG and PDF and write its data as CSV."""
    from firstorder.report.figures import figures

    session, published = Session.of(arguments), Path(arguments.published)
    paths = figures.write(session.root, session.project, arguments.figure, published, whole=arguments.whole)
    print(*paths, sep="\n")


@verb("internal", argument("--captions", default="workflow/report", help="folder of the captions"), ALLOW_STALE)
def page(arguments: Arguments) -> None:
    """Write the HTML page with all tables and figures."""
    from firstorder.report.text import page as module

    session = Session.of(arguments)
    print(module.write(session.root, session.project, Path(arguments.captions)))
