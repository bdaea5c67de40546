"""The files around the code are consistent: lock, pins, versions, make targets, CI, links between Markdown files."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

import firstorder

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def locked_requirements(lock: str = "requirements.lock") -> dict[str, str]:
    """Map each package of a lock to its entry: one logical line, comments dropped."""
    lines = [line for line in read(lock).splitlines() if not line.lstrip().startswith("#")]
    entries = "\n".join(lines).replace("\\\n", " ").splitlines()
    return {re.split(r"[=<>;\s]", entry, maxsplit=1)[0]: entry for entry in entries}


def normal(requirement: str) -> str:
    """Return the package's name as the lock spells it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[._-]+", "-", found.group()).lower()


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make as from a fresh shell: a make that runs the tests must not pass its flags on."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def targets_with_recipe() -> set[str]:
    """List the targets a user may name: the phony ones, not files such as .venv/.torch."""
    return {name for line in re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE) for name in line.split()}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-audit.lock"])
def test_every_locked_requirement_has_an_exact_version_and_hashes(lock: str) -> None:
    requirements = locked_requirements(lock)
    assert len(requirements) > 40
    for entry in requirements.values():
        assert re.match(r"[a-z0-9-]+==[0-9][0-9a-z.]*( |$)", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def test_lock_names_no_package_source() -> None:
    for name in ROOT.glob("requirements*.*"):
        assert not re.search(r"://|index-url|find-links|@ ", name.read_text(encoding="utf-8")), name


def test_a_package_of_both_locks_has_one_version() -> None:
    """Each lock is checked for known vulnerabilities, and pip-audit takes one version of a package."""
    main, audit = locked_requirements(), locked_requirements("requirements-audit.lock")
    assert {"cyclonedx-bom", "pip-audit"} <= set(audit) - set(main)
    assert main.keys() & audit.keys()
    for name in main.keys() & audit.keys():
        assert main[name].split()[0] == audit[name].split()[0]


def test_lock_has_every_requirement_except_torch() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    asked = [line for line in read("requirements.in").splitlines() if line and not line.startswith("#")]
    asked += project["dependencies"] + project["optional-dependencies"]["report"]
    assert {normal(requirement) for requirement in asked} - set(locked_requirements()) == {"torch"}


def test_torch_pin_is_one_exact_version_that_the_package_allows() -> None:
    pin = re.fullmatch(r"torch==(\d+)\.(\d+)\.(\d+)\n", read("requirements-torch.txt"))
    assert pin
    dependencies = tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]
    minimum = re.search(r"torch>=(\d+)\.(\d+)", " ".join(dependencies))
    assert minimum
    assert tuple(map(int, pin.groups())) >= tuple(map(int, minimum.groups()))


