"""Draws of tasks and mini-batches: their guarantees, that nothing else affects them, and that they are uniform.

Statistics must be within 5 standard deviations. The seeds are fixed, so a test passes always or never.
"""

from __future__ import annotations

import hashlib
import math
import random
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from firstorder.errors import UserError
from firstorder.method import tasks
from firstorder.method.tasks import TaskShape, draw_task, draw_tasks

SHAPE = TaskShape(
    pool_classes=30,
    class_images=20,
    way=5,
    support=5,
    query=2,
    inner_steps=7,
    inner_batch_size=15,
    sampling="cycle",
)
REPLACEMENT = replace(SHAPE, sampling="replacement")


def drawn(shape: TaskShape = SHAPE, seed: int = 3, purpose: str = "training", step: int = 4, task: int = 5) -> bytes:
    """Return everything that is drawn for a task, as bytes."""
    return b"".join(array.astype("<i8").tobytes() for array in draw_task(shape, seed, purpose, step, task))


def assert_uniform(counts: np.ndarray) -> None:
    """Assert that chi-square of the counts along the last axis is within 5 standard deviations above its mean."""
    expected = counts.sum(axis=-1, keepdims=True) / counts.shape[-1]
    chi_square = ((counts - expected) ** 2 / expected).sum(axis=-1)
    freedom = counts.shape[-1] - 1
    assert (chi_square < freedom + 5 * math.sqrt(2 * freedom)).all(), chi_square


def counts_of(values: np.ndarray, kinds: int) -> np.ndarray:
    """Count how often each of `kinds` values occurs in each column: [columns, kinds]."""
    return np.stack([np.bincount(column, minlength=kinds) for column in values.T])


def test_sizes_and_ranges_are_as_asked() -> None:
    support, query, order = draw_task(SHAPE, 0, "training", 0, 0)
    assert (support.shape, query.shape, order.shape) == ((25,), (10,), (7, 15))
    for positions in (support, query):
        assert positions.min() >= 0
        assert positions.max() < 30 * 20
    assert (order.min(), order.max()) == (0, 24)


