"""What is recomputed after which change, and nothing else: the real Snakemake on a miniature project.

Each test makes one change and rebuilds as `make` does: files that `firstorder stale` names are forced, Snakemake finds
the rest. It runs in one or more states of the checkout. warm: with data, checkpoints and Snakemake's metadata. clone:
only what Git keeps, with time stamps in any order. pulled: a clone with data and checkpoints.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import firstorder
from firstorder import __main__ as command_line
from firstorder import settings
from firstorder.data import packs
from firstorder.records.cells import read_run, sealed, write_run
from tests.conftest import TINY_PARAMS, edit, tiny_pack, write_params
from tests.conftest import TRAINING as FIVE

REPOSITORY = Path(__file__).parents[2]
THREE = "reptile/omniglot-3way"
# Each training has a table and a figure, with names for which a caption exists.
TABLES = {FIVE: "table-1", THREE: "table-2"}
FIGURES = {FIVE: "learning-curves", THREE: "accuracies"}
BOTH = pytest.mark.parametrize("state", ["warm", "clone"])
COMPUTABLE = pytest.mark.parametrize("state", ["warm", "pulled"])
WARM, PULLED = (pytest.mark.parametrize("state", [state]) for state in ("warm", "pulled"))


def _table(column: str) -> dict[str, Any]:
    row = {"label": "Reptile", "algorithm": "reptile", "mode": "inductive"}
    return {"title": f"A table of {column}", "columns": [column], "rows": [row]}


def _figure(training: str) -> dict[str, Any]:
    return {"kind": "curves", "title": "Learning curves", "trainings": [training]}


PROJECT = edit(
    TINY_PARAMS,
    (("trainings", THREE), {**TINY_PARAMS["trainings"][FIVE], "way": 3, "inner_batch_size": 6}),
    (("evaluations", f"{THREE}/1shot"), {**TINY_PARAMS["evaluations"][f"{FIVE}/1shot"], "training": THREE}),
    (("tables", TABLES[FIVE]), _table("omniglot-5way/1shot")),
    (("tables", TABLES[THREE]), _table("omniglot-3way/1shot")),
    (("figures", FIGURES[FIVE]), _figure(FIVE)),
    (("figures", FIGURES[THREE]), _figure(THREE)),
)
MORE_INNER_STEPS = edit(PROJECT, (("trainings", FIVE, "inner_steps"), 3))
REPORT = {"accuracies", "claims", "page"}
OF_REPORT = ("accuracies", "table", "claims", "figure", "page")
OF_FIVE = REPORT | {f"table {TABLES[FIVE]}"}
FIGURE_OF_FIVE = {f"figure {FIGURES[FIVE]}"}
SHOWN = {*(f"table {name}" for name in TABLES.values()), *(f"figure {name}" for name in FIGURES.values())}


@dataclass
class Checkout:
    """A folder with a params.yaml, and the Python and environment of its jobs."""

    root: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    package: Path = REPOSITORY / "src"

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in this folder."""
        command = self.command(*arguments)
        return subprocess.run(command, capture_output=True, text=True, env=self.variables(), check=False)

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs Snakemake in this folder."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        command += ["--directory", str(self.root), "--workflow-profile", str(REPOSITORY / "profiles/default")]
        return [*command, "--quiet", "host", "--cores", "1", *arguments]

    def interrupt(self, verb: str, *arguments: str) -> None:
        """Run Snakemake in this folder and press Ctrl-C while a job of `firstorder VERB` works."""
        waits = self.root.with_name("waits")
        waits.mkdir()
        (waits / "python").write_text(
            f'#!/bin/sh\n[ "$3" = {verb} ] || exec "{self.python}/python" "$@"\ntouch "{waits}/began"\nexec sleep 60\n',
            encoding="utf-8",
        )
        (waits / "python").chmod(0o755)
        environment = {**self.variables(), "PATH": f"{waits}{os.pathsep}{os.environ['PATH']}"}
        with subprocess.Popen(self.command(*arguments), env=environment, start_new_session=True) as process:
            deadline = time.monotonic() + 60
            while not (waits / "began").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) != 0
        assert (waits / "began").exists()

    def variables(self) -> dict[str, str]:
        """Return the environment variables of all commands in this folder."""
        path = f"{self.python}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.package), **self.environment}

    def rebuild(self, *arguments: str) -> set[str]:
        """Compute what `make` would compute; return the jobs, each as its rule and wildcards."""
        forced = self.stale("--paths").stdout.split()
        targets = arguments or ("all",)
        answer = self.snakemake(*targets, *([] if "--forcerun" in targets else ["--forcerun"]), *forced)
        output = answer.stdout + answer.stderr
        assert answer.returncode == 0, output
        return jobs(output)

    def stale(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `firstorder stale` in this folder."""
        command = [sys.executable, "-m", "firstorder", "stale", "--params", str(self.root / "params.yaml"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.variables(), check=False)

    def record(self, training: str, mode: str = "inductive", seed: int = 0) -> dict[str, Any]:
        """Read a record."""
        path = settings.RECORD.format(evaluation=f"{training}/1shot", mode=mode, seed=seed)
        return dict(json.loads((self.root / path).read_text(encoding="utf-8")))

    def accuracy(self, training: str) -> float:
        """Read our accuracy from the training's table, which has one cell."""
        with (self.root / f"results/tables/{TABLES[training]}.csv").open(encoding="utf-8") as file:
            return float(next(csv.DictReader(file))["accuracy_fraction"])

    def contents(self) -> dict[str, bytes]:
        """Map every file below results/ to its content."""
        found = (path for path in (self.root / "results").rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in found}


def jobs(output: str) -> set[str]:
    """Return the jobs that Snakemake ran, such as `train reptile/omniglot-5way 0`."""
    found = set()
    for rule, about in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", output, flags=re.MULTILINE):
        wildcards = re.search(r"^    wildcards: (.*)$", about, flags=re.MULTILINE)
        values = re.findall(r"\w+=([^,]+)", wildcards.group(1)) if wildcards else []
        found.add(" ".join([rule, *values]))
    return found - {"all", "report", "cells", "computed"}


def computing(training: str, *seeds: int) -> set[str]:
    """Return the jobs that train and evaluate a training for some seeds."""
    return {f"{job} {seed}" for job in (f"train {training}", f"evaluate {training}/1shot") for seed in seeds}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


def mean_accuracy(records: Iterable[dict[str, Any]]) -> float:
    """Compute the mean accuracy of records from their histograms."""
    shares = []
    for record in records:
        counts = record["correct_histogram"]
        shares.append(sum(right * tasks for right, tasks in enumerate(counts)) / (len(counts) - 1) / sum(counts))
    return sum(shares) / len(shares)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, quick_path: Path) -> Path:
    """Compute the whole project once."""
    root = tmp_path_factory.mktemp("rebuild") / "project"
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    write_params(root, PROJECT)
    answer = Checkout(root, quick_path).snakemake("all")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return root


