"""The real Snakemake on a miniature project: what is computed, and what is recomputed after which change."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firstorder import settings
from firstorder.data import packs
from firstorder.report.text import tables
from firstorder.settings import checks
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, tiny_pack, write_params
from tests.studies.test_theory import THEORY

REPOSITORY = Path(__file__).parents[2]
TABLE = {
    "title": "A table",
    "columns": ["omniglot-5way/1shot"],
    "rows": [{"label": "Reptile", "algorithm": "reptile", "mode": "inductive"}],
}
FIGURE = {"kind": "curves", "title": "Learning curves", "trainings": [TRAINING]}
PROJECT = edit(TINY_PARAMS, (("seeds",), [0]), (("tables", "glyphs"), TABLE), (("figures", "learning-curves"), FIGURE))
REPORT = {"accuracies": 1, "table": 1, "claims": 1, "figure": 1, "page": 1}


def snakemake(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return with_profile(root, "default", "--cores", "1", *arguments)


def with_profile(root: Path, profile: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        "--directory",
        str(root),
    ]
    command += ["--workflow-profile", str(REPOSITORY / "profiles" / profile), *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY / "src"), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=given, check=False)


def planned(root: Path, *arguments: str) -> dict[str, int]:
    """Return the jobs of a dry run: rule -> number of jobs, without the rules that only collect files."""
    answer = snakemake(root, "--dry-run", *arguments)
    output = answer.stdout + answer.stderr
    assert answer.returncode == 0, output
    if "Nothing to be done" in output:
        return {}
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", output.split("Job stats:")[1].split("total")[0], flags=re.MULTILINE))
    return {rule: int(count) for rule, count in jobs.items() if rule not in ("all", "cells", "report")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compute the whole miniature project once."""
    root = tmp_path_factory.mktemp("built") / "project"
    packs.write_pack(root / "data/omniglot.npz", tiny_pack())
    write_params(root, PROJECT)
    answer = snakemake(root)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return root


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    """Return a copy of the computed project, with its time stamps and Snakemake's metadata."""
    return Path(shutil.copytree(built, tmp_path / "project"))


def test_one_command_computes_every_cell_table_and_figure(built):
    expected = {
        settings.MODEL.format(training=TRAINING, seed=0),
        settings.CURVE.format(training=TRAINING, seed=0),
        *(settings.RECORD.format(evaluation=EVALUATION, mode=mode, seed=0) for mode in settings.MODES),
        "results/accuracies.csv",
        *(f"results/tables/glyphs.{suffix}" for suffix in ("csv", "md", "tex")),
        *(f"results/claims.{suffix}" for suffix in ("csv", "md")),
        *(f"results/figures/learning-curves.{suffix}" for suffix in ("png", "pdf", "csv")),
        "results/report.html",
    }
    assert {path for path in expected if not (built / path).is_file()} == set()


def test_nothing_changed_computes_nothing(project):
    assert planned(project) == {}


def test_a_comment_computes_nothing(project):
    path = project / "params.yaml"
    path.write_text("# A comment.\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert planned(project) == {}


def test_an_edited_training_is_computed_again_with_its_cells_and_tables(project):
    write_params(project, edit(PROJECT, (("trainings", TRAINING, "inner_steps"), 3)))
    assert planned(project) == {"train": 1, "evaluate": 1, **REPORT}


def test_an_edited_evaluation_leaves_the_training(project):
    write_params(project, edit(PROJECT, (("evaluations", EVALUATION, "tasks"), 13)))
    assert planned(project) == {"evaluate": 1, "accuracies": 1, "table": 1, "claims": 1, "page": 1}


def test_an_added_seed_computes_only_itself(project):
    write_params(project, edit(PROJECT, (("seeds",), [0, 1])))
    assert planned(project) == {"train": 1, "evaluate": 1, **REPORT}


def test_a_deleted_cell_is_evaluated_again_without_training(project):
    (project / settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0)).unlink()
    assert planned(project) == {"evaluate": 1, "accuracies": 1, "table": 1, "claims": 1, "page": 1}


def test_a_deleted_figure_redraws_that_figure(project):
    (project / "results/figures/learning-curves.png").unlink()
    assert planned(project) == {"figure": 1, "page": 1}


