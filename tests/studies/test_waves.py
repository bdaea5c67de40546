"""Sine waves: draws, ranges, and independence from other draws."""

from __future__ import annotations

import random

import numpy as np
import torch

from firstorder.method import tasks
from firstorder.studies.waves import TASKS_PER_GENERATOR, Waves, draw_orders, draw_waves, grid_of

EVALUATED = "sine evaluation"


def test_waves_cover_the_ranges_of_the_paper() -> None:
    waves = draw_waves(0, EVALUATED, range(20000))
    for drawn, low, high in ((waves.amplitudes, 0.1, 5.0), (waves.phases, 0.0, 2 * np.pi)):
        assert drawn.shape == (20000, 1)
        assert low <= drawn.min() < low + 0.01
        assert high - 0.01 < drawn.max() < high
        # Six standard errors of the mean of 20,000 uniform draws.
        assert abs(drawn.mean() - (low + high) / 2) < 6 * (high - low) / np.sqrt(12 * 20000)
    assert abs(np.corrcoef(waves.amplitudes[:, 0], waves.phases[:, 0])[0, 1]) < 6 / np.sqrt(20000)


def test_a_wave_is_a_sine() -> None:
    """2 sin(0 + pi / 6) = 1 and 2 sin(pi / 3 + pi / 6) = 2."""
    wave = Waves(np.array([[2.0]]), np.array([[np.pi / 6]]))
    np.testing.assert_allclose(wave.at(np.array([0.0, np.pi / 3])), [[1.0, 2.0]], rtol=1e-14)


def test_grid_spans_the_interval_in_equal_steps() -> None:
    np.testing.assert_allclose(grid_of(5), [-5, -2.5, 0, 2.5, 5])


def test_an_order_holds_every_point_once_per_shuffle_and_equals_cycle() -> None:
    orders = draw_orders(0, EVALUATED, range(7), 2, 6)
    assert (np.sort(orders.reshape(7, 2, 6)) == np.arange(6)).all()
    assert len(np.unique(orders, axis=0)) == 7
    keys = tasks.raw(TASKS_PER_GENERATOR * 12, 0, f"{EVALUATED}, points").reshape(-1, 2, 6)
    assert orders[4].tolist() == tasks.cycle(keys[4], steps=3, batch=4).ravel().tolist()


def test_a_task_does_not_depend_on_which_others_are_drawn() -> None:
    """The ranges include the border between two generators."""
    border = TASKS_PER_GENERATOR
    many = draw_waves(0, EVALUATED, range(border + 5))
    few = draw_waves(0, EVALUATED, range(border - 2, border + 3))
    np.testing.assert_array_equal(few.amplitudes, many.amplitudes[border - 2 : border + 3])
    orders = draw_orders(0, EVALUATED, range(border + 5), 1, 10)
    np.testing.assert_array_equal(draw_orders(0, EVALUATED, range(border, border + 2), 1, 10), orders[-5:-3])


def test_draws_differ_by_seed_and_purpose_and_ignore_global_generators() -> None:
    drawn = draw_waves(0, EVALUATED, range(5)).phases
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002 (the point: they must not matter)
    np.testing.assert_array_equal(draw_waves(0, EVALUATED, range(5)).phases, drawn)
    assert (draw_waves(1, EVALUATED, range(5)).phases != drawn).all()
    assert (draw_waves(0, "sine training", range(5)).phases != drawn).all()
