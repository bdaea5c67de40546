"""One number in one line, with which `make cell` ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.cli.look import NOT_FRESH
from firstorder.records.cells import read_record, read_run, write_run
from firstorder.report.text import number
from tests.conftest import EVALUATION

ROOT = Path(__file__).parents[2]
PUBLISHED = str(ROOT / "paper/published.csv")
CELL = f"{EVALUATION}/inductive"
RECORD = f"results/cells/{CELL}/seed-0.json"


def said(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["number", CELL, "--seed", "0", "--published", PUBLISHED, *options]) == 0
    return capsys.readouterr().out.strip()


def commit(folder: Path) -> None:
    for command in (
        ["init", "-q"],
        ["add", "results"],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True)


def test_the_line_has_the_accuracy_its_tasks_and_the_papers_number(computed_project, capsys) -> None:
    record = read_record(computed_project / RECORD)
    right = sum(correct * count for correct, count in enumerate(record.correct_histogram))
    line = said(capsys)
    assert line.startswith(f"{100 * right / (12 * 5):.2f} % inductive, 12 tasks, seed 0; computed on a")
    assert line.endswith("; paper 95.39")


def test_a_committed_number_is_compared(computed_project, capsys) -> None:
    """As it was committed; computed again with the same outcome; and with another one."""
    path = computed_project / RECORD
    write_run(path, {**read_run(path), "machine": "AMD EPYC, 2 cores, Linux x86_64", "run_digest": "", "sha256": ""})
    run = {key: value for key, value in read_run(path).items() if key not in ("sha256", "run_digest")}
    write_run(path, run)
    commit(computed_project)
    assert "; recorded on an AMD EPYC; " in said(capsys)
    write_run(path, {**run, "machine": "Intel(R) Xeon(R) Processor, 2 cores", "ended": "2030-01-01T00:00:00Z"})
    assert "; the same bytes as recorded on an AMD EPYC; " in said(capsys)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["correct_histogram"] = [0, 0, 0, 0, 0, 12]
    path.write_text(json.dumps(values, sort_keys=True, indent=1) + "\n", encoding="utf-8")
    write_run(path, run)
    before = 100 * number.accuracy(read_record(path))
    assert before == 100
    assert said(capsys).startswith("100.00 % inductive")
    assert "; recorded on an AMD EPYC: " in said(capsys)


def test_a_fresh_cell_says_how_to_compute_it_again(computed_project, capsys) -> None:
    assert main(["number", CELL, "--seed", "0", "--published", PUBLISHED, "--if-fresh"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "firstorder: the cell is recorded; to compute it yourself, add FORCE=1\n"
    assert " % inductive, " in printed.out


def test_a_cell_whose_report_was_not_drawn_is_not_finished(computed_project, capsys) -> None:
    """As after a kill between the two."""
    (computed_project / ".work").mkdir(exist_ok=True)
    (computed_project / ".work/report-due").touch()
    command = ["number", CELL, "--seed", "0", "--published", PUBLISHED]
    assert main([*command, "--if-fresh"]) == NOT_FRESH
    assert main(command) == 0


def test_a_cell_that_is_not_computed_has_no_number(computed_project, capsys) -> None:
    command = ["number", CELL, "--seed", "1", "--published", PUBLISHED]
    assert main([*command, "--if-fresh"]) == NOT_FRESH
    assert capsys.readouterr() == ("", "")
    assert main(command) == 2
    assert f"missing; to compute it: make cell CELL={CELL} SEED=1" in capsys.readouterr().err


def test_a_fresh_cell_is_answered_without_torch_and_without_snakemake(computed_project) -> None:
    """So it takes what Python and pandas take to start."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['snakemake'] = None; from firstorder.__main__ import main; "
    )
    program += f"sys.exit(main({['number', CELL, '--seed', '0', '--published', PUBLISHED, '--if-fresh']!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ({"device": "cpu, 1 thread", "machine": "AMD EPYC, 2 cores, Linux x86_64"}, "an AMD EPYC"),
        ({"device": "cpu, 1 thread", "machine": "Intel(R) Xeon(R) Processor, 2 cores"}, "an Intel Xeon"),
        ({"device": "NVIDIA H200", "machine": "AMD EPYC, 2 cores"}, "an NVIDIA H200"),
        ({"device": "cpu, 1 thread", "machine": "Generic, 2 cores"}, "a Generic"),
    ],
)
def test_devices_are_named_with_their_article(run, name) -> None:
    assert number._device(run) == name
