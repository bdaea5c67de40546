"""Compare recorded accuracies and verdicts of two states of the repository, as Markdown.

Usage: python tools/compare_results.py BASE HEAD

BASE and HEAD are folders (a checkout of the repository) or Git revisions of the repository in the current folder. Read
are results/accuracies.csv and results/claims.csv of the repository and of every folder in it that has them. What is
the same before and after is counted, what differs is listed. Python alone: no package is needed.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ACCURACIES, CLAIMS = "results/accuracies.csv", "results/claims.csv"
# Columns of claims.csv that hold what was measured; the others are the claim and its rule.
MEASURED = (
    *("ours_fraction", "judged_fraction", "low_fraction", "high_fraction", "seeds"),
    *("theory_measured", "theory_low", "theory_high"),
)
SAME = "same"
ABSENT = "no such claim"
Rows = list[dict[str, str]]
# From a path within the repository to the file's rows.
State = Mapping[str, Rows]


def read_state(where: str) -> State:
    """Read all accuracies and verdicts of a folder or a Git revision; exit when it is neither."""
    if Path(where).is_dir():
        paths = [path.relative_to(where).as_posix() for path in Path(where).rglob("*.csv")]
        return _read(paths, lambda path: Path(where, path).read_text(encoding="utf-8"))
    listed = _git("ls-tree", "-r", "--name-only", "--full-tree", where)
    if listed is None:
        sys.exit(f"{where}: neither a folder nor a Git revision here; name one, like main or HEAD~1")
    return _read(listed.splitlines(), lambda path: _git("show", f"{where}:{path}") or "")


def _read(paths: list[str], text: Callable[[str], str]) -> State:
    hidden = [path for path in paths if path.startswith(".") or "/." in path]
    wanted = sorted(path for path in set(paths) - set(hidden) if f"/{path}".endswith((f"/{ACCURACIES}", f"/{CLAIMS}")))
    return {path: list(csv.DictReader(text(path).splitlines())) for path in wanted}


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def compare(base: State, head: State) -> str:
    """Return the comparison as Markdown: accuracies of each folder, then verdicts."""
    lines = ["## Accuracies and verdicts, before and after"]
    for folder in sorted(
        {path.removesuffix(name) for path in {**base, **head} for name in (ACCURACIES, CLAIMS) if path.endswith(name)}
    ):
        before, after = (
            {name: state.get(folder + name, []) for name in (ACCURACIES, CLAIMS)} for state in (base, head)
        )
        lines += ["", f"### {folder.rstrip('/') or 'full length'}", ""]
        lines += _accuracies(before[ACCURACIES], after[ACCURACIES])
        lines += ["", *_verdicts(before[CLAIMS], after[CLAIMS])]
    return "\n".join(lines) + "\n"


def _accuracies(before: Rows, after: Rows) -> list[str]:
    means = [_means(rows) for rows in (before, after)]
    changed = [cell for cell in {**means[0], **means[1]} if means[0].get(cell) != means[1].get(cell)]
    same = len(set(means[0]) | set(means[1])) - len(changed)
    if not changed:
        return [f"Accuracies: all {same} cells as before."]
    table = ["| Cell | before, % (seeds) | after, % (seeds) | change, points |", "| --- | ---: | ---: | ---: |"]
    for cell in changed:
        old, new = (values.get(cell) for values in means)
        points = f"{100 * (new[0] - old[0]):+.2f}" if old and new else ""
        shown = ["none" if value is None else f"{100 * value[0]:.2f} ({value[1]})" for value in (old, new)]
        table.append(f"| {cell} | {shown[0]} | {shown[1]} | {points} |")
    return [*table, "", f"{same} cells as before."]


def _means(rows: Rows) -> dict[str, tuple[float, int]]:
    """Map each cell to its mean accuracy over seeds (fraction) and their number."""
    cells: dict[str, list[float]] = {}
    for row in rows:
        cells.setdefault(f"{row['algorithm']}/{row['column']}/{row['mode']}", []).append(float(row["accuracy"]))
    return {cell: (sum(values) / len(values), len(values)) for cell, values in cells.items()}


def _verdicts(before: Rows, after: Rows) -> list[str]:
    old, new = ({row["id"]: row for row in rows} for rows in (before, after))
    verdicts = {claim: [rows.get(claim, {}).get("verdict", ABSENT) for rows in (old, new)] for claim in {**old, **new}}
    changed = {claim: pair for claim, pair in verdicts.items() if pair[0] != pair[1]}
    counts: dict[str, list[int]] = {}
    for pair in verdicts.values():
        for place, verdict in enumerate(pair):
            counts.setdefault(verdict, [0, 0])[place] += 1
    listed = ", ".join(f"{verdict} {was} -> {now}" for verdict, (was, now) in sorted(counts.items()))
    lines = [f"Verdicts: {listed or 'none'}."]
    if changed:
        lines += ["", "| Claim | before | after | our number |", "| --- | --- | --- | --- |"]
    numbers = {claim: _our_number(old.get(claim, {}), new.get(claim, {})) for claim in changed}
    for claim, (was, now) in changed.items():
        sentence = {**old, **new}[claim].get("sentence", claim).replace("|", "\\|")
        lines.append(f"| {sentence} | {was} | {now} | {numbers[claim]} |")
    if SAME in numbers.values():
        lines += ["", "Where our number is the same, the claim's rule changed: paper/claims.yaml, or the study's."]
    return lines


def _our_number(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Say whether what a claim is judged by is the same before and after; nothing if one side has no number."""
    before, after = ([row.get(column, "") for column in MEASURED] for row in (old, new))
    if not (any(before) and any(after)):
        return ""
    return SAME if before == after else "changed"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(compare(*map(read_state, sys.argv[1:])), end="")
