"""Explain the verdict on one claim: its rule as committed, what was known by then, and the results that decide it.

The verdict is that of results/claims.csv, which `make report` wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

import pandas as pd
import yaml

from firstorder.errors import UserError, one_line
from firstorder.report import CLAIMS
from firstorder.report.claims import claim_rows, claim_tables, outcomes, register
from firstorder.report.claims.claim_tables import Layout
from firstorder.report.claims.declared import ORIGINS, Declared
from firstorder.report.claims.paper import Paper
from firstorder.report.claims.register import Fixed
from firstorder.report.read.csv_frames import STALE
from firstorder.report.read.staleness import directory
from firstorder.report.text.formatting import MISSING
from firstorder.settings import Project, digest

_WIDTH, _COLUMNS = 27, 110
_WRAPPED = TextWrapper(_COLUMNS, initial_indent="  ", subsequent_indent="  ")
_SAID = ("Claim", "Whose", "Verdict", "Known before")
MOST_LISTED, MOST_ECHOED = 30, 80
_PLACES = "id, sentence or verdict"


def explain(root: Path, project: Project, wanted: str, published_path: Path) -> str:
    """Explain the claim with the id `wanted`, or list those that have all its words in their id, sentence or verdict.

    A group of verdicts, such as `fail` or `undecided`, lists the claims that are counted in it. Raises UserError if
    there is none, or if `make report` has not judged them.
    """
    judged = claim_tables.read(root)
    found = _matching(judged, wanted)
    ids = list(dict.fromkeys(found["id"]))
    if not ids:
        what = f"is counted as {_group(wanted)!r}" if _group(wanted) else f"has {_short(wanted)} in its {_PLACES}"
        listed = root / CLAIMS.format(suffix="md")
        raise UserError(f"none of the {len(judged)} claims here {what}; {listed} lists them all")
    if len(ids) > 1 or _group(wanted):
        return _listed(found)
    return _explained(root, project, found, Paper.of(root, published_path))


def elsewhere(root: Path, folders: Iterable[Path], wanted: str) -> str:
    """List the claims of other folders that are counted in the group of verdicts `wanted`; empty for another word."""
    parts = []
    for folder in folders if _group(wanted) else ():
        if folder.resolve() != root.resolve() and (folder / CLAIMS.format(suffix="csv")).exists():
            found = _matching(claim_tables.read(folder), wanted)
            if len(found):
                parts.append(f"\n\nIn another folder,{directory(folder)}: {_listed(found)}")
    return "".join(parts)


def _group(wanted: str) -> str | None:
    """Return the group of verdicts that a word names, in singular or plural."""
    word = wanted.strip().casefold()
    return next((group for group in outcomes.GROUPS if word in (group, f"{group}s")), None)


def _short(wanted: str) -> str:
    return repr(wanted if len(wanted) <= MOST_ECHOED else f"{wanted[:MOST_ECHOED]}...")


def _matching(judged: pd.DataFrame, wanted: str) -> pd.DataFrame:
    if (same := judged["id"] == wanted).any():
        return judged[same]
    if (group := _group(wanted)) is not None:
        return judged[judged["verdict"].map(outcomes.group) == group]
    words = wanted.casefold().split()
    texts = judged["id"] + "\n" + judged["sentence"] + "\n" + judged["verdict"]
    return judged[texts.map(lambda text: all(word in text.casefold() for word in words))]


def _listed(found: pd.DataFrame) -> str:
    """List claims with their verdicts; of many the first."""
    found = found.drop_duplicates("id")
    lines = [f"  {line.verdict}: {line.sentence} [{line.id}]" for line in found.head(MOST_LISTED).itertuples()]
    rest = f"\n  and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
    count = f"{len(found)} claim{'s' if len(found) > 1 else ''}"
    return f"{count}; name one by its id in [ ]:\n" + "\n".join(map(one_line, lines)) + rest


def _explained(root: Path, project: Project, found: pd.DataFrame, paper: Paper) -> str:
    name = str(found["id"].iloc[0])
    declared, lines = paper.claims.everything().get(name), list(found.itertuples())
    if declared is None:
        raise UserError(f"{name}: not in {paper.claims_path}; judge the claims again: make report{directory(root)}")
    layout = next(one for one in claim_tables.LAYOUTS if lines[0].kind in one.kinds)
    rules = [rule for rule in layout.rules if rule not in (claim_rows.WHOSE, claim_tables.KNOWN)]
    paragraphs = [
        [name, declared.sentence],
        _declared(name, declared, paper),
        *([*_judged(layout, line), *_results(root, project, line)] for line in lines),
        ["how such claims are judged", *(line for rule in rules for line in _WRAPPED.wrap(rule))],
    ]
    return "\n\n".join("\n".join(part) for part in paragraphs)


def fixed(found: Fixed | None, declared: Declared, paper: Paper) -> str:
    """Say since when the rule of a claim has stood, by its entry in the register: a date and a commit, or none yet."""
    if found is None or found.rule != digest(register.rule(declared, paper.claims, paper.accuracies)):
        return "in no commit yet"
    return f"since {found.committed:%Y-%m-%d %H:%M} UTC, commit {found.commit}"


def rule_text(declared: Declared, paper: Paper) -> str:
    """Return the rule of a claim as YAML, with its margins in numbers."""
    rule = register.rule(declared, paper.claims, paper.accuracies)
    said = {key: value for key, value in rule.items() if value not in ([], ())}  # but a margin of 0
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, default_flow_style=None, width=_COLUMNS).rstrip()


def _declared(name: str, declared: Declared, paper: Paper) -> list[str]:
    """Say whose claim it is, what its rule is and since when, and what was known of the results by then."""
    return [
        _line("whose", ORIGINS[declared.origin]),
        _line("fixed", fixed(register.of(paper).get(name), declared, paper)),
        _line("known by then", declared.known),
        _line("rule", f"in {paper.claims_path}"),
        *(f"  {line}" for line in rule_text(declared, paper).splitlines()),
    ]


def _judged(layout: Layout, line: Any) -> list[str]:
    """List the numbers of a claim, the verdict first."""
    numbers = dict(zip(layout.columns, layout.row(line), strict=True))
    verdict = numbers["Verdict"] + (" (stale: see firstorder stale)" if getattr(line, STALE, False) else "")
    others = {column: text for column, text in numbers.items() if column not in _SAID and text != MISSING}
    return [_line("verdict", verdict), *(_line(f"  {column}", text) for column, text in others.items())]


def _results(root: Path, project: Project, line: Any) -> list[str]:
    """List the files that decide a claim, each with how many seeds have one."""
    texts = []
    for name in register.rests_on(line):
        paths = {register.recorded_in(root, project, line.kind, name, seed) for seed in project.seeds}
        texts.append(_recorded(name, sorted(path for path in paths if path is not None)))
    return [_line("rests on" if i == 0 else "", text) for i, text in enumerate(texts)]


def _recorded(name: str, paths: Sequence[Path]) -> str:
    there = [path for path in paths if path.exists()]
    if not paths:
        return f"{name}: params.yaml does not list it"
    if not there:
        return f"{name}: nothing recorded yet, first {paths[0]}"
    others = "".join(f", {path.name}" for path in there[1:])
    return f"{there[0]}{others}" + (f" ({len(there)} of {len(paths)} seeds)" if len(paths) > 1 else "")


def _line(name: str, text: object) -> str:
    return f"{name:<{_WIDTH}}{one_line(text)}"
