"""The README's headline and table of accuracies, generated from records: the paper, full length, reduced length."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from firstorder.errors import UserError
from firstorder.files import MissingFileError, replacing
from firstorder.report import TEXT_FILE
from firstorder.report.claims import outcomes
from firstorder.report.claims.paper import Paper
from firstorder.report.read.csv_frames import STALE
from firstorder.report.text import headline, tables
from firstorder.report.text.formatting import (
    NOT_RUN,
    STALE_FOOTNOTE,
    STALE_MARK,
    column_label,
    count_range,
    markdown,
    percent,
)
from firstorder.settings import Project, checks

TABLE = "table-2"
HEADLINE = "headline"
PAPER = "paper"
SUMMARY = "What ±, † and the verdicts mean, how well the paper's numbers are known, how many seeds and tasks ours have"
# With a single seed or a shorter training there is no verdict to print.
JUDGED = (outcomes.EQUIVALENT, outcomes.BETTER, outcomes.WORSE, outcomes.INCONCLUSIVE, outcomes.UNDECIDABLE)


def render(projects: list[tuple[Path, Project]], published_path: Path) -> str:
    """Return the table in Markdown: for each row of `table-2` the paper's line and one line for each project.

    A row that the paper lacks (a baseline) is printed only if some project has run it. A project's line carries its
    title.
    """
    paper = Paper(published_path)
    comparisons = {project.title: tables.comparison(root, project, TABLE, paper) for root, project in projects}
    columns = list(projects[0][1].tables[TABLE].columns)
    everything = pd.concat(comparisons.values(), ignore_index=True)
    heading = ["Accuracy, %", "", *(markdown(column_label(column)) for column in columns)]
    lines = [heading, ["---", "---", *["---:"] * len(columns)]]
    for row in everything["row"].unique():
        lines += _lines_of_row(row, columns, comparisons)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table, _footnotes(comparisons)])


def replace_section(text: str, name: str, section: str) -> str:
    """Return `text` with everything between the markers of section `name` replaced by `section`."""
    begin, end = (f"<!-- firstorder:{edge} {name} -->" for edge in ("begin", "end"))
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(
            f"expected one line {begin!r} and, after it, one line {end!r}; add them where the section belongs"
        )
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{section.strip()}\n{end}{after}"


def update_section(page: Path, name: str, section: str) -> None:
    """Replace a section of a Markdown page; raises UserError if there is no such page or section."""
    try:
        text = replace_section(TEXT_FILE.read_text(page), name, section)
    except MissingFileError:
        raise UserError(f"{page}: no such file; run from the folder of the README") from None
    except UserError as error:
        raise UserError(f"{page}: {error}") from None
    with replacing(page) as part:
        part.write_text(text, encoding="utf-8")


def update(readme: Path, roots: list[Path], published_path: Path) -> None:
    """Write the section `table-2` of `readme` from the params.yaml and the records of each root.

    If there is a section `headline`, it gets the headline of the first root.
    """
    projects = [(root, checks.load(root / "params.yaml")) for root in roots]
    update_section(readme, TABLE, render(projects, published_path))
    if f" {HEADLINE} -->" in TEXT_FILE.read_text(readme):
        update_section(readme, HEADLINE, lead(*projects[0], published_path))


def lead(root: Path, project: Project, published_path: Path) -> str:
    """Return the headline of a folder as a paragraph of Markdown, from its records."""
    paper = Paper.of(root, published_path)
    compared = {name: tables.comparison(root, project, name, paper) for name in project.tables}
    return markdown(headline.sentence(root, project, compared))


def _lines_of_row(row: str, columns: list[str], comparisons: dict[str, pd.DataFrame]) -> list[list[str]]:
    """Lay out one row of the table: the paper's line, if it has one, then a line for each project."""
    found = {title: data[data["row"] == row].set_index("column") for title, data in comparisons.items()}
    stated = pd.concat([data["paper_printed"] for data in found.values()]).dropna().groupby(level=0).first()
    if stated.empty and all(data["accuracy_fraction"].isna().all() for data in found.values()):
        return []
    lines = [[PAPER, *(stated.get(column, "—") for column in columns)]] if len(stated) else []
    for title, data in found.items():
        # Every project has a line in a row of the paper; in the row of a baseline only projects that ran it have one.
        if len(stated) or data["accuracy_fraction"].notna().any():
            lines.append([_short(title), *(_ours(data, column) for column in columns)])
    return [[f"**{markdown(row)}**" if i == 0 else "", *line] for i, line in enumerate(lines)]


def _short(title: str) -> str:
    """Return the first words of a project's title; the footnotes have the full title."""
    return markdown(f"ours, {title.split(':')[0].split(',')[0].lower()}")


def _ours(data: pd.DataFrame, column: str) -> str:
    """Return one accuracy as text; † marks a single seed, whose ± is over tasks instead of seeds."""
    if column not in data.index or pd.isna(data.loc[column, "seeds"]):
        return NOT_RUN
    line = data.loc[column]
    mark = " †" if line["half_width_over"] == "tasks" else ""
    judged = f", {line['verdict']}" if line["verdict"] in JUDGED else ""
    stale = f" {STALE_MARK}" if line.get(STALE, False) else ""
    return percent(line["accuracy_fraction"], line["half_width_fraction"]) + mark + judged + stale


def _footnotes(comparisons: dict[str, pd.DataFrame]) -> str:
    """Explain each ±, and give the number of seeds and tasks behind each project's numbers: a list that folds."""
    everything = pd.concat(comparisons.values(), ignore_index=True)
    kinds = set(everything["half_width_over"].dropna())
    footnotes = tables.paper_footnotes(everything)
    if "seeds" in kinds:
        footnotes.append("± of ours: 95 % interval (Student) for the mean over seeds.")
    if "tasks" in kinds:
        footnotes.append("† One seed: ± is the 95 % interval over its tasks. One seed decides nothing.")
    if everything["verdict"].isin(JUDGED).any():
        footnotes.append(
            "Equivalent: the 95 % interval of ours minus the paper's lies within the margins of paper/claims.yaml; "
            "better, worse: beyond them; inconclusive: it overlaps one; undecidable: the paper's own ± is as wide. "
            "results/claims.md says of each verdict what was known when its margins were fixed."
        )
    if STALE in everything and everything[STALE].eq(True).any():
        footnotes.append(STALE_FOOTNOTE)
    for title, data in comparisons.items():
        ran = data.dropna(subset=["seeds"])
        if len(ran):
            footnotes.append(
                f"{title}: {_counts(ran['seeds'], 'seed')}, {_counts(ran['tasks_per_seed'], 'task')} each."
            )
    items = "\n".join(f"- {markdown(footnote)}" for footnote in footnotes)
    return f"<details>\n<summary>{SUMMARY}</summary>\n\n{items}\n\n</details>"


def _counts(values: pd.Series, unit: str) -> str:
    return f"{count_range(values)} {unit}{'' if values.max() == 1 else 's'}"
