"""An evaluation by the lanes engine is that of the plain engine, with tasks drawn on the device."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from firstorder.engines.lanes import engine as lanes
from firstorder.engines.lanes.engine import LanesEngine
from firstorder.method import evaluation, images
from firstorder.method.inner_loop import Plain
from tests.method.test_evaluation import checkpoint, draws, inner, network, pool  # noqa: F401 (fixtures)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_an_evaluation_counts_the_same_answers(network, checkpoint, pool, device):  # noqa: F811
    """Tasks are drawn on the device and inductive queries are lanes: one answer in sixty may differ by rounding."""
    pool = dataclasses.replace(pool, images=pool.images.to(device))
    moved = checkpoint.to(torch.device(device))
    expected = evaluation.evaluate(inner(network), moved, pool, draws(pool, tasks=20))
    fast = dataclasses.replace(inner(network), engine=LanesEngine("omniglot", 3))
    found = evaluation.evaluate(fast, moved, pool, draws(pool, tasks=20))
    for mode, counts in expected.items():
        assert abs(found[mode] - counts).sum() <= 1


def test_queries_as_lanes_have_the_logits_of_queries_one_by_one(network, pool, monkeypatch):  # noqa: F811
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


def test_the_same_tasks_are_drawn_on_the_device(network, pool, monkeypatch):  # noqa: F811
    fast = dataclasses.replace(inner(network), engine=LanesEngine("omniglot", 3))
    monkeypatch.setattr(images, "task_images", None)  # the function that draws on the host
    task = fast.engine.task_images(pool, draws(pool), range(3), torch.float32)
    monkeypatch.undo()
    expected = Plain().task_images(pool, draws(pool), range(3), torch.float32)
    for step, batch in enumerate(task.batches):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch(), expected.batches[step], strict=True))
    assert torch.equal(task.support, expected.support)
    assert torch.equal(task.query, expected.query)
    assert torch.equal(task.labels, expected.labels)


def test_on_a_gpu_the_number_of_lanes_depends_on_sizes_only(network, pool):  # noqa: F811
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
