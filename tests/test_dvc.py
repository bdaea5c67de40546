"""DVC keeps bytes and history: what is tracked, what is published, and that it runs nothing."""

from __future__ import annotations

import configparser
import hashlib
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
PUBLISHED = REPOSITORY / "published"
LARGEST_BYTES = 16 * 2**20


def tracked() -> list[tuple[Path, dict[str, Any]]]:
    """List every tracked file with what its .dvc file says of it."""
    folders = [folder for folder in ("data", "models", "quick", "reduced", "studies") if (REPOSITORY / folder).is_dir()]
    files = sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.dvc"))
    outputs = [(path, output) for path in files for output in yaml.safe_load(path.read_text("utf-8"))["outs"]]
    return [(path.parent / output["path"], output) for path, output in outputs]


def published() -> list[tuple[Path, dict[str, Any]]]:
    return [(path, output) for path, output in tracked() if output.get("push", True)]


def in_store(output: dict[str, Any]) -> Path:
    return PUBLISHED / "files/md5" / output["md5"][:2] / output["md5"][2:]


def test_dvc_has_no_stage():
    """A stage around Snakemake would empty its outputs and train everything again."""
    assert "stages" not in yaml.safe_load((REPOSITORY / "dvc.yaml").read_text("utf-8"))


def test_what_dvc_compares_exists():
    told = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text("utf-8"))
    plotted = [path for plot in told["plots"] for options in plot.values() for path in options["y"]]
    for path in [*told["params"], *told["metrics"], *plotted]:
        assert (REPOSITORY / path).is_file(), path
    known = {path.relative_to(REPOSITORY).as_posix() for path, _ in tracked()}
    assert {artifact["path"] for artifact in told["artifacts"].values()} <= known


def test_the_default_remote_is_a_folder_of_the_repository():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / ".dvc/config")
    name = config["core"]["remote"]
    assert (REPOSITORY / ".dvc" / config[f"'remote \"{name}\"'"]["url"]).resolve() == PUBLISHED


def test_only_checkpoints_are_published_and_all_of_them_are_there():
    """Data sets are tracked by their hash; their bytes stay where they came from."""
    assert published()
    for path, output in published():
        assert path.suffix == ".safetensors"
        assert hashlib.md5(in_store(output).read_bytes(), usedforsecurity=False).hexdigest() == output["md5"]
    stored = {path for path in PUBLISHED.rglob("*") if path.is_file()}
    assert stored == {in_store(output) for _, output in published()}
    assert sum(path.stat().st_size for path in stored) <= LARGEST_BYTES
