"""What the paper claims: paper/claims.yaml, checked against the published numbers it points to.

A newcomer would get wrong: a claim holds no number of the paper. Each of its cells names a table and a row of
published.csv, which lies beside claims.yaml, and the accuracy is read there; so no number is written twice. How
a claim is judged is in verdicts.py.

An order claim has one of two relations. `above`: the first cell is more accurate than the second; the claim is
the sign. `equivalent`: they differ by less than delta. Which of them is not free: the paper must say the same,
so `above` needs the paper's first number above its second, `equivalent` needs a difference below delta, and
where two algorithms are compared a difference below delta must be `equivalent`: two protocols whose results are
that close are no order that a replication could check. Within one algorithm (shots, ways, modes) a small
difference stays an order: its direction follows from the task, as at 99 % there is little room for its size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from firstorder.errors import UserError
from firstorder.report.claims import curve_claims
from firstorder.report.claims.curve_claims import CurveClaim
from firstorder.report.claims.simulation_claims import SimulationClaim
from firstorder.report.read import published
from firstorder.settings import MODES, lookup
from firstorder.settings.schema import build, nearest, read_yaml, setting

_CELL = re.compile(rf"(?P<algorithm>[^/]+)/(?P<column>(?P<dataset>.+)-\d+way/\d+shot)/(?P<mode>{'|'.join(MODES)})")


@dataclass(frozen=True, kw_only=True)
class ClaimedCell:
    """One cell of a claim, and the line of published.csv that is the paper's number for it."""

    cell: str = setting("algorithm/dataset-Nway/Kshot/mode")
    table: str = setting("table of published.csv")
    row: str = setting("row of that table")

    @property
    def algorithm(self) -> str:
        """First part of the cell's name."""
        return self._parts()["algorithm"]

    @property
    def column(self) -> str:
        """Column of the table: dataset-Nway/Kshot."""
        return self._parts()["column"]

    @property
    def dataset(self) -> str:
        """Data set of the column."""
        return self._parts()["dataset"]

    @property
    def evaluation(self) -> str:
        """Name of the evaluation that measures it: the cell's without its mode."""
        return self.cell.rpartition("/")[0]

    def _parts(self) -> re.Match[str]:
        match = _CELL.fullmatch(self.cell)
        assert match is not None, self.cell  # `read` has refused any other name
        return match


@dataclass(frozen=True, kw_only=True)
class TheoryMargins:
    """How far off each quantity may be."""

    coefficient: float = setting("relative", above=0)
    slope: float = setting("absolute", above=0)
    cosine: float = setting("a change below it is no rise", at_least=0)
    product: float = setting("a change below it is no rise, in units of the loss's gradient squared", at_least=0)


@dataclass(frozen=True, kw_only=True)
class TheoryClaim:
    """What a claim of kind theory is about."""

    quantity: Literal["average_coefficient", "inner_coefficient", "remainder_slope", "cosine", "product"] = setting(
        "a coefficient, the remainder's slope, or what is measured while training"
    )
    algorithm: Literal["maml", "fomaml", "reptile", "joint"] = setting("of a cosine or product: reptile or joint")
    mini_batches: Literal["trained", "balanced"] | None = setting("of a cosine or product: on which", default=None)
    relation: Literal["rises", "does not rise"] | None = setting("of a cosine or product", default=None)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: of a value, about one cell; of an order, about two; or of section 5, about none."""

    kind: Literal["value", "order", "theory"] = setting(
        "value: as accurate as the paper; order: the first cell and the second; theory: section 5"
    )
    sentence: str = setting("the claim in plain words")
    cells: tuple[ClaimedCell, ...] = setting("one for a value, two for an order", default=())
    theory: TheoryClaim | None = setting("of kind theory: what it is about", default=None)
    relation: Literal["above", "equivalent"] | None = setting(
        "of an order: how the first stands to the second", default=None
    )


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Everything claims.yaml says, checked, with the published numbers."""

    delta_points: dict[str, float] = setting("data set: margin in percentage points", above=0)
    claims: dict[str, Claim] = setting("by id")
    theory_margins: TheoryMargins | None = setting("margins of the claims of kind theory", default=None)
    curves: dict[str, CurveClaim] | None = setting("by id: what trainings end at, curve_claims.py", default=None)
    simulations: dict[str, SimulationClaim] | None = setting("by id: simulation_claims.py", default=None)

    def delta(self, claim: Claim) -> float:
        """Return the margin of a claim as a fraction."""
        return self.delta_points[claim.cells[0].dataset] / 100


