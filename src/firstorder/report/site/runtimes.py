"""The page of runtimes: how long each result took, by machine and device, as its run file says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firstorder.records import freshness
from firstorder.records.cells import how_made
from firstorder.records.freshness import Expected
from firstorder.report.site.cells import clock
from firstorder.report.site.folders import Folder
from firstorder.report.text.formatting import PrintedTable
from firstorder.settings import MODES

_HEADING = ("Result", "Folder", "Engine", "Time of each seed", "Together")


@dataclass
class _Row:
    """The times of one result over its seeds, in seconds."""

    name: str
    folder: str
    engine: str
    seconds: list[float]


def by_machine(folders: Sequence[Folder]) -> list[PrintedTable]:
    """Return a table for each machine and device with a recorded time, the one with most time first.

    A result that stands in several folders is counted in the first of them.
    """
    rows: dict[str, dict[tuple[str, ...], _Row]] = {}
    counted: set[str] = set()
    for folder in folders:
        for expected in freshness.everything(folder.project):
            run = how_made(folder.root / expected.path)
            seconds, identity = run.get("seconds"), run.get("run_digest", expected.path)
            # Both modes of an evaluation are measured together, and the run file of each has the time of both.
            if not isinstance(seconds, int | float) or identity in counted or expected.about.endswith(f"/{MODES[1]}"):
                continue
            counted.add(identity)
            machine = f"{run.get('machine', 'unknown machine')}: {run.get('device', 'unknown device')}"
            name, engine = _name(expected), str(run.get("engine", "")) or "not recorded"
            row = _Row(name=name, folder=folder.name or "main", engine=engine, seconds=[])
            rows.setdefault(machine, {}).setdefault((folder.name, name, engine), row).seconds.append(float(seconds))
    longest = sorted(rows, key=lambda machine: -sum(sum(row.seconds) for row in rows[machine].values()))
    return [_table(machine, list(rows[machine].values())) for machine in longest]


def _name(expected: Expected) -> str:
    """Return what was computed, without its seed, like `training of reptile/omniglot-5way`."""
    name = expected.name.partition(" seed ")[0]
    if name.startswith("curve of "):
        return f"training of {name.removeprefix('curve of ')}"
    return f"evaluation of {name.rpartition('/')[0]}" if name.endswith(f"/{MODES[0]}") else name


def _table(machine: str, rows: Sequence[_Row]) -> PrintedTable:
    total = sum(sum(row.seconds) for row in rows)
    return PrintedTable(
        title=machine,
        heading=_HEADING,
        rows=tuple(
            (row.name, row.folder, row.engine, ", ".join(map(clock, row.seconds)), clock(sum(row.seconds)))
            for row in rows
        ),
        label_columns=3,
        footnotes=(f"Together: {clock(total)}.",),
    )
