"""Figure 2: a simulation of Reptile in the plane, between the solution sets of two tasks (section 5.2).

Two curves stand for the sets of parameters that solve two tasks: W1 is the parabola y = 0.5 + 0.35 x^2 and W2 the wave
y = -0.8 + 0.3 sin(1.5 x). They do not intersect. As in the paper's argument, a task's loss is half the squared distance
to its set, L(phi) = D(phi, W)^2 / 2, whose gradient is phi minus the closest point of W. Reptile takes k gradient steps
on one task, moves phi by epsilon towards the result, and continues with the other task. It should end where the mean
of both squared distances is least.

That point is computed independently, without gradients, closest points or iterates: by a search on finer and finer
grids, with the curves approximated by short straight segments. The paper's figure is a sketch; curves, start and step
sizes here are our choice. NumPy only; no random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstorder.settings import ManifoldSettings

REACH = 4.0  # the curves drawn and the grid searched span -REACH to REACH in x
SEGMENTS = 4000  # straight segments that approximate a curve in the search
DRAWN = 161  # points of each curve that are recorded

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Curve:
    """A smooth curve (t, height(t)) in the plane; `slope` and `bend` are the first two derivatives of its height."""

    height: Callable[[Numbers], Numbers]
    slope: Callable[[Numbers], Numbers]
    bend: Callable[[Numbers], Numbers]

    def at(self, t: Numbers) -> Numbers:
        """Return the points of the curve at `t` [points]: [points, 2]."""
        return np.stack([t, self.height(t)], axis=-1)

    def closest(self, phi: Numbers) -> Numbers:
        """Return the point of the curve that is closest to phi [2]: [2].

        Newton's method, started at the closest of many sampled points, finds where the curve is perpendicular to the
        line to phi.
        """
        sampled = np.linspace(-1.5 * REACH, 1.5 * REACH, 3001)
        t = sampled[np.argmin(((self.at(sampled) - phi) ** 2).sum(axis=1))]
        for _ in range(20):
            rise = self.height(t) - phi[1]
            gradient = t - phi[0] + rise * self.slope(t)
            t = t - gradient / (1 + self.slope(t) ** 2 + rise * self.bend(t))
        return np.array([t, self.height(t)])


CURVES = {
    "W1": Curve(lambda t: 0.5 + 0.35 * t**2, lambda t: 0.7 * t, lambda t: 0.7 + 0.0 * t),
    "W2": Curve(
        lambda t: -0.8 + 0.3 * np.sin(1.5 * t), lambda t: 0.45 * np.cos(1.5 * t), lambda t: -0.675 * np.sin(1.5 * t)
    ),
}


def adapt(curve: Curve, phi: Numbers, settings: ManifoldSettings) -> list[Numbers]:
    """Take the inner steps on half the squared distance to `curve`; return phi [2] at the start and after each step."""
    path = [phi]
    for _ in range(settings.inner_steps):
        path.append(path[-1] - settings.inner_learning_rate * (path[-1] - curve.closest(path[-1])))
    return path


def mean_squared_distance(points: Numbers) -> Numbers:
    """Return the squared distance of `points` [points, 2], averaged over both curves: [points]."""
    return np.asarray(np.mean([_squared_distance(curve, points) for curve in CURVES.values()], axis=0))


def minimiser() -> Numbers:
    """Return the point [2] of least mean squared distance to both curves, found by grids shrinking around the best."""
    centre, half_width = np.zeros(2), REACH
    while half_width > 1e-7:
        offsets = np.linspace(-half_width, half_width, 11)
        grid = centre + np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)
        centre = grid[np.argmin(mean_squared_distance(grid))]
        half_width /= 3
    return np.asarray(centre)


def simulate(settings: ManifoldSettings) -> list[list[Any]]:
    """Compute Figure 2; return rows of columns.MANIFOLD_POINTS.

    Column `what` is `iterate` for phi after `outer_step` outer steps, `inner` for a point of the inner loop of that
    outer step, `curve` for a point of a curve, `minimiser` for the point of least mean squared distance, and `closest`
    for the point of a curve closest to the minimiser. Column `toward` names the curve that the outer step moves to, or
    that the point belongs to.
    """
    phi = np.array(settings.start, dtype=np.float64)
    rows = [_row("iterate", 0, "", phi)]
    names = list(CURVES)
    for step in range(settings.outer_steps):
        name = names[step % len(names)]
        path = adapt(CURVES[name], phi, settings)
        rows += [_row("inner", step + 1, name, point) for point in path]
        epsilon = settings.outer_step_size * (1 - step / settings.outer_steps)
        phi = phi + epsilon * (path[-1] - phi)
        rows.append(_row("iterate", step + 1, name, phi))
    best = minimiser()
    rows.append(_row("minimiser", 0, "", best))
    for name, curve in CURVES.items():
        rows.append(_row("closest", 0, name, curve.closest(best)))
        rows += [_row("curve", 0, name, point) for point in curve.at(np.linspace(-REACH, REACH, DRAWN))]
    return rows


def _squared_distance(curve: Curve, points: Numbers) -> Numbers:
    """Return the squared distance of `points` [points, 2] to the curve, approximated by straight segments: [points]."""
    corners = curve.at(np.linspace(-1.5 * REACH, 1.5 * REACH, SEGMENTS + 1))
    starts, segments = corners[:-1], np.diff(corners, axis=0)
    offsets = points[:, None] - starts  # [points, segments, 2]
    share = np.clip((offsets * segments).sum(axis=2) / (segments**2).sum(axis=1), 0, 1)
    return np.asarray(((offsets - share[:, :, None] * segments) ** 2).sum(axis=2).min(axis=1))


def _row(what: str, outer_step: int, toward: str, point: Numbers) -> list[Any]:
    return [what, outer_step, toward, f"{point[0]:.6f}", f"{point[1]:.6f}"]
