"""Cuts of a feature in quantile bins: how far approvals above a cut are from what its strata lead one to expect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.panel import Floats, Ints

BINS: Final = 32
MIN_SIDE: Final = 0.1
_CUTS = np.arange(BINS - 1)


@dataclass(frozen=True)
class Binned:
    """J features of the same n outputs, sorted by stratum, in at most 32 quantile bins each.

    Attributes:
        bins: Bin of each output (J, n).
        edges: Least value, the middles between neighbouring bins, greatest value (J, 33), NaN beyond the last.
        approved: 1 or 0 (n,); stratum: 0..S - 1, ascending (n,); fold: (n,).
        size, wins: Outputs and approvals of each stratum (S,).
    """

    bins: Ints
    edges: Floats
    approved: Ints
    stratum: Ints
    fold: Ints
    size: Ints
    wins: Ints

    @classmethod
    def of(cls, x: Floats, approved: Ints, stratum: Ints, fold: Ints) -> "Binned":
        """Bin features (J, n); every stratum must have both outcomes."""
        _, stratum = np.unique(stratum, return_inverse=True)
        order = np.argsort(stratum, kind="stable")
        approved, stratum = approved[order], stratum[order]
        bins, edges = binned_values(x[:, order])
        size, wins = np.bincount(stratum), np.bincount(stratum[approved == 1])
        return cls(bins, edges, approved, stratum, fold[order], size, wins)

    @property
    def residual(self) -> Floats:
        """Outcome less the share of the output's stratum (n,)."""
        residual: Floats = self.approved - (self.wins / self.size)[self.stratum]
        return residual

    def select(self, columns: npt.NDArray[np.bool_] | Ints) -> "Binned":
        """Some of the features."""
        return Binned(self.bins[columns], self.edges[columns], self.approved, self.stratum, self.fold, self.size, self.wins)

    def counts(self, folds: int) -> Ints:
        """Outputs by feature, fold, stratum, outcome and bin (J, F, S, 2, B)."""
        shape = (folds, len(self.size), 2, BINS)
        row = ((self.fold * shape[1] + self.stratum) * 2 + self.approved) * BINS
        cells = int(np.prod(shape))
        key = self.bins + row + np.arange(len(self.bins))[:, None] * cells
        counted: Ints = np.bincount(key.ravel(), minlength=cells * len(self.bins))
        return counted.reshape(len(self.bins), *shape)

    def per_bin(self, weight: Floats | None = None) -> Floats:
        """Sum of the weights (n,), or the count, of each bin (J, B)."""
        key = (self.bins + np.arange(len(self.bins))[:, None] * BINS).ravel()
        weights = None if weight is None else np.broadcast_to(weight, self.bins.shape).ravel()
        total: Floats = np.bincount(key, weights, minlength=BINS * len(self.bins)).reshape(-1, BINS).astype(np.float64)
        return total

    def above(self) -> npt.NDArray[np.float32]:
        """Whether each output lies above each cut (n, J (B - 1)), as numbers to multiply with; sums of them are exact."""
        above = self.bins.T[:, :, None] > _CUTS
        return above.reshape(len(self.stratum), -1).astype(np.float32)


def margins(batch: Sequence[Binned]) -> tuple[Floats, Floats, Floats]:
    """Outputs by bin (K, B), all outputs (K, 1) and all approvals (K,) of the features of all members, one after the other."""
    sizes = [len(binned.bins) for binned in batch]
    n = np.concatenate([binned.per_bin() for binned in batch])
    wins = np.repeat([float(binned.wins.sum()) for binned in batch], sizes)
    return n, n.sum(axis=1, keepdims=True), wins


def quantile_bins(x: Floats) -> Ints:
    """Bin of each value (n,), 0..B - 1 with B <= 32, of nearly equal sizes; equal values share a bin."""
    bins: Ints = binned_values(x[None])[0][0]
    return bins


