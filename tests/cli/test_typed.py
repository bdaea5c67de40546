"""Commands in messages: as they can be typed in the caller's shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.cli import output

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put Python, firstorder and dvc into a folder that is on no path, and go to the folder above."""
    folder = tmp_path / ".venv/bin"
    folder.mkdir(parents=True)
    for name in ("python", "firstorder", "dvc"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv(output.SHELL_PATH, "/usr/bin:/bin")
    monkeypatch.delenv(output.SHELL_FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("make it with: firstorder pack glyphs", "make it with: .venv/bin/firstorder pack glyphs"),
        ("rm -f x && dvc pull x.dvc", "rm -f x && .venv/bin/dvc pull x.dvc"),
        ("(firstorder why-not)", "(firstorder why-not)"),
        ("firstorder needs Python", "firstorder needs Python"),
        ("run .venv/bin/firstorder pack x", "run .venv/bin/firstorder pack x"),
        ("pip install 'firstorder[report]'", "pip install 'firstorder[report]'"),
        ("the dvc file", "the dvc file"),
        ("firstorder.load(...)", "firstorder.load(...)"),
    ],
)
def test_a_command_that_is_not_on_the_path_gets_its_folder(installed: Path, text: str, expected: str) -> None:
    assert output.typed(text) == expected


def test_from_elsewhere_the_folder_is_absolute(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert output.typed("firstorder stale") == f"{installed}/firstorder stale"


def test_after_make_in_another_folder_the_path_is_absolute(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(output.SHELL_FOLDER, "/")
    assert output.typed("firstorder stale") == f"{installed}/firstorder stale"
    monkeypatch.setenv(output.SHELL_FOLDER, str(tmp_path))
    assert output.typed("firstorder stale") == ".venv/bin/firstorder stale"


def test_a_command_on_the_shells_path_stays_as_it_is(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(output.SHELL_PATH, str(installed))
    assert output.typed("firstorder stale") == "firstorder stale"


def test_a_command_that_is_not_installed_beside_python_stays_as_it_is(installed: Path) -> None:
    (installed / "firstorder").unlink()
    assert output.typed("firstorder stale") == "firstorder stale"


@pytest.mark.parametrize("handed_on", [False, True], ids=["first make", "make called by make"])
def test_make_hands_on_the_path_of_the_shell(handed_on: bool) -> None:
    """`make` puts .venv/bin on the path of its recipes, which is not that of the shell."""
    shell = "/usr/local/bin:/usr/bin:/bin"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    environment |= {"PATH": f"/elsewhere:{shell}", output.SHELL_PATH: shell} if handed_on else {"PATH": shell}
    if not handed_on:
        del environment[output.SHELL_PATH]
    tell = f'tell: ; @echo "$${output.SHELL_PATH}" "$$PATH"'
    done = subprocess.run(
        ["make", "-s", "--eval", tell, "tell"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    told, of_recipes = done.stdout.split()
    assert told == shell
    assert of_recipes.startswith(f"{ROOT}/.venv/bin:")


@pytest.mark.parametrize(
    ("params", "option"),
    [
        ("params.yaml", ""),
        ("./params.yaml", ""),
        ("quick/params.yaml", " --params quick/params.yaml"),
        ("my own/params.yaml", " --params 'my own/params.yaml'"),
    ],
)
def test_a_command_names_the_params_yaml_that_is_not_the_default(installed: Path, params: str, option: str) -> None:
    assert output.params_option(params) == option


def test_after_make_in_another_folder_every_params_yaml_is_named(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(output.SHELL_FOLDER, "/")
    assert output.params_option("params.yaml") == f" --params {tmp_path}/params.yaml"


def test_the_list_of_what_there_is_is_that_of_the_folder_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["why", "no/such", "--params", "reduced/params.yaml"]) == 2
    assert "firstorder plan --params reduced/params.yaml lists the evaluations" in capsys.readouterr().err


@pytest.mark.parametrize("by_make", [False, True])
def test_a_wrong_value_of_a_variable_of_make_shows_no_usage_of_a_verb(
    by_make: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_make:
        monkeypatch.setenv(output.SHELL_FOLDER, "/")
    with pytest.raises(SystemExit, match="2"):
        main(["number", "--seed", "x", "a/cell"])
    said = capsys.readouterr().err
    assert "found 'x'; see: make help" in said if by_make else "see: firstorder number --help" in said
    assert ("usage:" in said) is not by_make
