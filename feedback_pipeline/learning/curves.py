"""Where a published feature should lie, and at which score people approve."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.ranks import SortedColumn

_GRID = np.linspace(0.01, 0.99, 99)
_TOLERANCE = 0.025  # of the width of the score scale: .25 points of 0..10
_BEND_T = -2.0
_SKEWED = 1.5  # upper half of the 5-95 % range over its lower half
_BINS = 200
_SLOPE_SD = 15.0
_NEWTON_STEPS = 30
_MIN_OUTCOMES = 10

RISING, FALLING, INVERTED_U = "rising", "falling", "inverted_u"


@dataclass(frozen=True)
class FeatureRanges:
    """Good values of a feature for each pair (P,): arrays; NaN bound = open on that side.

    Attributes:
        low, high: Values whose fitted score is near the best one.
        best: Value with the best fitted score, NaN unless the curve bends inside the observed values.
        p5, p50, p95: Observed quantiles of the feature.
        shape: rising, falling or inverted_u.
    """

    low: Floats
    high: Floats
    best: Floats
    p5: Floats
    p50: Floats
    p95: Floats
    shape: npt.NDArray[np.object_]


def feature_ranges(feature: Floats, score: Floats, pair: Ints, r: Floats, width: Floats) -> FeatureRanges:
    """Fit score = b0 + b1 t + b2 t^2 in every pair and read off where the score is near its best.

    t is the feature, or its logarithm where it is positive and skewed, cut off at its 1 % and 99 % quantiles and standardised.
    The bend counts when its t-value is below -2 and the top lies between the 10 % and 90 % quantiles; then the range holds all
    values within .025 of the scale's width of the best fit. Otherwise the curve is a line and the range is its good side, at
    most the better half of the observed values.

    Args:
        feature: Values (L,), finite.
        score: Adjusted scores (L,), finite.
        pair: Pair of each row (L,), ascending from 0 without gaps; P pairs.
        r: Correlation of each pair (P,): its sign is the direction of a line.
        width: Width hi - lo of the score scale of each pair (P,).
    """
    starts = np.flatnonzero(np.diff(pair, prepend=-1))
    n = np.diff(starts, append=len(pair)).astype(np.float64)
    # Squares of huge values overflow: a power of two per pair is taken out and put back at the end.
    _, exponent = np.frexp(np.maximum.reduceat(np.abs(feature), starts))
    feature = np.ldexp(feature, -exponent[pair])
    order = SortedColumn.of(feature, pair, starts).order
    quantiles = _quantiles(feature[order], starts, n)
    t, grid = _standardised(feature, quantiles, pair, starts, n)
    line, bend, bend_t = _quadratic(t, score, pair, starts, n)

    top = np.divide(-line, 2.0 * bend, out=np.zeros_like(line), where=bend < 0)
    bends = (bend_t < _BEND_T) & (grid[:, 9] < top) & (top < grid[:, 89])
    slope = np.where(bends, line, np.abs(_slope(t, score, starts, n, pair)) * np.where(r < 0, -1.0, 1.0))
    curve = slope[:, None] * grid + np.where(bends, bend, 0.0)[:, None] * grid**2
    near = curve >= curve.max(axis=1, keepdims=True) - _TOLERANCE * width[:, None]
    near &= bends[:, None] | np.where(r[:, None] < 0, _GRID <= 0.5, _GRID >= 0.5)

    rows = np.arange(len(starts))
    quantiles = np.ldexp(quantiles, exponent[:, None])
    first = near.argmax(axis=1)
    last = near.shape[1] - 1 - near[:, ::-1].argmax(axis=1)
    falling = ~bends & (r < 0)
    rising = ~bends & ~falling
    best = quantiles[rows, curve.argmax(axis=1)]
    shape = np.where(bends, INVERTED_U, np.where(falling, FALLING, RISING)).astype(object)
    return FeatureRanges(
        np.where(falling, np.nan, quantiles[rows, first]),
        np.where(rising, np.nan, quantiles[rows, last]),
        np.where(bends, best, np.nan),
        quantiles[:, 4],
        quantiles[:, 49],
        quantiles[:, 94],
        shape,
    )


def _standardised(feature: Floats, quantiles: Floats, pair: Ints, starts: Ints, n: Floats) -> tuple[Floats, Floats]:
    """The regressor t of each row (L,) and of each quantile (P, 99)."""
    low, middle, high = quantiles[:, 4], quantiles[:, 49], quantiles[:, 94]
    logged = (np.minimum.reduceat(feature, starts) > 0) & (high - middle > _SKEWED * (middle - low))
    cut = np.clip(feature, quantiles[pair, 0], quantiles[pair, -1])
    cut = np.where(logged[pair], np.log(np.where(logged[pair], cut, 1.0)), cut)
    grid = np.where(logged[:, None], np.log(np.where(logged[:, None], quantiles, 1.0)), quantiles)
    mean = np.add.reduceat(cut, starts) / n
    centred = cut - mean[pair]
    sd = np.sqrt(np.add.reduceat(centred**2, starts) / n)
    scale = np.where(sd > 0, sd, 1.0)
    return centred / scale[pair], (grid - mean[:, None]) / scale[:, None]


def _slope(t: Floats, score: Floats, starts: Ints, n: Floats, pair: Ints) -> Floats:
    center = t - (np.add.reduceat(t, starts) / n)[pair]
    spread = np.add.reduceat(center * center, starts)
    slope: Floats = np.divide(np.add.reduceat(center * score, starts), spread, out=np.zeros(len(starts)), where=spread > 0)
    return slope


def _quadratic(t: Floats, score: Floats, pair: Ints, starts: Ints, n: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares on (1, t, t^2) per pair: slope, bend and the t-value of the bend (0 where it cannot be estimated)."""
    basis = np.stack([np.ones_like(t), t, t * t])
    gram = np.stack([[np.add.reduceat(a * b, starts) for b in basis] for a in basis]).transpose(2, 0, 1)
    moments = np.stack([np.add.reduceat(a * score, starts) for a in basis]).T
    usable = (np.linalg.cond(gram) < 1e10) & (n > 3)
    gram[~usable] = np.eye(3)
    inverse = np.linalg.inv(gram)
    coefficients = np.where(usable[:, None], (inverse @ moments[:, :, None])[:, :, 0], 0.0)
    fitted = coefficients[pair, 0] + coefficients[pair, 1] * t + coefficients[pair, 2] * t * t
    residual = score - fitted
    noise = np.add.reduceat(residual**2, starts) / np.maximum(n - 3.0, 1.0)
    se = np.sqrt(noise * inverse[:, 2, 2])
    bend_t = np.divide(coefficients[:, 2], se, out=np.zeros_like(se), where=usable & (se > 0))
    return coefficients[:, 1], coefficients[:, 2], bend_t


