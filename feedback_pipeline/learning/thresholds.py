"""From which value of a feature on outputs are approved more often: the best cut, whether it is real, and what it is worth.

A feature is put into at most 32 quantile bins, and everything is computed from the counts by stratum (outputs judged by the same
reviewers), outcome and bin. The test is a permutation test of the largest likelihood ratio over all cuts, so looking for the cut
costs nothing in honesty; the lift comes from cuts that were found without the outputs it is measured on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special
from scipy.optimize import isotonic_regression

from feedback_pipeline.learning.effects import CONFOUNDED, CONSTANT, INSUFFICIENT_DATA, MIN_CLASS, MIN_OUTPUTS, ONE_CLASS
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.pooling import q_values

BINS: Final = 32
MIN_PUBLISHED: Final = 100
MAX_Q: Final = 0.10
MIN_STABILITY: Final = 0.6
_MIN_SIDE = 0.1
_NEAR = 2  # bins
_FOLDS = 5
_ROUNDS = (199, 1800)  # permutations; the second lot only where the first leaves a doubt
_ENOUGH_EXTREME = 10
_BOOTSTRAPS = 200
_Z95: Final = float(special.ndtri(0.975))


@dataclass(frozen=True)
class Thresholds:
    """The best cut of each group and feature (G, J); NaN where it is undefined.

    Attributes:
        cut: Value that separates the sides; cut_low, cut_high: 95 % bootstrap interval widened to the edges of the bins (NaN
            where p > .10).
        direction: +1 where values above the cut are approved more often, -1 where those below are, 0 where undefined.
        g2: Likelihood-ratio statistic of the cut; p_value: of its maximum over all cuts; q_value: Benjamini-Hochberg in a group.
        lift: Cross-fitted approval share of the good side less the bad side's; lift_se; lift_low, lift_high: Newcombe's 95 %.
        good_rate, bad_rate: The two shares; n_good, n_bad: outputs on each side.
        stability: Share of bootstrap cuts within 2 bins of the cut (NaN where p > .10).
        n: Outputs used.
        reason: Why there is no published cut, or None.
    """

    cut: Floats
    cut_low: Floats
    cut_high: Floats
    direction: Floats
    g2: Floats
    p_value: Floats
    q_value: Floats
    lift: Floats
    lift_se: Floats
    lift_low: Floats
    lift_high: Floats
    good_rate: Floats
    bad_rate: Floats
    n_good: Floats
    n_bad: Floats
    stability: Floats
    n: Floats
    reason: npt.NDArray[np.object_]


def find_thresholds(
    features: Floats,
    approved: Floats,
    group: Ints,
    names: Ints,
    feature_names: Sequence[str],
    *,
    seed: int,
    stratum: Ints | None = None,
) -> Thresholds:
    """Find and test the best cut of every feature in every group.

    A cut is published with q <= .10, n >= 100, the lift's interval above 0 and at least 60 % of bootstrap cuts within 2 bins.

    Args:
        features: Values (N, J); what is not finite is missing.
        approved: 1, 0, or NaN without a decision (N,).
        group: Group of each output (N,), 0..G - 1.
        names: A stable number of each group (G,), part of the seed: results do not depend on which other groups there are.
        feature_names: Names of the J features, likewise.
        seed: Seed of all resampling.
        stratum: Code of each output (N,), told apart within groups. None = one stratum.
    """
    shape = (len(names), features.shape[1])
    found = {f.name: np.full(shape, np.nan) for f in fields(Thresholds) if f.name != "reason"}
    found["direction"][:] = found["n"][:] = 0.0
    reason = np.full(shape, None, dtype=object)
    stratum = np.zeros_like(group) if stratum is None else stratum
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(names) + 1))
    for g, name in enumerate(names):
        rows = order[bounds[g] : bounds[g + 1]]
        fold = np.random.default_rng((seed, int(name))).permutation(len(rows)) % _FOLDS
        for j, feature in enumerate(feature_names):
            known = np.isfinite(features[rows, j]) & np.isfinite(approved[rows])
            x, y, s = features[rows, j][known], approved[rows][known].astype(np.intp), stratum[rows][known]
            found["n"][g, j] = len(x)
            reason[g, j] = _untestable(x, y, s)
            if reason[g, j] is None:
                rng = np.random.default_rng((seed, int(name), crc32(feature.encode())))
                for key, value in _threshold(x, y, s, fold[known], rng).items():
                    found[key][g, j] = value
    found["q_value"] = q_values(found["p_value"])
    return Thresholds(**found, reason=_unpublished(found, reason))


def approval_curve(feature: Floats, approved: Floats, direction: int) -> tuple[Floats, Floats]:
    """Monotone approval share over the quantile bins, where no cut is published: (bin means, shares); direction +1 rises.

    Args:
        feature: Values (N,), finite.
        approved: 1 or 0 (N,).
        direction: +1 or -1.
    """
    bins = quantile_bins(feature)
    n = np.bincount(bins).astype(np.float64)
    if not len(n):
        return np.empty(0), np.empty(0)
    fit = isotonic_regression(np.bincount(bins, approved) / n, weights=n, increasing=direction > 0)
    return np.bincount(bins, feature) / n, np.asarray(fit.x, dtype=np.float64)


def quantile_bins(x: Floats) -> Ints:
    """Bin of each value (n,), 0..B - 1 with B <= 32, of nearly equal sizes; equal values share a bin."""
    values, place, count = np.unique(x, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - 0.5 * count
    rough = (BINS * middle / max(len(x), 1)).astype(np.intp)
    bins: Ints = np.unique(rough, return_inverse=True)[1][place] if len(values) else place
    return bins


def _untestable(x: Floats, y: Ints, stratum: Ints) -> str | None:
    if len(x) < MIN_OUTPUTS:
        return INSUFFICIENT_DATA
    if min(y.sum(), len(y) - y.sum()) < MIN_CLASS:
        return ONE_CLASS
    mixed = np.intersect1d(stratum[y == 1], stratum[y == 0])
    if not len(mixed):
        return CONFOUNDED
    n = np.bincount(quantile_bins(x[np.isin(stratum, mixed)]))
    below = np.cumsum(n)[:-1]
    return None if ((below >= _MIN_SIDE * n.sum()) & (below <= (1 - _MIN_SIDE) * n.sum())).any() else CONSTANT


def _threshold(x: Floats, y: Ints, stratum: Ints, fold: Ints, rng: np.random.Generator) -> dict[str, float]:
    """Everything about one feature of one group that does not need the others."""
    # Strata that all approve or all reject say nothing about a feature within them.
    mixed = np.isin(stratum, np.intersect1d(stratum[y == 1], stratum[y == 0]))
    x, y, fold = x[mixed], y[mixed], fold[mixed]
    strata, s = np.unique(stratum[mixed], return_inverse=True)
    bins = quantile_bins(x)
    n_bins = int(bins.max()) + 1
    shape = (_FOLDS, len(strata), 2, n_bins)
    code = np.ravel_multi_index((fold, s, y, bins), shape)
    by_fold = np.bincount(code, minlength=int(np.prod(shape))).reshape(shape)
    counts = by_fold.sum(axis=0)
    g2, sign = _scan(counts[:, 1].sum(axis=0) - _expected(counts), counts)
    best = int(np.argmax(g2))
    edges = _edges(x, bins, n_bins)
    p_value = _p_value(counts, float(g2[best]), rng)
    result = {"cut": edges[best + 1], "direction": sign[best], "g2": g2[best], "p_value": p_value, "n": len(x)}
    result |= _lift(by_fold)
    if p_value <= MAX_Q:
        draws = rng.multinomial(counts.sum(), counts.ravel() / counts.sum(), size=_BOOTSTRAPS).reshape(-1, *counts.shape)
        cuts = np.argmax(_scan(draws[:, :, 1].sum(axis=1) - _expected(draws), draws)[0], axis=-1)
        low, high = np.quantile(cuts, [0.025, 0.975], method="inverted_cdf").astype(np.intp)
        result |= {"cut_low": edges[low], "cut_high": edges[high + 2], "stability": (np.abs(cuts - best) <= _NEAR).mean()}
    return {key: float(value) for key, value in result.items()}


def _edges(x: Floats, bins: Ints, n_bins: int) -> Floats:
    """Least value, the middles between neighbouring bins, greatest value (B + 1,)."""
    low, high = np.full(n_bins, np.inf), np.full(n_bins, -np.inf)
    np.minimum.at(low, bins, x)
    np.maximum.at(high, bins, x)
    return np.concatenate([low[:1], high[:-1] / 2 + low[1:] / 2, high[-1:]])


def _expected(counts: npt.NDArray[np.integer]) -> Floats:
    """Approvals of each bin if the feature did nothing: each stratum's share times its outputs, (..., S, 2, B) -> (..., B)."""
    n = counts.sum(axis=-2)
    share = counts[..., 1, :].sum(axis=-1) / np.maximum(n.sum(axis=-1), 1)
    expected: Floats = (n * share[..., None]).sum(axis=-2)
    return expected


