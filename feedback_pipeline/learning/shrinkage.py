"""Empirical-Bayes cells: approval rates and mean scores of segments, shrunken towards what their main effects say.

A segment's raw rate is the best of many by luck. Here the rate of a cell is a beta-binomial posterior around the fitted rate
m of an additive model, with precision M = m (1 - m) / t2 - 1 from the spread t2 of the cells around it (by moments); the
score of a cell is the Gaussian analogue.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from feedback_pipeline.learning.panel import Floats, Ints, group_sums

LEVEL = 0.90
_STEPS = 15
_FLAT = 1e-6
_LEAST_RATE = 1e-3
_LEAST_NOISE = 1e-12
_LEAST_SHARE = 1e-3  # of the noise, for the variance of effects that cannot be seen


@dataclass(frozen=True)
class Cells:
    """Posterior of each cell (C,): mean with its 90 % interval, beside the raw value; NaN where a cell is empty."""

    n: Floats
    raw: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Fit:
    """What the cells are shrunken to.

    Attributes:
        value: Fitted value of each row (N,).
        rows: Rows the fit of each group rests on (G,).
        parameters: Effects it spent on them (G,).
    """

    value: Floats
    rows: Floats
    parameters: Floats


def shrunken_rates(cell: Ints, group: Ints, outcome: Floats, fit: Fit) -> Cells:
    """Beta-binomial posterior of each cell's rate.

    Args:
        cell: Cell of each row (N,), 0..C-1.
        group: Group of each cell (C,): cells of one group share their spread.
        outcome: 0 or 1 of each row (N,).
        fit: Fitted rates, within (0, 1).
    """
    n, raw, m = _cell_means(cell, len(group), outcome, fit.value)
    # Half an approval and half a refusal more: where all outputs are alike the next one may not be.
    rows = fit.rows[group]
    m = (m * rows + 0.5) / (rows + 1.0)
    variance = m * (1.0 - m)
    spread = _spread(n, raw, m, variance, group, fit)[group]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(spread > 0, variance / spread - 1.0, np.inf)
    # No spread to be seen does not mean none: all rows of the group are the most a prior may weigh.
    precision = np.clip(precision, 1.0, np.maximum(rows, 1.0))
    # Outcomes from which the reviewers' leniency is taken may average beyond 0 or 1.
    mean = (m * precision + n * np.clip(np.nan_to_num(raw), 0.0, 1.0)) / (precision + n)
    of_fit = (precision / (precision + n)) ** 2 * variance * (fit.parameters / np.maximum(fit.rows, 1.0))[group]
    total = mean * (1.0 - mean) / (mean * (1.0 - mean) / (precision + n + 1.0) + of_fit) - 1.0
    a, b = mean * np.maximum(total, 0.5), (1.0 - mean) * np.maximum(total, 0.5)
    tail = (1.0 - LEVEL) / 2.0
    low, high = (np.asarray(special.betaincinv(a, b, share), dtype=np.float64) for share in (tail, 1.0 - tail))
    return Cells(n, raw, mean, low, high)


def shrunken_means(cell: Ints, group: Ints, value: Floats, fit: Fit) -> Cells:
    """Gaussian posterior of each cell's mean; arguments as for `shrunken_rates`, `value` any numbers."""
    n, raw, m = _cell_means(cell, len(group), value, fit.value)
    known = n > 0
    within = group_sums(group[cell], (value - raw[cell]) ** 2, len(fit.rows))
    noise = _ratio(within, group_sums(group[known], (n - 1.0)[known], len(fit.rows)))[group]
    spread = _spread(n, raw, m, noise, group, fit)[group]
    spread = np.maximum(spread, noise / np.maximum(fit.rows[group], 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(spread > 0, n * spread / (n * spread + noise), 0.0)
    of_fit = (1.0 - share) ** 2 * noise * (fit.parameters / np.maximum(fit.rows, 1.0))[group]
    mean = np.where(known, m + share * (np.nan_to_num(raw) - m), np.nan)
    reach = stats.norm.ppf((1.0 + LEVEL) / 2.0) * np.sqrt((1.0 - share) * spread + of_fit)
    return Cells(n, raw, mean, mean - reach, mean + reach)


def _cell_means(cell: Ints, n_cells: int, value: Floats, fitted: Floats) -> tuple[Floats, Floats, Floats]:
    n = np.bincount(cell, minlength=n_cells).astype(np.float64)
    return n, _ratio(group_sums(cell, value, n_cells), n), _ratio(group_sums(cell, fitted, n_cells), n)


def _spread(n: Floats, raw: Floats, m: Floats, variance: Floats, group: Ints, fit: Fit) -> Floats:
    """Variance of the cells around the fit by moments (G,); the fit has taken its parameters out of it."""
    known = n > 0
    of, size = group[known], len(fit.rows)
    n_cells = np.bincount(of, minlength=size)
    left = np.maximum(1.0 - fit.parameters / np.maximum(n_cells, 1), 0.0)
    observed = group_sums(of, (n * (raw - m) ** 2)[known], size)
    expected = left * group_sums(of, variance[known], size)
    return np.maximum(np.nan_to_num(_ratio(observed - expected, left * group_sums(of, (n - 1.0)[known], size))), 0.0)


def additive_fit(levels: Ints, group: Ints, n_groups: int, value: Floats, *, logistic: bool) -> Fit:
    """What main effects alone say of each row, group by group: effects of a category are N(0, tau2), tau2 by EM.

    Args:
        levels: Level of each row in each of D categories (N, D), -1 = unknown, which has no effect.
        group: Group of each row (N,).
        n_groups: G.
        value: 0 or 1 for the logistic fit, else any numbers (N,).
        logistic: Whether to fit log odds.
    """
    width = levels.max(axis=0, initial=-1) + 1
    category = np.repeat(np.arange(len(width)), width)
    start = np.cumsum(width) - width
    column = np.column_stack([np.where(levels >= 0, levels + start, -1), np.full(len(group), len(category))])
    size = len(category) + 1  # the intercept stands last
    count = np.bincount(group, minlength=n_groups).astype(np.float64)
    mean = group_sums(group, value, n_groups) / np.maximum(count, 1.0)
    noise = np.ones(n_groups) if logistic else group_sums(group, (value - mean[group]) ** 2, n_groups) / np.maximum(count, 1.0)
    noise = np.maximum(noise, _LEAST_NOISE)
    beta, tau2 = np.zeros((n_groups, size)), np.repeat(noise[:, None] / 4.0, len(width), axis=1)
    smoothed = (mean * count + 1.0) / (count + 2.0)
    beta[:, -1] = special.logit(smoothed) if logistic else mean
    used = _sums(column, group, n_groups, size, np.ones(len(group)))[:, :-1] > 0
    for _ in range(_STEPS):
        fitted = _predicted(beta, group, column, logistic)
        weight = np.maximum(fitted * (1.0 - fitted), _LEAST_RATE) if logistic else 1.0 / noise[group]
        ridge = np.column_stack([1.0 / tau2[:, category], np.full(n_groups, _FLAT)])
        crossed = _cross(column, group, n_groups, size, weight)
        inverse = np.linalg.inv(crossed + ridge[:, :, None] * np.eye(size))
        residual = (value - fitted) * (1.0 if logistic else weight)
        pull = ridge * beta
        pull[:, -1] = 0.0
        beta = beta + np.einsum("gij,gj->gi", inverse, _sums(column, group, n_groups, size, residual) - pull)
        moment = np.where(used, beta[:, :-1] ** 2 + np.diagonal(inverse, axis1=1, axis2=2)[:, :-1], 0.0)
        for d in range(len(width)):
            own = category == d
            tau2[:, d] = np.maximum(moment[:, own].sum(axis=1) / np.maximum(used[:, own].sum(axis=1), 1), _LEAST_SHARE * noise)
    parameters = np.einsum("gij,gji->g", inverse, crossed)
    return Fit(_predicted(beta, group, column, logistic), count, parameters)


def _predicted(beta: Floats, group: Ints, column: Ints, logistic: bool) -> Floats:
    eta = _linear(beta, group, column)
    return special.expit(eta) if logistic else eta


def _linear(beta: Floats, group: Ints, column: Ints) -> Floats:
    return np.asarray(np.where(column >= 0, beta[group[:, None], column], 0.0).sum(axis=1))


def _sums(column: Ints, group: Ints, n_groups: int, size: int, value: Floats) -> Floats:
    total = np.zeros(n_groups * size)
    for d in range(column.shape[1]):
        known = column[:, d] >= 0
        total += np.bincount(group[known] * size + column[known, d], weights=value[known], minlength=n_groups * size)
    return total.reshape(n_groups, size)


def _cross(column: Ints, group: Ints, n_groups: int, size: int, weight: Floats) -> npt.NDArray[np.float64]:
    """X' diag(weight) X of every group (G, P, P) from the columns that are 1 in each row, block by block."""
    total = np.zeros((n_groups, size, size))
    spans = [_span(column[:, d]) for d in range(column.shape[1])]
    for (d, (first, wide)), (e, (other, broad)) in itertools.combinations_with_replacement(enumerate(spans), 2):
        both = (column[:, d] >= 0) & (column[:, e] >= 0)
        place = (group[both] * wide + column[both, d] - first) * broad + column[both, e] - other
        block = np.bincount(place, weights=weight[both], minlength=n_groups * wide * broad).reshape(n_groups, wide, broad)
        total[:, first : first + wide, other : other + broad] = block
        total[:, other : other + broad, first : first + wide] = block.transpose(0, 2, 1)
    return total


def _span(column: Ints) -> tuple[int, int]:
    """First of the columns a category has, and how many."""
    known = column[column >= 0]
    return (int(known.min()), int(known.max() - known.min()) + 1) if len(known) else (0, 0)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio
