"""Outer steps of several seeds side by side are those of training.train, seed for seed.

In float64 to 1e-9 of the way that parameters go, on the CPU and, recorded as CUDA graphs, on a GPU. In float32 two ways
to round part quickly where Adam divides by second moments near zero, so there one outer step from grown second moments
is compared, to 1e-3.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from firstorder import __main__ as command_line
from firstorder.engines.graph import outer_step, schedule
from firstorder.engines.graph.outer_step import OuterStep
from firstorder.engines.lanes import engine as lanes
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.errors import UserError
from firstorder.method import evaluation, images, inner_loop, training
from firstorder.method.images import ImagePool
from firstorder.method.inner_loop import Plain
from firstorder.method.training import Problem, Resumable, TrainingState
from firstorder.records.states import StateFile
from firstorder.settings import checks
from tests.conftest import TINY_PARAMS, TRAINING, edit, write_params
from tests.method.test_evaluation import checkpoint, draws, inner, network, pool  # noqa: F401 (fixtures)
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
    """Move a problem's images."""
    pools = {name: dataclasses.replace(images, images=images.images.to(device)) for name, images in given.pools.items()}
    seldom = dataclasses.replace(given.settings.curve, every=4, tasks=2)
    return with_settings(dataclasses.replace(given, pools=pools, dtype=dtype), curve=seldom)


def run(given: Problem, folder: Path, seed: int = 0) -> Resumable:
    path = folder / f"state-{given.name.replace('/', '-')}-{seed}"
    return Resumable(dataclasses.replace(given, seed=seed), StateFile(path, ("identity",)))


def engine(given: Problem) -> LanesEngine:
    return LanesEngine(given.settings.network, given.settings.way)


def plain(given: Problem, folder: Path, seed: int) -> TrainingState:
    return training.train(
        Resumable(dataclasses.replace(given, seed=seed), StateFile(folder / f"plain-{seed}", ("identity",)))
    )


def close(found: TrainingState, expected: TrainingState, begin: torch.Tensor, tolerance: float = 1e-9) -> None:
    """Assert that parameters went the same way, and the rest of the state too."""
    way = (expected.parameters - begin).norm()
    assert way > 0
    assert (found.parameters - expected.parameters).norm() <= tolerance * way
    assert found.parameters.shape == expected.parameters.shape
    assert found.optimiser.steps == expected.optimiser.steps
    torch.testing.assert_close(found.optimiser.second_moments, expected.optimiser.second_moments, rtol=1e-6, atol=1e-12)
    assert found.outer_moments.shape == expected.outer_moments.shape
    torch.testing.assert_close(found.outer_moments, expected.outer_moments, rtol=1e-6, atol=1e-12)
    assert found.outer_step == expected.outer_step


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_seeds_side_by_side_end_where_each_ends_alone_the_plain_way(problem, tmp_path, kind, device):  # noqa: F811
    chosen = on(device, KINDS[kind](problem))
    ended = outer_step.train([run(chosen, tmp_path, seed) for seed in (0, 1)], engine=engine(chosen))
    for seed, found in enumerate(ended):
        expected = plain(chosen, tmp_path, seed)
        begin = training.start(dataclasses.replace(chosen, seed=seed)).parameters
        close(found, expected, begin)
        assert [row[:5] for row in found.curve] == [row[:5] for row in expected.curve]
        assert found.curve == expected.curve


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("second_moments", ["carried", "per_lane"])
def test_one_outer_step_in_float32_differs_by_rounding(problem, tmp_path, second_moments, device):  # noqa: F811
    chosen = on(device, with_settings(problem, second_moments=second_moments), torch.float32)
    grown = training.start(chosen)
    generator = torch.Generator().manual_seed(0)
    moments = 1e-2 + torch.rand(grown.optimiser.second_moments.shape, generator=generator).to(device)
    grown.optimiser = inner_loop.OptimiserState(moments, 0)
    begin = grown.parameters
    step = OuterStep([chosen], [grown], engine(chosen))
    step.load(schedule.draw([chosen], step.offsets, range(1)), 1)
    step.take()
    training.outer_step(chosen, chosen.inner, grown)
    way = (grown.parameters - begin).norm()
    assert 0 < (step.parameters - grown.parameters).norm() <= 1e-3 * way


def test_a_seed_ends_with_the_same_bits_alone_and_beside_others(problem, tmp_path):  # noqa: F811
    """On the CPU, whose products of one lane do not depend on how many there are; on a GPU the last bits may."""
    chosen = on("cpu", problem, torch.float32)
    together = outer_step.train([run(chosen, tmp_path / "together", seed) for seed in (0, 1, 2)], engine=engine(chosen))
    (alone,) = outer_step.train([run(chosen, tmp_path / "alone", 1)], engine=engine(chosen))
    assert torch.equal(together[1].parameters, alone.parameters)
    assert torch.equal(together[1].optimiser.second_moments, alone.optimiser.second_moments)


