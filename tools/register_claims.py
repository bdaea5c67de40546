"""Write registered.csv beside each claims.yaml: the commit since which each claim's rule has stood, and its date.

A claim is fixed by a commit, so commit claims.yaml first. The file is made anew from the whole history, so it can be
checked by making it again: `--check` writes nothing and fails if a register differs. It needs a clone with its history.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from firstorder.errors import UserError
from firstorder.records.row_files import rows_text
from firstorder.report.claims import paper, register
from firstorder.report.claims.register import COLUMNS, REGISTER, Fixed
from firstorder.report.read import published

PUBLISHED = "paper/published.csv"


def main() -> int:
    """Write or check every register; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a register differs from the history")
    check = parser.parse_args().check
    if _git("rev-parse", "--is-shallow-repository").strip() == "true":
        print("this clone lacks its history; fetch it: git fetch --unshallow", file=sys.stderr)
        return 2
    differing = []
    for path in sorted(map(Path, _git("ls-files", "*claims.yaml").splitlines())):
        text = _as_csv(history(path))
        target = path.with_name(REGISTER)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            differing.append(target)
            if not check:
                target.write_text(text, encoding="utf-8")
                print(target)
    if check and differing:
        print(f"{', '.join(map(str, differing))}: not as the history has it; run: make register", file=sys.stderr)
        return 1
    return 0


def history(path: Path) -> dict[str, Fixed]:
    """Return what the claims in `path` fix at HEAD, from the commits that changed them or the paper's numbers."""
    fixed: dict[str, Fixed] = {}
    log = _git("log", "--reverse", "--topo-order", "--format=%H %cI", "--", str(path), PUBLISHED)
    for line in log.splitlines():
        commit, committed = line.split(" ")
        rules = _rules_at(commit, path)
        kept = {name: entry for name, entry in fixed.items() if rules.get(name) == entry.rule}
        date = register.utc(committed)
        fixed = {name: kept.get(name, Fixed(rule, commit[:12], date)) for name, rule in rules.items()}
    return fixed


def _rules_at(commit: str, path: Path) -> dict[str, str]:
    """Return the rules of a commit's claims; none if it has no such file, or one that cannot be read any more."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name in (str(path), PUBLISHED):
            shown = subprocess.run(["git", "show", f"{commit}:{name}"], capture_output=True, check=False)
            if shown.returncode:
                return {}
            files.append(Path(folder, Path(name).name))
            files[-1].write_bytes(shown.stdout)
        declare(files[0])
        try:
            numbers = published.read(files[1])
            claims = paper.parse(files[0])
        except UserError as error:
            print(f"{commit[:12]}: {path} left out: {error}", file=sys.stderr)
            return {}
        return register.rules(claims, paper.by_line(numbers)["accuracy"].to_dict())


def declare(path: Path) -> None:
    """Add what claims of earlier commits lack and a rule does not contain."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in ("claims", "simulations", "curves"):
        for entry in (values.get(section) or {}).values():
            entry.setdefault("origin", "ours")
            entry.setdefault("known", "result")
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _as_csv(fixed: dict[str, Fixed]) -> str:
    rows = [(name, entry.rule, entry.commit, entry.committed.isoformat()) for name, entry in fixed.items()]
    return rows_text(COLUMNS, rows)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
