"""How a recorded file was made: the `<name>.run.json` beside it (time, machine, commit, versions)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from firstorder.errors import UserError


def read(recorded: Path) -> dict[str, Any]:
    """Read how the file `recorded` was made; empty where nothing beside it says so."""
    path = recorded.with_suffix(".run.json")
    if not path.exists():
        return {}
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); restore it (git checkout -- {path}) or delete it") from None
    return run if isinstance(run, dict) else {}
