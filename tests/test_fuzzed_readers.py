"""Whatever bytes a file has, its reader reads them, refuses them in one line or sets them aside.

FIRSTORDER_EXAMPLES sets how many inputs each reader gets; more than the usual number are drawn anew in every run.
tools/fuzz.py tries many more, guided by coverage; docs/reliability.md has its figures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzed_readers import READERS
from tests.fuzzing import EDGES, changed_json, crash

USUAL = 20
EXAMPLES = int(os.environ.get("FIRSTORDER_EXAMPLES", USUAL))


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    return tuple(READERS[name].seeds())


def edited(content: bytes, random: Random) -> bytes:
    """Flip, cut, repeat and replace in a few places, or change a value where the bytes are JSON."""
    text = bytearray(changed_json(content, random) or content)
    for _ in range(random.choice((0, 1, 2, 8))):
        place, other = (random.randrange(len(text) + 1) for _ in range(2))
        edits: tuple[Callable[[], bytes], ...] = (
            lambda: bytes([random.randrange(256)]),
            lambda: b"",
            lambda: random.choice(EDGES),
            lambda: bytes(text[other : other + 30]),  # noqa: B023 (called at once)
        )
        text[place : place + random.choice((0, 1, 4, 40))] = random.choice(edits)()
    return bytes(text)


@pytest.mark.parametrize("name", READERS)
def test_damaged_and_made_up_files_are_no_crash(name: str) -> None:
    """Warnings of libraries about such files are errors in tests and no matter here."""
    with tempfile.TemporaryDirectory() as folder:
        whole = st.builds(edited, st.sampled_from(seeds(name)), st.integers(0, 2**32).map(Random))

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=EXAMPLES <= USUAL,
            suppress_health_check=list(HealthCheck),
        )
        @given(whole | whole | st.binary(max_size=300))
        def check(content: bytes) -> None:
            error = crash(READERS[name], Path(folder), content)
            if error is not None:
                raise error

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check()


@pytest.mark.parametrize("name", READERS)
def test_a_whole_file_is_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise the test above would try no more than how garbage is refused."""
    for content in seeds(name)[-1:]:
        READERS[name].read(tmp_path, content)
    assert capsys.readouterr().err == ""


def test_the_fuzzer_says_what_it_needs() -> None:
    """Atheris is not among the project's own packages, so here only its absence can be tried."""
    tool = Path(__file__).parents[1] / "tools/fuzz.py"
    done = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("atheris is not installed here")
    assert done.stdout == ""
