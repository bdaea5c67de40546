"""Tables: accuracies beside the paper's, losses on sine waves, section 5's coefficients.

The CSV file holds numbers (accuracies are fractions, as its headings say); the Markdown and LaTeX files are printed
from it. A cell without a record stays in the table as "not run".
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.records.cells import CellRecord
from firstorder.report import TABLE
from firstorder.report.claims import outcomes, verdicts
from firstorder.report.claims.paper import Paper
from firstorder.report.read import accuracies, csv_frames, measurements, published, staleness, theory
from firstorder.report.read.statistics import CELL, estimate, over_seeds
from firstorder.report.text.formatting import (
    MINUS,
    MISSING,
    PrintedTable,
    algorithm_label,
    column_label,
    count_range,
    percent,
    points,
)
from firstorder.settings import SINE_LOSSES, Project, TableSettings, lookup

# Tables without an entry under `tables`: params.yaml asks for each by a section of the same name.
SINE, THEORY = "sine", "theory"

COMPARISON_TYPES = (
    dict.fromkeys(("row", "column", "algorithm", "mode"), "str")
    | {"paper_accuracy_fraction": "float64", "paper_half_width_fraction": "float64"}
    | {"paper_printed": "str", "paper_half_width_meaning": "str", "paper_grade": "str"}
    | {"accuracy_fraction": "float64", "half_width_fraction": "float64", "half_width_over": "str"}
    | {"seeds": "Int64", "tasks_per_seed": "Int64"}
    | {"difference_fraction": "float64", "difference_half_width_fraction": "float64", "verdict": "str"}
)
_VERDICT_FOOTNOTES = {
    outcomes.REDUCED: "Reduced length: the trainings are shorter than the paper's, so there is no verdict.",
    outcomes.ONE_SEED: "Inconclusive, one seed: what other seeds would give is unknown, so nothing is judged by it.",
}
SINE_TYPES = {"inner_steps": "int64", "algorithm": "str", "seeds": "int64", "tasks": "int64"} | dict.fromkeys(
    ("mean_squared_error", "half_width"), "float64"
)


def names(project: Project) -> list[str]:
    """List the project's tables: those under `tables`, then those of the sections `sine` and `theory`."""
    return [*project.tables, *(name for name in (SINE, THEORY) if getattr(project, name) is not None)]


def comparison(root: Path, project: Project, name: str, paper: Paper) -> pd.DataFrame:
    """Compare our accuracies with the paper's: one line for each row and column of the table `name`, in its order.

    Columns and units: COMPARISON_TYPES. `difference_fraction` is ours minus the paper's. What the paper does not state
    or we did not run is NaN. `half_width_over` is `seeds` or, with one seed, `tasks`: what our 95 % interval is over.
    The half-width of the difference combines ours with the paper's. `verdict` is that of the value claim (verdicts.py),
    NaN if the paper has no such row. Raises UserError for an unknown table or a stale record; if staleness.py allows
    stale records, there is a column `stale` instead.
    """
    table: TableSettings = lookup(project.tables, name, "table")
    grid = pd.DataFrame(
        [(row.label, column, row.algorithm, row.mode) for row in table.rows for column in table.columns],
        columns=["row", "column", "algorithm", "mode"],
    )
    # Only the cells of this table are read: a stale one elsewhere must not prevent it from being written.
    cells = set(grid["algorithm"] + "/" + grid["column"] + "/" + grid["mode"])
    records = accuracies.fresh_records(root, project, cells)
    ours = over_seeds(accuracies.frame(records)).rename(
        columns={"spread": "half_width_over", "tasks": "tasks_per_seed"}
    )
    fractions = {"accuracy": "accuracy_fraction", "half_width": "half_width_fraction"}
    stated = (
        _published(table, paper)
        .rename(columns={**fractions, "confidence_grade": "grade"})
        .set_index(["row", "column"])
        .add_prefix("paper_")
    )
    merged = grid.merge(stated, how="left", on=["row", "column"])
    merged = merged.merge(ours.rename(columns=fractions), how="left", on=list(CELL))
    merged = merged.merge(_verdicts(records, project, table, paper), how="left", on=list(CELL))
    merged["difference_fraction"] = merged["accuracy_fraction"] - merged["paper_accuracy_fraction"]
    # The column is in the table of params.yaml, but no evaluation measures it.
    unclaimed = merged["verdict"].isna() & merged["paper_accuracy_fraction"].notna()
    merged.loc[unclaimed & merged["accuracy_fraction"].isna(), "verdict"] = outcomes.NOT_RUN
    compared = merged[list(COMPARISON_TYPES)].astype(COMPARISON_TYPES)
    shown = compared["algorithm"] + "/" + compared["column"] + "/" + compared["mode"]
    return staleness.marked_by(compared, ([cell] for cell in shown))


