"""What a file of claims holds: paper/claims.yaml, or the claims.yaml of a study. paper.py reads it.

A claim contains no number of the paper. Each of its cells names a table and a row of published.csv, and the accuracy is
read there, so no number is written twice. verdicts.py judges the claims about cells.

An order claim has one of two relations. `above`: the first cell is more accurate than the second; only the sign is
claimed. `equivalent`: the two differ by less than the margins (margins.py). The relation must agree with the paper's
own numbers:

- `above` needs the paper's first number above its second;
- `equivalent` needs a difference that is close: within the margins, or within the paper's own two half-widths together;
- between two algorithms, a close difference must be `equivalent`, since a replication cannot check an order of results
  that the paper itself does not tell apart.

Within one algorithm (shots, ways, modes) a close difference may still be claimed as an order: its direction follows
from the task, and near 99 % accuracy there is little room for a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from firstorder.report.claims.curve_claims import CurveClaim
from firstorder.report.claims.declared import Declared
from firstorder.report.claims.margins import Margins, NearCeiling, margins
from firstorder.report.claims.simulation_claims import SimulationClaim
from firstorder.report.read.published import Line
from firstorder.settings.schema import setting


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

    def of(self, about: TheoryClaim) -> float:
        """Return the margin of the quantity that a claim is about."""
        of_quantity = {"remainder_slope": self.slope, "cosine": self.cosine, "product": self.product}
        return of_quantity.get(about.quantity, self.coefficient)


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
class Claim(Declared):
    """One claim: a value of one cell, an order of two cells, or a claim of section 5 about no cell."""

    kind: Literal["value", "order", "theory"] = setting(
        "value: as accurate as the paper; order: the first cell and the second; theory: section 5"
    )
    cells: tuple[ClaimedCell, ...] = setting("one for a value, two for an order", default=())
    theory: TheoryClaim | None = setting("of kind theory: what it is about", default=None)
    relation: Literal["above", "equivalent"] | None = setting(
        "of an order: how the first compares with the second", default=None
    )


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The contents of a claims.yaml, checked."""

    delta_points: dict[str, float] = setting("data set: margin in percentage points", above=0)
    near_ceiling: NearCeiling | None = setting("where errors are compared instead of accuracies", default=None)
    claims: dict[str, Claim] | None = setting("by id: about cells and section 5", default=None)
    theory_margins: TheoryMargins | None = setting("margins of the claims of kind theory", default=None)
    curves: dict[str, CurveClaim] | None = setting("by id: final accuracies, curve_claims.py", default=None)
    simulations: dict[str, SimulationClaim] | None = setting("by id: simulation_claims.py", default=None)

    def margins(self, claim: Claim, accuracies: Mapping[Line, float]) -> Margins:
        """Return the margins of a claim about cells, from the paper's accuracies (fractions) by line."""
        stated = [accuracies[about.line] for about in claim.cells]
        return margins(self.delta_points, self.near_ceiling, claim.cells[0].dataset, stated)

    @property
    def entries(self) -> dict[str, Claim]:
        """The claims about cells and section 5, by id."""
        return self.claims or {}

    def everything(self) -> dict[str, Declared]:
        """Return all claims by id."""
        return {**self.entries, **(self.simulations or {}), **(self.curves or {})}
