"""P(approve) of a forecast, and whether it means what it says.

The expected score goes through the standards of the reviewer (or of the population); because the score is only expected, the
logit eta = a + b score shrinks to expit(eta / sqrt(1 + pi (b sd)^2 / 8)) (MacKay 1992). Platt's calibration (1999) on the latest
decisions then takes out what is still systematic:

    P = expit(shift + slope logit p)      by maximum likelihood, without a penalty.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from feedback_pipeline.learning.approval import averaged_logistic
from feedback_pipeline.learning.panel import Floats

MIN_ROWS = 50
LATEST = 2_000
"""Decisions that count as the latest; those of one moment stay together."""
BINS = 10
_CERTAIN = 1e-12
_STEPS, _RESTED = 100, 1e-12


def approval_probability(
    score: Floats, score_sd: Floats | float, intercept: Floats | float, slope: float, intercept_variance: Floats | float = 0.0
) -> Floats:
    """P(approve) of expected scores (M,).

    Args:
        score: Expected score of each row, points.
        score_sd: Standard deviation of a review around it, points: with the noise of one review.
        intercept: a of the reviewer or the population, logits; -slope x s50 for a standard s50.
        slope: b, logits per point.
        intercept_variance: Of the intercept, squared logits: tau2 for a reviewer nobody knows.
    """
    variance = slope**2 * np.square(score_sd) + intercept_variance
    return averaged_logistic(np.asarray(intercept + slope * score, dtype=np.float64), np.asarray(variance, dtype=np.float64))


@dataclass(frozen=True)
class Platt:
    """P = expit(shift + slope logit p); the identity is (0, 1).

    Attributes:
        shift: Logits.
        slope: Of the logits; 0 where forecasts do not rank decisions, then all get the base rate.
        n: Decisions it was fitted on.
        reason: Why it is not the plain fit, or None.
    """

    shift: float
    slope: float
    n: int
    reason: str | None

    @classmethod
    def fit(cls, p: Floats, approved: Floats, moment: npt.NDArray[np.int64] | None = None) -> "Platt":
        """Fit on the latest decisions.

        Args:
            p: P(approve) as forecast before the decision (M,), NaN = none.
            approved: 1, 0 or NaN (M,).
            moment: When it was decided (M,), to choose the latest; None = all rows count.
        """
        rows = np.isfinite(p) & np.isfinite(approved)
        if moment is not None and rows.any():
            rows &= moment >= np.sort(moment[rows])[-min(LATEST, int(rows.sum()))]
        x, y = _logit(p[rows]), approved[rows]
        reason = _unfit(x, y)
        if reason is not None:
            return cls(0.0, 1.0, len(x), reason)
        # A spread of rounding errors alone is none.
        centre, spread = float(x.mean()), float(x.std())
        if spread <= 1e-9 * (1.0 + abs(centre)):
            return cls(_base(y) - centre, 1.0, len(x), "the forecasts do not vary: only their level is calibrated")
        level, rise = _newton((x - centre) / spread, y)
        if rise <= 0.0:
            return cls(_base(y), 0.0, len(x), "decisions do not rise with the forecasts: all get the base rate")
        return cls(level - rise * centre / spread, rise / spread, len(x), None)

    def probability(self, p: Floats) -> Floats:
        """Calibrated P(approve) of forecasts (M,); NaN stays NaN."""
        if self.shift == 0.0 and self.slope == 1.0:
            return np.array(p, dtype=np.float64)
        known = np.where(np.isnan(p), np.nan, self.shift + self.slope * _logit(p))
        return np.asarray(expit(known), dtype=np.float64)


def _unfit(x: Floats, y: Floats) -> str | None:
    if len(x) < MIN_ROWS:
        return f"{len(x)} decisions on earlier forecasts; calibration needs {MIN_ROWS}"
    if y.all() or not y.any():
        return f"{'every' if y.all() else 'no'} decision is an approval"
    yes, no = x[y == 1], x[y == 0]
    varies = x.min() < x.max()
    if varies and (yes.min() >= no.max() or yes.max() <= no.min()):
        return "the forecasts separate the decisions completely"
    return None


def _base(y: Floats) -> float:
    return float(logit(y.mean()))


def _logit(p: Floats) -> Floats:
    return np.asarray(logit(np.clip(p, _CERTAIN, 1.0 - _CERTAIN)), dtype=np.float64)


def _newton(x: Floats, y: Floats) -> tuple[float, float]:
    """Maximum likelihood of a logistic line on standardised x; steps are halved until the likelihood rises."""
    beta = np.array([_base(y), 0.0])
    deviance = _deviance(beta, x, y)
    for _ in range(_STEPS):
        p = expit(beta[0] + beta[1] * x)
        w = p * (1.0 - p)
        gradient = np.array([(y - p).sum(), (y - p) @ x])
        step = np.linalg.solve(np.array([[w.sum(), w @ x], [w @ x, w @ (x * x)]]), gradient)
        ahead = _deviance(beta + step, x, y)
        while ahead > deviance + 1e-9 * abs(deviance) and np.abs(step).max() > _RESTED:
            step = step / 2.0
            ahead = _deviance(beta + step, x, y)
        beta, deviance = beta + step, ahead
        if np.abs(step).max() < _RESTED * (1.0 + np.abs(beta).max()):
            break
    return float(beta[0]), float(beta[1])


def _deviance(beta: Floats, x: Floats, y: Floats) -> float:
    eta = beta[0] + beta[1] * x
    return float((np.logaddexp(0.0, eta) - y * eta).sum())


@dataclass(frozen=True)
class Reliability:
    """Forecasts in bins of equal width: how many, what was forecast, what came true (B,); NaN where a bin is empty."""

    n: npt.NDArray[np.intp]
    forecast: Floats
    observed: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |observed - forecast| over all rows; NaN without any."""
        total = self.n.sum()
        gap = np.abs(np.nan_to_num(self.observed - self.forecast))
        return float((self.n * gap).sum() / total) if total else math.nan


def reliability(p: Floats, approved: Floats, bins: int = BINS) -> Reliability:
    """Compare forecasts `p` (M,) with decisions `approved` (M,; 1, 0, NaN = not counted)."""
    rows = np.isfinite(p) & np.isfinite(approved)
    where = np.minimum((p[rows] * bins).astype(np.intp), bins - 1)
    n = np.bincount(where, minlength=bins)
    means = [
        np.divide(np.bincount(where, weights=value[rows], minlength=bins), n, out=np.full(bins, np.nan), where=n > 0)
        for value in (p, approved)
    ]
    return Reliability(n, means[0], means[1])


def ece(p: Floats, approved: Floats, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal width; NaN without rows."""
    return reliability(p, approved, bins).ece