def sine_losses(root: Path, project: Project) -> pd.DataFrame:
    """Return the mean squared error on new waves by inner step and algorithm; no rows if nothing is recorded.

    Columns: SINE_TYPES. The mean is over seeds; `half_width` is that of the 95 % interval over seeds (Student) or, with
    one seed, over its `tasks` waves.
    """
    rows = []
    losses = measurements.simulation(root, project, SINE_LOSSES)
    for (algorithm, inner_steps), lines in losses.groupby(["algorithm", "inner_steps"], sort=False):
        found = estimate(lines["loss"].tolist(), lines["standard_error"].tolist())
        rows.append((inner_steps, algorithm, found.seeds, lines["tasks"].min(), found.value, found.half_width))
    table = pd.DataFrame(rows, columns=list(SINE_TYPES)).astype(SINE_TYPES)
    return table.sort_values("inner_steps", kind="stable")


def read(root: Path, name: str) -> pd.DataFrame:
    """Read the CSV file of table `name`; raises UserError if `write` has not written it yet."""
    path = root / TABLE.format(name=name, suffix="csv")
    if not path.exists():
        raise UserError(f"{path}: no such table; write it first: make report")
    types = {THEORY: theory.COEFFICIENT_TYPES, SINE: SINE_TYPES}.get(name, COMPARISON_TYPES)
    return csv_frames.read(path, tuple(types), types).fillna({"row": ""})  # a label may be empty


def printed(root: Path, project: Project, name: str) -> PrintedTable:
    """Read the CSV file of table `name`, which `write` wrote, and lay it out for print."""
    data = read(root, name)
    if name in project.tables:
        table = _printed_comparison(project.tables[name], data)
    else:
        table = _printed_theory(data) if name == THEORY else _printed_sine(data)
    if csv_frames.STALE not in data:
        return table
    # A row of the sine table comes from several lines of the CSV file, all of one simulation.
    return table.marking([True] * len(table.rows) if name == SINE else list(data[csv_frames.STALE]))


def write(root: Path, project: Project, name: str, published_path: Path) -> list[Path]:
    """Write table `name` to results/tables/ as .csv, .md and .tex; return the paths."""
    lookup(dict.fromkeys(names(project)), name, "table")
    if name == THEORY:
        data = staleness.marked(theory.coefficients(root, project))
    elif name == SINE:
        data = staleness.marked(sine_losses(root, project))
    else:
        data = comparison(root, project, name, Paper.of(root, published_path))
    paths = [root / TABLE.format(name=name, suffix=suffix) for suffix in ("csv", "md", "tex")]
    csv_frames.write(paths[0], data)
    table = printed(root, project, name)
    for path, text in zip(paths[1:], (table.to_markdown(), table.to_latex()), strict=True):
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    return paths


def paper_footnotes(data: pd.DataFrame) -> list[str]:
    """Explain each ± of the paper in a comparison, and how well its numbers are known, with the rows of each."""
    meanings = data.groupby("paper_half_width_meaning", sort=False)["row"]
    grades = data.groupby("paper_grade", sort=False)["row"]
    return [
        *(f"± of the paper ({', '.join(rows.unique())}): {meaning}." for meaning, rows in meanings),
        *(f"Numbers of the paper ({', '.join(rows.unique())}): {published.known(grade)}." for grade, rows in grades),
    ]


def spread_footnotes(data: pd.DataFrame) -> tuple[str, ...]:
    """Explain each ± of a comparison: a sentence for each meaning of the paper's and each of ours that occurs."""
    sentences = paper_footnotes(data)
    kinds = set(data["half_width_over"].dropna())
    if "seeds" in kinds:
        sentences.append("± of ours with two seeds or more: 95 % interval (Student) for the mean over seeds.")
    if "tasks" in kinds:
        sentences.append(
            "± of ours with one seed: 95 % interval over its tasks; what other seeds would add is unknown."
        )
    sentences += [sentence for verdict, sentence in _VERDICT_FOOTNOTES.items() if (data["verdict"] == verdict).any()]
    if data["difference_half_width_fraction"].notna().any():
        sentences.append(
            "± of the difference: both, the paper's taken as a 95 % half-width. Verdicts: see results/claims.md."
        )
    return tuple(sentences)


def _published(table: TableSettings, paper: Paper) -> pd.DataFrame:
    """Return the published lines of the table that `table` is compared with; no rows if there is none."""
    lines = paper.numbers
    if table.paper != "none":
        lookup(dict.fromkeys(lines["table"].unique()), table.paper, "published table")
    return lines[lines["table"] == table.paper].drop(columns=["table", "source"])


def _verdicts(records: list[CellRecord], project: Project, table: TableSettings, paper: Paper) -> pd.DataFrame:
    """Return the verdicts of the value claims by cell; no rows if the table is not compared with the paper."""
    if table.paper == "none":
        return pd.DataFrame(columns=[*CELL, "difference_half_width_fraction", "verdict"], dtype="str")
    return verdicts.by_cell(verdicts.judge(records, project, paper))


