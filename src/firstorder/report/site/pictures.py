"""The pages of figures: the picture, what is seen in it, its caption, its claims, and its files to download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firstorder.report import FIGURE
from firstorder.report.figures import figures
from firstorder.report.site import alt_texts, claim_cards
from firstorder.report.site.folders import Folder
from firstorder.report.site.writer import Pages
from firstorder.report.text import captions
from firstorder.report.text.page import paragraphs
from firstorder.settings import CURVE


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as the front page shows it: `image` on a light page and `dark` on a dark one."""

    title: str
    page: str
    image: str
    dark: str
    alt: str


def missing(folder: Folder, name: str) -> list[str]:
    """Return the commands for the trainings that a figure draws and of which no seed is recorded."""
    option = f" --params={folder.name}/params.yaml" if folder.name else ""
    seeds = " ".join(map(str, folder.project.seeds))
    return [
        f"firstorder train {training} --seed {seeds}{option}"
        for training in folder.project.trainings_of_figure(name)
        if not any((folder.root / CURVE.format(training=training, seed=seed)).exists() for seed in folder.project.seeds)
    ]


def add(pages: Pages, folder: Folder, published: Path) -> list[Picture]:
    """Add a page for each figure of a folder, with its files; return what the front page shows of them.

    A dark picture is drawn here, from the records, which must be those of the light one (figures.dark).
    """
    pictures = []
    for name, figure in folder.project.figures.items():
        files = {}
        for suffix in ("png", "pdf", "csv"):
            where = FIGURE.format(name=name, suffix=suffix)
            files[suffix] = pages.copy(folder.prefix + where, folder.root / where)
        dark = f"{folder.prefix}figures/dark/{name}.png"
        pages.files[dark] = figures.dark(folder.root, folder.project, name, published)
        alt = alt_texts.of_figure(folder.root, name, figure.kind)
        picture = Picture(title=figure.title, page=folder.figure_page(name), image=files["png"], dark=dark, alt=alt)
        pages.add(
            picture.page,
            "figure.html.j2",
            folder=folder,
            title=figure.title,
            picture=picture,
            files=files,
            caption=paragraphs(captions.read(folder.root, folder.captions, name)),
            groups=claim_cards.about_figure(folder, name),
            trainings=len(folder.project.trainings_of_figure(name)),
            missing=missing(folder, name),
        )
        pictures.append(picture)
    return pictures
