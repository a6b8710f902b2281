"""How much of the scores a forecast can explain at all, as far as reviewers of the same output agree."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from feedback_pipeline.learning.panel import Floats, Ints, group_sums

_LEAST_OUTPUTS: Final = 30
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Ceiling:
    """The largest R2 that a forecast can be expected to reach.

    Attributes:
        share: 1 - variance between reviewers of one output / variance of all scores, within 0..1; None where undefined.
        n_outputs: Outputs with at least two reviewers that it rests on.
        reason: Why it is undefined, or None.
    """

    share: float | None
    n_outputs: int
    reason: str | None


def noise_ceiling(y: Floats, output: Ints, reviewer: Ints, prediction: Floats | None = None) -> Ceiling:
    """Estimate the ceiling from outputs with at least two known reviewers.

    V_w is the variance between the reviewers of one output, pooled over outputs: sum (y - output mean)^2 / sum (m - 1), each
    reviewer's scores of one output averaged first; V is the sample variance of all scores. The ceiling is 1 - V_w / V. That one
    holds for forecasts that do not know who reviews. With predictions, V_w is taken of y - prediction instead: what reviewers of
    one output still disagree about once the forecast knows their severities and tastes; that is the one for a score by a given
    reviewer. How good an output is beyond its features counts as explainable in both, so neither is reached.

    Args:
        y: Scores (M,).
        output: Output of each row (M,).
        reviewer: Reviewer of each row (M,), -1 where unknown.
        prediction: Forecasts (M,); rows where it is NaN are left out.
    """
    known = np.isfinite(y) if prediction is None else np.isfinite(y) & np.isfinite(prediction)
    total = float(np.var(y[known], ddof=1)) if known.sum() > 1 else 0.0
    rounding = (_ROUNDING * (1.0 + float(np.abs(y[known]).max(initial=0.0)))) ** 2
    rows = known & (reviewer >= 0)
    value = y[rows] if prediction is None else (y - prediction)[rows]
    within, n_outputs = _within_outputs(value, output[rows], reviewer[rows])
    if n_outputs < _LEAST_OUTPUTS:
        reason = f"unknown: {n_outputs} outputs have two reviewers, {_LEAST_OUTPUTS} are needed"
        return Ceiling(None, n_outputs, reason)
    if total <= rounding:
        return Ceiling(None, n_outputs, "undefined: all scores are equal")
    return Ceiling(float(np.clip(1.0 - within / total, 0.0, 1.0)), n_outputs, None)


def _within_outputs(value: Floats, output: Ints, reviewer: Ints) -> tuple[float, int]:
    """Pooled variance between the reviewers of an output, and the outputs that have two."""
    if not len(value):
        return 0.0, 0
    width = int(reviewer.max()) + 1
    cells, place = np.unique(output.astype(np.int64) * width + reviewer, return_inverse=True)
    mean = group_sums(place, value, len(cells)) / np.bincount(place)
    code = np.unique(cells // width, return_inverse=True)[1]
    size = np.bincount(code)
    centred = mean - (group_sums(code, mean, len(size)) / size)[code]
    several = int((size > 1).sum())
    return float(centred @ centred) / max(int((size - 1).sum()), 1), several
