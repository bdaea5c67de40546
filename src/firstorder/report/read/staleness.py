"""How the report treats a stale record: it refuses the record or, if allowed, shows it with a mark.

By default a stale record raises UserError, so nothing is ever marked. Inside `allowed()` stale records are let through
and remembered; the writer of a table or figure then adds the column `stale` to its CSV file, true in the rows that rest
on a stale record, and whatever is printed from that file carries the mark and a footnote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import pandas as pd

from firstorder.errors import UserError
from firstorder.records import freshness
from firstorder.records.cells import CellRecord
from firstorder.records.freshness import Expected
from firstorder.report.read.csv_frames import STALE
from firstorder.settings import Project

# The stale records that were let through, by path; None where none may be.
_LET_THROUGH: ContextVar[dict[str, Expected] | None] = ContextVar("let_through", default=None)


@contextmanager
def allowed() -> Iterator[None]:
    """Let stale records through within the `with` statement and remember them."""
    token = _LET_THROUGH.set({})
    try:
        yield
    finally:
        _LET_THROUGH.reset(token)


def check(root: Path, recorded: Iterable[Expected], records: Mapping[str, CellRecord] | None = None) -> list[Expected]:
    """Return those that are stale, where that is allowed.

    Else raises UserError: it names the first of them, the first difference and the command that makes it anew.
    `records` has, by path, those that the caller has read already; they are not read again.
    """
    read = records or {}
    found = ((item, freshness.difference(root, item, read.get(item.path))) for item in recorded)
    stale = [(item, difference) for item, difference in found if difference is not None]
    let_through = _LET_THROUGH.get()
    if stale and let_through is None:
        raise _refusal(root, *stale[0], others=len(stale) - 1)
    if let_through is not None:
        let_through.update({item.path: item for item, _ in stale})
    return [item for item, _ in stale]


def shown(project: Project) -> list[Expected]:
    """List the results that the report shows: all but the curves and the probes that no figure draws."""
    figures = project.figures
    drawn = {("train", name) for figure in figures for name in project.trainings_of_figure(figure)}
    drawn |= {(figure.kind, name) for figure in figures.values() for name in figure.evaluations or ()}

    def is_shown(item: Expected) -> bool:
        verb = item.command.split(" ")[1]
        return verb not in ("train", "adaptation", "alphabets") or (verb, item.about) in drawn

    return [item for item in freshness.everything(project) if is_shown(item)]


def marked(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the column `stale` to what is drawn, if anything stale was met: true where a row rests on it.

    A row is known by its training or evaluation; rows that name neither, as those of simulations, share the mark.
    """
    let_through = list((_LET_THROUGH.get() or {}).values())
    if not let_through or STALE in frame:
        return frame
    key = next((key for key in ("training", "evaluation") if key in frame), None)
    if key is None:
        return frame.assign(**{STALE: True})
    unnamed = frame[key].isna() & any(item.pack is None for item in let_through)
    return frame.assign(**{STALE: frame[key].isin([item.about for item in let_through]) | unnamed})


def marked_by(frame: pd.DataFrame, names: Iterable[Iterable[str]]) -> pd.DataFrame:
    """Add the column `stale`, true where a row rests on a stale record (see `rests_on_stale`), if one does.

    `names` has, for each row, what it rests on.
    """
    stale = [rests_on_stale(one) for one in names]
    return frame.assign(**{STALE: stale}) if any(stale) else frame


def rests_on_stale(names: Iterable[str]) -> bool:
    """Say whether a record of one of these cells, trainings or evaluations, or at one of these paths, was stale."""
    let_through = _LET_THROUGH.get() or {}
    return not {*let_through, *(item.about for item in let_through.values())}.isdisjoint(names)


def _refusal(root: Path, item: Expected, difference: str, others: int) -> UserError:
    more = f" ({others} more stale)" if others else ""
    option = directory(root) if item.command.startswith("make ") else ""
    why = f"{freshness.since(difference)}{more}"
    return UserError(f"{root / item.path}: stale, {why}; make it again: {item.command}{option}")


def directory(root: Path) -> str:
    """Return ` DIR=...` as make wants it: the folder of params.yaml seen from the one with the Snakefile."""
    here = root.resolve()
    tops = [folder for folder in (here, *here.parents) if (folder / "Snakefile").exists()]
    return f" DIR={here.relative_to(tops[0])}" if tops and tops[0] != here else ""
