"""Variance components, and the point where a slow map of them comes to rest."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feedback_pipeline.learning.panel import Floats

_FASTEST = 0.9
_LONGEST = 3.0  # of an extrapolation, in logarithms
_EXTRAPOLATED = 100

Step = Callable[[Floats], tuple[Floats, float]]


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


def find_rest(step: Step, start: Floats, *, least_gain: float, steps: int) -> tuple[Floats, int] | None:
    """Repeat a step on positive numbers until it gains next to nothing.

    After every two steps each number is carried on to where its moves would end if they went on shrinking at the same rate
    (Aitken's extrapolation, of logarithms). Late steps are plain ones: they come to rest even where extrapolation never does.

    Args:
        step: Gives the next numbers and what they gain; a 0 stays 0.
        start: Where to start (n,).
        least_gain: A step that gains less is the last one.
        steps: Most steps.

    Returns:
        The resting point and the steps taken, or None if it did not rest or left the finite numbers.
    """
    trail = [start]
    for taken in range(1, steps + 1):
        point, gain = step(trail[-1])
        if not np.isfinite(point).all():
            return None
        if gain < least_gain:
            return point, taken
        trail.append(point)
        if len(trail) == 3 and taken < _EXTRAPOLATED:
            trail = [_carried_on(*trail)]
        trail = trail[-2:]
    return None


def _carried_on(first: Floats, second: Floats, third: Floats) -> Floats:
    moved, moves = _log_ratio(second, first), _log_ratio(third, second)
    rate = np.clip(np.divide(moves, moved, out=np.zeros_like(moved), where=np.abs(moved) > 1e-12), 0.0, _FASTEST)
    carried: Floats = third * np.exp(np.clip(moves * rate / (1.0 - rate), -_LONGEST, _LONGEST))
    return carried


def _log_ratio(after: Floats, before: Floats) -> Floats:
    positive = (after > 0.0) & (before > 0.0)
    return np.log(np.divide(after, before, out=np.ones_like(after), where=positive))