def _scan(excess: Floats, counts: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """G2 and sign of every cut (..., B - 1); -inf where a side has less than 10 % of the outputs.

    The table of a cut is that of all outputs, its approvals above the cut standardised for strata: n_above K / N plus the excess
    over what the strata lead one to expect. With one stratum it is the plain table.

    Args:
        excess: Approvals less expected ones of each bin (..., B).
        counts: (..., S, 2, B), or (S, 2, B) for all.
    """
    n = counts.sum(axis=(-3, -2))
    total = n.sum(axis=-1, keepdims=True)
    wins = counts[..., 1, :].sum(axis=(-2, -1))[..., None]
    below = np.cumsum(n, axis=-1)[..., :-1]
    above = total - below
    surplus = -np.cumsum(excess, axis=-1)[..., :-1]
    share = wins / np.maximum(total, 1)
    won_above = np.clip(above * share + surplus, np.maximum(wins - below, 0), np.minimum(above, wins))
    won_below = wins - won_above
    cells = ((won_above, above), (above - won_above, above), (won_below, below), (below - won_below, below))
    logs = sum(special.xlogy(k, np.maximum(k, 1e-300) / np.maximum(m, 1)) for k, m in cells)
    g2 = 2.0 * (logs - special.xlogy(wins, share) - special.xlogy(total - wins, 1.0 - share))
    allowed = (np.minimum(above, below) >= _MIN_SIDE * total) & (total > 0)
    return np.where(allowed, g2, -np.inf), np.where(surplus < 0, -1.0, 1.0)


def _p_value(counts: Ints, observed: float, rng: np.random.Generator) -> float:
    """Share of permutations within strata whose largest G2 is as large; more of them where the first are all smaller."""
    n, wins = counts.sum(axis=1), counts[:, 1].sum(axis=1)
    expected, extreme, done = _expected(counts), 0, 0
    for rounds in _ROUNDS:
        drawn = sum(rng.multivariate_hypergeometric(m, int(k), size=rounds) for m, k in zip(n, wins, strict=True))
        extreme += int((_scan(drawn - expected, counts)[0].max(axis=-1) >= observed - 1e-9).sum())
        done += rounds
        if extreme >= _ENOUGH_EXTREME:
            break
    return (extreme + 1) / (done + 1)


def _lift(by_fold: Ints) -> dict[str, float]:
    """Approval on the good side less the bad side, each fold judged by the cut of the other folds (F, S, 2, B).

    Shares are weighted over strata by n1 n0 / (n1 + n0); the interval is Newcombe's (1998, method 10) with the effective sizes of
    the weighted shares (Yan & Su 2010).
    """
    rest = by_fold.sum(axis=0) - by_fold
    g2, sign = _scan(rest[:, :, 1].sum(axis=1) - _expected(rest), rest)
    best = np.argmax(g2, axis=1)
    rising = np.take_along_axis(sign, best[:, None], axis=1) > 0
    good = (np.arange(by_fold.shape[-1]) > best[:, None]) == rising
    sides = np.stack([np.einsum("fsob,fb->so", by_fold, side.astype(np.intp)) for side in (good, ~good)])
    n = sides.sum(axis=2).astype(np.float64)
    weight = n[0] * n[1] / np.maximum(n.sum(axis=0), 1)
    if not weight.sum():
        return {}
    weight /= weight.sum()
    used = weight > 0
    rate = (weight[used] * sides[:, used, 1] / n[:, used]).sum(axis=1)
    size = 1.0 / (weight[used] ** 2 / n[:, used]).sum(axis=1)
    centre = (rate + _Z95**2 / (2 * size)) / (1 + _Z95**2 / size)
    half = _Z95 / (1 + _Z95**2 / size) * np.sqrt(rate * (1 - rate) / size + _Z95**2 / (4 * size**2))
    (low_good, low_bad), (high_good, high_bad) = centre - half, centre + half
    lift = rate[0] - rate[1]
    low = lift - np.hypot(rate[0] - low_good, high_bad - rate[1])
    high = lift + np.hypot(high_good - rate[0], rate[1] - low_bad)
    result = {"lift": lift, "lift_low": low, "lift_high": high, "lift_se": (high - low) / (2 * _Z95)}
    return result | {"good_rate": rate[0], "bad_rate": rate[1], "n_good": n[0].sum(), "n_bad": n[1].sum()}


def _unpublished(found: dict[str, Floats], reason: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Why each cut is not published, the first that holds."""
    for why, fails in (
        (f"fewer than {MIN_PUBLISHED} outputs", found["n"] < MIN_PUBLISHED),
        (f"q above {MAX_Q:.2f}", ~(found["q_value"] <= MAX_Q)),
        ("lift not above 0 on outputs the cut was not chosen from", ~(found["lift_low"] > 0)),
        ("the cut moves from sample to sample", ~(found["stability"] >= MIN_STABILITY)),
    ):
        reason = np.where(pd.isna(reason) & fails, why, reason)
    return reason
