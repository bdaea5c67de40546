"""What Git has committed is asked without running anything that a repository's own configuration names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from firstorder.upkeep.committed import is_as_committed
from firstorder.upkeep.verify import verify
from tests.conftest import EVALUATION

WHO = ("-c", "user.email=a@b", "-c", "user.name=x")
NAME = "results/a table.csv"


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, Path]:
    """Return a repository with a committed file, and the program whose every run leaves a file `ran` beside it."""
    root = tmp_path / "host"
    (root / "results").mkdir(parents=True)
    (root / NAME).write_text("a,b\n1,2\n", encoding="utf-8")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, *WHO, "commit", "-qm", "x")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    return root, program


SETTINGS = {
    "a file system monitor": "[core]\n\tfsmonitor = {program}\n",
    "filters": '[filter "x"]\n\tclean = {program}\n\tsmudge = {program}\n\tprocess = {program}\n\trequired = true\n',
    "an external diff": "[diff]\n\texternal = {program}\n",
    "a text conversion": '[diff "x"]\n\ttextconv = {program}\n\tcommand = {program}\n',
    "a pager": "[core]\n\tpager = {program}\n[pager]\n\trev-parse = true\n",
    "an alias": "[alias]\n\trev-parse = !{program}\n",
    "hooks": "[core]\n\thooksPath = {folder}\n",
    "an editor and helpers": "[core]\n\teditor = {program}\n\tsshCommand = {program}\n"
    "[credential]\n\thelper = !{program}\n",
    "an included file": "[include]\n\tpath = {folder}/included\n",
}


def configure(root: Path, program: Path, text: str) -> None:
    with (root / ".git/config").open("a", encoding="utf-8") as file:
        file.write(text.format(program=program, folder=program.parent))
    (root / ".git/info/attributes").write_text("* filter=x diff=x\n", encoding="utf-8")
    (program.parent / "included").write_text(f"[core]\n\tfsmonitor = {program}\n", encoding="utf-8")
    for hook in ("post-index-change", "post-checkout", "fsmonitor-watchman"):
        shutil.copy(program, program.parent / hook)


@pytest.mark.parametrize("text", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("edited", [False, True])
def test_no_program_that_a_repository_names_is_run(hostile: tuple[Path, Path], text: str, edited: bool) -> None:
    root, program = hostile
    configure(root, program, text)
    if edited:
        (root / NAME).write_text("a,b\n1,3\n", encoding="utf-8")
    (root / NAME).touch()  # Git's index says another time
    assert is_as_committed(root / NAME) is not edited
    assert not (program.parent / "ran").exists()


def test_a_missing_object_is_not_fetched(hostile: tuple[Path, Path]) -> None:
    """A partial clone names where to get what it lacks, and with which program."""
    root, program = hostile
    (root / ".git/config").write_text(
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = there\n"
        f'[remote "there"]\n\turl = {root}\n\tpromisor = true\n\tuploadpack = {program}\n',
        encoding="utf-8",
    )
    shutil.rmtree(root / ".git/objects")
    (root / ".git/objects").mkdir()
    assert is_as_committed(root / NAME) is None
    assert not (program.parent / "ran").exists()


def test_what_git_does_not_have_is_unknown(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    root, _ = hostile
    (root / "new.csv").write_text("x", encoding="utf-8")
    assert is_as_committed(root / "new.csv") is None
    assert is_as_committed(tmp_path / "program") is None
    assert is_as_committed(tmp_path / "nowhere/x") is None
    (root / NAME).unlink()
    assert is_as_committed(root / NAME) is False


def test_a_folder_to_verify_runs_nothing(computed_project: Path, tmp_path: Path) -> None:
    git(computed_project, "init", "-q")
    git(computed_project, "add", "results", "params.yaml")
    git(computed_project, *WHO, "commit", "-qm", "x")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    configure(computed_project, program, "".join(SETTINGS.values()))
    record = Path(f"results/cells/{EVALUATION}/inductive/seed-0.json")
    record.write_text(record.read_text(encoding="utf-8") + " ", encoding="utf-8")
    (mismatch,) = [one for one in verify({Path(): None}).mismatches if one.path == record]
    assert mismatch.text.endswith(f"fix: git checkout -- {record}")
    assert not (tmp_path / "ran").exists()
    subprocess.run(["git", "status"], check=False, capture_output=True)
    assert (tmp_path / "ran").exists()  # as it would be run
