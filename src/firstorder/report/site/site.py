"""The whole site: for each folder of results a first page, claims, figures and cells; for all, models, times and API.

Everything on it is read from records and from the tables drawn from them; nothing is measured or typed here. It loads
nothing from a network, and works from a disk and without a script. Written twice, it has the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from firstorder.errors import UserError
from firstorder.report.claims import outcomes
from firstorder.report.claims.declared import ORIGINS
from firstorder.report.claims.paper import Paper
from firstorder.report.site import api, cells, claim_cards, drawing, front, models, pictures, runtimes, speeds
from firstorder.report.site.folders import Folder
from firstorder.report.site.models import PublishedFile
from firstorder.report.site.pictures import Picture
from firstorder.report.site.writer import TEMPLATES, Pages
from firstorder.report.text import captions as caption_texts
from firstorder.report.text import templating
from firstorder.report.text.page import paragraphs
from firstorder.settings import Project

STATIC = (templating.TEMPLATES / "colours.css", TEMPLATES / "site.css", TEMPLATES / "claims.js")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to write: the projects by folder, the first of them the main one, and where the paper's texts are.

    `published_files` are the files that DVC keeps, by path from the main folder; `benchmarks` is the folder with the
    results of the benchmark.
    """

    projects: Mapping[Path, Project]
    published: Path
    captions: Path
    published_files: Mapping[str, PublishedFile]
    benchmarks: Path

    def paper_of(self, root: Path) -> Paper:
        """Return the paper as it is judged in a folder."""
        return Paper.of(root, self.published)


def write(request: Request, out: Path) -> list[Path]:
    """Write the site below `out`; return the paths.

    Raises UserError for a stale record, results that are not drawn yet, or an `out` that holds something else.
    """
    pages = Pages()
    pages.include(*STATIC)
    folders = _folders(request)
    demo = drawing.part(out)
    for folder in folders:
        folder.check_redrawn()
        shown = pictures.add(pages, folder, request.published)
        _add_folder(pages, folder, folders, shown, demo)
    pages.add("models.html", "models.html.j2", folder=folders[0], models=models.of(folders, request.published_files))
    tables, machines = runtimes.by_machine(folders), speeds.add(pages, request.benchmarks)
    pages.add("runtimes.html", "runtimes.html.j2", folder=folders[0], tables=tables, machines=machines)
    api.add(pages, folders[0])
    return pages.write(out)


def _folders(request: Request) -> list[Folder]:
    main = next(iter(request.projects))
    found = []
    for root, project in request.projects.items():
        try:
            name = root.resolve().relative_to(main.resolve()).as_posix()
        except ValueError:
            raise UserError(f"{root}: not below {main}, the first folder; name the main folder first") from None
        found.append(Folder(root, "" if name == "." else name, project, request.paper_of(root), request.captions))
    return found


def _add_folder(
    pages: Pages, folder: Folder, folders: Sequence[Folder], shown: Sequence[Picture], demo: Markup
) -> None:
    for cell in folder.cells:
        cells.add(pages, folder, cell)
    groups = claim_cards.groups(folder, folder.claims)
    origins = dict.fromkeys(card.origin for group in groups for card in group.cards)
    verdicts = {card.group for group in groups for card in group.cards}
    pages.add(
        folder.claims_page,
        "claims.html.j2",
        folder=folder,
        text=paragraphs(caption_texts.read(folder.root, folder.captions, "claims")),
        groups=groups,
        summary=front.summary(folder),
        verdicts=[group for group in outcomes.GROUPS if group in verdicts],
        origins={origin: ORIGINS.get(origin, origin) for origin in origins},
    )
    pages.add(
        folder.index,
        "front.html.j2",
        folder=folder,
        headline=folder.headline,
        verdicts=front.verdicts(folder),
        grids=front.grids(folder),
        tables=front.other_tables(folder),
        summary=front.summary(folder),
        pictures=shown,
        others=[(other, other.headline) for other in folders if other is not folder],
        is_main=folder is folders[0],
        demo=demo,
    )
