"""What computes in a folder just now, by the last lines of the jobs' logs."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from firstorder import progress
from firstorder.__main__ import main
from firstorder.upkeep import status
from firstorder.upkeep.status import Running

LINE = (
    "reptile/omniglot-5way seed 0: 1,470/100,000 outer steps (1 %), 64.8 outer steps/s, 0:25:20 left, meta-test 80.1 %"
)


def write_log(root: Path, name: str, *lines: str, age: float = 0.0) -> None:
    path = root / f"logs/{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    then = time.time() - age
    os.utime(path, (then, then))


def test_a_line_of_progress_is_read_back() -> None:
    expected = Running("reptile/omniglot-5way seed 0", 1470, 100_000, "outer steps", 64.8, 1520.0, "meta-test 80.1 %")
    assert status.parse(LINE) == expected
    assert status.parse("models/reptile/omniglot-5way/seed-0.safetensors") is None


def test_lines_are_those_that_jobs_write(capsys: pytest.CaptureFixture[str]) -> None:
    """With an accuracy and without, with a time left and without."""
    for text in ("", "inductive 78.25 %"):
        with progress.shown("an evaluation", 2000, "tasks") as bar:
            bar.advance(500, text)
        (line,) = capsys.readouterr().err.splitlines()
        found = status.parse(line)
        assert found is not None
        assert (found.what, found.done, found.total, found.unit) == ("an evaluation", 500, 2000, "tasks")
        assert found.status == text
    with progress.shown("an evaluation", 10, "tasks"):
        pass
    unknown = status.parse(capsys.readouterr().err.strip())
    assert unknown is not None
    assert unknown.left is None


def test_only_jobs_that_said_something_lately_and_are_not_done_are_running(tmp_path: Path) -> None:
    write_log(tmp_path, "train/a/seed-0", "an earlier line", LINE)
    write_log(tmp_path, "train/b/seed-0", LINE, age=status.SILENT + 1)
    write_log(tmp_path, "train/c/seed-0", LINE.replace("1,470/", "100,000/"))
    write_log(tmp_path, "train/d/seed-0", LINE, "results/curves/d/seed-0.csv")
    assert [job.what for job in status.running(tmp_path)] == ["reptile/omniglot-5way seed 0"]


def test_the_table_says_when_each_will_be_done() -> None:
    job = status.parse(LINE)
    assert job is not None
    text = status.describe([job], ["process 1 (make paper) since now"], datetime(2026, 11, 26, 23, 50))
    first, _, line = text.splitlines()
    assert first == "in use by process 1 (make paper) since now"
    assert line.split() == [
        *("reptile/omniglot-5way", "seed", "0", "1,470/100,000", "outer", "steps", "(1", "%)"),
        *("64.8/s", "0:25:20", "2026-11-27", "00:15", "meta-test", "80.1", "%"),
    ]


def test_the_command_shows_what_runs(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert "nothing has said in the last minute that it computes here" in capsys.readouterr().out
    write_log(tiny_project, "train/a/seed-0", LINE)
    assert main(["status"]) == 0
    assert "1,470/100,000 outer steps" in capsys.readouterr().out
