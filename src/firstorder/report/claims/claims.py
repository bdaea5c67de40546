"""The paper's claims: paper/claims.yaml, checked against the published numbers.

A claim contains no number of the paper. Each of its cells names a table and a row of published.csv, in the same folder,
and the accuracy is read there, so no number is written twice. verdicts.py judges the claims about cells.

An order claim has one of two relations. `above`: the first cell is more accurate than the second; only the sign is
claimed. `equivalent`: the two differ by less than delta. The relation must agree with the paper's own numbers:

- `above` needs the paper's first number above its second;
- `equivalent` needs a difference below delta;
- between two algorithms, a difference below delta must be `equivalent`, since a replication cannot check an order of
  results that close.

Within one algorithm (shots, ways, modes) a difference below delta may still be claimed as an order: its direction
follows from the task, and near 99 % accuracy there is little room for a larger one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import Kind
from firstorder.report.claims import curve_claims
from firstorder.report.claims.curve_claims import CurveClaim
from firstorder.report.claims.simulation_claims import SimulationClaim
from firstorder.report.read import published
from firstorder.report.read.published import Line
from firstorder.settings import MODES
from firstorder.settings.schema import build, nearest, setting
from firstorder.settings.yaml_files import MOST_BYTES, read_yaml

_FROM_GIT = "it comes with the repository (git checkout -- paper/claims.yaml)"
CLAIMS_FILE = Kind("claims in YAML", MOST_BYTES, _FROM_GIT, f"no such file; {_FROM_GIT}")
_CELL = re.compile(rf"[^/]+/.+-\d+way/\d+shot/({'|'.join(MODES)})")


@dataclass(frozen=True, kw_only=True)
class ClaimedCell:
    """One cell of a claim, and the line of published.csv with the paper's number for it."""

    cell: str = setting("algorithm/dataset-Nway/Kshot/mode")
    table: str = setting("table of published.csv")
    row: str = setting("row of that table")

    @property
    def algorithm(self) -> str:
        """The first part of the cell's name."""
        return self.cell.partition("/")[0]

    @property
    def evaluation(self) -> str:
        """The evaluation that measures the cell: its name without the mode."""
        return self.cell.rpartition("/")[0]

    @property
    def column(self) -> str:
        """The column of the table: dataset-Nway/Kshot."""
        return self.evaluation.partition("/")[2]

    @property
    def dataset(self) -> str:
        """The data set of the column."""
        return self.column.rpartition("/")[0].rpartition("-")[0]

    @property
    def line(self) -> Line:
        """The line of published.csv that the cell names."""
        return Line(self.table, self.row, self.column)


@dataclass(frozen=True, kw_only=True)
class TheoryMargins:
    """How far each quantity may be from the paper's."""

    coefficient: float = setting("relative", above=0)
    slope: float = setting("absolute", above=0)
    cosine: float = setting("a change below it is no rise", at_least=0)
    product: float = setting("a change below it is no rise, in units of the loss's gradient squared", at_least=0)


@dataclass(frozen=True, kw_only=True)
class TheoryClaim:
    """The subject of a claim of kind theory."""

    quantity: Literal["average_coefficient", "inner_coefficient", "remainder_slope", "cosine", "product"] = setting(
        "a coefficient, the remainder's slope, or what is measured while training"
    )
    algorithm: Literal["maml", "fomaml", "reptile", "joint"] = setting("of a cosine or product: reptile or joint")
    mini_batches: Literal["trained", "balanced"] | None = setting("of a cosine or product: which", default=None)
    relation: Literal["rises", "does not rise"] | None = setting("of a cosine or product", default=None)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: a value of one cell, an order of two cells, or a claim of section 5 about no cell."""

    kind: Literal["value", "order", "theory"] = setting(
        "value: as accurate as the paper; order: the first cell and the second; theory: section 5"
    )
    sentence: str = setting("the claim in plain words")
    cells: tuple[ClaimedCell, ...] = setting("one for a value, two for an order", default=())
    theory: TheoryClaim | None = setting("of kind theory: what it is about", default=None)
    relation: Literal["above", "equivalent"] | None = setting(
        "of an order: how the first compares with the second", default=None
    )


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The contents of claims.yaml, checked."""

    delta_points: dict[str, float] = setting("data set: margin in percentage points", above=0)
    claims: dict[str, Claim] = setting("by id")
    theory_margins: TheoryMargins | None = setting("margins of the claims of kind theory", default=None)
    curves: dict[str, CurveClaim] | None = setting("by id: final accuracies, curve_claims.py", default=None)
    simulations: dict[str, SimulationClaim] | None = setting("by id: simulation_claims.py", default=None)

    def delta(self, claim: Claim) -> float:
        """Return the margin of a claim as a fraction."""
        return self.delta_points[claim.cells[0].dataset] / 100


