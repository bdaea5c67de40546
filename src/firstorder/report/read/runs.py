"""Read a run file: `<name>.run.json` beside a record says when, where and from which commit it was made."""

from __future__ import annotations

from firstorder.records.cells import read_run as read

__all__ = ["read"]