def test_version_is_the_same_everywhere() -> None:
    newest = re.search(r"^## (\d\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest
    assert newest.group(1) == firstorder.__version__
    assert yaml.safe_load(read("CITATION.cff"))["version"] == firstorder.__version__
    assert f"version = {{{firstorder.__version__}}}" in read("CITATION.cff"), "its BibTeX"


def test_citation_names_the_paper() -> None:
    (paper,) = yaml.safe_load(read("CITATION.cff"))["references"]
    assert paper["identifiers"] == [{"type": "other", "value": "arXiv:1803.02999"}]
    assert [author["family-names"] for author in paper["authors"]] == ["Nichol", "Achiam", "Schulman"]


def test_help_lists_every_target_with_its_cost() -> None:
    listed = dict(re.findall(r"^  make (\S+) +(\S.*?)  +\S", make("help").stdout, re.MULTILINE))
    assert set(listed) == targets_with_recipe()
    assert {"quick", "test", "omniglot", "cell", "figures", "paper"} <= set(listed)


def test_readme_states_the_times_of_the_help() -> None:
    listed = dict(re.findall(r"^  make (\S+) +(\S.*?)  +\S", make("help").stdout, re.MULTILINE))
    stated = re.findall(r"^\| `make (\S+?)(?: .*?)?` \| .* \| (.*?) \|$", read("README.md"), re.MULTILINE)
    assert {"quick", "test", "omniglot", "cell", "figures", "paper"} <= {target for target, _ in stated}
    assert {target: listed[target] for target, _ in stated} == dict(stated)


@pytest.mark.parametrize("name", ["seal_results", "compare_recording", "record_authors", "audit", "fuzz"])
def test_a_tool_explains_itself(name: str) -> None:
    done = subprocess.run([sys.executable, ROOT / f"tools/{name}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: {name}.py")


def test_a_recording_that_is_missing_or_none_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "none.npz").write_bytes(b"not a zip")
    for path in (tmp_path / "missing.npz", tmp_path / "none.npz"):
        done = subprocess.run(
            [sys.executable, ROOT / "tools/compare_recording.py", path], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert re.fullmatch("not a recording that can be read: .*\n", done.stderr)


def test_every_rule_is_either_listed_or_a_file_of_the_set_up() -> None:
    rules = set(re.findall(r"^([^\s#.:=$][^\s:=]*):(?!=)", read("Makefile"), re.MULTILINE))
    assert rules == targets_with_recipe()


def test_a_bare_make_prints_the_help() -> None:
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("target", ["figures", "site"])
def test_what_reports_needs_no_torch(target: str) -> None:
    planned = make("--dry-run", "--always-make", target).stdout
    assert "requirements.lock" in planned
    assert "requirements-torch.txt" not in planned


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    """A script stands in for an old interpreter: it fails the version check and prints its version."""
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.0" && exit 0\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "Makefile").write_text(read("Makefile"))
    refused = make(".venv/bin/python", f"PYTHON={old}", folder=tmp_path)
    assert refused.returncode == 2
    assert not (tmp_path / ".venv").exists()
    message, last = refused.stderr.splitlines()
    assert "needs Python 3.11 or newer" in message
    assert "Python 3.9.0" in message
    assert last.startswith("make: ***")


def test_continuous_integration_runs_make_test_and_nothing_else(tmp_path: Path) -> None:
    """`.ci/run` passes arguments to make and returns its exit code; a script in place of make prints them."""
    (tmp_path / "make").write_text('#!/bin/sh\necho "make $*"\nexit 7\n')
    (tmp_path / "make").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", ROOT / ".ci/run"], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("make test\n", 7)


@pytest.mark.parametrize(
    ("workflow", "command"),
    [
        ("test", "make test"),
        ("figures", "make ci-figures"),
        ("site", "make site"),
        ("supply-chain", "make sbom"),
        ("supply-chain", "make audit"),
    ],
)
def test_workflows_run_make_targets(workflow: str, command: str) -> None:
    jobs = yaml.safe_load(read(f".github/workflows/{workflow}.yml"))["jobs"]
    assert command in [step.get("run") for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("some/folder", str(ROOT / "some/folder")),
        ("my data/a b", str(ROOT / "my data/a b")),
        ("/some/my folder", "/some/my folder"),
        ("~/mirror", "~/mirror"),  # the command line expands it
        ("https://example.org/data", "https://example.org/data"),
    ],
)
def test_a_mirror_folder_is_relative_to_the_repository_although_snakemake_works_below(given: str, seen: str) -> None:
    shown = subprocess.run(
        ["make", "-s", "--eval", 'show-mirror: ; @echo "$$DATA_MIRROR"', "show-mirror", f"DATA_MIRROR={given}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == seen


def test_an_installed_package_has_every_file_of_the_source(tmp_path: Path) -> None:
    """A template or C source missing from the package data would fail only after installing a wheel."""
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    program = "from setuptools import build_meta; build_meta.build_wheel('wheels')"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("wheels/*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {"firstorder/engines/native/native.c", "firstorder/report/text/templates/page.html.j2"} < packed
    assert packed == files


def test_the_map_names_every_room_and_module() -> None:
    """A newcomer finds a module by docs/map.md."""
    package = ROOT / "src/firstorder"
    modules = Counter(path.stem for path in package.rglob("*.py") if not path.stem.startswith("__"))
    tree = read("docs/map.md").split("```")[1]
    rooms = [path.name for path in package.rglob("*") if path.is_dir() and (path / "__init__.py").exists()]
    assert set(re.findall(r"(\w+)/", tree)) == {*rooms, "src", "firstorder"}
    named = Counter(re.findall(r"(?<![/.])\b[a-z_]+\b(?![/.])", tree))
    assert not modules - named


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")]), ids=lambda path: str(path.relative_to(ROOT))
)
def test_relative_links_of_markdown_files_exist(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    targets = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [target for target in targets if target and not (path.parent / target).exists()] == []
