"""The explanation of one number."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.errors import UserError
from firstorder.records.cells import write_run
from firstorder.report.text import why
from firstorder.settings import CURVE, RECORD, Project, digest
from tests.report.test_published import PUBLISHED
from tests.synthetic_records import ONE_SHOT, PARAMS, TRAINING, changed_params, make_project, store_record

CELL = f"{ONE_SHOT}/inductive"
NINETY, EIGHTY = [0, 0, 0, 0, 50, 50], [0, 0, 0, 0, 100, 0]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path)
    store_record(tmp_path, made, ONE_SHOT, "inductive", {0: NINETY, 1: EIGHTY})
    return made


def explained(root: Path, project: Project, cell: str = CELL, seeds: tuple[int, ...] = (0, 1, 2)) -> str:
    return why.explain(root, project, cell, seeds, PUBLISHED)


def test_the_papers_number_stands_with_its_meaning_and_source(tmp_path: Path, project: Project) -> None:
    text = explained(tmp_path, project)
    assert "published     95.39 ± 0.09 %" in text
    assert "± means     spread over seeds (probably three); exact definition unknown" in text
    assert "arXiv 1803.02999 v3, Table 2, as quoted by two other texts (confidence B; half-width C)" in text
    assert "published.csv: table-2, Reptile, omniglot-5way/1shot" in text


def test_ours_stands_with_its_interval_and_each_seed(tmp_path: Path, project: Project) -> None:
    text = explained(tmp_path, project)
    # 80 and 90 %: mean 85, half-width 12.706 * 5 points.
    assert "ours          85.00 ± 63.53 %, 95 % interval over 2 seeds (Student)" in text
    assert "seed 0        90.00 ± 1.97 %, 95 % interval over its 100 tasks" in text
    assert "with 0 to 5 of 5 query images right: 0 0 0 0 50 50" in text
    assert "seed 2        not run" in text


def test_digests_machine_commit_time_and_settings_are_listed(tmp_path: Path, project: Project) -> None:
    text = explained(tmp_path, project)
    for value in ("0" * 16, "1" * 16, "2" * 16, digest(project.settings_of_evaluation(ONE_SHOT))):
        assert value in text
    assert "evaluation  12.0 s on a made-up device" in text
    assert "machine   a made-up machine" in text
    assert "commit    0123456789abcdef" in text
    assert "  training.inner_steps = 5" in text
    assert "  evaluation.tasks = 100" in text


def test_how_the_training_was_made_is_listed_only_if_its_settings_match(tmp_path: Path, project: Project) -> None:
    curve = tmp_path / CURVE.format(training=TRAINING, seed=0)
    run = {"seconds": 34.5, "device": "a training's device", "settings_digest": "1" * 16}
    write_run(curve, run)
    assert "training    34.5 s on a training's device" in explained(tmp_path, project, seeds=(0,))
    write_run(curve, {**run, "settings_digest": "f" * 16})
    assert "training    how it was made is not recorded" in explained(tmp_path, project, seeds=(0,))


def test_claims_about_the_cell_stand_with_their_verdicts(tmp_path: Path, project: Project) -> None:
    text = explained(tmp_path, project)
    assert "reduced length: Reptile, Omniglot 5-way 1-shot: our accuracy is the paper's. Ours minus" in text
    assert (
        "not run: Omniglot 5-way 1-shot: transduction helps Reptile. [transduction/reptile/omniglot-5way/1shot]" in text
    )


def test_only_the_seeds_asked_for_are_listed(tmp_path: Path, project: Project) -> None:
    text = explained(tmp_path, project, seeds=(1,))
    assert "seed 1        80.00" in text
    assert "seed 0" not in text


def test_a_stale_record_is_shown_as_such_and_not_counted(tmp_path: Path, project: Project) -> None:
    values = changed_params()
    values["evaluations"][ONE_SHOT]["inner_steps"] = 51
    text = explained(tmp_path, make_project(tmp_path, values))
    assert "STALE, params.yaml has changed since: evaluation.inner_steps: 50 -> 51" in text
    assert "ours          not run" in text
    assert "claims        not judged while a record is stale" in text


def test_a_cell_that_the_paper_does_not_have_says_so(tmp_path: Path) -> None:
    values = changed_params()
    training = {**PARAMS["trainings"][TRAINING], "algorithm": "untrained", "outer_steps": 0}
    values["trainings"]["untrained/omniglot-5way"] = training
    name = "untrained/omniglot-5way/1shot"
    values["evaluations"][name] = {**values["evaluations"][ONE_SHOT], "training": "untrained/omniglot-5way"}
    text = explained(tmp_path, make_project(tmp_path, values), f"{name}/inductive")
    assert "published     the paper states no number for this cell" in text
    assert "claims        none is about this cell" in text


def test_a_record_without_its_run_file_is_explained_without_it(tmp_path: Path, project: Project) -> None:
    path = tmp_path / RECORD.format(evaluation=ONE_SHOT, mode="inductive", seed=0)
    path.with_suffix(".run.json").unlink()
    assert "evaluation  how it was made is not recorded" in explained(tmp_path, project, seeds=(0,))


def test_an_unknown_cell_is_refused_with_the_nearest(tmp_path: Path, project: Project) -> None:
    with pytest.raises(UserError, match=r"unknown cell .*\(did you mean 'reptile/omniglot-5way/1shot/inductive'"):
        explained(tmp_path, project, "reptile/omniglot-5way/1shot/inductiv")


def test_the_command_explains_the_seed_that_is_asked_for(
    tmp_path: Path, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--params", str(tmp_path / "params.yaml"), "--published", str(PUBLISHED)]
    assert main(["why", CELL, "--seed", "1", *common]) == 0
    out = capsys.readouterr().out
    assert out.startswith(explained(tmp_path, project, seeds=(1,)) + "\n\nTo compute what is missing or stale: ")
    assert "  seed 1: training missing, ~" in out
    assert main(["why", CELL, *common]) == 0
    assert capsys.readouterr().out.startswith(explained(tmp_path, project) + "\n")
    assert main(["why", CELL, "--seed", "9", *common]) == 2
    assert "seed 9 is not among params.yaml's seeds" in capsys.readouterr().err


def test_explaining_twice_gives_the_same_text(tmp_path: Path, project: Project) -> None:
    assert explained(tmp_path, project) == explained(tmp_path, project)
