"""Tables: the paper's number beside ours, the loss on sine waves, section 5's coefficients: CSV, Markdown and LaTeX.

The CSV holds numbers (accuracies are fractions, as its headings say); the Markdown and the LaTeX are printed
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
from firstorder.report.claims import verdicts
from firstorder.report.read import accuracies, csv_frames, published, simulated, staleness, theory
from firstorder.report.read.statistics import CELL, half_width_over_tasks, over_seeds
from firstorder.report.text.formatting import MISSING, PrintedTable, algorithm_label, column_label, percent, points
from firstorder.settings import SINE_LOSSES, Project, TableSettings, lookup

# Names of the tables that params.yaml asks for by having a section of the same name.
SINE, THEORY = "sine", "theory"

COMPARISON_TYPES = {
    "row": "str",
    "column": "str",
    "algorithm": "str",
    "mode": "str",
    "paper_accuracy_fraction": "float64",
    "paper_half_width_fraction": "float64",
    "paper_printed": "str",
    "paper_half_width_meaning": "str",
    "accuracy_fraction": "float64",
    "half_width_fraction": "float64",
    "half_width_over": "str",
    "seeds": "Int64",
    "tasks_per_seed": "Int64",
    "difference_fraction": "float64",
    "difference_half_width_fraction": "float64",
    "verdict": "str",
}
_VERDICT_NOTES = {
    verdicts.REDUCED: "Reduced length: the trainings are shorter than the paper's, so there is no verdict.",
    verdicts.ONE_SEED: "Inconclusive, one seed: what other seeds would give is unknown, so nothing is judged by it.",
}
SINE_TYPES = {
    "inner_steps": "int64",
    "algorithm": "str",
    "tasks": "int64",
    "mean_squared_error": "float64",
    "half_width": "float64",
}


def names(project: Project) -> list[str]:
    """List the project's tables: those under `tables`, then those of the sections `sine` and `theory`."""
    return [*project.tables, *(name for name in (SINE, THEORY) if getattr(project, name) is not None)]


def comparison(root: Path, project: Project, name: str, published_path: Path) -> pd.DataFrame:
    """Set ours beside the paper's: one line for each row and column of the table `name`, in its order.

    Columns and units: COMPARISON_TYPES; `difference_fraction` is ours minus the paper's. What the paper does
    not state or we did not run is NaN. `half_width_over` says whether our 95 % interval is over seeds or, with
    one seed, over tasks; the difference's half-width adds the paper's to it. `verdict` is that of the claim of
    value (verdicts.py), NaN where the paper has no such row. Raises UserError for an unknown table or a stale record,
    unless that is allowed (staleness.py): then there is a column `stale`.
    """
    table: TableSettings = lookup(project.tables, name, "table")
    grid = pd.DataFrame(
        [(row.label, column, row.algorithm, row.mode) for row in table.rows for column in table.columns],
        columns=["row", "column", "algorithm", "mode"],
    )
    # Others may just be computed again; the table does not wait for them.
    cells = set(grid["algorithm"] + "/" + grid["column"] + "/" + grid["mode"])
    records = accuracies.fresh_records(root, project, cells)
    ours = over_seeds(accuracies.frame(records))
    ours = ours.rename(
        columns={
            "accuracy": "accuracy_fraction",
            "half_width": "half_width_fraction",
            "spread": "half_width_over",
            "tasks": "tasks_per_seed",
        }
    )
    paper = _published(table, published_path).rename(
        columns={
            "accuracy": "paper_accuracy_fraction",
            "half_width": "paper_half_width_fraction",
            "printed": "paper_printed",
            "half_width_meaning": "paper_half_width_meaning",
        }
    )
    merged = grid.merge(paper, how="left", on=["row", "column"])
    merged = merged.merge(ours, how="left", on=["algorithm", "column", "mode"])
    merged = merged.merge(_verdicts(records, project, table, published_path), how="left", on=list(CELL))
    merged["difference_fraction"] = merged["accuracy_fraction"] - merged["paper_accuracy_fraction"]
    # A column that params.yaml has in the table and not among its evaluations.
    unclaimed = merged["verdict"].isna() & merged["paper_accuracy_fraction"].notna()
    merged.loc[unclaimed & merged["accuracy_fraction"].isna(), "verdict"] = verdicts.NOT_RUN
    compared = merged[list(COMPARISON_TYPES)].astype(COMPARISON_TYPES)
    shown = compared["algorithm"] + "/" + compared["column"] + "/" + compared["mode"]
    stale = [staleness.rests_on_stale([cell]) for cell in shown]
    return compared.assign(**{csv_frames.STALE: stale}) if any(stale) else compared


def sine_losses(root: Path) -> pd.DataFrame:
    """Return the mean squared error on new waves by inner step and algorithm; no rows if nothing is recorded.

    Columns: SINE_TYPES; `half_width` is that of the 95 % interval over tasks (waves).
    """
    path = root / SINE_LOSSES
    if not path.exists():
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in SINE_TYPES.items()})
    losses = csv_frames.read(path, ("algorithm", "inner_steps", "tasks", "loss", "standard_error"))
    losses["half_width"] = losses["standard_error"].map(half_width_over_tasks)
    losses = losses.rename(columns={"loss": "mean_squared_error"})
    return losses[list(SINE_TYPES)].astype(SINE_TYPES).sort_values("inner_steps", kind="stable")


