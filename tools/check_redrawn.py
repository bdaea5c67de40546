"""Delete every table and figure, draw them again by a command, and fail if their text is not what it was.

Usage: python tools/check_redrawn.py FOLDER... -- COMMAND...

Deleted are the tables, figures, accuracies, metrics, claims, badges and the HTML page in results/ of each FOLDER, the
benchmark's charts, and what stands between the markers of README.md and docs/performance.md in the current folder.
Afterwards the texts (CSV, Markdown, LaTeX, JSON) must be as before, byte by byte; a figure is judged by its CSV, of its
PNG and PDF only that they are there and whole. What the command fails to draw is put back.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

DRAWN = (
    "tables/*",
    "figures/*",
    "accuracies.csv",
    "metrics.json",
    "claims.*",
    "report.html",
    "badges/*",
    "bench/*.[!j]*",
)
PAGES = (Path("README.md"), Path("docs/performance.md"))
BLOCK = re.compile(r"(<!-- firstorder:begin (\S+) -->\n).*?(<!-- firstorder:end \2 -->)", re.DOTALL)
# How a whole file of the kind begins and ends.
PICTURES = {".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"), ".pdf": (b"%PDF-", b"%%EOF\n")}
LONGEST_DIFFERENCE = 20  # lines


def drawn(folders: Sequence[Path]) -> dict[Path, bytes]:
    """Read all that is drawn below the folders, and the pages that have a drawn block."""
    paths = sorted(path for folder in folders for pattern in DRAWN for path in (folder / "results").glob(pattern))
    pages = [page for page in PAGES if page.exists() and BLOCK.search(page.read_text(encoding="utf-8"))]
    return {path: path.read_bytes() for path in [*paths, *pages] if path.is_file()}


def emptied(content: bytes) -> bytes:
    """Return a page without what stands between its markers."""
    return BLOCK.sub(r"\1\3", content.decode("utf-8")).encode()


def delete(before: dict[Path, bytes]) -> None:
    """Delete the files, and of pages what stands between their markers."""
    for path, content in before.items():
        if path in PAGES:
            path.write_bytes(emptied(content))
        else:
            path.unlink()


def put_back(before: dict[Path, bytes]) -> None:
    """Write again what was not drawn again."""
    for path, content in before.items():
        if not path.exists() or (path in PAGES and path.read_bytes() == emptied(content)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def faults(before: dict[Path, bytes], after: dict[Path, bytes]) -> list[str]:
    """List what was not drawn, is new, is no whole picture, or has another text than before."""
    found = []
    for path in sorted({**before, **after}):
        if path.suffix == ".html":  # made of the others and not in Git, so a clone has none before
            found += [] if after.get(path) else [f"{path}: not drawn again"]
        elif path not in after:
            found.append(f"{path}: not drawn again; if it is no longer wanted: git rm {path}")
        elif path not in before:
            found.append(f"{path}: new; if it is wanted: git add {path}")
        elif path.suffix in PICTURES:
            start, end = PICTURES[path.suffix]
            if not (after[path].startswith(start) and after[path].endswith(end)):
                found.append(f"{path}: not a whole {path.suffix[1:].upper()} of {len(after[path])} bytes")
        elif after[path] != before[path]:
            found.append(f"{path}: drawn again, it has another text\n{_difference(before[path], after[path])}")
    return found


def _difference(before: bytes, after: bytes) -> str:
    lines = [content.decode(errors="replace").splitlines() for content in (before, after)]
    shown = list(difflib.unified_diff(*lines, "before", "after", lineterm="", n=0))
    more = [f"... and {len(shown) - LONGEST_DIFFERENCE} lines more"] if len(shown) > LONGEST_DIFFERENCE else []
    return "\n".join("    " + line for line in [*shown[:LONGEST_DIFFERENCE], *more])


def check(folders: Sequence[Path], command: Sequence[str]) -> int:
    """Delete, draw again by `command`, compare; return the exit code."""
    before = drawn(folders)
    compared = [path for path in before if path.suffix != ".html"]
    if not compared:
        sys.exit(f"{', '.join(map(str, folders))}: nothing drawn there that could be compared; draw it first")
    try:
        delete(before)
        code = subprocess.run(command, check=False).returncode
        after = drawn(folders)
    finally:
        put_back(before)
    if code:
        print(f"{command[0]}: exit code {code}; what was not drawn again is put back", file=sys.stderr)
        return 1
    found = faults(before, after)
    print(*found, sep="\n", file=sys.stderr, end="\n" if found else "")
    print(f"{len(compared)} tables, figures and pages drawn again, not as before: {len(found)}")
    return 1 if found else 0


if __name__ == "__main__":
    if "--" not in sys.argv[2:-1]:
        sys.exit(__doc__)
    middle = sys.argv.index("--")
    sys.exit(check([Path(folder) for folder in sys.argv[1:middle]], sys.argv[middle + 1 :]))
