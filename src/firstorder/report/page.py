"""The report as one HTML file that holds everything: no script, no second file, nothing from the network.

It puts together the tables and figures already written; what it says of the cells it reads from the records.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable
from pathlib import Path

from firstorder.errors import UserError
from firstorder.files import replacing
from firstorder.report import FIGURE, PAGE, claim_tables, runs, staleness, tables
from firstorder.report.accuracies import fresh_records
from firstorder.report.printed import MISSING, NOT_RUN, PrintedTable, percent, training_label
from firstorder.report.statistics import accuracy_over_tasks
from firstorder.results import CellRecord
from firstorder.settings import MODES, RECORD, Project

PAPER = "https://arxiv.org/abs/1803.02999"
_STYLE = """
:root { color-scheme: light dark; --text: #1c1c1c; --faint: #5c5c5c; --line: #d4d4d4; --back: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e4e4; --faint: #a4a4a4; --line: #444444; --back: #17181a; } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--text); background: var(--back);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { line-height: 1.2; } h3 { margin: 2rem 0 0.5rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
a { color: inherit; } nav ul { padding-left: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { text-align: right; } tbody th { font-weight: normal; text-align: left; white-space: nowrap; }
thead th.label { text-align: left; } td { text-align: right; white-space: nowrap; }
figure { margin: 0; } img { display: block; width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
.note, figcaption, footer { color: var(--faint); font-size: 0.9rem; }
code { font-size: 0.95em; overflow-wrap: anywhere; }
@media (max-width: 40rem) { table { font-size: 0.8rem; } tbody th { white-space: normal; } th, td { padding: 0.3rem; } }
"""


def write(root: Path, project: Project, captions: Path) -> Path:
    """Write results/report.html from the tables and figures below `root`, with the texts in `captions`.

    Each table and figure has its caption in `<name>.rst`. Raises UserError for a stale record, or a table,
    figure or caption that is not there.
    """
    records = fresh_records(root, project)
    sections = [
        *(_table_section(root, project, name, captions) for name in tables.names(project)),
        *(_figure_section(root, project, name, captions) for name in project.figures),
        ("claims", "Claims", _claims(root, captions)),
        ("trainings", "Trainings", _training_table(project).to_html()),
        ("cells", "Cells", _cell_table(project, records).to_html()),
        ("runs", "How each record was made", _run_table(root, records).to_html()),
    ]
    path = root / PAGE
    with replacing(path) as part:
        part.write_text(_page(project.title, sections), encoding="utf-8")
    return path


def paragraphs(rst: str) -> str:
    """Turn plain RST paragraphs into HTML paragraphs; of the markup only ``code`` is known."""
    texts = [" ".join(block.split()) for block in re.split(r"\n\s*\n", rst.strip())]
    marked = [re.sub(r"``(.+?)``", r"<code>\1</code>", html.escape(text)) for text in texts if text]
    return "\n".join(f"<p>{text}</p>" for text in marked)


def _page(title: str, sections: list[tuple[str, str, str]]) -> str:
    contents = "\n".join(f'<li><a href="#{key}">{html.escape(heading)}</a></li>' for key, heading, _ in sections)
    body = "\n".join(
        f'<section id="{key}">\n<h2>{html.escape(heading)}</h2>\n{content}\n</section>'
        for key, heading, content in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>firstorder: {html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<p>A replication of <a href="{PAPER}">On First-Order Meta-Learning Algorithms</a> (arXiv 1803.02999).
Where a number is missing it says so: “{NOT_RUN}” means that no record exists.</p>
</header>
<nav aria-label="Contents"><ul>
{contents}
</ul></nav>
<main>
{body}
</main>
</body>
</html>
"""


def _caption(captions: Path, name: str) -> str:
    path = captions / f"{name}.rst"
    if not path.exists():
        raise UserError(f"{path}: no such caption; every table and figure of params.yaml needs one, write it there")
    return paragraphs(path.read_text(encoding="utf-8"))


def _table_section(root: Path, project: Project, name: str, captions: Path) -> tuple[str, str, str]:
    table = tables.printed(root, project, name)
    return f"table-{name}", table.title, f"{_caption(captions, name)}\n{table.to_html()}"


def _figure_section(root: Path, project: Project, name: str, captions: Path) -> tuple[str, str, str]:
    path = root / FIGURE.format(name=name, suffix="png")
    if not path.exists():
        raise UserError(f"{path}: no such figure; write it first: make report")
    title = project.figures[name].title
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
    numbers = FIGURE.format(name=name, suffix="csv")
    caption = f"{_caption(captions, name)}\n<p>The plotted numbers: <code>{html.escape(numbers)}</code></p>"
    figure = f"<figure>\n{image}\n<figcaption>{caption}</figcaption>\n</figure>"
    claims = claim_tables.beside(root, name, project.figures[name].kind)
    tables_beside = (f"<h3>{html.escape(table.title)}</h3>\n{table.to_html()}" for table in claims)
    return f"figure-{name}", title, "\n".join([figure, *tables_beside])


def _claims(root: Path, captions: Path) -> str:
    found = claim_tables.printed(root)
    parts = [f"<h3>{html.escape(table.title)}</h3>\n{table.to_html()}" for table in found]
    return "\n".join([_caption(captions, "claims"), *(parts or [f"<p>{claim_tables.NOTHING}</p>"])])


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
    note = "Images: mini-batch of an inner step. Inner learning rates are on the loss summed over the mini-batch."
    if swept:
        note += f" The {len(swept)} trainings of the sweeps are left out; params.yaml and the figure's CSV have them."
    return PrintedTable(title="Trainings", heading=heading, rows=tuple(rows), label_columns=1, notes=(note,))


def _cell_table(project: Project, records: Iterable[CellRecord]) -> PrintedTable:
    """Lay out every cell of params.yaml: its settings of evaluation, and which of its seeds are recorded."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for record in records:
        seeds.setdefault((record.evaluation, record.mode), []).append(str(record.seed))
    rows = []
    for name, evaluation in project.evaluations.items():
        for mode in MODES:
            ran = seeds.get((name, mode), [])
            counts = (f"{len(ran)} of {len(project.seeds)}", ", ".join(ran) or NOT_RUN, f"{evaluation.tasks:,}")
            steps = (str(evaluation.inner_steps), str(evaluation.inner_batch_size))
            rows.append((training_label(name), mode, *counts, *steps))
    heading = ("Cell", "Mode", "Seeds", "Which", "Tasks a seed", "Inner steps", "Images")
    return PrintedTable(title="Cells", heading=heading, rows=tuple(rows), label_columns=2)


def _run_table(root: Path, records: Iterable[CellRecord]) -> PrintedTable:
    """Lay out every record with its accuracy and what its `seed-<n>.run.json` says of commit, machine and time."""
    rows, stale = [], []
    for record in records:
        name = RECORD.format(evaluation=record.evaluation, mode=record.mode, seed=record.seed)
        stale.append(staleness.rests_on_stale([name]))
        run = runs.read(root / name)
        accuracy, _ = accuracy_over_tasks(record.correct_histogram)
        seconds = run.get("seconds")
        clock = f"{seconds:,.0f} s" if isinstance(seconds, int | float) else MISSING
        made = (str(run.get(name, MISSING)) for name in ("commit", "device", "machine"))
        rows.append((training_label(record.evaluation), record.mode, str(record.seed), percent(accuracy), clock, *made))
    heading = ("Cell", "Mode", "Seed", "Accuracy, %", "Time", "Commit", "Device", "Machine")
    time = "Time is that of the evaluation, which measures both modes at once; training is not in it."
    notes = (time,) if rows else ("No record exists yet.",)
    table = PrintedTable(title="Records", heading=heading, rows=tuple(rows), label_columns=2, notes=notes)
    return table.marking(stale)