def printed(root: Path, project: Project, name: str) -> PrintedTable:
    """Read the written CSV of table `name` and lay it out for print."""
    path = root / TABLE.format(name=name, suffix="csv")
    if not path.exists():
        raise UserError(f"{path}: no such table; write it first: make report")
    types = {THEORY: theory.COEFFICIENT_TYPES, SINE: SINE_TYPES}.get(name, COMPARISON_TYPES)
    data = csv_frames.read(path, tuple(types), types)
    if name == THEORY:
        table = theory.printed(data)
    else:
        table = _printed_sine(data) if name == SINE else _printed_comparison(project.tables[name], data)
    if csv_frames.STALE not in data:
        return table
    # Rows of the sine table hold several lines of its CSV, all of one simulation.
    return table.marking([True] * len(table.rows) if name == SINE else list(data[csv_frames.STALE]))


def write(root: Path, project: Project, name: str, published_path: Path) -> list[Path]:
    """Write table `name` to results/tables/ as .csv, .md and .tex; return the paths."""
    lookup(dict.fromkeys(names(project)), name, "table")
    if name == THEORY:
        data = staleness.marked(theory.coefficients(root, project))
    elif name == SINE:
        simulated.losses(root, project)  # refuses them where they are stale
        data = staleness.marked(sine_losses(root))
    else:
        data = comparison(root, project, name, published_path)
    paths = [root / TABLE.format(name=name, suffix=suffix) for suffix in ("csv", "md", "tex")]
    csv_frames.write(paths[0], data)
    table = printed(root, project, name)
    for path, text in zip(paths[1:], (table.to_markdown(), table.to_latex()), strict=True):
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    return paths


def spread_notes(data: pd.DataFrame) -> tuple[str, ...]:
    """Say what each ± of a comparison is; a sentence for the paper's and one for each of ours that occurs."""
    notes = []
    for meaning in data["paper_half_width_meaning"].dropna().unique():
        rows = ", ".join(data.loc[data["paper_half_width_meaning"] == meaning, "row"].unique())
        notes.append(f"± of the paper ({rows}): {meaning}.")
    kinds = set(data["half_width_over"].dropna())
    if "seeds" in kinds:
        notes.append("± of ours with two seeds or more: 95 % interval (Student) for the mean over seeds.")
    if "tasks" in kinds:
        notes.append("± of ours with one seed: 95 % interval over its tasks; what other seeds would add is unknown.")
    notes += [note for verdict, note in _VERDICT_NOTES.items() if (data["verdict"] == verdict).any()]
    if data["difference_half_width_fraction"].notna().any():
        notes.append(
            "± of the difference: both, the paper's taken as a 95 % half-width. Verdicts: see results/claims.md."
        )
    return tuple(notes)


def _published(table: TableSettings, path: Path) -> pd.DataFrame:
    """Return the published lines that the table names; none where it stands beside nothing."""
    lines = published.read(path)
    if table.paper != "none":
        lookup(dict.fromkeys(lines["table"].unique()), table.paper, "published table")
    return lines[lines["table"] == table.paper].drop(columns=["table", "confidence_grade", "source"])


def _verdicts(records: list[CellRecord], project: Project, table: TableSettings, path: Path) -> pd.DataFrame:
    """Return the verdicts of the claims of value by cell; none where the table stands beside nothing."""
    if table.paper == "none":
        return pd.DataFrame(columns=[*CELL, "difference_half_width_fraction", "verdict"], dtype="str")
    return verdicts.by_cell(verdicts.judge(records, project, path))


def _printed_comparison(table: TableSettings, data: pd.DataFrame) -> PrintedTable:
    compared = table.paper != "none"
    rows = []
    for line in data.itertuples():
        ours = percent(line.accuracy_fraction, line.half_width_fraction)
        paper = (_text(line.paper_printed),) if compared else ()
        difference = (_difference(line), _text(line.verdict)) if compared else ()
        counts = (_text(line.seeds), MISSING if pd.isna(line.tasks_per_seed) else f"{line.tasks_per_seed:,}")
        rows.append((line.row, column_label(line.column), *paper, ours, *difference, *counts))
    beside = ("Ours minus paper, points", "Verdict") if compared else ()
    heading = ("Row", "Task", *(("Paper, %",) if compared else ()), "Ours, %", *beside, "Seeds", "Tasks a seed")
    return PrintedTable(
        title=table.title,
        heading=heading,
        rows=tuple(rows),
        label_columns=2,
        notes=spread_notes(data),
    )


def _printed_sine(data: pd.DataFrame) -> PrintedTable:
    algorithms = list(data["algorithm"].unique())
    rows = []
    for inner_steps, lines in data.groupby("inner_steps"):
        means = zip(lines["algorithm"], lines["mean_squared_error"], lines["half_width"], strict=True)
        entries = {algorithm: f"{mean:.3f} ± {half_width:.3f}" for algorithm, mean, half_width in means}
        rows.append((str(inner_steps), *(entries.get(algorithm, MISSING) for algorithm in algorithms)))
    waves = " to ".join(f"{count:,}" for count in sorted(set(data["tasks"])))
    return PrintedTable(
        title="Sine waves: mean squared error after adapting to a new wave",
        heading=("Inner steps", *(algorithm_label(algorithm) for algorithm in algorithms)),
        rows=tuple(rows),
        label_columns=1,
        notes=(f"Mean over {waves} new waves; ±: 95 % interval over the waves.",) if rows else ("Not run.",),
    )


def _difference(line: Any) -> str:
    """Print ours minus the paper's with both errors, in points."""
    width = line.difference_half_width_fraction
    return points(line.difference_fraction) + ("" if math.isnan(width) else f" ± {100 * width:.2f}")


def _text(value: object) -> str:
    return MISSING if pd.isna(value) else str(value)
