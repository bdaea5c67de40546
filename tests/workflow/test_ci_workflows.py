"""Continuous integration: its workflows run existing commands, and its tools detect every change of the results."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.upkeep.test_dvc import IDENTITY
from tests.workflow.test_house import make, targets_with_recipe

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow: str) -> list[dict[str, Any]]:
    jobs = yaml.safe_load((ROOT / f".github/workflows/{workflow}").read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, **environment}
    return subprocess.run([*map(str, command)], cwd=folder, env=values, capture_output=True, text=True, check=False)


# --- The workflow files ---


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_complete(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "permissions", "jobs"} <= set(workflow)
    assert True in workflow  # the key `on`, which YAML reads as a boolean
    for job in workflow["jobs"].values():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_actions_by_commit_and_may_write_only_where_they_must(path: Path) -> None:
    """A tag can be moved to other code; a token that is kept in the clone can be read by all that runs there."""
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    writes = {"gpu-cell.yml": {"contents", "pull-requests"}, "site.yml": {"pages", "id-token"}}.get(path.name, set())
    for job in workflow["jobs"].values():
        assert set(job.get("permissions", {})) <= writes
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
    actions = re.findall(r"uses: (.*)", text)
    assert actions
    for action in actions:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_existing_commands_and_never_a_users_input(path: Path) -> None:
    for step in steps(path.name):
        command = step.get("run", "")
        assert "${{" not in command, "pass it in `env`"
        assert set(re.findall(r"^make ([a-z-]+)", command, re.MULTILINE)) <= targets_with_recipe()
        for script in re.findall(r"(?:tools|src)/\S+\.py", command):
            assert (ROOT / script).is_file()
        assert run("bash", "-n", "-c", command, folder=ROOT).returncode == 0


def test_the_figures_workflow_runs_a_make_target() -> None:
    assert "make ci-figures" in [step.get("run") for step in steps("figures.yml")]
    planned = make("--dry-run", "--always-make", "ci-figures").stdout
    for command in (
        "tools/check_redrawn.py",
        "make --no-print-directory figures",
        "firstorder stale",
        "firstorder verify",
    ):
        assert command in planned
    assert "requirements-torch.txt" not in planned


# --- tools/check_redrawn.py ---

PAGE = "# Title\n<!-- firstorder:begin table-2 -->\n| table |\n<!-- firstorder:end table-2 -->\nText.\n"
PNG, PDF = b"\x89PNG\r\n\x1a\n...IEND\xaeB`\x82", b"%PDF-1.4 ... %%EOF\n"
DRAWN = {
    "README.md": PAGE.encode(),
    "results/tables/a.csv": b"x,y\n1,2\n",
    "results/tables/a.md": b"| a |\n",
    "results/figures/b.csv": b"x\n1\n",
    "results/figures/b.png": PNG,
    "results/figures/b.pdf": PDF,
    "results/accuracies.csv": b"accuracy\n0.5\n",
    "results/metrics.json": b"{}\n",
    "results/claims.csv": b"id\n",
    "results/report.html": b"<html>",
}


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Return a folder with a report, and a copy in drawing/, so that `cp -r drawing/. .` stands for redrawing."""
    for name, content in DRAWN.items():
        for top in (tmp_path, tmp_path / "drawing"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(content)
    (tmp_path / "results/cells").mkdir()
    (tmp_path / "results/cells/seed-0.json").touch()
    return tmp_path


def redrawn(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    chosen = command or ("cp", "-r", "drawing/.", ".")
    return run(sys.executable, ROOT / "tools/check_redrawn.py", ".", "--", *chosen, folder=folder)


def test_the_same_text_passes_whatever_the_pixels(drawn: Path) -> None:
    (drawn / "drawing/results/figures/b.png").write_bytes(PNG.replace(b"...", b"other pixels"))
    done = redrawn(drawn)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "9 tables, figures and pages drawn again, not as before: 0\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "results/tables/a.csv",
            b"x,y\n1,3\n",
            "another text\n    --- before\n    +++ after\n    @@ -2 +2 @@\n    -1,2\n    +1,3",
        ),
        ("results/figures/b.csv", b"x\n2\n", "another text"),
        ("README.md", PAGE.replace("| table |", "| other |").encode(), "+| other |"),
        ("results/figures/b.png", b"", "not a whole PNG of 0 bytes"),
        ("results/figures/b.pdf", PDF[:-5], "not a whole PDF"),
        ("results/tables/new.csv", b"x\n", "new; if it is wanted: git add"),
    ],
)
def test_a_change_fails_and_is_named(drawn: Path, name: str, content: bytes, words: str) -> None:
    (drawn / "drawing" / name).write_bytes(content)
    done = redrawn(drawn)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: ")
    assert words in done.stderr


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "README.md"])
def test_a_file_that_is_not_drawn_again_fails_and_is_restored(drawn: Path, name: str) -> None:
    (drawn / "drawing" / name).unlink()
    done = redrawn(drawn)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: not drawn again")
    assert (drawn / name).read_bytes() == DRAWN[name]


