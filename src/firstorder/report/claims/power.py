"""What the planned seeds and tasks can decide: the chance of each verdict if the paper's numbers are exactly right.

Each claim about cells is simulated: for every planned seed an accuracy is drawn around the paper's, with a spread over
trainings and an error over tasks, and the verdict is given by the functions of verdicts.py. So the table shows where
more seeds or more tasks would decide something, and where nothing would.

Both spreads are assumptions, and the table names where each comes from. Over trainings: what our recorded seeds of the
cell show beyond their error over tasks; else, for Reptile, the paper's ± read as one standard deviation; else none,
which makes the chance of a right verdict an upper bound. Over tasks: that of our records; else the paper's ± if it is
over tasks; else that of independent query images. The two cells of an order are drawn independently unless our records
have two common seeds, whose paired differences are then used.

Claims about figures have no number of the paper to be right, so they are not simulated.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from firstorder.report.claims.claims import Claim, ClaimedCell
from firstorder.report.claims.outcomes import GROUPS, group
from firstorder.report.claims.paper import Paper
from firstorder.report.claims.verdicts import Interval, verdict_of_order, verdict_of_value
from firstorder.report.read.statistics import PROBABILITY, half_width_over_tasks, student_quantile
from firstorder.report.text.formatting import PrintedTable
from firstorder.settings import Project

DRAWS = 4000
OUR_SEEDS, PAPER_AS_DEVIATION, NO_SPREAD = "our seeds", "paper's ±", "none"
_OVER_TASKS = "95 % interval over"  # how published.csv begins the meaning of a ± over tasks
_LEFT_OUT = ("not run",)


@dataclass(frozen=True)
class Spread:
    """How far accuracies of one cell scatter (fractions): over trainings, and over the tasks of one evaluation."""

    seeds: float
    source: str
    one_task: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is planned: seeds of each claim, and tasks of each evaluation (None: as params.yaml has it)."""

    seeds: int
    tasks: int | None = None


def table(project: Project, paper: Paper, ours: pd.DataFrame, plan: Plan) -> PrintedTable:
    """Return the chance of each verdict (percent) for the claims about cells of params.yaml.

    ours: the frame of accuracies.py.
    """
    names = [name for name in GROUPS if name not in _LEFT_OUT]
    rows: list[tuple[str, ...]] = []
    for name, claim in paper.claims.entries.items():
        if not claim.cells or any(about.evaluation not in project.evaluations for about in claim.cells):
            continue
        tasks = [plan.tasks or project.evaluations[about.evaluation].tasks for about in claim.cells]
        spreads = [spread(about, paper, ours, project) for about in claim.cells]
        verdicts = simulate(claim, paper, ours, spreads, tasks, plan.seeds, np.random.default_rng(len(rows)))
        counts = Counter(map(group, verdicts))
        chances = (f"{100 * counts[verdict] / len(verdicts):.0f}" for verdict in names)
        sources = ", ".join(dict.fromkeys(each.source for each in spreads))
        rows.append((name, *chances, str(plan.seeds), " and ".join(dict.fromkeys(f"{n:,}" for n in tasks)), sources))
    return PrintedTable(
        title="Chance of each verdict, in %, if the paper's numbers are exactly right",
        heading=("Claim", *names, "Seeds", "Tasks a seed", "Spread over trainings"),
        rows=tuple(rows),
        label_columns=1,
        footnotes=(
            f"{DRAWS:,} simulations of each claim. Spread over trainings: {OUR_SEEDS}, as recorded; "
            f"{PAPER_AS_DEVIATION}, read as one standard deviation; {NO_SPREAD}: unknown, so taken as none, and the "
            "chance of a right verdict is an upper bound.",
        ),
    )