SWEPT = {
    ("sweeps",): {
        "inner-steps": {
            "base": TINY_PARAMS["trainings"][TRAINING],
            "varied": "inner_steps",
            "values": [1, 2],
            "variants": {"reptile": {"label": "Reptile", "algorithm": "reptile"}},
        }
    },
    ("figures", "figure-4"): {"kind": "sweeps", "title": "A sweep", "sweeps": ["inner-steps"]},
    ("figures", "adaptation"): {"kind": "adaptation", "title": "Along", "evaluations": [EVALUATION]},
    ("adaptations",): {EVALUATION: {"inner_steps": [0, 2], "tasks": 4}},
    ("manifolds",): {
        "start": [1.0, 0.0],
        "inner_learning_rate": 0.5,
        "inner_steps": 1,
        "outer_steps": 2,
        "outer_step_size": 0.5,
    },
    ("figures", "figure-2"): {"kind": "manifolds", "title": "In the plane"},
}


def test_figures_request_the_curves_that_params_yaml_names(project):
    """A sweep has one training for each value; trainings that are done are not repeated."""
    write_params(project, edit(PROJECT, *SWEPT.items()))
    jobs = planned(project)
    assert {rule: jobs[rule] for rule in ("train", "adaptation", "manifolds")} == {
        "train": 2,
        "adaptation": 1,
        "manifolds": 1,
    }
    assert jobs["figure"] == 3
    assert "evaluate" not in jobs


def test_a_value_added_to_a_sweep_trains_that_value_alone(project):
    values = edit(PROJECT, *SWEPT.items())
    write_params(project, values)
    wanted = ["results/figures/figure-4.png", "results/figures/figure-2.png"]
    answer = snakemake(project, *wanted)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert planned(project, *wanted) == {}
    (project / wanted[0]).unlink()
    assert planned(project, *wanted) == {"figure": 1}
    write_params(project, edit(values, (("sweeps", "inner-steps", "values"), [1, 2, 3])))
    assert planned(project, wanted[0]) == {"train": 1, "figure": 1}


def test_results_alone_are_enough_to_redraw(project):
    """As in a clone: no data, no checkpoints, no metadata of Snakemake, time stamps in any order."""
    for folder in ("data", "models", ".snakemake"):
        shutil.rmtree(project / folder)
    for moment, path in enumerate(sorted(project.rglob("*"), reverse=True)):
        os.utime(path, (1_000_000_000 + moment, 1_000_000_000 + moment))
    (project / "results/tables/glyphs.csv").unlink()
    work = planned(project, "report", "--config", "records=existing")
    assert "table" in work
    assert not {"train", "evaluate", "pack_omniglot", "download_omniglot"} & set(work)


def test_a_partly_recorded_project_is_reported_without_computing_the_rest(project):
    write_params(project, edit(PROJECT, (("seeds",), [0, 7])))
    work = planned(project, "report", "--config", "records=existing")
    assert not {"train", "evaluate"} & set(work)


def test_one_cell_can_be_requested_by_name(project):
    shutil.rmtree(project / "results/cells")
    cell = settings.RECORD.format(evaluation=EVALUATION, mode="transductive", seed=0)
    assert planned(project, cell) == {"evaluate": 1}


def test_a_pulled_checkpoint_is_evaluated_without_training_even_if_its_data_is_missing(project):
    """As after pulling a published checkpoint into a clone: the data is packed, nothing is trained."""
    shutil.rmtree(project / ".snakemake")
    (project / "data/omniglot.npz").unlink()
    cell = project / settings.RECORD.format(evaluation=EVALUATION, mode="transductive", seed=0)
    cell.unlink()
    work = planned(project, str(cell.relative_to(project)))
    assert work == {"download_omniglot": 2, "pack_omniglot": 1, "evaluate": 1}


def test_each_archive_is_a_job_of_its_own(project):
    """Snakemake deletes the outputs of a failed job, and an archive that came must not go because the other did not."""
    shutil.rmtree(project / "data/raw", ignore_errors=True)
    assert planned(project, "data/raw/omniglot/images_evaluation.zip") == {"download_omniglot": 1}


def test_a_value_that_begins_with_a_dash_is_no_option():
    """A data_folder, or the path to a repository that is called so."""
    for path in (REPOSITORY / "workflow/rules").glob("*.smk"):
        given = re.findall(r"--[a-z]+(.)\{{1,2}(?:params|input|output)\b", path.read_text(encoding="utf-8"))
        assert set(given) <= {"="}, path
        assert path.name not in ("data.smk", "report.smk") or given


