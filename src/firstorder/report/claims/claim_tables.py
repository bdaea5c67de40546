"""Write the claims with their verdicts as CSV and Markdown: a summary, then values, orders, figures, section 5.

The CSV file holds fractions and, for section 5 and the simulations, plain numbers. The Markdown file is printed from
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.report import CLAIMS
from firstorder.report.claims import claim_rows, curve_claims, outcomes, register, simulation_claims, theory_claims
from firstorder.report.claims.paper import Paper
from firstorder.report.claims.verdicts import TYPES, judge
from firstorder.report.read import csv_frames, staleness
from firstorder.report.read.accuracies import fresh_records
from firstorder.report.text.formatting import PrintedTable
from firstorder.settings import Project

NOTHING = "No claim of the paper is about these cells."
_RULES = (
    "[ , ]: 95 % interval. ± tasks: 95 % half-width over the tasks alone; ± seeds: over the seeds (Student), which "
    "holds the error over tasks too. The interval rests on ± seeds or, with one seed, on ± tasks."
)
KNOWN = (
    "Known before: what was known of these results when the claim's rule was fixed (paper/registered.csv has the "
    "commits and dates). If something was known of some seeds, the verdict by the other seeds alone follows."
)
_TYPES = {**TYPES, **theory_claims.TYPES}
_REDUCED = (
    "Reduced length: these trainings are shorter than the paper's, so no value is judged, and an order only between "
    "two cells of one training, at this length."
)


def write(root: Path, project: Project, published_path: Path) -> list[Path]:
    """Write results/claims.csv and .md from the records below `root`; return the paths.

    Raises UserError for a stale record, or a claim that says that less was known of its results than dates allow.
    """
    paths = [root / CLAIMS.format(suffix=suffix) for suffix in ("csv", "md")]
    paper = Paper.of(root, published_path)
    judged = (
        judge(fresh_records(root, project), project, paper),
        simulation_claims.judge(root, project, paper.claims.simulations or {}),
        curve_claims.judge(root, project, paper.claims.curves or {}),
        theory_claims.judge(root, project, paper.claims),
    )
    parts = [pd.DataFrame(part, columns=list(_TYPES)).astype(_TYPES) for part in judged]
    data = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    if project.is_judged:
        register.check(root, project, paper, data)
    csv_frames.write(paths[0], staleness.marked_by(data, map(register.rests_on, data.itertuples())))
    text = "\n".join(table.to_markdown() for table in printed(root))
    with replacing(paths[1]) as part:
        part.write_text(text or f"{NOTHING}\n", encoding="utf-8")
    return paths


def printed(root: Path) -> list[PrintedTable]:
    """Read the CSV file that `write` wrote and lay it out: a summary, and a table for each layout that has a line."""
    data = read(root)
    is_reduced = bool((data["length"] == "reduced").any())
    reduced = (_REDUCED,) if is_reduced else ()
    about_cells = [*VALUE.tables(data, reduced), *ORDER.tables(data, reduced)]
    tables = [*about_cells, *SIMULATION.tables(data), *CURVES.tables(data), *THEORY.tables(data)]
    return tables if is_reduced or not tables else [summary(root, data), *tables]


def summary(root: Path, data: pd.DataFrame) -> PrintedTable:
    """Count the verdicts: the paper's claims by what they are about, then those that are counted apart."""
    apart = data["counted"] == "apart"
    of_paper = (data["origin"] == "paper") & ~apart
    parts = {
        "The paper's numbers, Tables 1 and 2": of_paper & (data["kind"] == "value"),
        "The paper's comparisons in these tables": of_paper & (data["kind"] == "order"),
        "The paper's figures and section 5": of_paper & ~data["kind"].isin(["value", "order"]),
        "Apart: orders true of any algorithm that learns": apart,
        "Apart: checks of ours, and what rests on memory of the paper": ~of_paper & ~apart,
    }
    rows = []
    for name, chosen in parts.items():
        if not chosen.any():  # as in a study
            continue
        groups = outcomes.counts(data.loc[chosen, "verdict"])
        rows.append((name, str(int(chosen.sum())), *(str(groups[group]) for group in outcomes.GROUPS)))
    return PrintedTable(
        title="Summary",
        heading=("Claims", "All", *outcomes.GROUPS),
        rows=tuple(rows),
        label_columns=1,
        footnotes=(
            "Hold: equivalent or holds. Fail: better, worse or fails. Undecided: too few seeds or tasks so far. "
            "Undecidable: the paper's own ± is as wide as our margins.",
            f"The misses alone: make why CLAIM=fail{staleness.directory(root)}. With a claim's id, or words that only "
            "it has, it shows the rule, since when that stands, and the records that decide the claim.",
        ),
    )


def of_paper(data: pd.DataFrame) -> pd.DataFrame:
    """Return the claims of the paper, without those that are counted apart; a frame that `read` returned."""
    return data[(data["origin"] == "paper") & (data["counted"] != "apart")]


def in_short(verdicts: pd.Series) -> str:
    """Count verdicts in three groups: `23 hold, 1 fails, 55 open`."""
    groups = outcomes.counts(verdicts)
    hold, fail = (f"{groups[group]} {group}{'s' if groups[group] == 1 else ''}" for group in ("hold", "fail"))
    return f"{hold}, {fail}, {len(verdicts) - groups['hold'] - groups['fail']} open"


def beside(root: Path, name: str, kind: str) -> list[PrintedTable]:
    """Return the tables of the claims about the figure `name`, whose ids begin with that name."""
    data = read(root)
    if kind == "theory":
        return THEORY.tables(data)
    own = data[data["id"].str.startswith(f"{name}/")]
    return [*SIMULATION.tables(own), *CURVES.tables(own)]


