"""What following a recommendation is expected to bring: a number with its interval, as a document and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

APPROVAL: Final = "approval"
SHARE, POINTS = "share", "points"


@dataclass(frozen=True)
class Effect:
    """An expected effect; numbers are positive where the advice helps.

    Attributes:
        outcome: `approval`, an aspect, or `overall`.
        unit: `share` for approval, `points` for scores.
        value: What is expected; ci: its interval of confidence `level`.
        before, after: Level of the outcome without and with the advice, None where it has no meaning.
        n_bad, n_good: Outputs (documents, reviews) on either side, None where there are no sides.
    """

    outcome: str
    unit: str
    value: float
    ci: Sequence[float]
    level: float = 0.95
    before: float | None = None
    after: float | None = None
    n_bad: int | None = None
    n_good: int | None = None

    @classmethod
    def between(cls, outcome: str, unit: str, value: float, ends: Sequence[float], **given: Any) -> "Effect":
        """An effect whose interval ends come in any order."""
        return cls(outcome, unit, value, sorted(ends), **given)

    @property
    def sure(self) -> bool:
        """Whether the interval lies above 0."""
        return self.ci[0] > 0

    def document(self) -> dict[str, Any]:
        """As JSON; what is no number is null."""
        return {
            "outcome": self.outcome,
            "unit": self.unit,
            "value": number(self.value),
            "ci": [number(end) for end in self.ci],
            "level": self.level,
            "from": number(self.before),
            "to": number(self.after),
            "n_bad": self.n_bad,
            "n_good": self.n_good,
        }

    def words(self) -> str:
        """In words: `approval 61 % -> 84 %, +23 points [14, 31]` or `clarity +0.50 points [0.20, 0.80]`."""
        low, high = self.ci
        if self.unit != SHARE:
            return f"{self.outcome} {self.value:+.2f} {self.unit} [{low:.2f}, {high:.2f}]"
        gained = f"{100 * self.value:+.0f} points [{100 * low:.0f}, {100 * high:.0f}]"
        if self.before is None or self.after is None:
            return f"{self.outcome} {gained}"
        return f"{self.outcome} {100 * self.before:.0f} % -> {100 * self.after:.0f} %, {gained}"


def number(value: float | None) -> float | None:
    """The number, None where it is none: JSON knows no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)
