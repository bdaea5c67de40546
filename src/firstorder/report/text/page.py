"""The report as one self-contained HTML file: no script, no second file, nothing from the network.

Tables and figures are taken from the files already written, facts about cells from the records. The template and the
style sheet are in templates/, beside this file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup, escape

from firstorder.files import replacing
from firstorder.records.cells import CellRecord, read_run
from firstorder.report import FIGURE, FIGURE_FILE, PAGE
from firstorder.report.claims import claim_tables
from firstorder.report.read import staleness
from firstorder.report.read.accuracies import fresh_records
from firstorder.report.read.statistics import accuracy_over_tasks
from firstorder.report.text import captions as caption_texts
from firstorder.report.text import headline, tables
from firstorder.report.text.formatting import MISSING, NOT_RUN, PrintedTable, percent, training_label
from firstorder.report.text.templating import TEMPLATES, environment
from firstorder.settings import MODES, Project


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page. Its table has the section's title; each table of claims has its own.

    A figure is its PNG in base64 and the name of the CSV file with its `numbers`.
    """

    key: str
    title: str
    text: Markup = field(default_factory=Markup)
    png: str = ""
    numbers: str = ""
    table: PrintedTable | None = None
    claims: Sequence[PrintedTable] = ()


def write(root: Path, project: Project, captions: Path) -> Path:
    """Write results/report.html from the tables and figures below `root`, with the texts in the folder `captions`.

    The caption of each table and figure is `<name>.rst` there or in the folder's own `captions`. Raises UserError for a
    stale record, or for a missing table or figure.
    """
    records = fresh_records(root, project)
    sections = [
        *(_table_section(root, project, name, captions) for name in tables.names(project)),
        *(_figure_section(root, project, name, captions) for name in project.figures),
        _claims_section(root, captions),
        Section(key="trainings", title="Trainings", table=_training_table(project)),
        Section(key="cells", title="Cells", table=_cell_table(project, records)),
        Section(key="runs", title="How each record was made", table=_run_file_table(root, records)),
    ]
    lead = headline.sentence(root, project, headline.read(root, project))
    path = root / PAGE
    with replacing(path) as part:
        part.write_text(render(project.title, lead, sections), encoding="utf-8")
    return path


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Fill the template and return the page; everything that is not Markup is escaped."""
    templates = environment(TEMPLATES)
    return templates.get_template("page.html.j2").render(title=title, lead=lead, sections=sections, not_run=NOT_RUN)


def paragraphs(rst: str) -> Markup:
    """Turn plain RST paragraphs into HTML paragraphs; the only markup supported is ``code``."""
    texts = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", rst.strip())]
    marked = [re.sub(r"``(.+?)``", r"<code>\1</code>", str(escape(text))) for text in texts if text]
    return Markup("\n".join(f"<p>{text}</p>" for text in marked))


def _table_section(root: Path, project: Project, name: str, captions: Path) -> Section:
    table = tables.printed(root, project, name)
    return Section(
        key=f"table-{name}", title=table.title, text=paragraphs(caption_texts.read(root, captions, name)), table=table
    )


def _figure_section(root: Path, project: Project, name: str, captions: Path) -> Section:
    path = root / FIGURE.format(name=name, suffix="png")
    png = base64.b64encode(FIGURE_FILE.read(path)).decode()
    return Section(
        key=f"figure-{name}",
        title=project.figures[name].title,
        text=paragraphs(caption_texts.read(root, captions, name)),
        png=png,
        numbers=FIGURE.format(name=name, suffix="csv"),
        claims=claim_tables.beside(root, name, project.figures[name].kind),
    )


def _claims_section(root: Path, captions: Path) -> Section:
    found = claim_tables.printed(root)
    text = paragraphs(caption_texts.read(root, captions, "claims"))
    if not found:
        text += Markup("\n") + paragraphs(claim_tables.NOTHING)
    return Section(key="claims", title="Claims", text=text, claims=found)


def _training_table(project: Project) -> PrintedTable:
    heading = (
        "Training",
        "Outer steps",
        "Step size",
        "Tasks an outer step",
        "Inner optimiser",
        "Inner steps",
        "Images",
    )
    rows = []
    swept = {name for sweep in project.sweeps or {} for _, _, name in project.members_of_sweep(sweep)}
    for name, training in project.trainings.items():
        if name in swept:
            continue
        step_size = f"{training.outer_step_size:g} to {training.outer_step_size_final:g}"
        optimiser = f"{training.inner_optimiser}, {training.inner_learning_rate:g}"
        steps = (f"{training.outer_steps:,}", step_size, str(training.meta_batch_size), optimiser)
        rows.append((training_label(name), *steps, str(training.inner_steps), str(training.inner_batch_size)))
    words = "Images: mini-batch of an inner step. Inner learning rates are on the loss summed over the mini-batch."
    if swept:
        words += f" The {len(swept)} trainings of the sweeps are left out; params.yaml and the figure's CSV have them."
    return PrintedTable(title="Trainings", heading=heading, rows=tuple(rows), label_columns=1, footnotes=(words,))


def _cell_table(project: Project, records: Iterable[CellRecord]) -> PrintedTable:
    """Lay out every cell of params.yaml: its evaluation settings, and which of its seeds are recorded."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for record in records:
        seeds.setdefault((record.evaluation, record.mode), []).append(str(record.seed))
    rows = []
    for name, evaluation in project.evaluations.items():
        for mode in MODES:
            recorded = seeds.get((name, mode), [])
            counts = (f"{len(recorded)} of {len(project.seeds)}", ", ".join(recorded) or NOT_RUN)
            sizes = (f"{evaluation.tasks:,}", str(evaluation.inner_steps), str(evaluation.inner_batch_size))
            rows.append((training_label(name), mode, *counts, *sizes))
    heading = ("Cell", "Mode", "Seeds", "Which", "Tasks a seed", "Inner steps", "Images")
    return PrintedTable(title="Cells", heading=heading, rows=tuple(rows), label_columns=2)


def _run_file_table(root: Path, records: Iterable[CellRecord]) -> PrintedTable:
    """Lay out every record with its accuracy, and the time, commit and machine from its run file."""
    rows, stale = [], []
    for record in records:
        stale.append(staleness.rests_on_stale([record.cell.path]))
        run = read_run(root / record.cell.path)
        accuracy, _ = accuracy_over_tasks(record.correct_histogram)
        seconds = run.get("seconds")
        clock = f"{seconds:,.0f} s" if isinstance(seconds, int | float) else MISSING
        made = (str(run.get(name, MISSING)) for name in ("commit", "device", "machine"))
        rows.append((training_label(record.evaluation), record.mode, str(record.seed), percent(accuracy), clock, *made))
    heading = ("Cell", "Mode", "Seed", "Accuracy, %", "Time", "Commit", "Device", "Machine")
    time = "Time is that of the evaluation, which measures both modes at once; training is not in it."
    footnotes = (time,) if rows else ("No record exists yet.",)
    table = PrintedTable(title="Records", heading=heading, rows=tuple(rows), label_columns=2, footnotes=footnotes)
    return table.marking(stale)
