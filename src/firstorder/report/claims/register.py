"""When each claim was fixed: registered.csv beside a claims.yaml, made from its history by tools/register_claims.py.

A claim is fixed by the commit since which its *rule* has stood: what is compared, how, and the margins in numbers. Its
sentence, its origin and what it says about `known` are not part of the rule and may be reworded. A claim whose rule is
not in the register was fixed just now. `check` refuses a claim that says of a seed that less was known than the dates
of the seed's run files allow.

The dates are those of commits and of run files. A run file has the end and the computing time of a training. One that
was interrupted began earlier than the difference of the two; such a seed is to be declared by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from firstorder.errors import UserError
from firstorder.records.cells import how_made, how_trained
from firstorder.report.claims.claims import Claim, Claims
from firstorder.report.claims.declared import Declared, Known
from firstorder.report.claims.paper import Paper
from firstorder.report.read import csv_frames
from firstorder.report.read.published import Line
from firstorder.settings import (
    CURVE,
    EXPANSION,
    INNER_PRODUCTS,
    MANIFOLD_POINTS,
    RECORD,
    SINE_FITS,
    SINE_LOSSES,
    Project,
    digest,
    resolved,
)

REGISTER = "registered.csv"
COLUMNS = ("id", "rule", "commit", "committed")
_REMEDY = "say what was known, or fix claims by a commit before their trainings and then run: make register"


@dataclass(frozen=True)
class Fixed:
    """The rule of a claim, and the commit and date since which it has stood."""

    rule: str
    commit: str
    committed: datetime


@dataclass(frozen=True)
class Made:
    """When a seed's results were made: the first start and the last end, None if a run file lacks it."""

    began: datetime | None
    ended: datetime | None


def utc(text: str) -> datetime:
    """Return a date and time in ISO format as UTC. Raises ValueError for another text."""
    return datetime.fromisoformat(text).astimezone(UTC)


def rules(claims: Claims, accuracies: Mapping[Line, float]) -> dict[str, str]:
    """Return the digest of each claim's rule, by id."""
    return {name: digest(rule(claim, claims, accuracies)) for name, claim in claims.everything().items()}


def rule(claim: Declared, claims: Claims, accuracies: Mapping[Line, float]) -> dict[str, Any]:
    """Return the rule of a claim: what is compared, how, and the margins in numbers."""
    found = {
        name: value
        for name, value in resolved(claim).items()
        if name not in Declared.__dataclass_fields__ and value is not None
    }
    if isinstance(claim, Claim) and claim.cells and claim.relation != "above":
        margins = claims.margins(claim, accuracies)
        found["margins_points"] = [round(100 * margins.below, 6), round(100 * margins.above, 6)]
    if isinstance(claim, Claim) and claim.theory and claims.theory_margins:
        found["margin"] = claims.theory_margins.of(claim.theory)
    return found


def read(path: Path) -> dict[str, Fixed]:
    """Read a register: what was fixed when, by id; empty if there is none. Raises UserError for a damaged one."""
    if not path.exists():
        return {}
    frame = csv_frames.read(path, COLUMNS, dict.fromkeys(COLUMNS, "str"))
    try:
        return {line.id: Fixed(line.rule, line.commit, utc(line.committed)) for line in frame.itertuples()}
    except ValueError as error:
        raise UserError(f"{path}: expected dates under committed: {error}; make it again: make register") from None


def of(paper: Paper) -> dict[str, Fixed]:
    """Read the register beside the claims of a paper."""
    return read(paper.claims_path.with_name(REGISTER))


def check(root: Path, project: Project, paper: Paper, judged: pd.DataFrame) -> None:
    """Refuse a claim that says that less was known than the dates allow. `judged`: the table of claims.

    Raises UserError with the claim, the seed, and both dates.
    """
    register = of(paper)
    declared, digests = paper.claims.everything(), rules(paper.claims, paper.accuracies)
    for line in judged.itertuples():
        fixed = register.get(str(line.id))
        if fixed is not None and fixed.rule != digests[str(line.id)]:
            fixed = None
        known = declared[str(line.id)].known_before
        for seed, made in _made(root, project, line).items():
            if (why := contradiction(known, seed, made, fixed)) is not None:
                raise UserError(f"{paper.claims_path}: {line.id}: {why}; {_REMEDY}")


