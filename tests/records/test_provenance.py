"""How a number was made: the description is complete, fits into JSON, and marks changed sources."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy
import pytest

from firstorder.records import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a Git repository with one commit, whose package folder is used instead of ours."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where a hook runs the tests
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "repository"
    package = root / "package/records"
    package.mkdir(parents=True)
    (package / "provenance.py").write_text("one = 1\n")
    (root / "results.csv").write_text("1\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "First")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    return root


def information(seconds: float = 1.0) -> dict[str, Any]:
    return provenance.run_information(seconds, "cpu, 1 thread")


def test_it_names_time_device_machine_versions_and_commit() -> None:
    made = information(12.345)
    assert made["seconds"] == 12.3
    assert made["device"] == "cpu, 1 thread"
    assert re.fullmatch(r".+, \d+ cores, \w+ \w+", made["machine"])
    assert made["versions"]["numpy"] == numpy.__version__
    assert set(made["versions"]) == {"torch", "numpy", "pillow", "safetensors"}
    assert re.fullmatch(r"3\.\d+\.\d+.*", made["python"])
    ended = datetime.strptime(made["ended"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - ended) < timedelta(seconds=10)


def test_it_survives_json() -> None:
    made = information()
    assert json.loads(json.dumps(made)) == made


def test_commit_is_that_of_the_sources(sources: Path) -> None:
    assert information()["commit"] == git(sources, "rev-parse", "HEAD")[:12]


def test_changed_sources_are_marked(sources: Path) -> None:
    (sources / "package/records/provenance.py").write_text("one = 2\n")
    assert information()["commit"] == git(sources, "rev-parse", "HEAD")[:12] + "+"


def test_changes_that_are_only_staged_are_marked_too(sources: Path) -> None:
    (sources / "package/records/provenance.py").write_text("one = 2\n")
    git(sources, "add", ".")
    assert information()["commit"].endswith("+")


def test_changed_results_do_not_mark_the_sources(sources: Path) -> None:
    (sources / "results.csv").write_text("2\n")
    assert not information()["commit"].endswith("+")


def test_a_copy_inside_another_repository_does_not_report_its_commit(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a package installed below another repository, Git would report the commit of that repository."""
    installed = sources / "venv/package/records/provenance.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("one = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert information()["commit"] == "unknown"


def test_outside_of_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "package/records/provenance.py"))
    assert information()["commit"] == "unknown"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert information()["commit"] == "unknown"


def test_a_package_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package-as-this"))
    assert information()["versions"]["no-such-package-as-this"] == "absent"


def pretend_processor(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Let /proc/cpuinfo have this text; None: there is no such file."""
    read_text = Path.read_text

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        if path != Path("/proc/cpuinfo"):
            return read_text(path, *arguments, **options)
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read)


def test_a_system_without_processor_information_still_has_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_processor(monkeypatch, None)
    monkeypatch.setattr(provenance.platform, "processor", lambda: "")
    assert information()["machine"].startswith("unknown processor, ")


@pytest.mark.parametrize(
    ("described", "name"),
    [
        ("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n", "AMD EPYC (family 25 model 17)"),
        ("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n", "AMD EPYC (family 26 model 2)"),
        ("cpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) Gold 6130\n", "Intel(R) Xeon(R) Gold 6130"),
        ("model name\t: Some Processor\n\nmodel name\t: Another\n", "Some Processor"),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", "unknown processor"),
    ],
)
def test_processors_whose_model_is_hidden_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, described: str, name: str
) -> None:
    """Two of them, both called AMD EPYC by their virtual machines, differ by a factor of two in arithmetic."""
    pretend_processor(monkeypatch, described)
    assert information()["machine"].startswith(f"{name}, ")


def test_it_has_the_largest_memory_of_the_process_in_bytes() -> None:
    """Python in these tests takes more than 10 MiB and less than 1 TiB."""
    assert 10 * 2**20 < information()["peak_memory_bytes"] < 2**40