def test_nothing_is_lost_when_drawing_fails(drawn: Path) -> None:
    done = redrawn(drawn, "false")
    assert done.returncode == 1
    assert "false: exit code 1" in done.stderr
    assert {name: (drawn / name).read_bytes() for name in DRAWN} == DRAWN
    assert (drawn / "results/cells/seed-0.json").exists()


def test_all_drawn_files_are_absent_while_the_command_draws(drawn: Path) -> None:
    look = "find results -type f > seen; cat README.md >> seen; cp -r drawing/. ."
    assert redrawn(drawn, "bash", "-c", look).returncode == 0
    assert (drawn / "seen").read_text() == "results/cells/seed-0.json\n" + PAGE.replace("| table |\n", "")


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    done = redrawn(tmp_path, "true")
    assert done.returncode == 1
    assert "nothing drawn there that could be compared" in done.stderr


# --- tools/compare_results.py ---


def record(
    folder: Path, accuracies: dict[tuple[str, int], float], verdicts: dict[str, str], ours: float | str = ""
) -> None:
    """Write accuracies of reptile's cells (mode, seed) and verdicts of claims, all of one number of ours."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    rows = [("reptile", "omniglot-5way/1shot", mode, seed, value) for (mode, seed), value in accuracies.items()]
    for name, columns, lines in (
        ("accuracies", ("algorithm", "column", "mode", "seed", "accuracy"), rows),
        (
            "claims",
            ("id", "sentence", "ours_fraction", "verdict"),
            [(key, f"Says {key}.", ours, value) for key, value in verdicts.items()],
        ),
    ):
        with (folder / f"results/{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *lines])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository whose last commit changed a cell and a verdict of reduced/, and added a cell."""
    folder = tmp_path / "repository"
    record(folder, {("inductive", 0): 0.5}, {"a": "not run"})
    record(folder / "reduced", {("inductive", 0): 0.8, ("inductive", 1): 0.9}, {"a": "worse", "b": "not run"}, 0.85)
    assert run("git", "init", "--quiet", "-b", "main", folder=folder).returncode == 0
    commit(folder, "First")
    after = {("inductive", 0): 0.82, ("inductive", 1): 0.9, ("transductive", 0): 0.95}
    record(folder / "reduced", after, {"a": "equivalent", "b": "not run"}, 0.86)
    commit(folder, "Second")
    return folder


def commit(folder: Path, subject: str) -> None:
    for command in (["add", "."], ["commit", "--quiet", "-m", subject]):
        assert run("git", *command, folder=folder).returncode == 0


EXPECTED = """\
## Accuracies and verdicts, before and after

### full length

Accuracies: all 1 cells as before.

Verdicts: not run 1 -> 1.

### reduced

| Cell | before, % (seeds) | after, % (seeds) | change, points |
| --- | ---: | ---: | ---: |
| reptile/omniglot-5way/1shot/inductive | 85.00 (2) | 86.00 (2) | +1.00 |
| reptile/omniglot-5way/1shot/transductive | none | 95.00 (1) |  |

0 cells as before.

Verdicts: equivalent 0 -> 1, not run 1 -> 1, worse 1 -> 0.

| Claim | before | after | our number |
| --- | --- | --- | --- |
| Says a. | worse | equivalent | changed |
"""


def compared(base: str, head: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, ROOT / "tools/compare_results.py", base, head, folder=folder)


def test_revisions_are_compared(repository: Path) -> None:
    assert compared("HEAD~1", "HEAD", repository).stdout == EXPECTED