def _printed_comparison(table: TableSettings, data: pd.DataFrame) -> PrintedTable:
    is_compared = table.paper != "none"
    rows = []
    for line in data.itertuples():
        ours = percent(line.accuracy_fraction, line.half_width_fraction)
        paper = (_graded(line),) if is_compared else ()
        difference = (_difference(line), _text(line.verdict)) if is_compared else ()
        counts = (_text(line.seeds), MISSING if pd.isna(line.tasks_per_seed) else f"{line.tasks_per_seed:,}")
        rows.append((line.row, column_label(line.column), *paper, ours, *difference, *counts))
    beside = ("Ours minus paper, points", "Verdict") if is_compared else ()
    heading = ("Row", "Task", *(("Paper, %",) if is_compared else ()), "Ours, %", *beside, "Seeds", "Tasks a seed")
    return PrintedTable(
        title=table.title,
        heading=heading,
        rows=tuple(rows),
        label_columns=2,
        footnotes=spread_footnotes(data),
    )


def _printed_sine(data: pd.DataFrame) -> PrintedTable:
    algorithms = list(data["algorithm"].unique())
    rows = []
    for inner_steps, lines in data.groupby("inner_steps"):
        means = zip(lines["algorithm"], lines["mean_squared_error"], lines["half_width"], strict=True)
        entries = {algorithm: f"{mean:.3f} ± {half_width:.3f}" for algorithm, mean, half_width in means}
        rows.append((str(inner_steps), *(entries.get(algorithm, MISSING) for algorithm in algorithms)))
    return PrintedTable(
        title="Sine waves: mean squared error after adapting to a new wave",
        heading=("Inner steps", *(algorithm_label(algorithm) for algorithm in algorithms)),
        rows=tuple(rows),
        label_columns=1,
        footnotes=(_sine_footnote(data),) if rows else ("Not run.",),
    )


def _sine_footnote(data: pd.DataFrame) -> str:
    waves, seeds = count_range(data["tasks"]), int(data["seeds"].min())
    if seeds == 1:
        return f"Mean over {waves} new waves; ±: 95 % interval over the waves of one seed."
    return f"Mean over {seeds} seeds with {waves} new waves each; ±: 95 % interval (Student) over the seeds."


def _printed_theory(data: pd.DataFrame) -> PrintedTable:
    """Lay out the coefficients (theory.COEFFICIENT_TYPES) for print."""
    rows = []
    for line in data.itertuples():
        pairs = []
        for name in ("average", "inner"):
            stated, measured, error = (
                getattr(line, f"{name}_{what}") for what in ("stated", "measured", "relative_error")
            )
            pairs += [_signed(f"{stated:g}"), _signed(f"{measured:.6f}"), _signed(f"{error:.0e}")]
        slope = MISSING if math.isnan(line.remainder_slope) else f"{line.remainder_slope:.3f}"
        rows.append((line.problem, algorithm_label(line.algorithm), str(line.inner_steps), *pairs, slope))
    coefficient = ("stated", "measured", "relative error")
    heading = (
        *("Problem", "Algorithm", "k"),
        *(f"AvgGrad, {what}" for what in coefficient),
        *(f"alpha AvgGradInner, {what}" for what in coefficient),
        "Slope of the remainder",
    )
    return PrintedTable(
        title="Section 5: coefficients of the expansion of E[g]",
        heading=heading,
        rows=tuple(rows),
        label_columns=2,
        footnotes=(_theory_footnote(data),) if rows else ("Not run.",),
    )


def _theory_footnote(data: pd.DataFrame) -> str:
    tasks, batches, orders = (count_range(data[name]) for name in ("tasks", "mini_batches", "orders"))
    return (
        f"E over {tasks} tasks and all orders ({orders}) of k of {batches} mini-batches, without sampling error. "
        "Measured: least squares on AvgGrad and AvgGradInner, taken to alpha = 0. The slope is that of the remainder "
        "against alpha, both logarithmic; the expansion says 2. A relative error near 1e-7 is the record's rounding to "
        "eight digits."
    )


def _difference(line: Any) -> str:
    """Return ours minus the paper's in points; its ± combines both errors."""
    width = line.difference_half_width_fraction
    return points(line.difference_fraction) + ("" if math.isnan(width) else f" ± {100 * width:.2f}")


def _graded(line: Any) -> str:
    """Return the paper's number; one that is not first-hand has the letter of its grade beside it."""
    if pd.isna(line.paper_printed) or line.paper_grade == published.FIRST_HAND:
        return _text(line.paper_printed)
    return f"{line.paper_printed} [{published.short(line.paper_grade)}]"


def _text(value: object) -> str:
    return MISSING if pd.isna(value) else str(value)


def _signed(text: str) -> str:
    return text.replace("-", MINUS)