def contradiction(known: Known, seed: int | None, made: Made, fixed: Fixed | None) -> str | None:
    """Say in what `known` contradicts the dates of a seed (None: of a result without seeds), if it does."""
    level = known.level(seed)
    limit, event = {"nothing": (made.began, "began"), "curve": (made.ended, "ended"), "result": (None, "")}[level]
    if limit is None or (fixed is not None and fixed.committed < limit):
        return None
    of_seed = "" if seed is None else f" of seed {seed}"
    since = "in no commit yet" if fixed is None else f"fixed on {fixed.committed:%Y-%m-%d %H:%M} ({fixed.commit})"
    known_then = "nothing was known" if level == "nothing" else "only a curve was known"
    then = f"the computation {event} on {limit:%Y-%m-%d %H:%M}"
    return f"says that {known_then}{of_seed}, but its rule is {since} and {then}"


def rests_on(line: Any) -> list[str]:
    """Name the cells, trainings or files whose records decide a claim, a line of the table of claims."""
    if line.kind == "simulation":
        return [MANIFOLD_POINTS] if line.cells == "manifold-distance" else [SINE_LOSSES, SINE_FITS]
    if line.kind == "theory":
        return [EXPANSION if pd.isna(line.theory_training) else str(line.theory_training)]
    return [name for name in re.split(r" against | \+ ", str(line.cells)) if name]


def _made(root: Path, project: Project, line: Any) -> dict[int | None, Made]:
    """Return when the results of a claim were made, by seed; without seeds under None. Missing results are left out."""
    names = rests_on(line)
    if line.kind == "simulation" or names == [EXPANSION]:
        return _times({None: [how_made(root / name) for name in names]})
    runs: dict[int | None, list[dict[str, Any]]] = {}
    for seed in project.seeds:
        found = [_runs(root, project, line.kind, name, seed) for name in names]
        runs[seed] = [run for part in found for run in part]
    return _times(runs)


def recorded_in(root: Path, project: Project, kind: str, name: str, seed: int) -> Path | None:
    """Return the file of a seed that decides a claim of a kind; `name` as of `rests_on`. None if nothing is planned."""
    if name in (SINE_LOSSES, SINE_FITS, MANIFOLD_POINTS, EXPANSION):
        return root / name
    if kind == "theory":
        return root / INNER_PRODUCTS.format(training=name, seed=seed)
    if name in project.trainings:
        return root / CURVE.format(training=name, seed=seed)
    evaluation, _, mode = name.rpartition("/")
    if evaluation not in project.evaluations:
        return None
    return root / RECORD.format(evaluation=evaluation, mode=mode, seed=seed)


def _runs(root: Path, project: Project, kind: str, name: str, seed: int) -> list[dict[str, Any]]:
    """Return the run files behind one cell or training of a seed: of a cell, its training's and its own."""
    path = recorded_in(root, project, kind, name, seed)
    evaluation = project.evaluations.get(name.rpartition("/")[0])
    if path is None:
        return [{}]
    if kind == "theory" or name in project.trainings or evaluation is None:
        return [how_made(path)]
    if not path.exists():  # whatever its training shows, this number is not known
        return [{}]
    return [how_trained(root, evaluation.training, seed), how_made(path)]


def _times(runs: Mapping[int | None, Sequence[Mapping[str, Any]]]) -> dict[int | None, Made]:
    made = {}
    for seed, found in runs.items():
        ends = [(utc(run["ended"]), run.get("seconds", 0)) for run in found if "ended" in run]
        if ends:
            began = min(end - timedelta(seconds=seconds) for end, seconds in ends)
            # While a part is missing, the result is not known.
            made[seed] = Made(began, max(end for end, _ in ends) if len(ends) == len(found) else None)
    return made