@pytest.mark.parametrize("device", DEVICES)
def test_points_that_differ_in_the_outer_step_size_are_runs_of_their_own(problem, tmp_path, device):  # noqa: F811
    chosen = on(device, problem)
    points = [
        dataclasses.replace(with_settings(chosen, outer_step_size=size), name=f"reptile/omniglot-3way-{size:g}")
        for size in (1.0, 0.25)
    ]
    ended = outer_step.train([run(point, tmp_path) for point in points], engine=engine(chosen))
    for point, found in zip(points, ended, strict=True):
        close(found, plain(point, tmp_path / point.name, 0), training.start(point).parameters)


def test_runs_that_differ_in_more_are_refused(problem, tmp_path):  # noqa: F811
    other = dataclasses.replace(with_settings(problem, inner_steps=2), name="reptile/omniglot-3way-short")
    with pytest.raises(UserError, match="reptile/omniglot-3way-short cannot be trained together with reptile"):
        outer_step.train([run(problem, tmp_path), run(other, tmp_path)], engine=engine(problem))


@pytest.mark.parametrize("room", [1, 3])
def test_the_length_of_blocks_changes_nothing(problem, tmp_path, room, monkeypatch):  # noqa: F811
    expected = outer_step.train([run(problem, tmp_path / "whole")], engine=engine(problem))
    monkeypatch.setattr(schedule, "LONGEST", room)
    found = outer_step.train([run(problem, tmp_path / "short")], engine=engine(problem))
    assert torch.equal(found[0].parameters, expected[0].parameters)
    assert found[0].curve == expected[0].curve


@pytest.mark.parametrize("kind", ["carried", "per lane", "maml"])
def test_a_training_goes_on_on_the_other_path(problem, tmp_path, kind, monkeypatch):  # noqa: F811
    """Begun in blocks and ended the plain way, and the other way round: the same as either alone, in float64."""
    monkeypatch.setattr(schedule, "LONGEST", 1)
    chosen = dataclasses.replace(KINDS[kind](problem), dtype=torch.float64)
    expected = plain(chosen, tmp_path, 0)
    begin = training.start(chosen).parameters
    for first in ("graphs", "plain"):
        mine = run(chosen, tmp_path / first)
        paths = {
            "graphs": lambda limit, mine=mine: outer_step.train([mine], engine=engine(chosen), time_limit=limit)[0],
            "plain": lambda limit, mine=mine: training.train(mine, time_limit=limit),
        }
        stopped = paths.pop(first)(0.0)
        assert stopped.outer_step == 1
        (other,) = paths.values()
        close(other(None), expected, begin)


def test_seeds_that_stopped_at_different_steps_all_go_on(problem, tmp_path, monkeypatch):  # noqa: F811
    chosen = dataclasses.replace(problem, dtype=torch.float64)
    monkeypatch.setattr(schedule, "LONGEST", 1)
    runs = [run(chosen, tmp_path, seed) for seed in (0, 1)]
    outer_step.train(runs[1:], engine=engine(chosen), time_limit=0.0)
    ended = outer_step.train(runs, engine=engine(chosen))
    for seed, found in enumerate(ended):
        begin = training.start(dataclasses.replace(chosen, seed=seed)).parameters
        close(found, plain(chosen, tmp_path, seed), begin)


@pytest.mark.parametrize("device", DEVICES)
def test_a_number_that_is_none_is_told_with_its_outer_step(problem, tmp_path, device):  # noqa: F811
    """Seed 1 alone goes wrong: its parameters are made infinite after the second outer step."""
    chosen = on(device, problem, torch.float32)
    runs = [run(chosen, tmp_path, seed) for seed in (0, 1)]
    states = [training.start(run.problem) for run in runs]
    step = OuterStep([run.problem for run in runs], states, engine(chosen))
    step.load(schedule.draw([run.problem for run in runs], step.offsets, range(7, 11)), 4)
    for _ in range(2):
        step.take()
    step.parameters[1] = float("inf")
    step.take()
    with pytest.raises(UserError, match=r"seed 1: the meta-gradient is not finite at outer step 9; lower"):
        outer_step._check_finite(step, [run.problem for run in runs], 7)


def test_seeds_have_images_of_their_own_and_equal_pools_lie_there_once(problem):  # noqa: F811
    first = problem.pools["meta-train"]
    other = ImagePool(1 - first.images, first.class_images, first.scale)
    joined, begins = outer_step.common_pool([first, other, first])
    assert begins == [0, len(first.images), 0]
    assert torch.equal(joined.images, torch.cat([first.images, other.images]))