@dataclass(frozen=True)
class Paper:
    """What the paper says: the numbers of a published.csv and the claims beside it, each file read once."""

    published: Path

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """The published numbers, see published.read."""
        return published.read(self.published)

    @cached_property
    def lines(self) -> pd.DataFrame:
        """The published numbers by Line."""
        return self.numbers.set_index(list(Line._fields))

    @cached_property
    def claims(self) -> Claims:
        """The claims, checked against the numbers."""
        return read(self.published.with_name("claims.yaml"), self.numbers)


def read(path: Path, numbers: pd.DataFrame) -> Claims:
    """Read claims.yaml; `numbers` is the frame of published.py.

    Raises UserError, naming the claim, for an unknown or missing key, an invalid name of a cell, a line that
    published.csv lacks (the nearest is named), a second value claim about a cell, or an order that contradicts the
    paper's numbers.
    """
    claims = build(Claims, read_yaml(path, CLAIMS_FILE), str(path))
    for name, contrast in (claims.curves or {}).items():
        curve_claims.check(contrast, f"{path}: curves: {name}")
    accuracies = numbers.set_index(list(Line._fields))["accuracy"].to_dict()
    valued: set[str] = set()
    for name, claim in claims.claims.items():
        place = f"{path}: claims: {name}"
        if claim.kind == "theory":
            _check_theory(claim, claims.theory_margins, place)
            continue
        _check_cells(claim, accuracies, place)
        for about in claim.cells:
            if about.dataset not in claims.delta_points:
                close = nearest(about.dataset, claims.delta_points)
                raise UserError(f"{place}: no margin for {about.dataset!r}{close}; give it one under delta_points")
        if claim.kind == "order":
            _check_order(claim, claims.delta(claim), accuracies, place)
        elif claim.cells[0].cell in valued:
            raise UserError(f"{place}: a second value claim about {claim.cells[0].cell}; keep one of them")
        else:
            valued.add(claim.cells[0].cell)
    return claims


def _check_cells(claim: Claim, accuracies: Mapping[Line, float], place: str) -> None:
    if claim.theory is not None:
        raise UserError(f"{place}: key `theory` is only allowed with kind theory; remove one of them")
    expected = {"value": 1, "order": 2}[claim.kind]
    if len(claim.cells) != expected:
        raise UserError(f"{place}: cells: expected {expected} for kind {claim.kind}, found {len(claim.cells)}")
    if (claim.kind == "order") != (claim.relation is not None):
        raise UserError(f"{place}: kind order needs a relation, above or equivalent; no other kind may have one")
    lines = [" / ".join(line) for line in accuracies]
    for about in claim.cells:
        if not _CELL.fullmatch(about.cell):
            raise UserError(
                f"{place}: expected a cell like reptile/omniglot-5way/1shot/inductive, found {about.cell!r}"
            )
        if (name := " / ".join(about.line)) not in lines:
            raise UserError(
                f"{place}: unknown published line {name!r}{nearest(name, lines)}; lines are those of published.csv"
            )


def _check_theory(claim: Claim, margins: TheoryMargins | None, place: str) -> None:
    """Refuse a claim of kind theory whose quantity is not measured or has no margin."""
    about = claim.theory
    if about is None or claim.cells or claim.relation is not None:
        raise UserError(f"{place}: kind theory needs the key `theory` and may have neither cells nor a relation")
    if margins is None:
        raise UserError(f"{place}: no margins for kind theory; give them under theory_margins")
    is_inner_product = about.quantity in ("cosine", "product")
    if is_inner_product != (about.mini_batches is not None) or is_inner_product != (about.relation is not None):
        raise UserError(
            f"{place}: the quantities cosine and product need mini_batches and relation; no other may have them"
        )
    known = ("reptile", "joint") if is_inner_product else ("maml", "fomaml", "reptile")
    if about.algorithm not in known:
        raise UserError(
            f"{place}: {about.quantity} is measured for {' and '.join(known)}, found {about.algorithm}; name one"
        )


def _check_order(claim: Claim, delta: float, accuracies: Mapping[Line, float], place: str) -> None:
    """Refuse an order that contradicts the paper's own numbers."""
    first, second = claim.cells
    if first.cell == second.cell or first.dataset != second.dataset:
        raise UserError(f"{place}: expected two cells of one data set, found {first.cell} and {second.cell}")
    difference = accuracies[first.line] - accuracies[second.line]
    close = abs(difference) < delta
    expected = "equivalent" if close and first.algorithm != second.algorithm else "above" if difference > 0 else None
    if claim.relation == expected or (claim.relation == "equivalent" and close):
        return
    raise UserError(
        f"{place}: relation {claim.relation}, but the paper's first minus second is {100 * difference:+.2f} points "
        f"with delta {100 * delta:g}; {f'it is {expected}' if expected else 'exchange the two cells'}"
    )