def _quantiles(ordered: Floats, starts: Ints, n: Floats) -> Floats:
    """Quantiles _GRID of each pair's sorted values, linear between order statistics (P, 99)."""
    position = _GRID * (n[:, None] - 1.0)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, n[:, None].astype(np.intp) - 1)
    share = position - below
    values: Floats = ordered[starts[:, None] + below] * (1.0 - share) + ordered[starts[:, None] + above] * share
    return values


@dataclass(frozen=True)
class ApprovalThresholds:
    """Aspect scores, scaled to 0..1, at which P(approve) is 80 % and 20 %, arrays (G, K); NaN with a reason where undefined."""

    positive: Floats
    negative: Floats
    reason: npt.NDArray[np.object_]


def approval_thresholds(group: Ints, n_groups: int, scores: Floats, approved: Floats) -> ApprovalThresholds:
    """Logistic regression of approval on each aspect's score within each group, in one batched Newton iteration.

    Scores are counted in 200 bins, so the cost does not grow with the rows. The slope has a N(0, 15^2) prior, which keeps it
    finite where the score decides everything.

    Args:
        group: Agent of each output (N,), in 0..n_groups-1.
        n_groups: G.
        scores: Adjusted output scores scaled to 0..1 (N, K), NaN = missing.
        approved: Outcome of each output (N,): 1, 0 or NaN.
    """
    n_aspects = scores.shape[1]
    positive, negative = np.full((n_groups, n_aspects), np.nan), np.full((n_groups, n_aspects), np.nan)
    reason = np.full((n_groups, n_aspects), None, dtype=object)
    for k in range(n_aspects):
        known = ~np.isnan(scores[:, k]) & ~np.isnan(approved)
        bins = np.clip(np.round(scores[known, k] * _BINS), 0, _BINS).astype(np.intp)
        cell, size = group[known] * (_BINS + 1) + bins, n_groups * (_BINS + 1)
        total = np.bincount(cell, minlength=size).reshape(n_groups, -1).astype(np.float64)
        wins = group_sums(cell, approved[known], size).reshape(n_groups, -1)
        center, intercept, slope, se = _logistic(total, wins)
        n, won = total.sum(axis=1), wins.sum(axis=1)
        follows = slope > 2.0 * se
        reason[~follows, k] = "decisions do not follow this aspect"
        reason[(won == 0) | (won == n), k] = "one_class"
        reason[n < _MIN_OUTCOMES, k] = f"fewer than {_MIN_OUTCOMES} decided outputs"
        usable = follows & (won > 0) & (won < n) & (n >= _MIN_OUTCOMES)
        steep = np.where(usable, slope, 1.0)
        for target, sign in ((positive, 1.0), (negative, -1.0)):
            threshold = center + (sign * np.log(4.0) - intercept) / steep
            target[:, k] = np.where(usable & (threshold >= 0.0) & (threshold <= 1.0), threshold, np.nan)
    return ApprovalThresholds(positive, negative, reason)


def _logistic(total: Floats, wins: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Centre, intercept at the centre, slope and its standard error of each row's binned logistic regression."""
    x = np.linspace(0.0, 1.0, total.shape[1])
    n = np.maximum(total.sum(axis=1), 1.0)
    center = (total @ x) / n
    offset = x - center[:, None]
    rate = (wins.sum(axis=1) + 0.5) / (n + 1.0)
    intercept, slope = special.logit(rate), np.zeros(len(n))
    precision = 1.0 / _SLOPE_SD**2
    for _ in range(_NEWTON_STEPS):
        p = special.expit(intercept[:, None] + slope[:, None] * offset)
        error, weight = wins - total * p, total * p * (1.0 - p)
        h00 = weight.sum(axis=1) + 1e-9
        h01 = (weight * offset).sum(axis=1)
        h11 = (weight * offset**2).sum(axis=1) + precision
        g0, g1 = error.sum(axis=1), (error * offset).sum(axis=1) - precision * slope
        determinant = h00 * h11 - h01**2
        intercept = intercept + np.clip((h11 * g0 - h01 * g1) / determinant, -3.0, 3.0)
        slope = slope + np.clip((h00 * g1 - h01 * g0) / determinant, -_SLOPE_SD, _SLOPE_SD)
    return center, intercept, slope, np.sqrt(h00 / determinant)
