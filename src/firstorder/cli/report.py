"""Verbs of the report: accuracies, tables, claims, figures, the page, the site. No torch, no data."""

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


CAPTIONS = argument("--captions", default="workflow/report", help="folder of the captions")


@verb("internal", CAPTIONS, ALLOW_STALE)
def page(arguments: Arguments) -> None:
    """Write the HTML page with all tables and figures."""
    from firstorder.report.text import page as module

    session = Session.of(arguments)
    print(module.write(session.root, session.project, Path(arguments.captions)))


@verb(
    "look",
    argument("folders", nargs="*", help="further folders of results below this one, such as reduced"),
    argument("--out", default="site", help="folder to write the site to"),
    PUBLISHED,
    CAPTIONS,
    ALLOW_STALE,
)
def site(arguments: Arguments) -> None:
    """Write the results as a site of static pages that needs no network; each number leads to how it was made."""
    from firstorder.cli.benchmark import RESULTS
    from firstorder.report.site import site as module
    from firstorder.report.site.models import PublishedFile
    from firstorder.settings import checks
    from firstorder.upkeep import dvc

    session = Session.of(arguments)
    others = [folder for folder in map(Path, arguments.folders) if folder.resolve() != session.root.resolve()]
    tracked = [found for file in dvc.dvc_files(session.root) for found in dvc.read_dvc_file(file) if found.pushed]
    files = {
        found.path.relative_to(session.root).as_posix(): PublishedFile(md5=found.md5, size=found.size)
        for found in tracked
    }
    request = module.Request(
        projects={session.root: session.project} | {folder: checks.load(folder / "params.yaml") for folder in others},
        published=Path(arguments.published),
        captions=Path(arguments.captions),
        published_files=files,
        benchmarks=session.root / RESULTS,
    )
    written = module.write(request, Path(arguments.out))
    pages = sum(path.suffix == ".html" for path in written)
    print(f"{Path(arguments.out) / 'index.html'}: {pages} pages from {len(request.projects)} folders of results")