def test_folders_are_compared(repository: Path) -> None:
    before = repository.parent / "before"
    assert run("git", "worktree", "add", "--quiet", before, "HEAD~1", folder=repository).returncode == 0
    assert compared(str(before), str(repository), repository).stdout == EXPECTED


def test_a_verdict_that_changed_with_the_same_number_and_a_new_claim_are_told_apart(tmp_path: Path) -> None:
    record(tmp_path / "before", {}, {"a": "equivalent"}, 0.9)
    record(tmp_path / "after", {}, {"a": "inconclusive", "b": "holds"}, 0.9)
    found = compared("before", "after", tmp_path).stdout
    assert "| Says a. | equivalent | inconclusive | same |" in found
    assert "| Says b. | no such claim | holds |  |" in found
    assert "the claim's rule changed" in found


def test_a_name_that_is_neither_folder_nor_revision_is_refused(repository: Path) -> None:
    done = compared("no-such", "HEAD", repository)
    assert done.returncode == 1
    assert "no-such: neither a folder nor a Git revision" in done.stderr


# --- gpu-cell.yml ---


@pytest.fixture
def machine(repository: Path) -> Path:
    """Return the repository with a remote, the tools, and a `gh` that only writes down its arguments."""
    shutil.copytree(ROOT / "tools", repository / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (repository / "README.md").write_text("# Title\n")
    commit(repository, "Tools")
    assert run("git", "init", "--quiet", "--bare", "origin", folder=repository.parent).returncode == 0
    run("git", "remote", "add", "origin", repository.parent / "origin", folder=repository)
    (repository.parent / "bin").mkdir(exist_ok=True)
    gh = repository.parent / "bin/gh"
    gh.write_text('#!/bin/sh\necho "$*" > ../gh-called\n')
    gh.chmod(0o755)
    return repository


def open_change(folder: Path) -> subprocess.CompletedProcess[str]:
    (step,) = [step for step in steps("gpu-cell.yml") if step.get("name", "").startswith("Open the change")]
    environment = {
        "CELL": "reptile/omniglot-5way/1shot/inductive",
        "SEED": "0",
        "DIR": "reduced",
        "RUN": "7",
        "GITHUB_STEP_SUMMARY": str(folder.parent / "summary"),
        "PATH": f"{folder.parent / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return run("bash", "-e", "-c", step["run"], folder=folder, **environment)


def test_a_cell_computed_again_is_opened_as_a_change(machine: Path) -> None:
    record(machine / "reduced", {("inductive", 0): 0.83, ("inductive", 1): 0.9}, {"a": "equivalent"})
    done = open_change(machine)
    assert done.returncode == 0, done.stderr
    called = (machine.parent / "gh-called").read_text()
    assert called.startswith(
        "pr create --head cell-7 --title Record reptile/omniglot-5way/1shot/inductive seed 0 again"
    )
    assert run("git", "log", "--format=%s", "-1", "cell-7", folder=machine.parent / "origin").stdout.startswith(
        "Record"
    )
    assert "| reptile/omniglot-5way/1shot/inductive | 86.00 (2) | 86.50 (2) | +0.50 |" in (
        machine.parent / "summary"
    ).read_text(encoding="utf-8")


def test_a_cell_that_came_out_the_same_opens_nothing(machine: Path) -> None:
    done = open_change(machine)
    assert done.returncode == 0, done.stderr
    assert not (machine.parent / "gh-called").exists()
    assert "the same bytes as recorded" in (machine.parent / "summary").read_text(encoding="utf-8")


@pytest.mark.parametrize("cell", ["$(touch hit)", "a; touch hit", "a`touch hit`", "a\nb", ""])
def test_an_invalid_cell_name_is_refused(tmp_path: Path, cell: str) -> None:
    (step,) = [step for step in steps("gpu-cell.yml") if step.get("name", "").startswith("Refuse")]
    assert run("bash", "-e", "-c", step["run"], folder=tmp_path, CELL=cell, SEED="0", DIR=".").returncode == 1
    assert run("bash", "-e", "-c", step["run"], folder=tmp_path, CELL="a/b-5way", SEED="0", DIR=".").returncode == 0
    assert list(tmp_path.iterdir()) == []
