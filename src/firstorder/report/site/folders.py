"""One folder of results as the site shows it: the main one, `reduced`, or a study's. What it reads, it reads once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from firstorder.errors import UserError
from firstorder.records.cells import CellRecord
from firstorder.report import ACCURACIES
from firstorder.report.claims import claim_tables, register
from firstorder.report.claims.paper import Paper
from firstorder.report.claims.register import Fixed
from firstorder.report.read import accuracies, csv_frames
from firstorder.report.text import headline
from firstorder.settings import MODES, Mode, Project


@dataclass(frozen=True)
class Folder:
    """A folder with a params.yaml and results; `name` is its path below the repository, empty for the main folder."""

    root: Path
    name: str
    project: Project
    paper: Paper
    captions: Path

    @property
    def prefix(self) -> str:
        """The beginning of its paths on the site."""
        return f"{self.name}/" if self.name else ""

    @property
    def index(self) -> str:
        """The path of its first page."""
        return f"{self.prefix}index.html"

    @property
    def claims_page(self) -> str:
        """The path of the page of its claims."""
        return f"{self.prefix}claims.html"

    @property
    def option(self) -> str:
        """What make is told to work in it, with a leading space; empty for the main folder."""
        return f" DIR={self.name}" if self.name else ""

    def cell_page(self, cell: str) -> str | None:
        """Return the path of the page of a cell (evaluation/mode); None for one that params.yaml does not list."""
        return f"{self.prefix}cells/{cell}.html" if cell in self.cells else None

    def figure_page(self, name: str) -> str:
        """Return the path of the page of a figure."""
        return f"{self.prefix}figures/{name}.html"

    @cached_property
    def cells(self) -> dict[str, tuple[str, Mode]]:
        """The evaluation and mode of each cell, by its name, in the order of params.yaml."""
        return {f"{name}/{mode}": (name, mode) for name in self.project.evaluations for mode in MODES}

    @cached_property
    def records(self) -> list[CellRecord]:
        """All records; raises UserError for a stale one, unless staleness.py allows it."""
        return accuracies.fresh_records(self.root, self.project)

    def records_of(self, evaluation: str, mode: Mode) -> list[CellRecord]:
        """Return the records of a cell, by seed."""
        return [record for record in self.records if (record.evaluation, record.mode) == (evaluation, mode)]

    @cached_property
    def claims(self) -> pd.DataFrame:
        """The claims with their verdicts, as in results/claims.csv."""
        return claim_tables.read(self.root)

    @cached_property
    def registered(self) -> dict[str, Fixed]:
        """Since when the rule of each claim has stood, by id."""
        return register.of(self.paper)

    @cached_property
    def comparisons(self) -> dict[str, pd.DataFrame]:
        """The tables of accuracies by name, as in results/tables/."""
        return headline.read(self.root, self.project)

    @cached_property
    def headline(self) -> str:
        """What is run of the paper, and how close it is, in a sentence."""
        return headline.sentence(self.root, self.project, self.comparisons)

    def check_redrawn(self) -> None:
        """Raise UserError if the tables are older than the records, which the pages show side by side."""
        path = self.root / ACCURACIES
        drawn = csv_frames.text(accuracies.frame(self.records)) if self.records else ""
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if self.records and found != drawn:
            raise UserError(f"{path}: not of the present records; draw the report first: make report{self.option}")
