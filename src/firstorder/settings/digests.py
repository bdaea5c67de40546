"""Resolved settings and their digests, which decide whether a result is rebuilt.

A result is rebuilt when the resolved settings of its own training, evaluation or study change. The rest of params.yaml
(comments, lists of seeds, other entries) has no influence. Every result carries the digest it was made with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from firstorder.errors import one_line

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def resolved(settings: Any) -> dict[str, Any]:
    """Return a dataclass of settings as plain values, leaving out those that are None.

    A setting that only some entries have is None in the others, so adding such a setting leaves old digests unchanged.
    """
    return {key: _plain(value) for key, value in vars(settings).items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(entry) for entry in value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items() if entry is not None}
    return resolved(value) if dataclasses.is_dataclass(value) else value


def digest(settings: dict[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of `settings` as canonical JSON."""
    return hashlib.sha256(_CANONICAL.encode(settings).encode()).hexdigest()[:16]


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str | None:
    """Name the first setting in which two resolved settings differ, with both values; None if they agree."""
    # The evaluation's own settings come last: a changed training is more important, as more must be computed again.
    for key in sorted(set(old) | set(new), key=lambda key: (key == "evaluation", key)):
        ours, theirs = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            inner = first_difference(ours, theirs, f"{prefix}{key}.")
            if inner:
                return inner
        elif json.dumps(ours) != json.dumps(theirs):
            return one_line(f"{prefix}{key}: {json.dumps(ours)} -> {json.dumps(theirs)}")
    return None
