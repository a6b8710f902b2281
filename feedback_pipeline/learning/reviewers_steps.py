"""Variance components, and finding where a slow map of them rests: Anderson acceleration, kept only where it helps."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feedback_pipeline.learning.panel import Floats

_MEMORY = 6
_LONGEST = 2.0  # of an extrapolation, in logarithms
_SMALL = 1e-2
_LEAST = 1e-7
_ACCELERATED = 150

Map = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Variances:
    """Variance components.

    Attributes:
        noise: s2.
        personal: tau2 of each personal column (Q,).
        population: Prior variance of each group of population columns (groups,).
    """

    noise: float
    personal: Floats
    population: Floats

    @property
    def values(self) -> Floats:
        """All of them in one array, the noise first."""
        return np.concatenate([[self.noise], self.personal, self.population])

    def with_values(self, values: Floats) -> "Variances":
        """Variances of the same columns and groups with other values."""
        q = len(self.personal)
        return Variances(float(values[0]), values[1 : q + 1], values[q + 1 :])


def find_rest(step: Map, start: Floats, *, tolerance: float, negligible: float, steps: int) -> tuple[Floats, int] | None:
    """Repeat a map of non-negative numbers until it moves them no more.

    The next point is extrapolated from the last few, in logarithms, and dropped where the map would move it further than it
    moved the point before. What has not come to rest by then goes on in plain steps: numbers on their way to 0 can keep
    extrapolation busy for ever.

    Args:
        step: The map; a 0 stays 0.
        start: Where to start (n,); its first number is the unit that `negligible` is measured in, at every point.
        tolerance: Relative change that counts as rest.
        negligible: Absolute change that counts as rest, in units of the first number.
        steps: Most points to visit.

    Returns:
        The resting point and the points visited, or None if it did not rest or left the finite numbers.
    """
    point, image = start, step(start)
    points, moves = [_logarithm(point)], [_logarithm(image) - _logarithm(point)]
    for visited in range(1, steps + 1):
        if not np.isfinite(image).all() or image[0] <= 0.0:
            return None
        if (np.abs(image - point) <= tolerance * np.maximum(point, image) + negligible * image[0]).all():
            return image, visited
        ahead = image
        if len(points) > 1 and visited <= _ACCELERATED:
            ahead = _extrapolated(points, moves, image)
        beyond = step(ahead)
        if ahead is not image and not _move(ahead, beyond) <= _move(point, image):
            # Extrapolation led astray: the plain step, and the way so far is forgotten.
            points, moves = [], []
            ahead, beyond = image, step(image)
        point, image = ahead, beyond
        points, moves = [*points[-_MEMORY:], _logarithm(point)], [*moves[-_MEMORY:], _logarithm(image) - _logarithm(point)]
    return None


def _logarithm(point: Floats) -> Floats:
    logarithm: Floats = np.log(np.maximum(point, _LEAST * point[0]))
    return logarithm


def _weight(point: Floats) -> Floats:
    """How much each number counts: those far smaller than the first hardly."""
    weight: Floats = point / (point + _SMALL * point[0])
    return weight


def _move(before: Floats, after: Floats) -> float:
    return float(np.linalg.norm(_weight(after) * (_logarithm(after) - _logarithm(before))))


def _extrapolated(points: list[Floats], moves: list[Floats], image: Floats) -> Floats:
    """The combination of the images so far whose combined move is shortest, not far from the last image."""
    weight = _weight(image)
    steps, changes = np.diff(np.array(points), axis=0).T, np.diff(np.array(moves), axis=0).T
    share = np.linalg.lstsq(weight[:, None] * changes, weight * moves[-1], rcond=1e-6)[0]
    back = np.clip((steps + changes) @ share, -_LONGEST, _LONGEST)
    return np.where(image > 0, image * np.exp(-back), 0.0)