def test_each_seed_draws_from_its_own_pool(problem, tmp_path):  # noqa: F811
    """The second seed's pool is the first's in negative: side by side each ends where it ends alone."""
    chosen = dataclasses.replace(problem, dtype=torch.float64)
    negative = {
        name: ImagePool(1 - images.images, images.class_images, images.scale) for name, images in chosen.pools.items()
    }
    runs = [run(chosen, tmp_path, 0), run(dataclasses.replace(chosen, pools=negative), tmp_path, 1)]
    ended = outer_step.train(runs, engine=engine(chosen))
    for mine, found in zip(runs, ended, strict=True):
        expected = training.train(
            Resumable(mine.problem, StateFile(tmp_path / f"plain-{mine.problem.seed}", ("identity",)))
        )
        close(found, expected, training.start(mine.problem).parameters)


def test_tasks_are_split_as_memory_asks_and_the_training_stays(problem, tmp_path, monkeypatch):  # noqa: F811
    chosen = dataclasses.replace(with_query(problem, "fomaml"), dtype=torch.float64)
    expected = outer_step.train([run(chosen, tmp_path / "whole", seed) for seed in (0, 1)], engine=engine(chosen))
    monkeypatch.setattr(outer_step, "PASS_BYTES", 1)
    monkeypatch.setattr(outer_step, "PATCHES_BYTES", 1)
    found = outer_step.train([run(chosen, tmp_path / "split", seed) for seed in (0, 1)], engine=engine(chosen))
    for seed in (0, 1):
        begin = training.start(dataclasses.replace(chosen, seed=seed)).parameters
        close(found[seed], expected[seed], begin)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["carried", "per lane", "maml"])
def test_a_recorded_step_is_the_step_that_was_recorded(problem, kind):  # noqa: F811
    """Four replays against four steps by hand, on the same device."""
    chosen = on("cuda", KINDS[kind](problem))
    ends = []
    for record in (False, True):
        step = OuterStep([chosen], [training.start(chosen)], engine(chosen))
        step.load(schedule.draw([chosen], step.offsets, range(4)), 4)
        take = outer_step.captured(step) if record else step.take
        for _ in range(4):
            take()
        ends.append(step.parameters.clone())
    way = ends[0] - training.start(chosen).parameters
    assert (ends[1] - ends[0]).norm() <= 1e-9 * way.norm()


# --- Evaluation ---


@pytest.mark.parametrize("device", DEVICES)
def test_an_evaluation_by_the_engine_counts_the_same_answers(network, checkpoint, pool, device):  # noqa: F811
    """Draws on the device, queries of the inductive mode side by side: one answer in sixty may differ by rounding."""
    pool = dataclasses.replace(pool, images=pool.images.to(device))
    moved = checkpoint.to(torch.device(device))
    expected = evaluation.evaluate(inner(network), moved, pool, draws(pool, tasks=20))
    fast = dataclasses.replace(inner(network), engine=LanesEngine("omniglot", 3))
    found = evaluation.evaluate(fast, moved, pool, draws(pool, tasks=20))
    for mode, counts in expected.items():
        assert abs(found[mode] - counts).sum() <= 1


def test_queries_side_by_side_are_the_queries_one_after_another(network, pool, monkeypatch):  # noqa: F811
    engine = LanesEngine("omniglot", 3)
    parameters = torch.stack([network.initial(seed) for seed in range(2)]).double()
    generator = torch.Generator().manual_seed(0)
    support = torch.rand(2, 4, 1, 28, 28, generator=generator, dtype=torch.float64)
    query = torch.rand(2, 3, 1, 28, 28, generator=generator, dtype=torch.float64)
    expected = Plain().inductive_logits(inner(network), parameters, support, query)
    for limit in (lanes.LANES_BYTES, 1):
        monkeypatch.setattr(lanes, "LANES_BYTES", limit)
        found = engine.inductive_logits(inner(network), parameters, support, query)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_an_evaluation_by_the_engine_draws_the_same_tasks_on_the_device(network, pool, monkeypatch):  # noqa: F811
    fast = dataclasses.replace(inner(network), engine=LanesEngine("omniglot", 3))
    monkeypatch.setattr(images, "task_images", None)  # what draws on the host
    task = fast.engine.task_images(pool, draws(pool), range(3), torch.float32)
    monkeypatch.undo()
    expected = Plain().task_images(pool, draws(pool), range(3), torch.float32)
    for step, batch in enumerate(task.batches):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch(), expected.batches[step], strict=True))
    assert torch.equal(task.support, expected.support)
    assert torch.equal(task.query, expected.query)
    assert torch.equal(task.labels, expected.labels)


