"""States of interrupted trainings: they come back exactly, or are set aside and said so."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from firstorder.method import training
from firstorder.method.training import Problem, Resumable, TrainingState
from firstorder.records import kept_files
from firstorder.records.states import StateFile, write_sealed
from firstorder.records.study_files import StudyFile
from tests.method.test_training import problem, with_settings

__all__ = ["problem"]  # a fixture
IDENTITY = ("abc",)
PLACE = {"device": "a toaster", "engine": "plain"}


def begun(problem: Problem, outer_steps: int = 2) -> TrainingState:
    """Take some outer steps."""
    state = training.start(problem)
    for _ in range(outer_steps):
        training.outer_step(problem, problem.inner, state)
        if state.outer_step % problem.settings.curve.every == 0:
            state.curve += training.measure(problem, state)
    state.seconds = 1.5
    return state


@pytest.fixture
def keeper(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / ".work/abc/seed-0.safetensors", IDENTITY, PLACE)


def rewrite(keeper: StateFile, tensors: dict[str, Any] | None = None, *, seal: bool = False, **about: Any) -> None:
    """Write a state file anew with other tensors and metadata; a metadata value of None takes the key out.

    With `seal`, its digest is that of what it then holds.
    """
    with safe_open(keeper.path, framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        said = json.loads(file.metadata()["about"])
    kept = {name: tensor for name, tensor in {**kept, **(tensors or {})}.items() if tensor is not None}
    said = {key: value for key, value in {**said, **about}.items() if value is not None}
    if seal:
        write_sealed(keeper.path, kept, said)
    else:
        save_file(kept, keeper.path, {"about": json.dumps(said)})


def test_a_state_comes_back_exactly(problem: Problem, keeper: StateFile) -> None:
    assert keeper.load(problem) is None
    state = begun(problem)
    keeper.save(state)
    loaded = keeper.load(problem)
    assert loaded is not None
    assert (loaded.outer_step, loaded.seconds, loaded.curve) == (2, 1.5, state.curve)
    assert loaded.curve
    assert loaded.optimiser.steps == state.optimiser.steps
    assert torch.equal(loaded.parameters, state.parameters)
    assert torch.equal(loaded.optimiser.second_moments, state.optimiser.second_moments)
    assert torch.equal(loaded.outer_moments, state.outer_moments)
    keeper.discard()
    assert keeper.load(problem) is None


def test_a_state_with_momentum_comes_back_exactly(problem: Problem, keeper: StateFile) -> None:
    chosen = with_settings(problem, inner_beta1=0.9)
    state = begun(chosen)
    keeper.save(state)
    loaded = keeper.load(chosen)
    assert loaded is not None
    assert loaded.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(tensor, loaded.tensors[name]) for name, tensor in state.tensors.items())
    assert kept_files.read_state(keeper.path.read_bytes())["outer_step"] == 2
    assert kept_files.misfit(keeper.path.read_bytes(), keeper.path.read_bytes()) is None


@pytest.mark.parametrize("beta1", [None, 0.9])
def test_a_state_that_lacks_momentum_or_has_it_without_need_is_set_aside(
    problem: Problem, keeper: StateFile, capsys: pytest.CaptureFixture[str], beta1: float | None
) -> None:
    """Although its identity is right: going on from it would silently start from other moments."""
    keeper.save(begun(with_settings(problem, inner_beta1=0.9 if beta1 is None else None)))
    content = keeper.path.read_bytes()
    assert keeper.load(with_settings(problem, inner_beta1=beta1)) is None
    assert "its tensors are parameters, second_moments, outer_moments" in capsys.readouterr().err
    keeper.save(begun(with_settings(problem, inner_beta1=beta1)))
    assert "its tensors are " in str(kept_files.misfit(content, keeper.path.read_bytes()))


def test_first_moments_of_another_shape_are_refused_without_torch(problem: Problem, keeper: StateFile) -> None:
    keeper.save(begun(with_settings(problem, inner_beta1=0.9)))
    rewrite(keeper, {"first_moments": torch.zeros(1, 3)}, seal=True)
    with pytest.raises(ValueError, match=r"its first moments have the shape \(1, 3\)"):
        kept_files.read_state(keeper.path.read_bytes())


def test_a_state_of_other_data_is_set_aside_and_serves_again(
    problem: Problem, keeper: StateFile, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = dataclasses.replace(keeper, made={"seed": 0, "data_digest": "a" * 16})
    other = dataclasses.replace(keeper, identities=("another",), made={"seed": 0, "data_digest": "b" * 16})
    mine.save(begun(problem))
    whole = keeper.path.read_bytes()
    assert other.load(problem) is None
    (aside,) = keeper.path.parent.iterdir()
    (line,) = capsys.readouterr().err.splitlines()
    why = f"it is of other data, {'a' * 16} and not {'b' * 16}"
    assert (
        line == f"firstorder: {keeper.path}: set aside as {aside.name} ({why}); it serves again once that is as it was"
    )
    assert aside.read_bytes() == whole
    other.save(begun(problem, 1))
    found = mine.load(problem)
    assert found is not None
    assert found.outer_step == 2
    assert keeper.path.read_bytes() == whole
    assert f"goes on from {aside}: 2 of 4" in capsys.readouterr().err
    assert other.load(problem) is not None  # and the other way round
    other.discard()
    assert mine.load(problem) is not None
    mine.discard()
    assert not list(keeper.path.parent.iterdir())


def test_the_states_of_two_seeds_that_were_swapped_find_their_way_back(problem: Problem, tmp_path: Path) -> None:
    files = [StateFile(tmp_path / f"seed-{seed}.safetensors", (f"of {seed}",), PLACE) for seed in (0, 1)]
    for steps, file in enumerate(files, 1):
        file.save(begun(problem, steps))
    files[0].path.rename(tmp_path / "kept")
    files[1].path.rename(files[0].path)
    (tmp_path / "kept").rename(files[1].path)
    assert files[0].load(problem) is None
    assert [found.outer_step for file in reversed(files) if (found := file.load(problem)) is not None] == [2, 1]


def test_a_training_anew_leaves_the_state_of_other_data(problem: Problem, keeper: StateFile) -> None:
    """As with --again, which asks for the removal of its own."""
    keeper.save(begun(problem))
    dataclasses.replace(keeper, identities=("another",)).discard()
    assert keeper.load(problem) is not None


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("a second moment is below zero", lambda tensors: tensors["second_moments"].sub_(1)),
        ("a second moment is below zero", lambda tensors: tensors["outer_moments"][1].sub_(1)),
        ("a parameter is beyond 67,108,864", lambda tensors: tensors["parameters"].mul_(1e12)),
        ("its second moments cannot be those after ", lambda tensors: tensors["second_moments"].zero_()),
        ("it has moments of an outer optimiser", lambda tensors: tensors["outer_moments"].add_(1)),
    ],
)
def test_a_state_with_impossible_values_is_set_aside(
    problem: Problem, keeper: StateFile, capsys: pytest.CaptureFixture[str], why: str, change: Any
) -> None:
    keeper.save(begun(problem))
    with safe_open(keeper.path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    rewrite(keeper, tensors, seal=True)
    assert keeper.load(problem) is None
    assert why in capsys.readouterr().err
    if "zero" in why:
        with pytest.raises(ValueError, match=why):
            kept_files.read_state(keeper.path.with_name("seed-0.damaged.safetensors").read_bytes())


def test_moments_of_the_outer_optimiser_that_were_lost_are_noticed(problem: Problem, keeper: StateFile) -> None:
    """With its own settings, which have Adam: without them it would begin again in the midst of a training."""
    adam = with_settings(problem, outer_optimiser="adam")
    keeper.save(begun(adam))
    assert keeper.load(adam) is not None
    rewrite(keeper, {"outer_moments": torch.zeros(2, 1, 1)}, seal=True)
    assert keeper.load(adam) is None


def test_every_flipped_bit_is_noticed(problem: Problem, keeper: StateFile, capsys: pytest.CaptureFixture[str]) -> None:
    """In the metadata and spread over the tensors; a state whose identity was hit is another training's."""
    keeper.save(begun(problem))
    whole = keeper.path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, header, 3), *range(header, len(whole), len(whole) // 200)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        keeper.path.write_bytes(damaged)
        assert keeper.load(problem) is None, place
    assert "not a state to go on from" in capsys.readouterr().err


WRONG: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a missing tensor", {"outer_moments": None}, {}),
    ("parameters has shape (1, 3)", {"parameters": torch.zeros(1, 3)}, {}),
    ("type torch.float64", {"parameters": torch.zeros(1, 112261, dtype=torch.float64)}, {}),
    ("second_moments has shape (2, 3)", {"second_moments": torch.zeros(2, 3)}, {}),
    ("outer_step is 5, beyond the last one", {}, {"outer_step": 5}),
    ("outer_step is -1", {}, {"outer_step": -1}),
    ("outer_step is 'two'", {}, {"outer_step": "two"}),
    ("optimiser_steps is 1.5", {}, {"optimiser_steps": 1.5}),
    ("optimiser_steps is 0, expected", {}, {"optimiser_steps": 0}),
    ("expected 0 after 0 outer steps", {}, {"outer_step": 0}),
    ("a whole number of 2^63 or more", {}, {"optimiser_steps": 10**400}),
    ("its curve is none", {}, {"curve": 3}),
    ("its curve is none", {}, {"curve": [3]}),
    ("its curve has rows of another length", {}, {"curve": [[2]]}),
    ("its curve has", {}, {"curve": []}),
    ("its curve has", {}, {"curve": [[2, "meta-test", "inductive", 1, 4, "0.5", "0.1"]]}),
    (
        "its curve has 5.0, expected accuracy from 0 to 1",
        {},
        {"curve": [[2, "meta-train", "inductive", 1, 4, "5.0", "0"]]},
    ),
    ("its seconds or its legs are none", {}, {"seconds": "1"}),
    ("its seconds or its legs are none", {}, {"seconds": -1.0}),
    ("a number that is not finite", {}, {"seconds": float("nan")}),
    ("its seconds or its legs are none", {}, {"legs": "x"}),
    ("its seconds or its legs are none", {}, {"legs": {"outer_steps": 2}}),
    ("its seconds or its legs are none", {}, {"legs": [{"outer_steps": 2}]}),
    ("its seconds or its legs are none", {}, {"legs": [{"outer_steps": 2, "seconds": 1.5, "device": 5}]}),
    ("its legs do not add up to 2", {}, {"legs": [{"outer_steps": 1, "seconds": 1.5}]}),
]


