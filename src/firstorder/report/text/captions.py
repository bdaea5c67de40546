"""The texts beside tables and figures: `<name>.rst` in a project's own folder of captions, else among the paper's."""

from __future__ import annotations

import os
from pathlib import Path

from firstorder.report import TEXT_FILE

OWN = "captions"  # folder beside params.yaml


def read(root: Path, of_paper: Path, name: str) -> str:
    """Return the caption of a table or figure; empty if neither folder has one, as the title says what it is."""
    for folder in (root / OWN, of_paper):
        path = folder / f"{name}.rst"
        if os.path.lexists(path):
            return TEXT_FILE.read_text(path)
    return ""
