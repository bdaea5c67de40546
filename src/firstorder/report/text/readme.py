"""The README's table of accuracies: the paper, full length, reduced length; generated, so that it cannot drift."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.report.claims import verdicts
from firstorder.report.read.csv_frames import STALE
from firstorder.report.text import tables
from firstorder.report.text.formatting import NOT_RUN, STALE_MARK, STALE_NOTE, column_label, percent
from firstorder.settings import Project, checks

TABLE = "table-2"
PAPER = "paper"
# What a single seed or a shorter training gives is no verdict.
JUDGED = (verdicts.EQUIVALENT, verdicts.BETTER, verdicts.WORSE, verdicts.INCONCLUSIVE)


def render(projects: list[tuple[Path, Project]], published_path: Path) -> str:
    """Return the table in Markdown: for each row of `table-2` the paper's line and one of each project.

    A row that the paper does not have (a baseline) stands there only if some project has run it. A project's
    line carries its title.
    """
    comparisons = {project.title: tables.comparison(root, project, TABLE, published_path) for root, project in projects}
    columns = list(projects[0][1].tables[TABLE].columns)
    everything = pd.concat(comparisons.values(), ignore_index=True)
    heading = ["Accuracy, %", "", *(column_label(column) for column in columns)]
    lines = [heading, ["---", "---", *["---:"] * len(columns)]]
    for row in everything["row"].unique():
        lines += _lines_of_row(row, columns, comparisons)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, *_notes(comparisons)])


def replace_block(text: str, name: str, block: str) -> str:
    """Return `text` with what stands between the markers of block `name` replaced by `block`."""
    begin, end = (f"<!-- firstorder:{edge} {name} -->" for edge in ("begin", "end"))
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(
            f"expected one line {begin!r} and, after it, one line {end!r}; add them where the block belongs"
        )
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{block.strip()}\n{end}{after}"


def update(readme: Path, roots: list[Path], published_path: Path) -> None:
    """Write the table into the block `table-2` of `readme`, from the params.yaml and records of each root."""
    projects = [(root, checks.load(root / "params.yaml")) for root in roots]
    block = render(projects, published_path)
    try:
        text = replace_block(readme.read_text(encoding="utf-8"), TABLE, block)
    except FileNotFoundError:
        raise UserError(f"{readme}: no such file; run from the folder of the README") from None
    except UserError as error:
        raise UserError(f"{readme}: {error}") from None
    with replacing(readme) as part:
        part.write_text(text, encoding="utf-8")


def _lines_of_row(row: str, columns: list[str], comparisons: dict[str, pd.DataFrame]) -> list[list[str]]:
    """Lay out one row of the table: the paper's line, if it has one, then a line for each project."""
    found = {title: data[data["row"] == row].set_index("column") for title, data in comparisons.items()}
    stated = pd.concat([data["paper_printed"] for data in found.values()]).dropna().groupby(level=0).first()
    if stated.empty and all(data["accuracy_fraction"].isna().all() for data in found.values()):
        return []
    lines = [[PAPER, *(stated.get(column, "—") for column in columns)]] if len(stated) else []
    for title, data in found.items():
        # A baseline of ours stands there only where it was run; a row of the paper everywhere.
        if len(stated) or data["accuracy_fraction"].notna().any():
            lines.append([_short(title), *(_ours(data, column) for column in columns)])
    return [[f"**{row}**" if i == 0 else "", *line] for i, line in enumerate(lines)]


def _short(title: str) -> str:
    """Return the first words of a project's title; the note below the table has all of it."""
    return f"ours, {title.split(':')[0].split(',')[0].lower()}"


def _ours(data: pd.DataFrame, column: str) -> str:
    """Print one accuracy; † marks a single seed, whose ± is another kind of spread."""
    if column not in data.index or pd.isna(data.loc[column, "seeds"]):
        return NOT_RUN
    line = data.loc[column]
    mark = " †" if line["half_width_over"] == "tasks" else ""
    judged = f", {line['verdict']}" if line["verdict"] in JUDGED else ""
    stale = f" {STALE_MARK}" if line.get(STALE, False) else ""
    return percent(line["accuracy_fraction"], line["half_width_fraction"]) + mark + judged + stale


def _notes(comparisons: dict[str, pd.DataFrame]) -> list[str]:
    """Say what the ± are, and how many seeds and tasks stand behind each project's numbers."""
    everything = pd.concat(comparisons.values(), ignore_index=True)
    kinds = set(everything["half_width_over"].dropna())
    notes = []
    for meaning, lines in everything.groupby("paper_half_width_meaning", sort=False):
        rows = ", ".join(lines["row"].unique())
        notes.append(f"± of the paper ({rows}): {meaning}.")
    if "seeds" in kinds:
        notes.append("± of ours: 95 % interval (Student) for the mean over seeds.")
    if "tasks" in kinds:
        notes.append("† One seed: ± is the 95 % interval over its tasks.")
    if everything["verdict"].isin(JUDGED).any():
        notes.append(
            "Equivalent: the 95 % interval of ours minus the paper's lies within the margin fixed beforehand "
            "(paper/claims.yaml); better, worse: beyond it; inconclusive: it overlaps the margin."
        )
    if STALE in everything and everything[STALE].eq(True).any():
        notes.append(STALE_NOTE)
    for title, data in comparisons.items():
        ran = data.dropna(subset=["seeds"])
        if len(ran):
            notes.append(f"{title}: {_counts(ran['seeds'], 'seed')}, {_counts(ran['tasks_per_seed'], 'task')} each.")
    return [" ".join(notes)]


def _counts(values: pd.Series, unit: str) -> str:
    low, high = int(values.min()), int(values.max())
    number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{number} {unit}{'' if high == 1 else 's'}"
