"""The paper as the report reads it: published.csv, and the claims that are judged by it.

The claims are those of the repository, paper/claims.yaml. A folder with a claims.yaml of its own, beside its
params.yaml, is judged by that one alone: a study has its own questions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import Kind
from firstorder.report.claims import curve_claims
from firstorder.report.claims.claims import Claim, Claims, TheoryMargins
from firstorder.report.claims.declared import read_known
from firstorder.report.claims.margins import Margins
from firstorder.report.read import published
from firstorder.report.read.published import Line
from firstorder.settings import MODES
from firstorder.settings.schema import build, nearest
from firstorder.settings.yaml_files import MOST_BYTES, read_yaml

CLAIMS = "claims.yaml"
_FROM_GIT = "it comes with the repository (git checkout -- paper/claims.yaml)"
CLAIMS_FILE = Kind("claims in YAML", MOST_BYTES, _FROM_GIT, f"no such file; {_FROM_GIT}")
_CELL = re.compile(rf"[^/]+/.+-\d+way/\d+shot/({'|'.join(MODES)})")


@dataclass(frozen=True)
class Paper:
    """What the paper says: the numbers of a published.csv and the claims judged by them, each file read once."""

    published: Path
    own_claims: Path | None = None

    @classmethod
    def of(cls, root: Path, published: Path) -> Paper:
        """Return the paper as it is judged in the folder `root`: by the folder's own claims if it has some."""
        return cls(published, root / CLAIMS if (root / CLAIMS).exists() else None)

    @property
    def claims_path(self) -> Path:
        """The file of claims: that of the folder, or the one beside published.csv."""
        return self.own_claims or self.published.with_name(CLAIMS)

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """The published numbers, see published.read."""
        return published.read(self.published)

    @cached_property
    def lines(self) -> pd.DataFrame:
        """The published numbers by Line."""
        return by_line(self.numbers)

    @cached_property
    def accuracies(self) -> dict[Line, float]:
        """The published accuracies (fractions) by Line."""
        return dict(self.lines["accuracy"].to_dict())

    @cached_property
    def claims(self) -> Claims:
        """The claims, checked against the numbers."""
        return read(self.claims_path, self.numbers)


def by_line(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of published.py with its Line as index."""
    return numbers.set_index(list(Line._fields))


def parse(path: Path) -> Claims:
    """Read a claims.yaml without comparing it with the published numbers. Raises UserError as `build` does."""
    return build(Claims, read_yaml(path, CLAIMS_FILE), str(path))


def read(path: Path, numbers: pd.DataFrame) -> Claims:
    """Read a claims.yaml; `numbers` is the frame of published.py.

    Raises UserError, naming the claim, for an unknown or missing key, an id in two sections, an unreadable `known`, an
    invalid name of a cell, a line that published.csv lacks (the nearest is named), a second value claim about a cell,
    or an order that contradicts the paper's numbers.
    """
    claims = parse(path)
    if len(claims.everything()) < len(claims.entries) + len(claims.curves or {}) + len(claims.simulations or {}):
        raise UserError(f"{path}: an id stands in two sections; rename one of the two claims")
    for name, declared in claims.everything().items():
        read_known(declared.known, f"{path}: {name}")
    for name, contrast in (claims.curves or {}).items():
        curve_claims.check(contrast, f"{path}: curves: {name}")
    lines = by_line(numbers)
    valued: set[str] = set()
    for name, claim in claims.entries.items():
        place = f"{path}: claims: {name}"
        if claim.kind == "theory":
            _check_theory(claim, claims.theory_margins, place)
            continue
        _check_cells(claim, [" / ".join(line) for line in lines.index], place)
        for about in claim.cells:
            if about.dataset not in claims.delta_points:
                close = nearest(about.dataset, claims.delta_points)
                raise UserError(f"{place}: no margin for {about.dataset!r}{close}; give it one under delta_points")
        if claim.kind == "order":
            _check_order(claim, claims, lines, place)
        elif claim.cells[0].cell in valued:
            raise UserError(f"{place}: a second value claim about {claim.cells[0].cell}; keep one of them")
        else:
            valued.add(claim.cells[0].cell)
    return claims


def _check_cells(claim: Claim, lines: Collection[str], place: str) -> None:
    if claim.theory is not None:
        raise UserError(f"{place}: key `theory` is only allowed with kind theory; remove one of them")
    expected = {"value": 1, "order": 2}[claim.kind]
    if len(claim.cells) != expected:
        raise UserError(f"{place}: cells: expected {expected} for kind {claim.kind}, found {len(claim.cells)}")
    if (claim.kind == "order") != (claim.relation is not None):
        raise UserError(f"{place}: kind order needs a relation, above or equivalent; no other kind may have one")
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


def _check_order(claim: Claim, claims: Claims, numbers: pd.DataFrame, place: str) -> None:
    """Refuse an order that contradicts the paper's own numbers."""
    first, second = claim.cells
    if first.cell == second.cell or first.dataset != second.dataset:
        raise UserError(f"{place}: expected two cells of one data set, found {first.cell} and {second.cell}")
    lines = numbers.loc[[first.line, second.line]]
    difference = lines["accuracy"].iloc[0] - lines["accuracy"].iloc[1]
    close = is_close(claims.margins(claim, numbers["accuracy"].to_dict()), difference, math.hypot(*lines["half_width"]))
    expected = "equivalent" if close and first.algorithm != second.algorithm else "above" if difference > 0 else None
    if claim.relation == expected or (claim.relation == "equivalent" and close):
        return
    raise UserError(
        f"{place}: relation {claim.relation}, but the paper's first minus second is {100 * difference:+.2f} points, "
        f"{'within' if close else 'beyond'} the margins and its own half-widths; "
        f"{f'it is {expected}' if expected else 'exchange the two cells'}"
    )


def is_close(margins: Margins, difference: float, half_width: float) -> bool:
    """Say whether the paper's numbers differ by less than the margins, or than its own error of the difference."""
    # Two printed decimals, as a difference like 0.989 - 0.979 is not exactly 0.01 in floating point.
    difference = round(difference, 6)
    return margins.hold(difference, difference) or abs(difference) < half_width