def binned_values(x: Floats) -> tuple[Ints, Floats]:
    """`quantile_bins` of each row of x (J, n), and the edges of the bins (J, 33), NaN beyond the last."""
    j, n = x.shape
    bins, edges = np.zeros((j, n), dtype=np.intp), np.full((j, BINS + 1), np.nan)
    if not n:
        return bins, edges
    order = np.argsort(x, axis=1)
    ordered = np.take_along_axis(x, order, axis=1)
    place = np.arange(n)
    new = ordered[:, 1:] != ordered[:, :-1]
    start = np.zeros((j, n), dtype=np.intp)
    np.maximum.accumulate(np.where(new, place[1:], 0), axis=1, out=start[:, 1:])
    end = np.full((j, n), n, dtype=np.intp)
    end[:, :-1] = np.minimum.accumulate(np.where(new, place[1:], n)[:, ::-1], axis=1)[:, ::-1]
    # The bin of a value is that of the middle of its tie.
    rough = BINS * (start + end) // (2 * n)
    opens = rough[:, 1:] != rough[:, :-1]
    in_order = np.zeros((j, n), dtype=np.intp)
    np.cumsum(opens, axis=1, out=in_order[:, 1:])
    np.put_along_axis(bins, order, in_order, axis=1)
    row, at = np.nonzero(opens)
    edges[row, in_order[row, at + 1]] = ordered[row, at] / 2 + ordered[row, at + 1] / 2
    edges[:, 0] = ordered[:, 0]
    edges[np.arange(j), in_order[:, -1] + 1] = ordered[:, -1]
    return bins, edges


def allowed(n: Floats) -> npt.NDArray[np.bool_]:
    """Whether each cut has 10 % of the outputs on either side, (..., B) -> (..., B - 1)."""
    below = np.cumsum(n, axis=-1)
    total = below[..., -1:]
    below = below[..., :-1]
    fits: npt.NDArray[np.bool_] = (np.minimum(below, total - below) >= MIN_SIDE * total) & (total > 0)
    return fits


def scan(n: Floats, wins: Floats, excess: Floats) -> tuple[Floats, Floats]:
    """G2 and sign of every cut (..., B - 1); -inf where a side has less than 10 % of the outputs.

    The table of a cut is that of all outputs, its approvals above the cut standardised for strata: n_above K / N plus the excess
    over what the strata lead one to expect. With one stratum it is the plain table.

    Args:
        n: Outputs of each bin (..., B).
        wins: Approvals K (...).
        excess: Approvals less expected ones of each bin (..., B); they sum to 0.
    """
    below = np.cumsum(n, axis=-1)
    total, below = below[..., -1:], below[..., :-1]
    surplus = -np.cumsum(excess, axis=-1)[..., :-1]
    wins = np.asarray(wins)[..., None]
    g2 = likelihood_ratio(total - below, total, wins, surplus)
    return np.where(allowed(n), g2, -np.inf), np.where(surplus < 0, -1.0, 1.0)


def likelihood_ratio(above: Floats, total: Floats, wins: Floats, surplus: Floats) -> Floats:
    """G2 of a cut with `above` of `total` outputs above it and `surplus` approvals there beyond what is expected."""
    below = total - above
    share = wins / np.maximum(total, 1)
    won_above = np.clip(above * share + surplus, np.maximum(wins - below, 0), np.minimum(above, wins))
    won_below = wins - won_above
    logs = sum(_x_log_x(cell) for cell in (won_above, above - won_above, won_below, below - won_below))
    whole = _x_log_x(wins) + _x_log_x(total - wins) - _x_log_x(total)
    g2: Floats = 2.0 * (logs - _x_log_x(above) - _x_log_x(below) - whole)
    return g2


def _x_log_x(x: Floats) -> Floats:
    # np.log is several times as fast as special.xlogy; 0 log 0 is 0 here too.
    product: Floats = x * np.log(np.maximum(x, 1e-300))
    return product
