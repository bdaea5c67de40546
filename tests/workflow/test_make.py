"""What a user may set for make reaches a command as it was given: neither make nor the shell reads it as code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "x;touch INJ;",
    "`touch INJ`",
    "$(touch INJ)",
    "$$(touch INJ)",
    "$(shell touch INJ)",
    "${shell touch INJ}",
    '";touch INJ;"',
    "';touch INJ;'",
    "x|touch INJ",
    "x&touch INJ&",
    "x\ntouch INJ\n",
    ">INJ",
    "a$b?c=$1",
    "a  b",
    "-d",
    "*",
    "#é\\",
]
# Each variable with the targets that read it.
TARGETS = {
    "CELL": ["cell", "why", "plan"],
    "CLAIM": ["why"],
    "SEED": ["cell", "why"],
    "DIR": ["cell", "report", "plan", "why", "status", "suspend", "collect", "publish"],
    "DEVICE": ["plan"],
    "FOLDER": ["try"],
    "WAY": ["try"],
    "SHOT": ["try"],
    "MINUTES": ["try"],
    "REMOTE": ["publish"],
    "CORES": ["cell", "omniglot", "plan"],
    "GPUS": ["plan", "cell", "omniglot"],
    "PROBE": ["plan"],
    "WATCH": ["status"],
    "FROM": ["collect"],
    "SERVICE": ["audit"],
    "DATA_MIRROR": ["omniglot", "cell"],
    "MINI_IMAGENET": ["cell"],
    "MINI_IMAGENET_NAMES": ["cell"],
    "FORCE": ["cell", "omniglot", "algorithms"],
    "ALLOW_STALE": ["report", "figures"],
    "PROFILE": ["bench"],
}
ONLY_EXPORTED = {
    "DATA_MIRROR",
    "MINI_IMAGENET",
    "MINI_IMAGENET_NAMES",
    "FORCE",
    "ALLOW_STALE",
    "PROFILE",
    "PROBE",
    "WATCH",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, in which a script in place of Python notes its arguments and environment."""
    for name in ("Makefile", "requirements.lock", "requirements-torch.txt", "requirements-audit.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for name in ("pyproject.toml", "params.yaml"):
        (tmp_path / name).touch()
    for venv in (".venv", ".venv/audit"):
        python = tmp_path / venv / "bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(
            "#!/bin/sh\nprintf '%s\\0' \"$@\" >>arguments\nenv -0 >>environment\n"
            'case "$*" in *--if-fresh*) exit 3 ;; esac\n',
            encoding="utf-8",
        )
        python.chmod(0o755)
    for name in (".venv/.installed", ".venv/.torch", ".venv/audit/.installed"):
        (tmp_path / name).touch()
    return tmp_path


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env={**given, **environment}, capture_output=True, text=True
    )


def noted(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text(encoding="utf-8").split("\0")


@pytest.mark.parametrize(("name", "target"), [(name, target) for name, many in TARGETS.items() for target in many])
def test_a_value_reaches_its_command_as_it_was_given(folder: Path, name: str, target: str) -> None:
    for value in HOSTILE:
        given = f"/{value}" if name == "DATA_MIRROR" else value
        for options in ([f"{name}={given}"], []):
            done = make(folder, target, *options, **({} if options else {name: given}))
            assert done.returncode == 0, (value, done.stderr)
            assert not list(folder.rglob("INJ")), value
            assert f"{name}={given}" in noted(folder, "environment")
            assert name in ONLY_EXPORTED or any(given in argument for argument in noted(folder, "arguments")), value
            for written in ("arguments", "environment"):
                (folder / written).unlink()


@pytest.mark.parametrize("value", HOSTILE)
def test_the_name_of_a_python_is_no_code(folder: Path, value: str) -> None:
    for name in (".venv/.torch", ".venv/.installed", ".venv/bin/python"):
        (folder / name).unlink()
    done = make(folder, ".venv/bin/python", f"PYTHON=./{value}")
    assert done.returncode == 2
    assert f"firstorder needs Python 3.11 or newer; './{value}' is" in done.stderr
    assert not list(folder.rglob("INJ"))


@pytest.mark.parametrize("target", ["plan", "verify", "ci-figures"])
def test_folders_may_have_any_name(folder: Path, target: str) -> None:
    names = ["-d", "my exp", "$(touch INJ)", "'`touch INJ`", '"', "quick"]
    for name in names:
        (folder / name / "results").mkdir(parents=True)
        (folder / name / "params.yaml").touch()
        (folder / name / "results/metrics.json").touch()
    assert make(folder, target).returncode == 0
    assert not list(folder.rglob("INJ"))
    wanted = {f"{name}/" for name in names if name != "quick" or target != "ci-figures"}
    assert wanted <= set(noted(folder, "arguments"))
    assert ("quick/" in noted(folder, "arguments")) is (target != "ci-figures")


@pytest.mark.parametrize(
    ("given", "commands"),
    [([], ["bench", "performance"]), (["PROFILE=1"], ["bench --profile"]), (["PROFILE="], ["bench", "performance"])],
)
def test_a_profile_leaves_the_page_alone(folder: Path, given: list[str], commands: list[str]) -> None:
    assert make(folder, "bench", *given).returncode == 0
    said = " ".join(noted(folder, "arguments")).split("-m firstorder ")[1:]
    assert [one.strip() for one in said] == commands


@pytest.mark.parametrize("target", ["cell", "omniglot", "algorithms", "quick", "paper"])
@pytest.mark.parametrize("force", [True, False])
def test_recorded_cells_are_computed_only_by_force(folder: Path, target: str, force: bool) -> None:
    assert make(folder, target, "CELL=a", *(["FORCE=1"] if force else [])).returncode == 0
    arguments = noted(folder, "arguments")
    assert arguments[arguments.index("hold") :].count("--force") == force
    assert arguments[arguments.index("--told") + 1] == (
        "make cell CELL=a SEED=0" if target == "cell" else f"make {target}"
    )


def test_a_command_is_told_with_its_folder(folder: Path) -> None:
    assert make(folder, "cell", "CELL=a", "DIR=reduced").returncode == 0
    arguments = noted(folder, "arguments")
    assert arguments[arguments.index("--told") + 1] == "make cell CELL=a SEED=0 DIR=reduced"


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_torch_is_installed_only_for_a_cell_that_is_computed(folder: Path, code: int, force: bool) -> None:
    """What looks at the cell first ends with `code`: 0 a known one, fresh without FORCE; 2 one that there is not."""
    (folder / ".venv/.torch").unlink()
    python = folder / ".venv/bin/python"
    looks = "*--paths*" if force else "*--if-fresh*"
    body = python.read_text(encoding="utf-8").replace("*--if-fresh*) exit 3", f"{looks}) exit {code}")
    python.write_text(body, encoding="utf-8")
    (folder / ".venv/.installed").touch()
    done = make(folder, "cell", "CELL=a", *(["FORCE=1"] if force else []))
    computed = code == 0 and force
    assert (done.returncode == 0) is (code == 0)
    assert ("Installing" in done.stdout) is computed
    assert ("hold" in noted(folder, "arguments")) is computed
