"""A stand-in for the driver's `nvidia-smi`, whose cards and processes are lines of files that a test may change."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAM = """#!/bin/sh
here=$(dirname "$0")
[ -e "$here/broken" ] && { cat "$here/broken" >&2; exit 9; }
case "$1" in
--query-gpu=*) cat "$here/cards" ;;
--query-compute-apps=*) cat "$here/users" ;;
*) exit 2 ;;
esac
"""


class Driver:
    """A folder for PATH with a made-up `nvidia-smi`."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        program = folder / "nvidia-smi"
        program.write_text(PROGRAM, encoding="utf-8")
        program.chmod(0o755)
        self.has(names)
        self.is_used({})

    def has(self, names: Sequence[str]) -> None:
        """List these cards, by number."""
        self.numbered(dict(enumerate(names)))

    def numbered(self, names: Mapping[int, str]) -> None:
        """List cards with these numbers."""
        lines = (f"{index}, GPU-{index}, {name}\n" for index, name in names.items())
        (self.folder / "cards").write_text("".join(lines), encoding="utf-8")

    def is_used(self, processes: Mapping[int, int]) -> None:
        """List a process of another program on each of these cards."""
        lines = (f"GPU-{index}, {pid}\n" for index, pid in processes.items())
        (self.folder / "users").write_text("".join(lines), encoding="utf-8")

    def fails(self, said: str) -> None:
        """Answer every question with an error."""
        (self.folder / "broken").write_text(said, encoding="utf-8")

    @property
    def path(self) -> str:
        """The PATH on which it is found first."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"