@pytest.fixture
def checkout(built: Path, tmp_path: Path, quick_path: Path, state: str) -> Checkout:
    """Return a copy of the computed project in the given state."""
    root = Path(shutil.copytree(built, tmp_path / "project"))
    if state != "warm":
        for name in (".snakemake", ".work", "logs", *(["data", "models"] if state == "clone" else [])):
            shutil.rmtree(root / name, ignore_errors=True)
        (root / "results/report.html").unlink()  # not in Git
        for moment, path in enumerate(sorted(root.rglob("*"), reverse=True)):
            os.utime(path, (1_000_000_000 + 977 * moment % 10_007, 1_000_000_000 + 977 * moment % 10_007))
    return Checkout(root, quick_path)


def report_page(state: str) -> set[str]:
    """Return the jobs that a clone always has: the page, which is not in Git."""
    return set() if state == "warm" else {"page"}


# --- Changes ---


@BOTH
def test_nothing_changed_nothing_is_computed(checkout: Checkout, state: str) -> None:
    assert checkout.stale().stdout == ""
    assert checkout.rebuild() == report_page(state)


@WARM
def test_one_value_of_one_training_edited_its_seeds_their_cells_and_the_tables(checkout: Checkout, state: str) -> None:
    before = checkout.contents()
    write_params(checkout.root, MORE_INNER_STEPS)
    named = checkout.stale().stdout.splitlines()
    assert f"{FIVE}/1shot/inductive seed 1: training.inner_steps: 2 -> 3" in named
    assert f"curve of {FIVE} seed 0: training.inner_steps: 2 -> 3" in named
    assert checkout.rebuild() == computing(FIVE, 0, 1) | OF_FIVE | FIGURE_OF_FIVE
    assert checkout.stale().stdout == ""
    records = [checkout.record(FIVE, seed=seed) for seed in (0, 1)]
    assert [record["settings"]["training"]["inner_steps"] for record in records] == [3, 3]
    assert checkout.accuracy(FIVE) == pytest.approx(mean_accuracy(records))
    of_three = re.compile(f"3way|{TABLES[THREE]}|{FIGURES[THREE]}\\.p")
    assert not [path for path in changed(before, checkout.contents()) if of_three.search(path)]