def test_a_model_trained_with_other_settings_is_trained_again(project):
    shutil.rmtree(project / ".snakemake")
    write_params(project, edit(PROJECT, (("trainings", TRAINING, "inner_steps"), 3)))
    cell = settings.RECORD.format(evaluation=EVALUATION, mode="transductive", seed=0)
    (project / cell).unlink()
    model = settings.MODEL.format(training=TRAINING, seed=0)
    assert planned(project, cell, "--forcerun", model) == {"train": 1, "evaluate": 1}


def test_an_edited_title_writes_that_table_again(project):
    write_params(project, edit(PROJECT, (("tables", "glyphs", "title"), "Another title")))
    assert planned(project) == {"table": 1, "page": 1}


def test_cells_can_be_limited_to_some_algorithms(project):
    shutil.rmtree(project / "results/cells")
    assert planned(project, "cells", "--config", "algorithms=maml+untrained") == {}
    assert planned(project, "cells", "--config", "algorithms=reptile+untrained") == {"evaluate": 1}


def test_newer_data_of_the_same_content_trains_nothing(project):
    (project / "data/omniglot.npz").touch()
    assert planned(project) == {}


def test_a_theory_section_adds_its_computations_its_table_and_its_claims(project):
    write_params(project, edit(PROJECT, (("theory",), THEORY)))
    assert planned(project) == {"theory": 1, "inner_products": 1, "table": 1, "claims": 1, "page": 1}


def test_a_name_outside_params_yaml_matches_no_rule(project):
    answer = snakemake(project, "--dry-run", "results/cells/reptil/omniglot-5way/1shot/inductive/seed-0.json")
    assert answer.returncode != 0
    assert "MissingRuleException" in answer.stdout + answer.stderr


def test_the_workflow_passes_snakemakes_own_lint(built):
    answer = snakemake(built, "--lint")
    assert answer.returncode == 0
    assert "good condition" in answer.stdout + answer.stderr


def test_snakemakes_own_report_carries_the_captions(built, tmp_path):
    answer = snakemake(built, "--report", str(tmp_path / "report.html"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "characters that the program draws itself" in text
    assert "Two pages show the same results without Snakemake" in text  # its first page
    assert "WARN" not in (answer.stdout + answer.stderr).upper()
    assert "no times" not in answer.stdout + answer.stderr


def test_snakemakes_own_report_of_a_clone_tells_once_what_it_has_no_times_of(project, tmp_path):
    """A clone has no metadata of Snakemake; neither has what is not run. The report shows all that is there."""
    whole = snakemake(project, "--report", str(tmp_path / "whole.html"))
    shutil.rmtree(project / ".snakemake")
    for path in ("results/cells", "models"):
        shutil.rmtree(project / path)
    answer = snakemake(project, "--report", str(tmp_path / "report.html"))
    printed = answer.stdout + answer.stderr
    assert answer.returncode == 0, printed
    assert "metadata" not in printed
    (told,) = re.findall(
        r"^The report has no times of (\d+) files that Snakemake has not made here .* and (\d+) files "
        r"that are not here \(make plan lists what is left to compute\)\.$",
        printed,
        re.MULTILINE,
    )
    made = [path for path in project.rglob("results/**/*") if path.is_file() and not path.name.endswith(".run.json")]
    assert told == (str(len(made) + 1), "5")  # with the pack; two cells, a checkpoint, Omniglot's two archives
    added = r"^Adding (\S+) "
    assert (
        re.findall(added, printed, re.MULTILINE) == re.findall(added, whole.stdout + whole.stderr, re.MULTILINE) != []
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for rule in ("train", "evaluate", "table", "figure"):
        assert f'"rule": "{rule}"' in text  # in the graph of rules


def test_every_table_and_figure_has_a_caption():
    for folder in (".", "quick", "reduced", "studies/second-moments/carried", "studies/second-moments/per-lane"):
        project = checks.load(REPOSITORY / folder / "params.yaml")
        for name in [*tables.names(project), *project.figures]:
            assert (REPOSITORY / f"workflow/report/{name}.rst").read_text(encoding="utf-8").strip()
