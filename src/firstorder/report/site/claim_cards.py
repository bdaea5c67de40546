"""Claims as cards: the verdict first, then the sentence, then each number with its name, so that a card wraps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from firstorder.report.claims import claim_tables, outcomes
from firstorder.report.read.csv_frames import STALE
from firstorder.report.site.folders import Folder
from firstorder.report.text import why_claim
from firstorder.report.text.formatting import MISSING, STALE_MARK, training_label

_SHOWN_APART = ("Claim", "Verdict", "Whose")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One claim: `group` is the group of verdicts that it counts in, `numbers` are named texts."""

    id: str
    sentence: str
    verdict: str
    group: str
    origin: str
    numbers: Mapping[str, str]
    cells: Mapping[str, str]  # label -> page
    fixed: str  # since when its rule has stood
    rule: str  # as YAML; empty if it is not in the file of claims any more
    command: str  # which prints all of this, with the files that it rests on


@dataclass(frozen=True, kw_only=True)
class CardGroup:
    """The claims of one kind, with the rules by which they are judged."""

    title: str
    cards: tuple[Card, ...]
    rules: tuple[str, ...]

    @property
    def counts(self) -> str:
        """Say how many cards have each verdict."""
        return ", ".join(f"{count} {group}" for group, count in Counter(card.group for card in self.cards).items())


def groups(folder: Folder, claims: pd.DataFrame) -> list[CardGroup]:
    """Lay out claims (lines of results/claims.csv) as cards, a group for each kind that has one."""
    found = []
    for layout in claim_tables.LAYOUTS:
        lines = claims[claims["kind"].isin(layout.kinds)]
        if len(lines):
            cards = tuple(_card(folder, layout, line) for line in lines.itertuples())
            found.append(CardGroup(title=layout.title, cards=cards, rules=layout.rules))
    return found


def about_cell(folder: Folder, cell: str) -> list[CardGroup]:
    """Lay out the claims about a cell."""
    is_about = folder.claims["cells"].fillna("").map(lambda cells: cell in _cells(cells))
    return groups(folder, folder.claims[is_about])


def about_figure(folder: Folder, name: str) -> list[CardGroup]:
    """Lay out the claims about a figure: those of section 5, or those whose ids begin with its name."""
    claims = folder.claims
    if folder.project.figures[name].kind == "theory":
        return groups(folder, claims[claims["kind"] == "theory"])
    own = claims[claims["id"].str.startswith(f"{name}/")]
    return groups(folder, own[~own["kind"].isin(["value", "order"])])


def _card(folder: Folder, layout: claim_tables.Layout, line: Any) -> Card:
    entries = dict(zip(layout.columns, layout.row(line), strict=True))
    pages = {_label(cell): folder.cell_page(cell) for cell in _cells(line.cells)}
    declared = folder.paper.claims.everything().get(line.id)
    mark = f" {STALE_MARK}" if getattr(line, STALE, False) else ""
    return Card(
        id=line.id,
        sentence=entries["Claim"] + mark,
        verdict=entries["Verdict"],
        group=outcomes.group(line.verdict),
        origin=line.origin,
        numbers={
            name: text
            for name, text in entries.items()
            if name not in _SHOWN_APART and text not in (MISSING, "not run")
        },
        cells={cell: page for cell, page in pages.items() if page is not None},
        fixed=why_claim.fixed(folder.registered.get(line.id), declared, folder.paper) if declared else "",
        rule=why_claim.rule_text(declared, folder.paper) if declared else "",
        command=f"make why CLAIM={line.id}{folder.option}",
    )


def _label(cell: str) -> str:
    evaluation, _, mode = cell.rpartition("/")
    return f"{training_label(evaluation)}, {mode}"


def _cells(cells: object) -> list[str]:
    return [] if pd.isna(cells) else str(cells).split(" against ")