def test_classes_are_distinct_and_images_come_class_after_class() -> None:
    for task in range(200):
        support, query, _ = draw_task(SHAPE, 0, "training", 0, task)
        by_label = support.reshape(5, 5) // 20
        assert (by_label == by_label[:, :1]).all()
        assert len(set(by_label[:, 0])) == 5
        np.testing.assert_array_equal(query.reshape(5, 2) // 20, by_label[:, :2])


def test_support_and_query_share_no_image() -> None:
    """All six images of a class are used, so an image drawn twice would be noticed."""
    shape = replace(SHAPE, class_images=6, support=4, query=2)
    for task in range(200):
        support, query, _ = draw_task(shape, 0, "training", 0, task)
        assert len(set(support) | set(query)) == 5 * 6


def test_a_whole_pool_can_be_one_task() -> None:
    shape = replace(SHAPE, pool_classes=5, class_images=7)
    support, query, _ = draw_task(shape, 0, "training", 0, 0)
    assert sorted([*support, *query]) == list(range(35))


@pytest.mark.parametrize("shape", [SHAPE, REPLACEMENT], ids=["cycle", "replacement"])
def test_labels_of_mini_batches_agree_with_the_class_of_the_image(shape: TaskShape) -> None:
    several = draw_tasks(shape, 1, "training", 2, range(20))
    assert several.batches.shape == several.batch_labels.shape == (20, 7, 15)
    for lane in range(20):
        class_of_label = several.support[lane].reshape(5, 5)[:, 0] // 20
        np.testing.assert_array_equal(several.batches[lane] // 20, class_of_label[several.batch_labels[lane]])


def test_mini_batches_hold_support_images_only() -> None:
    several = draw_tasks(SHAPE, 1, "training", 2, range(20))
    for lane in range(20):
        assert set(several.batches[lane].ravel()) == set(several.support[lane])


def test_global_generators_do_not_affect_draws_and_are_not_advanced() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    first = drawn()
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    before = (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state())  # noqa: NPY002
    assert drawn() == first
    after = (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state())  # noqa: NPY002
    assert after[:2] == before[:2]
    assert torch.equal(after[2], before[2])


@pytest.mark.parametrize(
    "other", [{"seed": 4}, {"purpose": "evaluation"}, {"step": 5}, {"task": 4}, {"step": 5, "task": 4}], ids=str
)
def test_every_part_of_the_key_matters(other: dict[str, int]) -> None:
    assert drawn(**other) != drawn()


def test_neighbouring_keys_share_no_random_number() -> None:
    """A draw can use many numbers without reaching those of the next task, step, seed or purpose."""
    keys = [
        (seed, purpose, step, task) for seed in (0, 1) for purpose in ("a", "b") for step in (0, 1) for task in (0, 1)
    ]
    numbers = np.concatenate([tasks.raw(10_000, *key) for key in keys])
    assert len(np.unique(numbers)) == len(keys) * 10_000


def test_fewer_numbers_are_the_first_of_many() -> None:
    np.testing.assert_array_equal(tasks.raw(10, 0, "a", 1, 2), tasks.raw(1000, 0, "a", 1, 2)[:10])


@pytest.mark.parametrize("shape", [SHAPE, REPLACEMENT], ids=["cycle", "replacement"])
def test_lanes_are_the_tasks_drawn_one_by_one(shape: TaskShape) -> None:
    several = draw_tasks(shape, 7, "evaluation", 0, range(10))
    for lane in range(10):
        support, query, order = draw_task(shape, 7, "evaluation", 0, lane)
        np.testing.assert_array_equal(several.support[lane], support)
        np.testing.assert_array_equal(several.query[lane], query)
        np.testing.assert_array_equal(several.order[lane], order)


def test_a_part_of_the_tasks_is_that_part_of_all() -> None:
    everything = draw_tasks(SHAPE, 7, "evaluation", 0, range(10))
    part = draw_tasks(SHAPE, 7, "evaluation", 0, range(3, 6))
    np.testing.assert_array_equal(part.support, everything.support[3:6])
    np.testing.assert_array_equal(part.query, everything.query[3:6])
    np.testing.assert_array_equal(part.order, everything.order[3:6])


def test_cycle_uses_every_image_once_per_round() -> None:
    """Mini-batches of 15 from 25 images span rounds: 7 of them use 105 images, 4 rounds and 5 images of a fifth."""
    for task in range(50):
        dealt = draw_task(SHAPE, 0, "training", 0, task)[2].ravel()
        for first in range(0, 100, 25):
            assert sorted(dealt[first : first + 25]) == list(range(25))
        assert len(set(dealt[100:])) == 5


def test_cycle_reshuffles_in_every_round() -> None:
    dealt = draw_task(SHAPE, 0, "training", 0, 0)[2].ravel()
    rounds = [dealt[first : first + 25].tolist() for first in range(0, 100, 25)]
    assert len({tuple(order) for order in rounds}) == 4


def test_cycle_may_span_two_rounds_in_one_batch() -> None:
    """The second batch of 15 has the last 10 images of round one and 5 of round two, which may repeat one."""
    twice = [len(set(draw_task(SHAPE, 0, "training", 0, task)[2][1])) < 15 for task in range(50)]
    assert any(twice)


def test_cycle_over_one_whole_round_uses_every_image_exactly_once() -> None:
    """Omniglot 5-way in training: 5 steps of 10 are the task's 50 images (Table 3)."""
    shape = replace(SHAPE, support=10, query=0, inner_steps=5, inner_batch_size=10)
    support, query, order = draw_task(shape, 0, "training", 0, 0)
    assert query.size == 0
    assert sorted(order.ravel()) == list(range(50))
    assert len(set(support[order].ravel())) == 50


def test_cycle_with_a_batch_larger_than_the_support_set_spans_several_rounds() -> None:
    shape = replace(SHAPE, support=1, inner_steps=2, inner_batch_size=12)
    order = draw_task(shape, 0, "training", 0, 0)[2]
    assert order.shape == (2, 12)
    np.testing.assert_array_equal(np.sort(order.ravel()[:20].reshape(4, 5), axis=1), np.tile(np.arange(5), (4, 1)))


def test_replacement_repeats_no_image_within_a_batch() -> None:
    for task in range(50):
        for batch in draw_task(REPLACEMENT, 0, "training", 0, task)[2]:
            assert len(set(batch)) == 15


def test_replacement_draws_every_batch_independently() -> None:
    """The second batch contains a given image of the first with probability 15/25: on average 9 of 15 are repeated.

    The count is hypergeometric with variance 15 * 0.6 * 0.4 * 10/24 = 1.5; cycle would give at most 5 of 15.
    """
    draws = 400
    orders = [draw_task(REPLACEMENT, 0, "training", 0, task)[2] for task in range(draws)]
    again = [len(set(order[0]) & set(order[1])) for order in orders]
    assert abs(np.mean(again) - 9) < 5 * math.sqrt(1.5 / draws)


@pytest.mark.parametrize(
    ("sizes", "images"),
    [({"class_images": 6}, 7), ({"pool_classes": 4}, 7), ({"support": 19}, 21)],
    ids=["few images", "few classes", "too many with the query"],
)
def test_a_task_larger_than_the_pool_is_refused(sizes: dict[str, int], images: int) -> None:
    with pytest.raises(UserError, match=f"cannot draw 5 classes x {images} images: the pool has .* lower way, shot or"):
        draw_task(replace(SHAPE, **sizes), 0, "training", 0, 0)


def test_every_class_is_as_likely_for_every_label() -> None:
    classes = np.stack([draw_task(SHAPE, 0, "training", 0, task)[0][::5] // 20 for task in range(1500)])
    assert_uniform(counts_of(classes, 30))


def test_every_image_is_as_likely_in_every_place() -> None:
    several = draw_tasks(SHAPE, 0, "training", 1, range(1500))
    assert_uniform(counts_of(several.support % 20, 20))
    assert_uniform(counts_of(several.query % 20, 20))


@pytest.mark.parametrize("shape", [SHAPE, REPLACEMENT], ids=["cycle", "replacement"])
def test_every_support_image_is_as_likely_in_every_place_of_a_mini_batch(shape: TaskShape) -> None:
    several = draw_tasks(shape, 0, "training", 2, range(1500))
    assert_uniform(counts_of(several.order.reshape(1500, -1), 25))


def test_tasks_of_successive_steps_are_as_mixed_as_those_of_one_step() -> None:
    classes = np.stack([draw_task(SHAPE, 0, "training", step, 0)[0][::5] // 20 for step in range(1500)])
    assert_uniform(counts_of(classes, 30))


def test_uniforms_are_in_range_and_uniform() -> None:
    numbers = tasks.uniforms(50_000, 0, "initial parameters")
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert_uniform(np.bincount((numbers * 50).astype(int), minlength=50))
    assert abs(numbers.mean() - 0.5) < 5 * math.sqrt(1 / 12 / 50_000)


def test_distinct_takes_the_smallest_keys_in_their_order() -> None:
    keys = np.array([50, 10, 40, 20, 30], dtype=np.uint64)
    assert tasks.distinct(keys, 3).tolist() == [1, 3, 4]
    assert tasks.distinct(keys, 5).tolist() == [1, 3, 4, 2, 0]


@pytest.mark.parametrize(
    ("deal", "expected"),
    [(tasks.cycle, [[1, 2], [0, 2], [0, 1]]), (tasks.replacement, [[1, 2], [2, 0], [0, 1]])],
    ids=["cycle", "replacement"],
)
def test_sampling_by_hand(deal: Callable[..., np.ndarray], expected: list[list[int]]) -> None:
    """Keys 30, 10, 20 put the images in the order 1, 2, 0; 20, 30, 10 in 2, 0, 1; 10, 20, 30 in 0, 1, 2."""
    keys = np.array([[30, 10, 20], [20, 30, 10], [10, 20, 30]], dtype=np.uint64)
    assert deal(keys, 3, 2).tolist() == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (SHAPE, "df5e56845411dcbb"),
        (REPLACEMENT, "55878543ecd9e4e4"),
    ],
    ids=["cycle", "replacement"],
)
def test_draws_never_drift(shape: TaskShape, expected: str) -> None:
    """Draws must not depend on NumPy's version or the machine, as recorded results would no longer be reproducible.

    If this changes on purpose, raise NUMERICS_VERSION.
    """
    assert hashlib.sha256(drawn(shape)).hexdigest()[:16] == expected


def test_raw_numbers_are_those_of_philox_as_published() -> None:
    """Philox4x64-10 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", written out.

    NumPy increments the counter before the first output: numbers 5 to 8 come from the counter (2, 0, task, step).
    """
    key = [3, zlib.crc32(b"training")]
    counter = [2, 0, 5, 4]
    for _ in range(10):
        high0, low0 = divmod(counter[0] * 0xD2E7470EE14C6C93, 2**64)
        high1, low1 = divmod(counter[2] * 0xCA5A826395121157, 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) % 2**64, (key[1] + 0xBB67AE8584CAA73B) % 2**64]
    assert tasks.raw(8, 3, "training", 4, 5)[4:].tolist() == counter


def test_rotated_copies_are_chosen_once_per_task_and_change_nothing_else() -> None:
    """With 4 copies of each class, the same images are drawn as without, shifted by a whole number of copies."""
    plain = replace(SHAPE, pool_classes=50)
    turned = replace(plain, turns=4)
    moves = []
    for task in range(40):
        alone, copies = (draw_task(one, 0, "evaluation", 0, task) for one in (plain, turned))
        assert np.array_equal(alone[2], copies[2])
        for ours, theirs in zip(alone[:2], copies[:2], strict=True):
            moved = (theirs - ours).reshape(plain.way, -1)
            assert (moved == moved[:, :1]).all()
            assert set(np.unique(moved)) <= {turn * 50 * plain.class_images for turn in range(4)}
        moves += (moved[:, 0] // (50 * plain.class_images)).tolist()
    # 200 turns: each is expected 50 times, standard deviation 6.1.
    assert all(30 <= moves.count(turn) <= 70 for turn in range(4))
