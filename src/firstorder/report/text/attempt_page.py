"""The page of `firstorder try`: accuracies, learning curve, what to do next. One file, offline, no script.

The curve is drawn here as SVG, so that neither matplotlib nor anything else beside the template engine is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstorder.files import replacing
from firstorder.records.cells import CellRecord, read_run
from firstorder.report.read import curves
from firstorder.report.read.accuracies import fresh_records
from firstorder.report.read.statistics import accuracy_over_tasks, half_width_over_tasks
from firstorder.report.text.formatting import percent, points
from firstorder.report.text.templating import TEMPLATES, environment
from firstorder.settings import MODES, Project

LABELS = {"reptile": "Reptile", "untrained": "Random initialisation"}
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 320, 48, 40  # of the curve, in pixels
# The lines of the curve: pool, mode, and the class of the style sheet.
LINES = (("meta-test", "transductive", "a"), ("meta-test", "inductive", "b"), ("meta-train", "inductive", "c"))


@dataclass(frozen=True, kw_only=True)
class Result:
    """The accuracies (fractions) of one mode, each with the half-width of its 95 % interval over tasks."""

    mode: str
    trained: float
    trained_half_width: float
    untrained: float
    untrained_half_width: float
    chance: float

    @property
    def difference(self) -> float:
        """Reptile minus random initialisation."""
        return self.trained - self.untrained

    @property
    def half_width(self) -> float:
        """Of the difference. Both share their tasks, so the true interval is hardly wider than this."""
        return math.hypot(self.trained_half_width, self.untrained_half_width)

    @property
    def verdict(self) -> str:
        """What the interval of the difference says, in words."""
        if self.difference - self.half_width > 0:
            return "Reptile is better"
        if self.difference + self.half_width < 0:
            return "random initialisation is better"
        return "no difference is shown"


def results(root: Path, project: Project) -> list[Result]:
    """Return the result of each mode. Raises UserError for a stale record, as all reports do."""
    found = {(record.algorithm, record.mode): record for record in fresh_records(root, project)}
    return [_result(mode, found["reptile", mode], found["untrained", mode]) for mode in MODES]


def _result(mode: str, reptile: CellRecord, untrained: CellRecord) -> Result:
    (trained, error), (start, start_error) = (accuracy_over_tasks(r.correct_histogram) for r in (reptile, untrained))
    return Result(
        mode=mode,
        trained=trained,
        trained_half_width=half_width_over_tasks(error),
        untrained=start,
        untrained_half_width=half_width_over_tasks(start_error),
        chance=1 / reptile.way,
    )


def sentences(found: Sequence[Result]) -> list[str]:
    """Return one line a mode: both accuracies, their difference, and the verdict."""
    return [
        f"  {one.mode:12}  Reptile {percent(one.trained, one.trained_half_width)}, random initialisation "
        f"{percent(one.untrained, one.untrained_half_width)}: {points(one.difference)} points, {one.verdict}"
        for one in found
    ]


def write(
    path: Path,
    root: Path,
    project: Project,
    pictures: Sequence[tuple[str, str]],
    following: Sequence[tuple[str, str]],
) -> Path:
    """Write the page from the records and curves below `root`.

    `pictures` are the name of a class and a PNG in base64; `following` what can be done next and its command. Raises
    UserError for a stale record or curve.
    """
    training = next(iter(project.trainings))
    curve = curves.read(root, project, training, project.seeds[0])
    rows = [] if curve is None else curve.to_dict("records")
    evaluation = next(iter(project.evaluations.values()))
    records = fresh_records(root, project)
    templates = environment(TEMPLATES)
    text = templates.get_template("attempt.html.j2").render(
        title=project.title,
        results=results(root, project),
        percent=percent,
        points=points,
        lines=_lines(rows, project.trainings[training].outer_steps),
        rows=rows,
        plot=_plot(project.trainings[training].outer_steps, 1 / project.trainings[training].way),
        training=project.trainings[training],
        evaluation=evaluation,
        tasks=evaluation.tasks,
        runs=[(record, read_run(root / record.cell.path)) for record in records],
        labels=LABELS,
        pictures=pictures,
        following=following,
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _lines(rows: Sequence[dict[Any, Any]], outer_steps: int) -> list[dict[str, str]]:
    """Return the lines of the curve: name, class of the style sheet, and the points of the SVG."""
    found = []
    for pool, mode, style in LINES:
        line = [row for row in rows if (row["pool"], row["mode"]) == (pool, mode)]
        where = " ".join(f"{_x(row['outer_step'], outer_steps):.1f},{_y(row['accuracy']):.1f}" for row in line)
        found.append({"name": f"{pool} classes, {mode}", "style": style, "points": where})
    return found


def _plot(outer_steps: int, chance: float) -> dict[str, Any]:
    """Return the sizes of the plot and its ticks."""
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - 8,
        "bottom": HEIGHT - BOTTOM,
        "across": [(f"{_x(step, outer_steps):.1f}", f"{step:,}") for step in (0, outer_steps // 2, outer_steps)],
        "up": [(f"{_y(share):.1f}", f"{100 * share:.0f}") for share in (0, 0.25, 0.5, 0.75, 1)],
        "chance": f"{_y(chance):.1f}",
    }


def _x(outer_step: float, outer_steps: int) -> float:
    return LEFT + (WIDTH - 8 - LEFT) * outer_step / max(1, outer_steps)


def _y(accuracy: float) -> float:
    return (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - 8) * accuracy