def read(root: Path) -> pd.DataFrame:
    """Read the CSV file that `write` wrote; raises UserError if there is none."""
    path = root / CLAIMS.format(suffix="csv")
    if not path.exists():
        raise UserError(f"{path}: no such table; write it first: make report{staleness.directory(root)}")
    return csv_frames.read(path, tuple(_TYPES), _TYPES)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the claims of some kinds are printed: heading, row and footnotes. The first columns are labels."""

    kinds: tuple[str, ...]
    title: str
    heading: tuple[str, ...]
    row: Callable[[Any], tuple[str, ...]]
    rules: tuple[str, ...]
    label_columns: int = 1

    @property
    def before_verdict(self) -> int:
        """How many columns stand between the claim and its verdict."""
        return self.heading.index("Known before") + 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The whole heading, with the claim and its verdict: a word for each entry of `row`."""
        return ("Claim", *self.heading[: self.before_verdict], "Verdict", *self.heading[self.before_verdict :])

    def tables(self, data: pd.DataFrame, footnotes: tuple[str, ...] = ()) -> list[PrintedTable]:
        """Return the table of these claims; none if there is no such claim."""
        lines = data[data["kind"].isin(self.kinds)]
        if lines.empty:
            return []
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(lines["verdict"]).items())
        table = PrintedTable(
            title=self.title,
            heading=self.columns,
            rows=tuple(self.row(line) for line in lines.itertuples()),
            label_columns=self.label_columns,
            footnotes=(f"Verdicts: {verdicts}.", *self.rules, *footnotes),
        )
        return [table.marking(list(lines[csv_frames.STALE]) if csv_frames.STALE in lines else [])]


_ABOUT_CELLS = ("± tasks", "± seeds", "Margins", "Seeds", "Known before")
VALUE = Layout(
    kinds=("value",),
    title="Claims of value: is our accuracy the paper's?",
    heading=("Paper, %", "Ours, %", "Ours minus paper, points", *_ABOUT_CELLS, "Wider ±"),
    row=claim_rows.value_row,
    rules=(
        "Equivalent: the interval of ours minus the paper's, with both errors, lies inside the margins. Better, worse: "
        "it lies wholly beyond. Undecidable: the paper's own ± is as wide as the margins, so that no number of seeds "
        "would make ours equivalent. Margins, in points: where the paper's accuracy is above 98 %, 1.25 times its "
        "errors, and its errors divided by 1.25.",
        "The paper's ± is taken as a 95 % half-width. For Reptile its meaning is unknown; wider ±: the verdict if it "
        "is one standard deviation of three trainings, whose mean is then uncertain by 2.48 times as much. For MAML "
        "and 1st-order MAML it is over the tasks of one training; their spread over trainings is missing from it.",
        _RULES,
        KNOWN,
    ),
)
ORDER = Layout(
    kinds=("order",),
    title="Claims of order: does ours agree?",
    heading=("Paper, points", "First minus second, points", *_ABOUT_CELLS),
    row=claim_rows.order_row,
    rules=(
        "First minus second, seed by seed; the paper's ± does not enter. Is better and is easier hold where the "
        "interval lies above zero, as good as where it lies inside the margins.",
        _RULES,
        KNOWN,
    ),
)
SIMULATION = Layout(
    kinds=("simulation",),
    title="Claims of the simulations",
    heading=("Whose", "Measured", "Bound", "Seeds", "Known before"),
    row=claim_rows.simulation_row,
    rules=(
        "Measured: without unit; of a loss that of the network after all inner steps over that of predicting 0, with "
        "the 95 % interval over seeds (Student) or, with one seed, over its new waves. A claim holds or fails where "
        "the interval lies wholly on one side of the bound.",
        claim_rows.WHOSE,
        KNOWN,
    ),
)
CURVES = Layout(
    kinds=("curves", "best", "gap", "shape"),
    title="Claims of curves and sweeps: what trainings end at",
    heading=("Whose", "Contrast, points", "± tasks", "± seeds", "Wanted", "Seeds", "Known before"),
    row=claim_rows.curves_row,
    rules=(
        "What a training ends at is its inductive accuracy on meta-test tasks over the last fifth of its outer steps. "
        "Contrast: that of the side which the claim says is better minus that of the other, whatever their order in "
        "the sentence; of a drop, before minus after; of classes trained on against new ones, on meta-train tasks "
        "minus on meta-test tasks. The claim holds where the 95 % interval of the contrast lies wholly on the wanted "
        "side of the margin, and fails where it lies wholly on the other. One seed: the interval is over tasks, and "
        "the verdict is about these trainings alone; the paper's own figures have one seed.",
        claim_rows.WHOSE,
        KNOWN,
    ),
)
THEORY = Layout(
    kinds=("theory",),
    title="Claims of section 5",
    heading=("Settings of", "Whose", "Measured", "Margin", "Seeds", "Known before"),
    row=claim_rows.theory_row,
    rules=(
        "Measured: of a coefficient the largest relative error, of a slope the largest distance from 2, over all "
        "problems and k; of a cosine or inner product its change from the start of training to the end, mean over "
        "seeds with the 95 % interval over them (one seed: over tasks). A change rises above the margin, and does not "
        "rise below it.",
        claim_rows.WHOSE,
        KNOWN,
    ),
    label_columns=2,
)
LAYOUTS = (VALUE, ORDER, SIMULATION, CURVES, THEORY)
