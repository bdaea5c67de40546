"""The first page of a folder: the headline, the tables as links, the verdicts in numbers, the figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from firstorder.report.claims import claim_tables, outcomes
from firstorder.report.read import published
from firstorder.report.read.csv_frames import STALE
from firstorder.report.site.folders import Folder
from firstorder.report.text import headline, tables
from firstorder.report.text.formatting import (
    MISSING,
    STALE_FOOTNOTE,
    STALE_MARK,
    PrintedTable,
    column_label,
    percent,
    points,
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One number of a table: ours, the page that explains it, the paper's, and the verdict."""

    ours: str
    page: str | None
    paper: str
    difference: str
    verdict: str
    group: str
    named: str  # for a reader who does not see the row and column


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table with algorithms as rows and tasks as columns; an entry is None where the table has none."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    footnotes: tuple[str, ...]


def verdicts(folder: Folder) -> list[tuple[str, str]]:
    """Say how many of the paper's numbers that are run have each verdict, as group and text; misses even if none.

    Empty where nothing is run or judged.
    """
    words = {
        "hold": "equivalent to the paper's",
        "fail": "beyond the margins",
        "undecided": "undecided: too few seeds or tasks so far",
        "undecidable": "undecidable: the paper's own ± is as wide as the margins",
    }
    found = headline.counts(folder.project, folder.comparisons)
    if not (folder.project.is_judged and found.run):
        return []
    number = found.verdicts
    return [(group, f"{number[group]} {text}") for group, text in words.items() if number[group] or group == "fail"]


def grids(folder: Folder) -> list[Grid]:
    """Lay out the folder's tables of accuracies, every number with its page."""
    found = []
    for name, data in folder.comparisons.items():
        columns = list(dict.fromkeys(data["column"]))
        rows = []
        for row, lines in data.groupby("row", sort=False):
            by_column = {line.column: line for line in lines.itertuples()}
            rows.append((str(row), tuple(_entry(folder, by_column[column]) for column in columns)))
        stale = (STALE_FOOTNOTE,) if STALE in data else ()
        found.append(
            Grid(
                name=name,
                title=folder.project.tables[name].title,
                columns=tuple(map(column_label, columns)),
                rows=tuple(rows),
                footnotes=(*tables.spread_footnotes(data), *stale),
            )
        )
    return found


def other_tables(folder: Folder) -> list[PrintedTable]:
    """Lay out the tables that are not of accuracies: the sine waves' and section 5's."""
    names = [name for name in tables.names(folder.project) if name not in folder.project.tables]
    return [tables.printed(folder.root, folder.project, name) for name in names]


def summary(folder: Folder) -> PrintedTable | None:
    """Count the verdicts on all claims; None for a folder without one."""
    return claim_tables.summary(folder.root, folder.claims) if len(folder.claims) else None


def _entry(folder: Folder, line: Any) -> Entry:
    cell = f"{line.algorithm}/{line.column}/{line.mode}"
    verdict = "" if pd.isna(line.verdict) else str(line.verdict)
    grade = "" if pd.isna(line.paper_grade) or line.paper_grade == published.FIRST_HAND else line.paper_grade
    paper = MISSING if pd.isna(line.paper_printed) else line.paper_printed
    mark = f" {STALE_MARK}" if getattr(line, STALE, False) else ""
    is_run = not pd.isna(line.accuracy_fraction)
    return Entry(
        ours=percent(line.accuracy_fraction, line.half_width_fraction) + mark,
        page=folder.cell_page(cell),
        paper=f"{paper} [{published.short(grade)}]" if grade else paper,
        difference=points(line.difference_fraction) if is_run else "",
        verdict=verdict if is_run else "",
        group=outcomes.group(line.verdict) if verdict and is_run else "",
        named=f"{line.row}, {column_label(line.column)}",
    )
