"""Figure 2's simulation: closest points, the point of least mean squared distance, and Reptile's convergence to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firstorder.settings import ManifoldSettings, checks
from firstorder.studies import manifolds

ROOT = Path(__file__).parents[2]
SETTINGS = ManifoldSettings(
    start=(-2.6, 0.9), inner_learning_rate=0.2, inner_steps=5, outer_steps=100, outer_step_size=1.0
)
# A straight line y = 0: the closest point of (3, 2) is (3, 0).
LINE = manifolds.Curve(lambda t: 0.0 * t, lambda t: 0.0 * t, lambda t: 0.0 * t)


@pytest.fixture(scope="module")
def best() -> manifolds.Numbers:
    return manifolds.minimiser()


def points_of(what: str, settings: ManifoldSettings = SETTINGS) -> manifolds.Numbers:
    rows = [row for row in manifolds.simulate(settings) if row[0] == what]
    return np.array([[float(row[3]), float(row[4])] for row in rows])


def test_inner_steps_move_straight_to_the_closest_point() -> None:
    """Each step covers the fraction alpha of the remaining distance: of 2, two steps of 0.5 leave a quarter."""
    settings = ManifoldSettings(
        start=(3.0, 2.0), inner_learning_rate=0.5, inner_steps=2, outer_steps=2, outer_step_size=1.0
    )
    path = manifolds.adapt(LINE, np.array([3.0, 2.0]), settings)
    np.testing.assert_allclose(path, [[3, 2], [3, 1], [3, 0.5]], atol=1e-12)


@pytest.mark.parametrize("name", manifolds.CURVES)
def test_the_line_to_the_closest_point_is_perpendicular_to_the_curve(name: str) -> None:
    curve = manifolds.CURVES[name]
    for phi in np.array([[-2.0, 0.3], [0.5, 0.0], [1.5, -0.2]]):
        closest = curve.closest(phi)
        tangent = np.array([1.0, float(curve.slope(closest[:1])[0])])
        assert (phi - closest) @ tangent == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", manifolds.CURVES)
def test_the_slopes_and_bends_are_the_derivatives_of_the_heights(name: str) -> None:
    curve, t, step = manifolds.CURVES[name], np.linspace(-3, 3, 7), 1e-5
    np.testing.assert_allclose(
        curve.slope(t), (curve.height(t + step) - curve.height(t - step)) / (2 * step), atol=1e-8
    )
    np.testing.assert_allclose(curve.bend(t), (curve.slope(t + step) - curve.slope(t - step)) / (2 * step), atol=1e-8)


def test_the_minimiser_found_by_grids_is_the_midpoint_of_the_shortest_connection(best: manifolds.Numbers) -> None:
    """For curves that do not intersect, the midpoint of their closest points minimises the mean squared distance."""
    first, second = (curve.closest(best) for curve in manifolds.CURVES.values())
    np.testing.assert_allclose((first + second) / 2, best, atol=2e-4)
    for curve, other in (("W1", second), ("W2", first)):
        np.testing.assert_allclose(manifolds.CURVES[curve].closest(other), first + second - other, atol=2e-3)


def test_no_point_of_a_grid_has_a_smaller_mean_squared_distance(best: manifolds.Numbers) -> None:
    grid = np.stack(np.meshgrid(np.linspace(-3.5, 3.5, 29), np.linspace(-2, 3, 21)), axis=-1).reshape(-1, 2)
    assert (manifolds.mean_squared_distance(grid) >= manifolds.mean_squared_distance(best[None])).all()


@pytest.mark.parametrize("start", [(-2.6, 0.9), (-2.5, 3.0), (2.5, 0.5)])
def test_reptile_ends_at_the_minimiser(start: tuple[float, float], best: manifolds.Numbers) -> None:
    phi, names = np.array(start), list(manifolds.CURVES)
    for step in range(SETTINGS.outer_steps):
        path = manifolds.adapt(manifolds.CURVES[names[step % 2]], phi, SETTINGS)
        phi = phi + (1 - step / SETTINGS.outer_steps) * (path[-1] - phi)
    assert np.linalg.norm(phi - best) < 0.005 * np.linalg.norm(np.array(start) - best)


def test_iterates_alternate_between_the_curves_and_begin_at_the_start() -> None:
    rows = [row for row in manifolds.simulate(SETTINGS) if row[0] == "iterate"]
    assert [row[2] for row in rows[:5]] == ["", "W1", "W2", "W1", "W2"]
    assert [float(row[3]) for row in rows[:1]] == [-2.6]
    assert len(rows) == SETTINGS.outer_steps + 1


def test_the_recorded_curves_do_not_intersect() -> None:
    first, second = np.split(points_of("curve"), 2)
    assert (first[:, 1] > second[:, 1]).all()


@pytest.mark.parametrize("folder", [".", "quick"])
def test_the_params_of_the_repository_end_at_the_minimiser(folder: str, best: manifolds.Numbers) -> None:
    settings = checks.load(ROOT / folder / "params.yaml").manifolds
    assert settings is not None
    iterates = points_of("iterate", settings)
    assert np.linalg.norm(iterates[-1] - best) < 0.02 * np.linalg.norm(iterates[0] - best)