def spread(about: ClaimedCell, paper: Paper, ours: pd.DataFrame, project: Project) -> Spread:
    """Return the assumed spreads of a cell, see the top of this module."""
    line = paper.lines.loc[about.line]
    cell = _recorded(about, ours)
    evaluation = project.evaluations[about.evaluation]
    images = project.trainings[evaluation.training].way * (evaluation.query or 1)
    if len(cell):
        one_task = float((cell["standard_error_tasks"] * cell["tasks"] ** 0.5).mean())
    elif line["half_width_meaning"].startswith(_OVER_TASKS):
        tasks = int("".join(filter(str.isdigit, line["half_width_meaning"].removeprefix(_OVER_TASKS))))
        one_task = line["half_width"] / half_width_over_tasks(1) * math.sqrt(tasks)
    else:
        one_task = math.sqrt(line["accuracy"] * (1 - line["accuracy"]) / images)
    if len(cell) >= 2:
        return Spread(_beyond_tasks(cell["accuracy"], cell["standard_error_tasks"]), OUR_SEEDS, one_task)
    if line["widening"] > 1:
        return Spread(float(line["half_width"]), PAPER_AS_DEVIATION, one_task)
    return Spread(0.0, NO_SPREAD, one_task)


def simulate(
    claim: Claim,
    paper: Paper,
    ours: pd.DataFrame,
    spreads: Sequence[Spread],
    tasks: Sequence[int],
    seeds: int,
    generator: np.random.Generator,
) -> list[str]:
    """Return the verdicts of DRAWS simulated replications of a claim."""
    stated = paper.lines.loc[[about.line for about in claim.cells]]
    is_value = claim.kind == "value"
    truth = stated["accuracy"].iloc[0] - (0.0 if is_value else stated["accuracy"].iloc[1])
    paired = None if is_value else _paired_spread(claim, ours)
    between = math.hypot(*(each.seeds for each in spreads)) if paired is None else paired
    within = math.hypot(*(each.one_task / math.sqrt(count) for each, count in zip(spreads, tasks, strict=True)))
    values = generator.normal(truth, math.hypot(between, within), size=(DRAWS, seeds))
    means, widths = _intervals(values, within)
    theirs = float(stated["half_width"].iloc[0]) if is_value else 0.0
    judged, widths = means - (truth if is_value else 0.0), np.hypot(widths, theirs)
    margins = paper.claims.margins(claim, paper.accuracies)
    found = []
    for centre, width in zip(judged, widths, strict=True):
        interval = Interval(centre - width, centre + width, seeds)
        if claim.relation is None:
            found.append(verdict_of_value(interval, margins, theirs))
        else:
            found.append(verdict_of_order(interval, claim.relation, margins))
    return found


def _intervals(values: NDArray[np.float64], within: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means over seeds and half-widths of their 95 % intervals: Student's, or over tasks with one seed."""
    seeds = values.shape[1]
    means = values.mean(axis=1)
    if seeds < 2:
        return means, np.full_like(means, half_width_over_tasks(within))
    return means, student_quantile(PROBABILITY, seeds - 1) * values.std(axis=1, ddof=1) / math.sqrt(seeds)


def _recorded(about: ClaimedCell, ours: pd.DataFrame) -> pd.DataFrame:
    return ours[ours["algorithm"] + "/" + ours["column"] + "/" + ours["mode"] == about.cell]


def _paired_spread(claim: Claim, ours: pd.DataFrame) -> float | None:
    """Return the spread over trainings of the difference of two cells, from their common seeds; None below two."""
    first, second = (_recorded(about, ours) for about in claim.cells)
    both = first.merge(second, on="seed", suffixes=("_first", "_second"))
    if len(both) < 2:
        return None
    errors = np.hypot(both["standard_error_tasks_first"], both["standard_error_tasks_second"])
    return _beyond_tasks(both["accuracy_first"] - both["accuracy_second"], errors)


def _beyond_tasks(values: pd.Series, errors: pd.Series) -> float:
    """Return the standard deviation of seeds that their errors over tasks do not explain."""
    return math.sqrt(max(0.0, float(values.var(ddof=1)) - float((errors**2).mean())))
