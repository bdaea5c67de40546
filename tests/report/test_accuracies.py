"""Records as a tidy frame, and the refusal of stale ones."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from firstorder import files
from firstorder.errors import UserError
from firstorder.report.read import accuracies
from tests.synthetic_records import ONE_SHOT, PARAMS, TRAINING, changed_params, make_project, store_record

HALF = [0, 0, 0, 0, 50, 50]  # 100 tasks, 450 of 500 right


def test_every_record_is_a_row(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "transductive", {2: HALF, 0: [0, 0, 0, 0, 0, 100]})
    written = pd.read_csv(accuracies.write(tmp_path, project))
    first, second = written.itertuples()
    assert (first.algorithm, first.dataset, first.way, first.shot) == ("reptile", "omniglot", 5, 1)
    assert (first.mode, first.seed, first.tasks, first.accuracy) == ("transductive", 0, 100, 1.0)
    assert (second.seed, second.accuracy) == (2, 0.9)
    assert second.half_width_tasks == pytest.approx(1.959964 * second.standard_error_tasks, rel=1e-6)


def test_each_record_and_run_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a record checks its SHA-256 already, so the check for staleness need not read it again."""
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: HALF, 1: HALF})
    reads: Counter[str] = Counter()

    def counted(path: Path) -> tuple[int, int]:
        reads[path.name] += path.exists()  # no curve is recorded, whose run file is looked for
        return regular(path)

    regular = files._regular
    monkeypatch.setattr(files, "_regular", counted)
    assert len(accuracies.fresh_records(tmp_path, project)) == 2
    assert +reads == dict.fromkeys(("seed-0.json", "seed-0.run.json", "seed-1.json", "seed-1.run.json"), 1)


def test_metrics_are_means_over_seeds(tmp_path: Path) -> None:
    """0.9 for one seed and 1.0 for the other."""
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "transductive", {2: HALF, 0: [0, 0, 0, 0, 0, 100]})
    accuracies.write(tmp_path, project)
    metrics = json.loads((tmp_path / "results/metrics.json").read_text(encoding="utf-8"))
    assert metrics == {f"{ONE_SHOT}/transductive": 0.95}


def test_without_records_there_is_only_a_heading(tmp_path: Path) -> None:
    written = accuracies.write(tmp_path, make_project(tmp_path))
    assert written.read_text(encoding="utf-8").splitlines() == [",".join(accuracies.TYPES)]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    store_record(tmp_path, project, ONE_SHOT, "inductive", {0: HALF})
    first = accuracies.write(tmp_path, project).read_bytes()
    assert accuracies.write(tmp_path, project).read_bytes() == first


def test_a_stale_record_is_refused_with_the_command_that_rebuilds_it(tmp_path: Path) -> None:
    store_record(tmp_path, make_project(tmp_path), ONE_SHOT, "inductive", {1: HALF, 2: HALF})
    trainings = copy.deepcopy(PARAMS["trainings"])
    trainings[TRAINING]["outer_steps"] = 2000
    changed = make_project(tmp_path, changed_params(trainings=trainings))
    with pytest.raises(UserError) as refused:
        accuracies.write(tmp_path, changed)
    message = str(refused.value)
    assert f"results/cells/{ONE_SHOT}/inductive/seed-1.json" in message
    assert "training.outer_steps: 1000 -> 2000" in message
    assert "(1 more stale)" in message
    assert f"make cell CELL={ONE_SHOT}/inductive SEED=1" in message
    assert "\n" not in message
