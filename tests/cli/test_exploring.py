"""`--set key=value`: other settings, in a folder of their own; no record is touched, and typos name the nearest one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from firstorder.__main__ import main
from firstorder.settings import checks
from tests.conftest import EVALUATION, TRAINING, files_below

CPU = ["--seed", "0", "--device", "cpu"]


def test_a_training_with_another_setting_leaves_everything_as_it_was(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(computed_project)
    other = ["--set", "inner_learning_rate=0.002", "--set", "curve.every=3"]
    assert main(["train", TRAINING, *CPU, *other]) == 0
    folder = computed_project / f"explored/{TRAINING}/curve.every=3,inner_learning_rate=0.002"
    assert "no other result is touched" in capsys.readouterr().err
    assert main(["evaluate", EVALUATION, *CPU, *other]) == 0
    project = checks.load(folder / "params.yaml")
    assert project.trainings[TRAINING].inner_learning_rate == 0.002
    assert project.trainings[TRAINING].curve.every == 3
    for verb in ("stale", "verify", "show"):
        assert main([verb, "--params", str(folder / "params.yaml")]) == 0
    after = files_below(computed_project)
    assert {path: after[path] for path in before} == before
    assert {path.split("/")[0] for path in set(after) - set(before)} == {"explored"}
    checkpoint = f"models/{TRAINING}/seed-0.safetensors"
    assert (folder / checkpoint).read_bytes() != before[checkpoint]


def test_an_evaluation_with_a_setting_of_its_own_takes_the_checkpoint_that_is_there(computed_project: Path) -> None:
    before = files_below(computed_project)
    assert main(["evaluate", EVALUATION, *CPU, "--set", "tasks=6", "--set", "evaluation.inner_steps=2"]) == 0
    folder = computed_project / f"explored/{TRAINING}/evaluation.inner_steps=2,evaluation.tasks=6"
    made = checks.load(folder / "params.yaml").evaluations[EVALUATION]
    assert (made.tasks, made.inner_steps) == (6, 2)
    checkpoint = f"models/{TRAINING}/seed-0.safetensors"
    assert (folder / checkpoint).read_bytes() == before[checkpoint]
    assert main(["verify", "--params", str(folder / "params.yaml")]) == 0
    assert {path: content for path, content in files_below(computed_project).items() if path in before} == before


def test_names_follow_the_settings(tiny_project: Path) -> None:
    assert main(["train", TRAINING, *CPU, "--set", "way=3", "--set", "inner_batch_size=6"]) == 0
    folder = tiny_project / f"explored/{TRAINING}/inner_batch_size=6,way=3"
    assert (folder / "models/reptile/omniglot-3way/seed-0.safetensors").exists()
    assert list(checks.load(folder / "params.yaml").evaluations) == ["reptile/omniglot-3way/1shot"]


def test_a_setting_of_the_split_can_be_explored(tiny_project: Path) -> None:
    assert main(["train", TRAINING, *CPU, "--set", "dataset.rotations=[0]"]) == 0
    (made,) = (tiny_project / f"explored/{TRAINING}").glob("*/params.yaml")
    assert checks.load(made).datasets["omniglot"].rotations == (0,)
    assert len(made.parent.name) == 16  # brackets are for no name of a folder, so it is a digest


@pytest.mark.parametrize(
    ("verb", "given", "why"),
    [
        ("train", "inner_learnin_rate=1", "unknown setting 'inner_learnin_rate' (did you mean 'inner_learning_rate'?)"),
        ("train", "curve.evry=1", "unknown setting 'curve.evry' (did you mean 'curve.every'?)"),
        ("train", "inner_steps", "expected KEY=VALUE, such as --set inner_learning_rate=0.002"),
        ("train", "inner_steps=", "expected KEY=VALUE"),
        ("train", "inner_steps=0", "inner_steps: expected at least 1, found 0"),
        ("train", "inner_steps=two", "inner_steps: expected a whole number, found 'two'"),
        ("train", "inner_steps=[1", "not valid YAML"),
        ("train", "algorithm=maml", "maml needs query_shot"),
        ("train", "tasks=3", "unknown setting 'tasks'"),
        ("train", "evaluation.tasks=3", "is of an evaluation; give it to: firstorder evaluate"),
        ("train", "dataset=glyphs", "names what it is about; add an entry to params.yaml"),
        ("train", "dataset.source=glyphs", "acts when the data set is packed"),
        ("evaluate", "inner_steps=3", "write training.inner_steps or evaluation.inner_steps"),
        ("evaluate", "training.inner_steps=3", "no such checkpoint; train it first: firstorder train reptile/omniglot"),
    ],
)
def test_what_is_no_setting_is_refused_in_one_line(
    verb: str, given: str, why: str, tiny_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(tiny_project)
    name = TRAINING if verb == "train" else EVALUATION
    assert main([verb, name, *CPU, "--set", given]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert "--set" in error
    assert error.count("\n") == 1
    assert files_below(tiny_project) == before


def test_one_setting_twice_is_refused(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = ["--set", "inner_steps=3", "--set", "training.inner_steps=4"]
    assert main(["train", TRAINING, *CPU, *twice]) == 2
    assert "training.inner_steps is set twice; leave one out" in capsys.readouterr().err


def test_a_missing_checkpoint_is_named_with_the_command_that_makes_it(
    computed_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(computed_project / "models")
    assert main(["evaluate", EVALUATION, *CPU, "--set", "tasks=6"]) == 2
    assert capsys.readouterr().err.endswith(f"train it first: firstorder train {TRAINING} --seed 0\n")


def test_edited_settings_are_taken_over_at_the_next_call(computed_project: Path) -> None:
    given = ["--set", "inner_steps=3"]
    assert main(["train", TRAINING, *CPU, *given]) == 0
    params = computed_project / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("meta_batch_size: 2", "meta_batch_size: 1"), encoding="utf-8")
    assert main(["train", TRAINING, *CPU, *given]) == 0
    folder = computed_project / f"explored/{TRAINING}/inner_steps=3"
    assert checks.load(folder / "params.yaml").trainings[TRAINING].meta_batch_size == 1
    assert main(["stale", "--params", str(folder / "params.yaml")]) == 0