def test_on_a_gpu_lanes_follow_from_sizes_alone(network, pool):  # noqa: F811
    class Elsewhere:
        device = torch.device("cuda")

    fast = dataclasses.replace(inner(network), engine=LanesEngine("omniglot", 3))
    there = dataclasses.replace(pool, images=Elsewhere())
    parameters = network.initial(0)[None]
    small = fast.engine.lanes_at_once(there, draws(pool).shape, parameters)
    large = dataclasses.replace(draws(pool).shape, inner_batch_size=100)
    assert 1000 < small <= lanes.MOST_LANES
    assert 10 < fast.engine.lanes_at_once(there, large, parameters) < small
    assert Plain().lanes_at_once(there, draws(pool).shape, parameters) == 256


# --- The command ---


def train(*more: str) -> int:
    return command_line.main(["train", TRAINING, "--device", "cpu", *more])


def curve(root: Path, seed: int) -> list[list[str]]:
    with (root / f"results/curves/{TRAINING}/seed-{seed}.csv").open(encoding="utf-8") as file:
        return list(csv.reader(file))


def made(root: Path, seed: int) -> dict[str, Any]:
    path = root / f"results/curves/{TRAINING}/seed-{seed}.run.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_several_seeds_are_trained_by_one_command(tiny_project, capsys):
    assert train("--seed", "0", "1", "--engine", "graph") == 0
    for seed in (0, 1):
        assert made(tiny_project, seed)["engine"] == "graph"
        assert made(tiny_project, seed)["together"] == 2
        assert made(tiny_project, seed)["peak_memory_bytes"] > 2**20
        assert (tiny_project / f"models/{TRAINING}/seed-{seed}.safetensors").exists()
    side_by_side = [curve(tiny_project, seed) for seed in (0, 1)]
    assert train("--seed", "1", "0", "--engine", "plain", "--again") == 0
    assert [[row[:5] for row in rows] for rows in side_by_side] == [
        [row[:5] for row in curve(tiny_project, seed)] for seed in (0, 1)
    ]
    assert made(tiny_project, 1)["engine"] == "plain"
    assert made(tiny_project, 1)["together"] == 1


@pytest.mark.parametrize("engine", ["plain", "graph"])
def test_a_time_limit_stops_with_the_state_saved_and_says_how_to_go_on(tiny_project, capsys, engine, monkeypatch):
    monkeypatch.setattr(schedule, "LONGEST", 1)
    command = ["--seed", "0", "1", "--engine", engine]
    assert train(*command) == 0
    whole = [curve(tiny_project, seed) for seed in (0, 1)]
    for seed in (0, 1):
        (tiny_project / f"results/curves/{TRAINING}/seed-{seed}.csv").unlink()
    shutil.rmtree(tiny_project / ".work")
    capsys.readouterr()
    assert train(*command, "--time-limit", "1e-9") == 3
    said = capsys.readouterr().err.splitlines()
    first = f"firstorder: --time-limit: {TRAINING} seed 0 stopped at outer step 1; the same command goes on from there"
    assert first in said
    assert not (tiny_project / f"results/curves/{TRAINING}/seed-0.csv").exists()
    assert train(*command) == 0
    assert [curve(tiny_project, seed) for seed in (0, 1)] == whole
    # The states go when the results are found whole.
    assert len(list(tiny_project.glob(".work/*/*"))) == 2
    assert train(*command) == 0
    assert not list(tiny_project.glob(".work/*/*"))


def test_an_unknown_seed_among_several_is_refused_before_anything_is_done(tiny_project, capsys):
    assert train("--seed", "0", "7") == 2
    assert "seed 7 is not among params.yaml's seeds [0, 1]" in capsys.readouterr().err
    assert not (tiny_project / "models").exists()


def test_a_precision_is_a_setting_of_its_own_and_leaves_the_digests_of_others(tiny_project, capsys):
    low = edit(TINY_PARAMS, (("trainings", TRAINING, "precision"), "bfloat16"))
    before = checks.load(tiny_project / "params.yaml").settings_of_training(TRAINING)
    write_params(tiny_project, low)
    after = checks.load(tiny_project / "params.yaml").settings_of_training(TRAINING)
    assert "precision" not in before["training"]
    assert after["training"]["precision"] == "bfloat16"
    assert train("--seed", "0", "--engine", "plain") == 2
    assert "use --engine lanes or graph" in capsys.readouterr().err
    assert train("--seed", "0") == 0
    assert made(tiny_project, 0)["engine"] == "lanes"
    assert command_line.main(["evaluate", f"{TRAINING}/1shot", "--seed", "0", "--device", "cpu"]) == 0
