"""Bytes that somebody may have damaged or made to do harm, and what a reader may do with them."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from firstorder.errors import UserError, one_line

BETWEEN = b"\n--\n"  # the parts of an input that becomes several files or members
EDGES = (
    *(
        b"!!int ''",
        b"!!float x",
        b"&a",
        b"*a",
        b"<<: *a",
        b"[" * 200,
        b"{" * 200,
        b'{"a":' * 200,
        b"1" + b"0" * 30,
        b".nan",
    ),
    *(
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-1",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(b"\r", b"\xe9", b"'", b'"', b",,,,", b"../", b"/dev/zero", b"\n" * 20, b"2018-13-01", BETWEEN, b"9" * 5000),
)

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**62, 2**63, 10**30, 0.5, -0.0, 1e308, math.nan, math.inf, "", "x", "a\nb"),
    *("\ud800", "\0", "\x1b[2J", "é" * 300, "../..", "/dev/zero", [], {}, [[]], [None], {"a": {}}, [1, "x"], "0" * 64),
)


@dataclass(frozen=True)
class Fuzzed:
    """A kind of file: the function that reads bytes as one of it, in a folder, and whole ones to start from."""

    read: Callable[[Path, bytes], object]
    seeds: Callable[[], list[bytes]]


def crash(fuzzed: Fuzzed, folder: Path, content: bytes) -> Exception | None:
    """Return what a reader raises and should not; None if it reads or refuses the bytes as it should."""
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            fuzzed.read(folder, content)
        messages = said.getvalue().splitlines()
    except UserError as error:
        messages = [str(error)]
    except Exception as error:
        return error
    for message in messages:
        if one_line(message) != message or len(message) > 5000:
            return AssertionError(f"not one line of text: {message!r:.200}")
    return None


def changed_json(content: bytes, random: Random) -> bytes | None:
    """Change one value or key somewhere in a mapping in JSON; None if the bytes are none."""
    try:
        whole = json.loads(content)
        places = list(_places(whole))
    except (ValueError, RecursionError):
        return None
    if not places:
        return None
    inside, key = random.choice(places)
    other, from_key = random.choice(places)
    change = random.randrange(5)
    if change == 0:
        del inside[key]
    elif change == 1:
        inside[key] = copy.deepcopy(other[from_key])
    elif change == 2 and isinstance(inside, dict):
        inside[random.choice(("", "a\nb", "\x1b[2J", "\ud800", str(from_key)))] = inside.pop(key)
    else:
        inside[key] = random.choice(VALUES)
    return json.dumps(whole).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each mapping or list within a value, with each of its keys or positions."""
    for key in list(value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
        yield value, key
        yield from _places(value[key])
