"""DVC stores files and compares revisions: what is tracked, what is published, and that DVC runs nothing."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from firstorder import settings
from firstorder.__main__ import main
from firstorder.upkeep import dvc as reader
from firstorder.upkeep import verify_files
from tests.conftest import EVALUATION, TINY_PARAMS, TRAINING, edit, write_params

REPOSITORY = Path(__file__).parents[2]
PUBLISHED = REPOSITORY / "published"
LARGEST_BYTES = 16 * 2**20


def tracked() -> list[tuple[Path, dict[str, Any]]]:
    """List every tracked file with its entry in its .dvc file."""
    folders = [folder for folder in ("data", "models", "quick", "reduced", "studies") if (REPOSITORY / folder).is_dir()]
    files = sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.dvc"))
    outputs = [(path, output) for path in files for output in yaml.safe_load(path.read_text("utf-8"))["outs"]]
    return [(path.parent / output["path"], output) for path, output in outputs]


def published() -> list[tuple[Path, dict[str, Any]]]:
    return [(path, output) for path, output in tracked() if output.get("push", True)]


def in_store(output: dict[str, Any]) -> Path:
    return PUBLISHED / "files/md5" / output["md5"][:2] / output["md5"][2:]


def test_dvc_has_no_stage():
    """A stage around Snakemake would delete its outputs first, and everything would be trained again."""
    assert "stages" not in yaml.safe_load((REPOSITORY / "dvc.yaml").read_text("utf-8"))


def test_what_dvc_compares_exists():
    listed = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text("utf-8"))
    drawn = [plot for plot in listed["plots"] if isinstance(plot, dict)]
    plotted = [path for plot in drawn for options in plot.values() for path in options["y"]]
    pictures = [plot for plot in listed["plots"] if isinstance(plot, str)]
    assert {f"results/figures/figure-{number}.png" for number in (1, 2, 3, 4)} < set(pictures)
    for path in [*listed["params"], *listed["metrics"], *plotted, *pictures]:
        assert (REPOSITORY / path).is_file(), path
    known = {path.relative_to(REPOSITORY).as_posix() for path, _ in tracked()}
    assert {artifact["path"] for artifact in listed["artifacts"].values()} <= known


def test_dvc_draws_one_line_for_each_training_that_is_run(tmp_path: Path) -> None:
    """A file has both modes and both pools; drawn as one line they would be a zigzag."""
    plots = json.loads(dvc("plots", "show", "--json", "--out", str(tmp_path), folder=REPOSITORY))["data"]
    charts = {name: found[0]["content"] for name, found in plots.items() if found[0]["type"] == "vega"}
    assert len(charts) == 3
    for name, chart in charts.items():
        (condition,) = [step["filter"] for step in chart["transform"] if "filter" in step]
        assert condition == "datum['smoothed'] !== '' && datum.pool !== 'meta-train' && datum.mode !== 'transductive'"
        drawn = [
            row
            for row in chart["data"]["values"]
            if row["smoothed"] and row.get("pool") != "meta-train" and row.get("mode") != "transductive"
        ]
        places = [(row["training"], row["outer_step"]) for row in drawn]
        assert len(places) == len(set(places)) > 10, name
        assert all(float(row["outer_step"]) > 0 for row in drawn)
        assert "<DVC" not in json.dumps(chart)


def test_the_default_remote_is_a_folder_of_the_repository():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / ".dvc/config")
    name = config["core"]["remote"]
    assert (REPOSITORY / ".dvc" / config[f"'remote \"{name}\"'"]["url"]).resolve() == PUBLISHED


def test_only_checkpoints_are_published_and_all_of_them_are_there():
    """Data sets are tracked by their hash and never pushed."""
    assert published()
    for path, output in published():
        assert path.suffix == ".safetensors"
        assert hashlib.md5(in_store(output).read_bytes(), usedforsecurity=False).hexdigest() == output["md5"]
        assert verify_files.is_checkpoint(in_store(output))  # by its content, not by its name
    stored = {path for path in PUBLISHED.rglob("*") if path.is_file()}
    assert stored == {in_store(output) for _, output in published()}
    assert sum(path.stat().st_size for path in stored) <= LARGEST_BYTES


# --- The real DVC on a miniature project ---

IDENTITY = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
DVC_YAML = {
    "params": ["params.yaml"],
    "metrics": ["results/metrics.json"],
    "plots": [{"Learning curve": {"x": "outer_step", "y": {f"results/curves/{TRAINING}/seed-0.csv": "accuracy"}}}],
}
RECORD = settings.RECORD.format(evaluation=EVALUATION, mode="inductive", seed=0)
MODEL = settings.MODEL.format(training=TRAINING, seed=0)
METRIC = f"{EVALUATION}/inductive"


def run(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def git(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run("git", *arguments, folder=folder)


def dvc(*arguments: str, folder: Path | None = None) -> str:
    done = run(sys.executable, "-m", "dvc", *arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def new_repository(root: Path) -> None:
    """Make `root` a repository of Git and DVC like this one, and commit everything but the data."""
    for name in (".gitignore", ".dvcignore", ".dvc/.gitignore", ".dvc/config"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    (root / "published").mkdir(exist_ok=True)
    (root / "published/.gitkeep").touch()
    (root / "dvc.yaml").write_text(yaml.safe_dump(DVC_YAML), encoding="utf-8")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Begin"]):
        done = git(*command, folder=root)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def edited(computed_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a committed project in which one setting was edited afterwards and everything computed again."""
    root = Path(shutil.copytree(computed_once, tmp_path_factory.mktemp("edited") / "project"))
    params = ["--params", str(root / "params.yaml")]
    assert main(["accuracies", *params]) == 0
    new_repository(root)
    write_params(root, edit(TINY_PARAMS, (("trainings", TRAINING, "outer_steps"), 20)))
    for verb, name in (("train", TRAINING), ("evaluate", EVALUATION)):
        assert main([verb, name, *params, "--seed", "0", "--device", "cpu"]) == 0
    assert main(["accuracies", *params]) == 0
    return root