def read(path: Path, numbers: pd.DataFrame) -> Claims:
    """Read claims.yaml; `numbers` is the frame of published.py.

    Raises UserError, naming the claim, for an unknown or missing key, a cell that is none, a line that
    published.csv lacks (the nearest is named), a second value claim about a cell, or an order that is not the
    paper's.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; it comes with the repository (git checkout -- paper/claims.yaml)")
    claims = build(Claims, read_yaml(path), str(path))
    for name, contrast in (claims.curves or {}).items():
        curve_claims.check(contrast, f"{path}: curves: {name}")
    accuracies = by_line(numbers, "accuracy")
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


def by_line(numbers: pd.DataFrame, value: str) -> dict[tuple[str, str, str], Any]:
    """Map (table, row, column) to one of the published columns."""
    lines = numbers[list(published.KEYS)].itertuples(index=False, name=None)
    return dict(zip(lines, numbers[value], strict=True))


def line_of(about: ClaimedCell) -> tuple[str, str, str]:
    """Return the key of the published line that a claimed cell names."""
    return about.table, about.row, about.column


def _check_cells(claim: Claim, accuracies: Mapping[tuple[str, str, str], float], place: str) -> None:
    if claim.theory is not None:
        raise UserError(f"{place}: `theory` goes with kind theory, and only it")
    expected = {"value": 1, "order": 2}[claim.kind]
    if len(claim.cells) != expected:
        raise UserError(f"{place}: cells: expected {expected} for kind {claim.kind}, found {len(claim.cells)}")
    if (claim.kind == "order") != (claim.relation is not None):
        raise UserError(f"{place}: kind order goes with a relation, above or equivalent, and only it")
    lines = {" / ".join(line): None for line in accuracies}
    for about in claim.cells:
        if not _CELL.fullmatch(about.cell):
            raise UserError(
                f"{place}: expected a cell like reptile/omniglot-5way/1shot/inductive, found {about.cell!r}"
            )
        try:
            lookup(lines, " / ".join(line_of(about)), "published line")
        except UserError as error:
            raise UserError(
                f"{place}: {str(error).split('; known are')[0]}; lines are those of published.csv"
            ) from None


def _check_theory(claim: Claim, margins: TheoryMargins | None, place: str) -> None:
    """Refuse a claim of kind theory that names what is not measured, or has no margin."""
    about = claim.theory
    if about is None or claim.cells or claim.relation is not None:
        raise UserError(f"{place}: kind theory goes with `theory`, and has neither cells nor a relation beside it")
    if margins is None:
        raise UserError(f"{place}: no margins for kind theory; give them under theory_margins")
    while_training = about.quantity in ("cosine", "product")
    if while_training != (about.mini_batches is not None) or while_training != (about.relation is not None):
        raise UserError(f"{place}: mini_batches and relation go with the quantities cosine and product, and only they")
    known = ("reptile", "joint") if while_training else ("maml", "fomaml", "reptile")
    if about.algorithm not in known:
        raise UserError(
            f"{place}: {about.quantity} is measured of {' and '.join(known)}, found {about.algorithm}; name one of them"
        )


def _check_order(claim: Claim, delta: float, accuracies: Mapping[tuple[str, str, str], float], place: str) -> None:
    """Refuse an order that the paper's own numbers do not have."""
    first, second = claim.cells
    if first.cell == second.cell or first.dataset != second.dataset:
        raise UserError(f"{place}: expected two cells of one data set, found {first.cell} and {second.cell}")
    difference = accuracies[line_of(first)] - accuracies[line_of(second)]
    close = abs(difference) < delta
    expected = "equivalent" if close and first.algorithm != second.algorithm else "above" if difference > 0 else None
    if claim.relation == expected or (claim.relation == "equivalent" and close):
        return
    raise UserError(
        f"{place}: relation {claim.relation}, but the paper's first minus second is {100 * difference:+.2f} points "
        f"with delta {100 * delta:g}; {f'it is {expected}' if expected else 'exchange the two cells'}"
    )
