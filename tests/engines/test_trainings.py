"""Several seeds trained side by side end where method/training.py's `train` ends, seed for seed.

In float64 to 1e-9 of the change of the parameters, on the CPU and, captured as CUDA graphs, on a GPU. In float32, two
ways of rounding diverge quickly where Adam divides by second moments near zero, so test_outer_step.py compares a single
outer step from larger second moments.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from firstorder.engines.graph import outer_step, schedule, trainings
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.errors import UserError
from firstorder.method import training
from firstorder.method.images import ImagePool
from firstorder.method.training import Problem, Resumable, TrainingState
from firstorder.progress import never
from firstorder.records.states import StateFile
from tests.method.test_training import problem, with_query, with_settings  # noqa: F401 (a fixture)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
KINDS: dict[str, Any] = {
    "carried": lambda p: p,
    "per lane": lambda p: with_settings(p, second_moments="per_lane"),
    "joint": lambda p: with_settings(p, algorithm="joint", inner_steps=1),
    "sgd, replacement": lambda p: with_settings(p, inner_optimiser="sgd", sampling="replacement"),
    "shared tail": lambda p: with_settings(p, algorithm="last_step"),
    "separate tail": lambda p: with_query(p, "last_step", inner_optimiser="adam", second_moments="carried"),
    "fomaml": lambda p: with_query(p, "fomaml", outer_optimiser="adam", outer_step_size=0.001, query_shot=1),
    "maml": lambda p: with_query(
        p, "maml", outer_optimiser="adam", outer_step_size=0.001, meta_loss_divisor=2.0, meta_gradient_clip=0.5
    ),
    "fomaml with adam inside": lambda p: with_query(p, "fomaml", inner_optimiser="adam"),
    "binomial": lambda p: with_query(p, "binomial", truncation_order=1, network="omniglot_finn"),
}


def on(device: str, given: Problem, dtype: torch.dtype = torch.float64) -> Problem:
    """Move the images of a problem to a device and measure its curve less often."""
    pools = {name: dataclasses.replace(images, images=images.images.to(device)) for name, images in given.pools.items()}
    fewer = dataclasses.replace(given.settings.curve, every=4, tasks=2)
    return with_settings(dataclasses.replace(given, pools=pools, dtype=dtype), curve=fewer)


def resumable(given: Problem, folder: Path, seed: int = 0) -> Resumable:
    path = folder / f"state-{given.name.replace('/', '-')}-{seed}"
    return Resumable(dataclasses.replace(given, seed=seed), StateFile(path, ("identity",)))


def engine(given: Problem) -> LanesEngine:
    return LanesEngine(given.settings.network, given.settings.way)


def plain(given: Problem, folder: Path, seed: int) -> TrainingState:
    return training.train(
        Resumable(dataclasses.replace(given, seed=seed), StateFile(folder / f"plain-{seed}", ("identity",)))
    )


def close(found: TrainingState, expected: TrainingState, begin: torch.Tensor, tolerance: float = 1e-9) -> None:
    """Assert that the parameters changed alike, and that the rest of the state is alike."""
    change = (expected.parameters - begin).norm()
    assert change > 0
    assert (found.parameters - expected.parameters).norm() <= tolerance * change
    assert found.parameters.shape == expected.parameters.shape
    assert found.optimiser.steps == expected.optimiser.steps
    torch.testing.assert_close(found.optimiser.second_moments, expected.optimiser.second_moments, rtol=1e-6, atol=1e-12)
    assert found.outer_moments.shape == expected.outer_moments.shape
    torch.testing.assert_close(found.outer_moments, expected.outer_moments, rtol=1e-6, atol=1e-12)
    assert found.outer_step == expected.outer_step


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_seeds_side_by_side_end_where_each_ends_with_the_plain_engine(problem, tmp_path, kind, device):  # noqa: F811
    chosen = on(device, KINDS[kind](problem))
    ended = trainings.train([resumable(chosen, tmp_path, seed) for seed in (0, 1)], engine=engine(chosen))
    for seed, found in enumerate(ended):
        expected = plain(chosen, tmp_path, seed)
        begin = training.start(dataclasses.replace(chosen, seed=seed)).parameters
        close(found, expected, begin)
        assert [row[:5] for row in found.curve] == [row[:5] for row in expected.curve]
        assert found.curve == expected.curve


def test_a_seed_ends_with_the_same_bits_alone_and_beside_others(problem, tmp_path):  # noqa: F811
    """On the CPU, where a lane's products do not depend on the number of lanes. On a GPU the last bits may."""
    chosen = on("cpu", problem, torch.float32)
    together = trainings.train(
        [resumable(chosen, tmp_path / "together", seed) for seed in (0, 1, 2)], engine=engine(chosen)
    )
    (alone,) = trainings.train([resumable(chosen, tmp_path / "alone", 1)], engine=engine(chosen))
    assert torch.equal(together[1].parameters, alone.parameters)
    assert torch.equal(together[1].optimiser.second_moments, alone.optimiser.second_moments)


