"""Draws on the device equal those of method/tasks.py, index for index."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from firstorder.engines.lanes import draws
from firstorder.method import tasks
from firstorder.method.tasks import TaskShape

SHAPE = TaskShape(
    pool_classes=37,
    class_images=12,
    way=5,
    support=4,
    query=2,
    inner_steps=5,
    inner_batch_size=7,
    sampling="cycle",
)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def pairs(steps: list[int], numbers: range, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Return all pairs of a step and a task's number, as two tensors."""
    step, task = torch.tensor([(step, task) for step in steps for task in numbers], device=device).unbind(dim=1)
    return step, task


def same(shape: TaskShape, seed: int, device: str = "cpu") -> None:
    steps, numbers = [0, 3, 99_999], range(2, 6)
    found = draws.draw(shape, seed, "training", *pairs(steps, numbers, device))
    wanted = [tasks.draw_tasks(shape, seed, "training", step, numbers) for step in steps]
    for name in ("support", "query", "order", "batches", "batch_labels"):
        expected = np.concatenate([getattr(task, name) for task in wanted])
        assert np.array_equal(getattr(found, name).cpu().numpy(), expected), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 4, 4099])
def test_the_raw_numbers_are_numpys_philox(count, device):
    found = draws.raw(count, 2**32 - 1, "evaluation", *pairs([0, 5, 2**40], range(3), device))
    wanted = [tasks.raw(count, 2**32 - 1, "evaluation", step, task) for step in (0, 5, 2**40) for task in range(3)]
    assert np.array_equal(found.cpu().numpy().view(np.uint64), np.stack(wanted))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", [0, 1, 4_000_000_000])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sampling": "replacement"},
        {"query": 0},
        {"support": 1, "inner_batch_size": 5},
        {"turns": 4},
        {"turns": 3},
        {"way": 37},
        {"support": 10},
        {"class_images": tuple(6 + index % 5 for index in range(37))},
        {"class_images": tuple(6 + index % 5 for index in range(37)), "turns": 4, "sampling": "replacement"},
        {"pool_classes": 4800, "class_images": 20, "support": 10, "inner_batch_size": 10},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
def test_tasks_equal_those_of_the_host(changes, seed, device):
    same(dataclasses.replace(SHAPE, **changes), seed, device)


def test_the_upper_half_of_a_product_is_exact():
    values = [0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0x123456789ABCDEF0]
    signed = torch.tensor([value - 2**64 if value >= 2**63 else value for value in values])
    for factor in (*draws.MULTIPLIERS, 2**64 - 1, 1):
        found = draws._upper(signed, factor).numpy().view(np.uint64)
        assert found.tolist() == [value * factor >> 64 for value in values]


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 7])
def test_the_remainder_of_an_unsigned_number_is_exact(divisor):
    keys = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 5], dtype=np.uint64)
    found = draws._remainder(torch.from_numpy(keys.view(np.int64)), divisor)
    assert found.tolist() == (keys % np.uint64(divisor)).tolist()
