"""A closed output pipe, as after `| head`: every command ends with code 141 and prints no error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import firstorder
from firstorder import settings
from firstorder.__main__ import main
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, files_below, write_params
from tests.synthetic_records import ONE_SHOT, changed_params, make_project, store_record

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "firstorder"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(firstorder.__file__).parents[1])}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)
OUTPUT_CLOSED = 141
CELL = f"{EVALUATION}/inductive"
PUBLISHED = str(ROOT / "paper/published.csv")
PRINTING = {
    "--help": ["--help"],
    "--version": ["--version"],
    "help of a verb": ["plan", "--help"],
    "why": ["why", CELL, "--published", PUBLISHED],
    "plan": ["plan"],
    "show": ["show"],
    "stale": ["stale", "--paths"],
    "verify": ["verify"],
    "check-cell": ["check-cell", CELL, "--seed", "0"],
    "accuracies": ["accuracies"],
    "hold": ["hold", "--", "echo", "held"],
}


def run_closed(command: Sequence[str], folder: Path, **options: str) -> subprocess.CompletedProcess[str]:
    """Run with a pipe as standard output whose reading end is closed."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            command, cwd=folder, env={**ENVIRONMENT, **options}, stdout=write, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(write)


@pytest.fixture
def many_stale(tmp_path: Path) -> Path:
    """Return a project with 400 stale records: `stale` prints more than is buffered, so that printing itself fails."""
    values = changed_params(seeds=list(range(200)))
    project = make_project(tmp_path, values)
    for mode in settings.MODES:
        store_record(tmp_path, project, ONE_SHOT, mode, dict.fromkeys(project.seeds, (0, 0, 50, 50, 0, 0)))
    values["evaluations"][ONE_SHOT]["inner_steps"] = 51
    make_project(tmp_path, values)
    return tmp_path


@pytest.mark.parametrize("arguments", PRINTING.values(), ids=PRINTING)
def test_the_output_of_a_command_may_be_closed(computed_project: Path, arguments: list[str]) -> None:
    done = run_closed([*COMMAND, *arguments], computed_project)
    killed_by_sigpipe = arguments[0] == "hold"  # the process is `echo` by then
    assert done.returncode == (-13 if killed_by_sigpipe else OUTPUT_CLOSED)
    assert done.stderr.removeprefix("verify: 1/1 folders (100 %)").count("\n") == (arguments[0] == "verify")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_larger_than_the_buffer_may_be_closed(many_stale: Path, unbuffered: str) -> None:
    done = run_closed([*COMMAND, "stale"], many_stale, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (OUTPUT_CLOSED, "")


@pytest.mark.parametrize("arguments", [["why", f"{ONE_SHOT}/inductive", "--published", PUBLISHED], ["stale"]])
def test_the_first_line_is_enough_for_head(many_stale: Path, arguments: list[str]) -> None:
    script = 'set +o pipefail; "$@" | head -1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *COMMAND, *arguments],
        cwd=many_stale,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert done.returncode in (
        OUTPUT_CLOSED,
        int(arguments[0] == "stale"),
    )  # everything may have been written before the pipe closed


def test_files_are_written_although_the_output_is_closed(tiny_project: Path) -> None:
    for verb, name in (("train", TRAINING), ("evaluate", EVALUATION)):
        done = run_closed([*COMMAND, verb, name, "--seed", "0", "--device", "cpu"], tiny_project)
        assert done.returncode == OUTPUT_CLOSED
        assert "Broken pipe" not in done.stderr
        assert "Traceback" not in done.stderr
    written = files_below(tiny_project)
    assert {settings.RECORD.format(evaluation=EVALUATION, mode=mode, seed=0) for mode in settings.MODES} <= set(written)


def test_an_error_is_reported_although_the_output_is_closed(computed_project: Path) -> None:
    done = run_closed([*COMMAND, "why", "nonsense", "--published", PUBLISHED], computed_project)
    assert done.returncode == 2
    assert done.stderr.startswith("firstorder: unknown ")


def test_a_missing_standard_output_is_no_error(computed_project: Path) -> None:
    write_params(computed_project, edit(TINY_PARAMS, (("evaluations", EVALUATION, "tasks"), 11)))
    for arguments, code in ((["stale"], 1), (["plan"], 0), (["hold", "--", "true"], 0)):
        script = ["bash", "-c", '"$@" >&-', "bash", *COMMAND, *arguments]
        done = subprocess.run(script, cwd=computed_project, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-", "2>/dev/full", "2>&- >/dev/null", "<&- 2>/dev/full"])
def test_work_does_not_depend_on_its_streams(tiny_project: Path, computed_once: Path, streams: str) -> None:
    """As under cron: without standard error, or with one on a full disk."""
    work = [
        (verb, name, "--seed", "0", "--device", "cpu") for verb, name in (("train", TRAINING), ("evaluate", EVALUATION))
    ]
    wanted = [(work[0], 0), (work[1], 0), (("verify",), 0), (("plan",), 0), (("plan", "--params", "nosuch"), 2)]
    for arguments, code in wanted:
        script = ["bash", "-c", f'"$@" {streams}', "bash", *COMMAND, *arguments]
        done = subprocess.run(script, cwd=tiny_project, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert done.returncode == code, arguments
        assert done.stdout or ">&-" in streams or ">/dev/null" in streams or code == 2
    kept = {name: text for name, text in files_below(tiny_project).items() if name.endswith((".csv", ".safetensors"))}
    assert kept.items() <= files_below(computed_once).items()
    assert len(kept) > 1


def test_a_broken_pipe_to_another_process_is_reported(
    computed_project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("firstorder.records.freshness.stale", dead)
    assert main(["stale"]) == 2
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["plan", "why"])
def test_make_does_not_fail_on_a_closed_output(tmp_path: Path, target: str) -> None:
    """Python is replaced by a script that exits with a given code."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    for code, expected in ((OUTPUT_CLOSED, 0), (2, 2)):
        python.write_text(f"#!/bin/sh\nexit {code}\n")
        python.chmod(0o755)
        (tmp_path / ".venv/.installed").touch()
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(["make", target], cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == expected
        assert done.stderr == "" if expected == 0 else done.stderr.endswith(f"{target}] Error {code}\n")
