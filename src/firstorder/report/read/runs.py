"""How a recorded file was made: the `<name>.run.json` beside it (time, machine, commit, versions)."""

from __future__ import annotations

from firstorder.records.cells import read_run as read

__all__ = ["read"]
