"""Sweeps in params.yaml: a few lines define many trainings, each with its own settings and digest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from firstorder import settings
from firstorder.errors import UserError
from tests.sweep_records import G1, VALUES, sweep_project


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return the section `sweeps` with one value replaced."""
    section = copy.deepcopy(VALUES["sweeps"])
    entry = section
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value
    return {"sweeps": section}


def digests(project: settings.Project) -> dict[str, str]:
    return {name: settings.digest(project.settings_of_training(name)) for name in project.trainings}


def test_a_sweep_defines_a_training_for_each_variant_and_value(tmp_path: Path) -> None:
    project = sweep_project(tmp_path)
    names = [training for _, _, training in project.members_of_sweep("inner-steps")]
    assert names[:4] == [f"last_step/omniglot-5way-shared-{k}x25-0.25" for k in (2, 4, 5, 10)]
    separate = project.trainings["last_step/omniglot-5way-separate-5x25-0.25"]
    assert (separate.algorithm, separate.inner_steps, separate.train_shot, separate.query_shot) == (
        "last_step",
        5,
        15,
        5,
    )
    assert isinstance(separate.inner_steps, int)
    assert separate.sampling == "cycle"


def test_the_same_settings_in_two_sweeps_are_one_training(tmp_path: Path) -> None:
    project = sweep_project(tmp_path)
    both = {training for _, _, training in project.members_of_sweep("inner-steps")} & {
        training for _, _, training in project.members_of_sweep("step-size")
    }
    assert both == {"last_step/omniglot-5way-shared-4x25-0.25"}
    drawn = project.trainings_of_figure("figure-4")
    assert len(drawn) == len(set(drawn)) == 2 * 4 + 1


def test_an_added_value_changes_no_other_training(tmp_path: Path) -> None:
    before = digests(sweep_project(tmp_path / "before"))
    after = digests(sweep_project(tmp_path / "after", **changed(("inner-steps", "values"), [2, 4, 5, 8, 10])))
    assert set(after) - set(before) == {f"last_step/omniglot-5way-{name}-8x25-0.25" for name in ("shared", "separate")}
    assert {name: after[name] for name in before} == before


def test_a_setting_of_one_variant_changes_only_its_trainings(tmp_path: Path) -> None:
    before = digests(sweep_project(tmp_path / "before"))
    path = ("inner-steps", "variants", "separate", "query_shot")
    after = digests(sweep_project(tmp_path / "after", **changed(path, 4)))
    assert {name.split("-")[2] for name in before if before[name] != after[name]} == {"separate"}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("inner-steps", "values"), [], "inner-steps: values: an empty sweep is no training"),
        (("inner-steps", "variants"), {}, "inner-steps: variants: an empty sweep is no training"),
        (("inner-steps", "values"), [4, 2], "expected them ascending and none twice, found [4.0, 2.0]"),
        (("inner-steps", "values"), [2, 2.5], "inner_steps takes whole numbers, found [2.0, 2.5]"),
        (("inner-steps", "base", "dataset"), "omniglod", "base: dataset 'omniglod' is not under `datasets`"),
        (("inner-steps", "varied"), "inner_step", "(did you mean 'inner_steps'?)"),
        (("step-size", "variants", "shared", "sampling"), "replacement", "there already with other settings"),
        (("inner-steps", "base", "train_shot"), 0, "inner-steps: base: train_shot: expected at least 1"),
    ],
)
def test_an_invalid_sweep_is_refused_in_one_line(
    tmp_path: Path, path: tuple[str, ...], value: Any, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        sweep_project(tmp_path, **changed(path, value))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (
            {"kind": "sweeps", "sweeps": ["inner-step"]},
            "sweep 'inner-step' is not under `sweeps` (did you mean 'inner-st",
        ),
        ({"kind": "sweeps"}, "a figure of kind sweeps needs sweeps"),
        ({"kind": "combinations", "trainings": ["joint/omniglot-5way-g9"]}, f"(did you mean '{G1}'?)"),
        ({"kind": "manifolds", "trainings": [G1]}, "a figure of kind manifolds draws no trainings"),
        ({"kind": "adaptation", "evaluations": ["reptile/omniglot-5way/1shot"]}, "is not under `adaptations`"),
    ],
)
def test_a_figure_with_an_unknown_name_is_refused(tmp_path: Path, figure: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        sweep_project(tmp_path, figures={"a-figure": {"title": "A figure", **figure}})
    assert expected in str(caught.value)
