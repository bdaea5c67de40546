"""Too little memory, also while libraries are loaded, ends in one line: no traceback, no abort."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.cli import VERBS, memory
from tests.conftest import EVALUATION, TRAINING

TRAIN = ("train", TRAINING, "--seed", "0", "--again", "--device", "cpu")
MEBIBYTE = 1 << 20


def limited(mebibytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes * MEBIBYTE, mebibytes * MEBIBYTE))

    command = [sys.executable, "-m", "firstorder", *arguments]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False, timeout=120)


@pytest.mark.parametrize(
    ("mebibytes", "arguments"),
    [
        (90, ("accuracies",)),  # OpenBLAS gives up and ends the process
        (120, ("accuracies",)),
        (150, ("verify",)),
        (180, ("figure", "x")),
        (300, ("evaluate", EVALUATION, "--seed", "0")),
        (300, TRAIN),
        (490, TRAIN),  # torch aborts
        (560, TRAIN),
    ],
)
def test_too_little_to_load_the_libraries(computed_project: Path, mebibytes: int, arguments: tuple[str, ...]) -> None:
    done = limited(mebibytes, *arguments)
    assert done.returncode in (0, 2), done.stderr  # 0: where the libraries are smaller
    if done.returncode == 2 and arguments[0] != "figure":
        assert done.stderr.startswith("firstorder: not enough memory (")
        assert done.stderr.count("\n") == 1


def test_without_a_limit_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_limit", lambda: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    memory.check("train")
    monkeypatch.setattr(memory, "_limit", lambda: 64 << 30)
    memory.check("train")


def test_the_verbs_that_load_libraries_are_verbs() -> None:
    assert set(memory.LIBRARIES) <= set(VERBS)


@pytest.mark.parametrize("verb", ["train", "bench"])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "0", "1e999", "soon", ""])
def test_a_time_is_a_finite_number_above_zero(verb: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TRAIN, f"--time-limit={text}"] if verb == "train" else ["bench", f"--seconds={text}"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "expected a finite number of seconds above 0" in capsys.readouterr().err
