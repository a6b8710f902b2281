"""What a cut is worth: approval on its good side less its bad side, on outputs it was not chosen from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from feedback_pipeline.learning.effects import Z95
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.threshold_scan import BINS, Binned, scan

FOLDS: Final = 10
_MAX_CELLS = 2_000_000
_CLEAR = 5.0  # standard errors


def folds(content: Ints, n_folds: int, seed: tuple[int, ...]) -> Ints:
    """Fold of each output (n,), the same for all outputs of a content (n,); the codes of the contents do not matter."""
    place = pd.factorize(content)[0]
    order = np.random.default_rng(seed).permutation(int(place.max(initial=-1)) + 1)
    fold: Ints = (order % n_folds)[place]
    return fold


def cross_fitted(batch: Sequence[Binned]) -> dict[str, Floats]:
    """Lift of each feature's cut (K,), each of ten folds judged by the cut of the others; see `stratified_lift`.

    The features of all members of the batch come one after the other.
    """
    counted = [_Counted.of(part) for binned in batch for part in _parts(binned)]
    n, wins, excess = (np.concatenate([getattr(one, name) for one in counted]) for name in ("n", "wins", "excess"))
    g2, sign = scan(n, wins, excess)
    best = np.argmax(g2, axis=2)
    rising = np.take_along_axis(sign, best[:, :, None], axis=2)[:, :, 0] > 0
    bounds = np.cumsum([len(one.n) for one in counted])[:-1]
    sides = [one.sides(*cut) for one, *cut in zip(counted, np.split(best, bounds), np.split(rising, bounds), strict=True)]
    lifts = [stratified_lift(good, bad) for good, bad in sides]
    return {name: np.concatenate([lift[name] for lift in lifts]) for name in lifts[0]}


def _parts(binned: Binned) -> Iterator[Binned]:
    """The features, few enough at a time for their counts to fit into memory."""
    width = max(_MAX_CELLS // (FOLDS * len(binned.size) * 2 * BINS), 1)
    for first in range(0, len(binned.bins), width):
        yield binned.select(np.arange(first, min(first + width, len(binned.bins))))


@dataclass(frozen=True)
class _Counted:
    """Counts of each fold, and what a scan needs of the other folds.

    Attributes:
        below: Outputs of each fold not above each bin, by stratum and outcome (J, F, S, 2, B).
        n, excess: Outputs, and approvals less expected ones, of the other folds by bin (J, F, B); wins: their approvals (J, F).
    """

    below: Ints
    n: Floats
    wins: Floats
    excess: Floats

    @classmethod
    def of(cls, binned: Binned) -> "_Counted":
        by_fold = binned.counts(FOLDS)
        rest = by_fold.sum(axis=1, keepdims=True) - by_fold
        size = rest.sum(axis=4)
        share = size[..., 1] / np.maximum(size.sum(axis=3), 1)
        n = rest.sum(axis=3)
        expected = (share[:, :, None] @ n)[:, :, 0]
        excess = rest[:, :, :, 1].sum(axis=2) - expected
        return cls(
            np.cumsum(by_fold, axis=4), n.sum(axis=2).astype(np.float64), size[..., 1].sum(axis=2).astype(np.float64), excess
        )

    def sides(self, best: Ints, rising: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Outputs on the good and the bad side of each fold's cut (J, F), over all folds, by stratum and outcome (J, S, 2)."""
        below = np.take_along_axis(self.below, best[:, :, None, None, None], axis=4)[..., 0]
        above = self.below[..., -1] - below
        rising = rising[:, :, None, None]
        return np.where(rising, above, below).sum(axis=1), np.where(rising, below, above).sum(axis=1)


def stratified_lift(good: Ints, bad: Ints, z: float = Z95) -> dict[str, Floats]:
    """Approval on the good side less the bad side, standardised for strata.

    Shares are weighted over strata by n1 n0 / (n1 + n0); the interval is Newcombe's (1998, method 10) with the effective sizes of
    the weighted shares (Yan & Su 2010). The standard error is the interval's width over 2 z.

    Args:
        good: Outputs of the good side by stratum and outcome (..., S, 2), outcome 1 = approved.
        bad: Those of the bad side.
        z: Normal quantile of the interval.

    Returns:
        lift, lift_se, lift_low, lift_high, good_rate, bad_rate, n_good, n_bad, accuracy (share of outputs on the right side),
        each (...); NaN where no stratum has both sides.
    """
    sides = np.stack([good, bad]).astype(np.float64)
    n = sides.sum(axis=-1)
    weight = n[0] * n[1] / np.maximum(n.sum(axis=0), 1.0)
    total = weight.sum(axis=-1, keepdims=True)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    each = np.maximum(n, 1.0)
    rate = (weight * sides[..., 1] / each).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(total[..., 0] > 0, 1.0 / (weight**2 / each).sum(axis=-1), np.nan)
        centre = (rate + z**2 / (2 * size)) / (1 + z**2 / size)
        half = z / (1 + z**2 / size) * np.sqrt(rate * (1 - rate) / size + z**2 / (4 * size**2))
        (low_good, low_bad), (high_good, high_bad) = centre - half, centre + half
        rate = np.where(np.isnan(size), np.nan, rate)
        lift = rate[0] - rate[1]
        low = lift - np.hypot(rate[0] - low_good, high_bad - rate[1])
        high = lift + np.hypot(high_good - rate[0], rate[1] - low_bad)
    outputs = n.sum(axis=(0, -1))
    right = (sides[0, ..., 1] + sides[1, ..., 0]).sum(axis=-1)
    accuracy = np.divide(right, outputs, out=np.full(np.shape(right), np.nan), where=(outputs > 0) & ~np.isnan(lift))
    result = {"lift": lift, "lift_se": (high - low) / (2 * z), "lift_low": low, "lift_high": high, "accuracy": accuracy}
    return result | {"good_rate": rate[0], "bad_rate": rate[1], "n_good": n[0].sum(axis=-1), "n_bad": n[1].sum(axis=-1)}


def widened(lift: dict[str, Floats], p_value: Floats) -> dict[str, Floats]:
    """The lift with an interval and a standard error that claim no more than a valid test of the same comparison.

    The folds share most of the outputs their cuts were found on, so where the cut is uncertain cross-fitted lifts scatter up to
    1.6 times as much as their interval says (measured in noise). Interval and error are stretched until |lift| / error is at
    most z + max(z - 2, 0)^2, z being the normal quantile of the p-value and .5 at least: what the test doubts is no clearer in
    the interval, and what it finds clear is left as it is.

    Args:
        lift: Result of `stratified_lift`.
        p_value: Two-sided p-value of each lift.
    """
    z = np.maximum(-special.ndtri(np.asarray(p_value) / 2.0), 0.5)
    allowed = np.where(z > _CLEAR, np.inf, z + np.maximum(z - 2.0, 0.0) ** 2)
    value = lift["lift"]
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = np.maximum(np.abs(value) / lift["lift_se"] / allowed, 1.0)
        low, high = value - stretch * (value - lift["lift_low"]), value + stretch * (lift["lift_high"] - value)
    low, high = np.maximum(low, -1.0), np.minimum(high, 1.0)
    return lift | {"lift_se": stretch * lift["lift_se"], "lift_low": low, "lift_high": high}