def test_dvc_shows_what_an_edit_moved(edited: Path) -> None:
    before = json.loads(git("show", "HEAD:results/metrics.json", folder=edited).stdout)[METRIC]
    after = json.loads((edited / "results/metrics.json").read_text(encoding="utf-8"))[METRIC]
    moved = json.loads(dvc("metrics", "diff", "--json", "--all", folder=edited))["results/metrics.json"][METRIC]
    assert (moved["old"], moved["new"]) == (before, after)
    changed = json.loads(dvc("params", "diff", "--json", folder=edited))["params.yaml"]
    assert changed == {f"trainings.{TRAINING}.outer_steps": {"old": 6, "new": 20, "diff": 14}}


def test_dvc_plots_both_learning_curves(edited: Path) -> None:
    plotted = json.loads(dvc("plots", "diff", "--json", folder=edited))
    (plot,) = plotted["data"]["Learning curve"]
    assert set(plot["revisions"]) == {"HEAD", "workspace"}
    assert "outer_step" in json.dumps(plot)


def test_dvc_keeps_an_experiment_without_a_stage(edited: Path) -> None:
    dvc("exp", "save", "--quiet", "--name", "longer", folder=edited)
    shown = dvc("exp", "show", "--csv", "--drop", "Created|State", folder=edited)
    assert "longer" in shown
    assert METRIC in shown
    assert git("status", "--porcelain", "--", "params.yaml", folder=edited).stdout == " M params.yaml\n"


def test_a_pulled_checkpoint_is_evaluated_without_training(computed_project: Path, tmp_path: Path) -> None:
    """Clone, pull, delete a record, request that cell: the record has the same bytes, the checkpoint is unchanged."""
    new_repository(computed_project)
    assert main(["publish"]) == 0
    assert git("add", ".").returncode == 0
    assert git("commit", "--quiet", "-m", "Publish").returncode == 0
    clone = tmp_path / "clone"
    assert git("clone", "--quiet", str(computed_project), str(clone)).returncode == 0
    dvc("pull", "--quiet", folder=clone)
    shutil.copytree("data", clone / "data", dirs_exist_ok=True)
    model, stamp = (clone / MODEL).read_bytes(), (clone / MODEL).stat().st_mtime_ns
    (clone / RECORD).unlink()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(clone), "--cores", "1"]
    command += ["--workflow-profile", str(REPOSITORY / "profiles/default"), RECORD]
    done = run(sys.executable, "-m", "snakemake", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / RECORD).read_bytes() == Path(RECORD).read_bytes()
    assert ((clone / MODEL).read_bytes(), (clone / MODEL).stat().st_mtime_ns) == (model, stamp)
    assert not (clone / "logs/train").exists()


def test_a_missing_object_is_refused_by_dvc_and_named_by_verify(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_repository(computed_project)
    output = {"md5": "0123456789abcdef" * 2, "size": 9, "hash": "md5", "path": "seed-0.safetensors"}
    Path(f"{MODEL}.dvc").write_text(yaml.safe_dump({"outs": [output]}), encoding="utf-8")
    Path(MODEL).unlink()
    assert run(sys.executable, "-m", "dvc", "pull").returncode != 0
    assert main(["verify"]) == 1
    assert f"{MODEL}.dvc: expected its object {output['md5']}" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["s3://bucket/folder", "ssh://host/folder", "https://host/folder"])
def test_another_remote_is_one_command(tmp_path: Path, url: str) -> None:
    new_repository(tmp_path)
    dvc("remote", "add", "--local", "mine", url, folder=tmp_path)
    assert reader.remote(tmp_path, "mine") == reader.Remote("mine", url, None)
    assert reader.remote(tmp_path).name == "published"