@pytest.mark.parametrize("device", DEVICES)
def test_trainings_may_differ_in_the_outer_step_size(problem, tmp_path, device):  # noqa: F811
    chosen = on(device, problem)
    points = [
        dataclasses.replace(with_settings(chosen, outer_step_size=size), name=f"reptile/omniglot-3way-{size:g}")
        for size in (1.0, 0.25)
    ]
    ended = trainings.train([resumable(point, tmp_path) for point in points], engine=engine(chosen))
    for point, found in zip(points, ended, strict=True):
        close(found, plain(point, tmp_path / point.name, 0), training.start(point).parameters)


def test_trainings_that_differ_in_more_are_refused(problem, tmp_path):  # noqa: F811
    other = dataclasses.replace(with_settings(problem, inner_steps=2), name="reptile/omniglot-3way-short")
    with pytest.raises(UserError, match="reptile/omniglot-3way-short cannot be trained together with reptile"):
        trainings.train([resumable(problem, tmp_path), resumable(other, tmp_path)], engine=engine(problem))


@pytest.mark.parametrize("room", [1, 3])
def test_the_length_of_a_schedule_does_not_change_the_result(problem, tmp_path, room, monkeypatch):  # noqa: F811
    expected = trainings.train([resumable(problem, tmp_path / "whole")], engine=engine(problem))
    monkeypatch.setattr(schedule, "LONGEST", room)
    found = trainings.train([resumable(problem, tmp_path / "short")], engine=engine(problem))
    assert torch.equal(found[0].parameters, expected[0].parameters)
    assert found[0].curve == expected[0].curve


@pytest.mark.parametrize("kind", ["carried", "per lane", "maml"])
def test_a_training_can_be_resumed_by_the_other_engine(problem, tmp_path, kind, monkeypatch):  # noqa: F811
    """Started with schedules and finished without, and the other way round: the same result as with one, in float64."""
    monkeypatch.setattr(schedule, "LONGEST", 1)
    chosen = dataclasses.replace(KINDS[kind](problem), dtype=torch.float64)
    expected = plain(chosen, tmp_path, 0)
    begin = training.start(chosen).parameters
    for first in ("graphs", "plain"):
        mine = resumable(chosen, tmp_path / first)
        paths = {
            "graphs": lambda stop, mine=mine: trainings.train([mine], engine=engine(chosen), stop=stop)[0],
            "plain": lambda stop, mine=mine: training.train(mine, stop=stop),
        }
        stopped = paths.pop(first)(lambda: True)
        assert stopped.outer_step == 1
        (other,) = paths.values()
        close(other(never), expected, begin)


def test_seeds_that_stopped_at_different_steps_are_all_resumed(problem, tmp_path, monkeypatch):  # noqa: F811
    chosen = dataclasses.replace(problem, dtype=torch.float64)
    monkeypatch.setattr(schedule, "LONGEST", 1)
    both = [resumable(chosen, tmp_path, seed) for seed in (0, 1)]
    trainings.train(both[1:], engine=engine(chosen), stop=lambda: True)
    ended = trainings.train(both, engine=engine(chosen))
    for seed, found in enumerate(ended):
        begin = training.start(dataclasses.replace(chosen, seed=seed)).parameters
        close(found, plain(chosen, tmp_path, seed), begin)


def test_each_seed_draws_from_its_own_pool(problem, tmp_path):  # noqa: F811
    """The second seed's pool is the negative of the first's: each seed ends where it ends alone."""
    chosen = dataclasses.replace(problem, dtype=torch.float64)
    negative = {
        name: ImagePool(1 - images.images, images.class_images, images.scale) for name, images in chosen.pools.items()
    }
    both = [resumable(chosen, tmp_path, 0), resumable(dataclasses.replace(chosen, pools=negative), tmp_path, 1)]
    ended = trainings.train(both, engine=engine(chosen))
    for one, found in zip(both, ended, strict=True):
        expected = training.train(
            Resumable(one.problem, StateFile(tmp_path / f"plain-{one.problem.seed}", ("identity",)))
        )
        close(found, expected, training.start(one.problem).parameters)


def test_splitting_tasks_for_memory_does_not_change_the_result(problem, tmp_path, monkeypatch):  # noqa: F811
    chosen = dataclasses.replace(with_query(problem, "fomaml"), dtype=torch.float64)
    expected = trainings.train([resumable(chosen, tmp_path / "whole", seed) for seed in (0, 1)], engine=engine(chosen))
    monkeypatch.setattr(outer_step, "PASS_BYTES", 1)
    monkeypatch.setattr(outer_step, "PATCHES_BYTES", 1)
    found = trainings.train([resumable(chosen, tmp_path / "split", seed) for seed in (0, 1)], engine=engine(chosen))
    for seed in (0, 1):
        begin = training.start(dataclasses.replace(chosen, seed=seed)).parameters
        close(found[seed], expected[seed], begin)