@pytest.mark.parametrize(("why", "tensors", "about"), WRONG)
def test_a_state_that_cannot_be_is_set_aside(
    problem: Problem,
    keeper: StateFile,
    capsys: pytest.CaptureFixture[str],
    why: str,
    tensors: dict[str, Any],
    about: dict[str, Any],
) -> None:
    """Although its digest is right."""
    keeper.save(begun(problem))
    rewrite(keeper, tensors, seal=True, **about)
    assert keeper.load(problem) is None
    assert not keeper.path.exists()
    aside = keeper.path.with_name("seed-0.damaged.safetensors")
    assert aside.exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"it is now {aside.name}" in said
    if "missing" not in why and "float64" not in why:
        assert why in said


def test_a_state_that_is_not_finite_is_set_aside(problem: Problem, keeper: StateFile) -> None:
    state = begun(problem)
    state.parameters = state.parameters.clone()
    state.parameters[0, 7] = float("nan")
    keeper.save(state)
    assert keeper.load(problem) is None


def test_a_state_without_a_digest_is_set_aside(
    problem: Problem, keeper: StateFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of format 1 were: nothing would tell that its parameters are other ones."""
    keeper.save(begun(problem))
    rewrite(keeper, format=None, sha256=None)
    assert keeper.load(problem) is None
    assert "it has no digest" in capsys.readouterr().err
    study = StudyFile(keeper.path, IDENTITY[0])
    save_file({"sums": torch.ones(3)}, keeper.path, {"about": json.dumps({"identity": IDENTITY[0], "seconds": 1.0})})
    assert study.load() == {}
    assert "it has no digest" in capsys.readouterr().err


SETTINGS = [
    {"algorithm": "maml", "query_shot": 1, "inner_optimiser": "sgd"},
    {"algorithm": "fomaml", "query_shot": 1},
    {"algorithm": "last_step", "sampling": "replacement"},
    {"algorithm": "last_step", "query_shot": 1},
    *({"second_moments": kind} for kind in ("carried", "per_lane")),
    {"inner_optimiser": "sgd"},
    {"algorithm": "joint", "inner_steps": 1},
]


@pytest.mark.parametrize("changed", SETTINGS, ids=str)
def test_the_optimisers_steps_follow_from_the_settings(problem: Problem, changed: dict[str, Any]) -> None:
    changed_problem = with_settings(problem, **changed)
    state = begun(changed_problem)
    assert state.optimiser.steps == 2 * changed_problem.settings.inner_steps_taken


def test_one_of_format_and_digest_alone_is_a_damaged_state(problem: Problem, keeper: StateFile) -> None:
    for missing in ("format", "sha256"):
        keeper.save(begun(problem))
        rewrite(keeper, **{missing: None})
        assert keeper.load(problem) is None


def test_it_is_told_where_each_step_was_computed(problem: Problem, keeper: StateFile) -> None:
    """Two outer steps on one machine, the other two on another: two legs, whose steps and seconds add up."""
    keeper.save(begun(problem))
    elsewhere = dataclasses.replace(keeper, place={"device": "a kettle", "engine": "plain"})
    ended = training.train(Resumable(problem, elsewhere))
    legs = elsewhere.legs(ended)
    assert [(leg["device"], leg["outer_steps"]) for leg in legs] == [("a toaster", 2), ("a kettle", 2)]
    assert sum(leg["seconds"] for leg in legs) == pytest.approx(ended.seconds, abs=0.1)


def test_the_last_state_stays_so_that_failing_to_write_results_loses_nothing(
    problem: Problem, keeper: StateFile
) -> None:
    ended = training.train(Resumable(problem, keeper))
    kept = keeper.load(problem)
    assert kept is not None
    assert kept.outer_step == problem.settings.outer_steps
    assert torch.equal(kept.parameters, ended.parameters)
    again = training.train(Resumable(problem, keeper))
    assert torch.equal(again.parameters, ended.parameters)
    assert again.curve == ended.curve


def test_images_of_another_size_are_refused(problem: Problem) -> None:
    """An engine reads as many pixels as its network has, wherever they lie."""
    expected = re.escape("images are [1, 28, 28], network mini_imagenet takes [3, 84, 84]")
    with pytest.raises(training.UserError, match=expected):
        with_settings(problem, network="mini_imagenet")