@WARM
def test_many_jobs_get_one_thread_each_and_one_gets_all(checkout: Checkout, state: str) -> None:
    """Of 8 cores; bytes do not depend on the number of threads (tests/engines/test_native.py)."""
    write_params(checkout.root, MORE_INNER_STEPS)
    cell = settings.RECORD.format(evaluation=f"{FIVE}/1shot", mode="inductive", seed=0)
    expected = {"all": 4, "cells": 4, cell: 8}
    options = ("--dry-run", "--printshellcmds", "--cores", "8")
    for target, threads in expected.items():
        forced = [cell] if target == cell else checkout.stale("--paths").stdout.split()
        shown = checkout.snakemake(target, *options, "--forcerun", *forced)
        commands = re.findall(r"firstorder (train|evaluate) .*--threads (\d+) ", shown.stdout + shown.stderr)
        assert {verb for verb, _ in commands} == {"train", "evaluate"}
        assert {int(number) for _, number in commands} == {threads}, (target, commands)
    write_params(checkout.root, edit(MORE_INNER_STEPS, (("seeds",), list(range(10)))))
    shown = checkout.snakemake("all", *options)
    assert set(re.findall(r"--threads (\d+) ", shown.stdout + shown.stderr)) == {"1"}


@BOTH
def test_a_comment_edited_nothing_is_computed(checkout: Checkout, state: str) -> None:
    path = checkout.root / "params.yaml"
    path.write_text("# A comment.\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert checkout.rebuild() == report_page(state)


@COMPUTABLE
def test_a_seed_added_only_the_new_ones_are_computed(checkout: Checkout, state: str) -> None:
    before = checkout.contents()
    write_params(checkout.root, edit(PROJECT, (("seeds",), [0, 1, 2])))
    assert checkout.rebuild() == computing(FIVE, 2) | computing(THREE, 2) | REPORT | SHOWN
    assert not [path for path in changed(before, checkout.contents()) if "seed-0" in path or "seed-1" in path]
    assert checkout.accuracy(FIVE) == pytest.approx(mean_accuracy(checkout.record(FIVE, seed=n) for n in (0, 1, 2)))


@COMPUTABLE
def test_a_cell_added_only_it_is_computed(checkout: Checkout, state: str) -> None:
    before = checkout.contents()
    added = {**PROJECT["evaluations"][f"{FIVE}/1shot"], "shot": 2}
    write_params(checkout.root, edit(PROJECT, (("evaluations", f"{FIVE}/2shot"), added)))
    # Accuracies and claims cover all cells; no table has a column for this one.
    assert checkout.rebuild() == {f"evaluate {FIVE}/2shot {seed}" for seed in (0, 1)} | REPORT
    assert not [path for path in changed(before, checkout.contents()) if "1shot" in path or "tables" in path]
    assert "2shot" in (checkout.root / "results/accuracies.csv").read_text(encoding="utf-8")


@COMPUTABLE
def test_a_cell_file_deleted_that_evaluation_and_the_tables(checkout: Checkout, state: str) -> None:
    before = checkout.contents()
    (checkout.root / settings.RECORD.format(evaluation=f"{FIVE}/1shot", mode="inductive", seed=0)).unlink()
    assert checkout.rebuild() == {f"evaluate {FIVE}/1shot 0"} | OF_FIVE
    assert not [path for path in changed(before, checkout.contents()) if path.endswith(".json") and "run" not in path]


@COMPUTABLE
def test_one_cell_forced_by_name_that_cell_and_the_tables(checkout: Checkout, state: str) -> None:
    before = checkout.contents()
    cell = settings.RECORD.format(evaluation=f"{FIVE}/1shot", mode="transductive", seed=1)
    assert checkout.rebuild("all", "--forcerun", cell) == {f"evaluate {FIVE}/1shot 1"} | OF_FIVE
    after = checkout.contents()
    assert before[cell] == after[cell]  # computed again, to the same bytes
    run = cell.replace(".json", ".run.json")
    assert before[run] != after[run]


@BOTH
def test_a_figure_deleted_that_figure(checkout: Checkout, state: str) -> None:
    path = checkout.root / f"results/figures/{FIGURES[FIVE]}.png"
    before = path.read_bytes()
    path.unlink()
    assert checkout.rebuild() == FIGURE_OF_FIVE | {"page"}
    assert path.read_bytes() == before


@WARM
def test_source_of_a_report_module_edited_the_report_only_when_asked(
    checkout: Checkout, tmp_path: Path, state: str
) -> None:
    checkout.package = tmp_path / "src"
    shutil.copytree(REPOSITORY / "src/firstorder", checkout.package / "firstorder")
    module = checkout.package / "firstorder/report/text/formatting.py"
    text = module.read_text(encoding="utf-8")
    assert text.count('"reptile": "Reptile"') == 1
    module.write_text(text.replace('"reptile": "Reptile"', '"reptile": "Otherwise"'), encoding="utf-8")
    checkout.python = Path(sys.executable).parent  # which reads the edited source
    assert checkout.rebuild() == set()
    asked = ("report", "--config", "records=existing", "--allowed-rules", "report", "page", "--forcerun", "page")
    assert checkout.rebuild(*asked) == {"page"}
    assert "Otherwise" in (checkout.root / "results/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("state", ["clone"])
def test_fresh_clone_without_data_or_models_only_a_removed_table_is_drawn_again(checkout: Checkout, state: str) -> None:
    before = checkout.contents()
    (checkout.root / f"results/tables/{TABLES[FIVE]}.csv").unlink()
    assert checkout.rebuild() == {f"table {TABLES[FIVE]}", "page"}
    assert changed(before, checkout.contents()) == {"results/report.html"}


@PULLED
def test_fresh_clone_and_pull_with_time_stamps_of_any_order_nothing_is_computed(checkout: Checkout, state: str) -> None:
    assert checkout.rebuild() == {"page"}


@PULLED
def test_fresh_clone_with_an_edited_value_it_is_named_stale_refused_and_rebuilt(
    checkout: Checkout, state: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_params(checkout.root, MORE_INNER_STEPS)
    answer = checkout.stale()
    assert answer.returncode == 1
    assert answer.stdout.splitlines()[0] == f"{FIVE}/1shot/inductive seed 0: training.inner_steps: 2 -> 3"
    assert command_line.main(["accuracies", "--params", str(checkout.root / "params.yaml")]) == 2
    assert "stale, params.yaml has changed since: training.inner_steps: 2 -> 3" in capfd.readouterr().err
    assert checkout.rebuild() == computing(FIVE, 0, 1) | OF_FIVE | FIGURE_OF_FIVE
    assert checkout.record(FIVE)["settings"]["training"]["inner_steps"] == 3
    assert checkout.stale().returncode == 0


@COMPUTABLE
def test_data_replaced_by_other_content_its_trainings(checkout: Checkout, state: str) -> None:
    pack = checkout.root / "data/omniglot.npz"
    stamp = pack.stat().st_mtime_ns
    other = tiny_pack(images=19)
    packs.write_pack(pack, other)
    os.utime(pack, ns=(stamp, stamp))
    named = checkout.stale().stdout.splitlines()
    assert re.fullmatch(
        rf"{FIVE}/1shot/inductive seed 0: data_digest: \w{{16}} -> {other.digest()[:16]} \(.*\)", named[0]
    )
    assert checkout.rebuild() == computing(FIVE, 0, 1) | computing(THREE, 0, 1) | REPORT | SHOWN
    assert {checkout.record(training)["data_digest"] for training in (FIVE, THREE)} == {other.digest()}
    assert checkout.stale().stdout == ""


@COMPUTABLE
def test_numerics_version_raised_everything_is_computed(checkout: Checkout, tmp_path: Path, state: str) -> None:
    raised = firstorder.NUMERICS_VERSION + 1
    checkout.package = tmp_path / "src"
    shutil.copytree(REPOSITORY / "src/firstorder", checkout.package / "firstorder")
    module = checkout.package / "firstorder/__init__.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace(f"VERSION = {raised - 1}", f"VERSION = {raised}"), encoding="utf-8")
    checkout.environment["NUMERICS_VERSION"] = str(raised)
    named = checkout.stale().stdout.splitlines()
    assert f"curve of {THREE} seed 1: numerics_version: {raised - 1} -> {raised}" in named
    assert checkout.rebuild() == computing(FIVE, 0, 1) | computing(THREE, 0, 1) | REPORT | SHOWN
    assert {checkout.record(training)["numerics_version"] for training in (FIVE, THREE)} == {raised}
    assert checkout.stale().stdout == ""


# --- What a failure leaves ---


@PULLED
def test_a_checkpoint_of_another_architecture_is_refused_and_every_record_stays(checkout: Checkout, state: str) -> None:
    models = [checkout.root / settings.MODEL.format(training=training, seed=0) for training in (FIVE, THREE)]
    shutil.copy(models[1], models[0])
    before = checkout.contents()
    cell = settings.RECORD.format(evaluation=f"{FIVE}/1shot", mode="inductive", seed=0)
    answer = checkout.snakemake(cell, "--forcerun", cell)
    assert answer.returncode != 0
    assert f"{models[0].relative_to(checkout.root)}: made for another network" in answer.stdout + answer.stderr
    assert checkout.contents() == before
    assert models[0].read_bytes() == models[1].read_bytes()


@PULLED
def test_an_interrupted_training_leaves_a_checkpoint_that_was_pulled_since(checkout: Checkout, state: str) -> None:
    """Snakemake notes that its job was interrupted and plans it again, but there is nothing left to train."""
    model = checkout.root / settings.MODEL.format(training=FIVE, seed=0)
    pulled = model.read_bytes()
    model.unlink()
    cell = settings.RECORD.format(evaluation=f"{FIVE}/1shot", mode="inductive", seed=0)
    curve = checkout.root / settings.CURVE.format(training=FIVE, seed=0)
    run = {key: value for key, value in read_run(curve).items() if key != "checkpoint_digest"}  # as the oldest ones
    write_run(curve, sealed(run, curve.read_bytes()))
    before = checkout.contents()
    checkout.interrupt("train", cell, "--forcerun", cell)
    assert checkout.contents() == before
    model.write_bytes(pulled)
    assert checkout.rebuild(cell, "--forcerun", cell) == {f"train {FIVE} 0", f"evaluate {FIVE}/1shot 0"}
    assert model.read_bytes() == pulled
    # Training again would give the same bytes here, but a run file of its own.
    runs = {settings.RECORD.format(evaluation=f"{FIVE}/1shot", mode=mode, seed=0) for mode in settings.MODES}
    assert changed(before, checkout.contents()) == {path.replace(".json", ".run.json") for path in runs}


@pytest.mark.parametrize("state", ["clone"])
def test_a_report_of_stale_results_is_refused_once_and_every_table_and_figure_stays(
    checkout: Checkout, state: str
) -> None:
    write_params(checkout.root, edit(PROJECT, (("evaluations", f"{FIVE}/1shot", "tasks"), 11)))
    before = checkout.contents()
    drawn = ("--allowed-rules", "report", *OF_REPORT, "--forcerun", *OF_REPORT)
    report = ("report", "--config", "records=existing", *drawn)
    command = [sys.executable, "-m", "firstorder", "hold", "--params", str(checkout.root / "params.yaml"), "--report"]
    held = subprocess.run(
        [*command, "--", *checkout.command(*report)], env=checkout.variables(), capture_output=True, text=True
    )
    assert held.returncode == 2
    assert re.fullmatch(r"firstorder: .*/seed-0\.json: stale, .*; make it again: make cell .*\n", held.stderr)
    assert checkout.contents() == before
    # Plain Snakemake finds it job by job.
    assert checkout.snakemake(*report).returncode != 0
    of_three = {path for path in before if TABLES[THREE] in path or FIGURES[THREE] in path}
    assert changed(before, checkout.contents()) <= of_three
    assert {path for path in before if not (checkout.root / path).exists()} == set()
