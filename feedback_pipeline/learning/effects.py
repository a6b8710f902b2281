"""How approved outputs differ from the others in each feature: Hedges' g with its interval, Cliff's delta, a rank test.

Everything is compared within strata (outputs judged by the same reviewers), so that a feature does not look good because strict
reviewers were given the outputs that lack it. With one stratum per agent these are the textbook formulas.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from feedback_pipeline.learning.panel import Floats, Ints

MIN_OUTPUTS: Final = 20
MIN_CLASS: Final = 10
Z95: Final = float(special.ndtri(0.975))

INSUFFICIENT_DATA: Final = "insufficient_data"
ONE_CLASS: Final = "one_class"
CONFOUNDED: Final = "confounded"
CONSTANT: Final = "constant"


@dataclass(frozen=True)
class Effects:
    """Approved less other outputs, for each group and feature (G, J); NaN where `reason` says why.

    Attributes:
        g: Hedges' g, standard deviations within strata; se: its standard error; ci_low, ci_high: 95 % interval.
        cliff: Cliff's delta, P(approved > other) - P(approved < other), over the pairs within strata.
        p_value: Two-sided van Elteren test (Mann-Whitney where there is one stratum), corrected for ties.
        mean_approved, mean_other: Plain means of the feature; for display.
        n_approved, n_other: Outputs with the feature and a decision.
        reason: insufficient_data (fewer than 20 outputs), one_class (fewer than 10 approved or other outputs), confounded (no
            stratum has both), constant, or None.
    """

    g: Floats
    se: Floats
    ci_low: Floats
    ci_high: Floats
    cliff: Floats
    p_value: Floats
    mean_approved: Floats
    mean_other: Floats
    n_approved: Ints
    n_other: Ints
    reason: npt.NDArray[np.object_]


def approval_effects(
    features: Floats,
    approved: Floats,
    group: Ints,
    n_groups: int,
    stratum: Ints | None = None,
    by_value: Ints | None = None,
) -> Effects:
    """Compare approved with other outputs in every feature of every group.

    The difference is the mean of the strata's differences weighted by n1 n0 / (n1 + n0); the spread is pooled within strata and
    outcomes; the correction for small samples is the exact one (Hedges 1981). The variance is 1 / sum(weights) + d^2 / (2 n),
    times the square of the correction. Ranks are compared as by van Elteren (1960).

    Args:
        features: Values (N, J); what is not finite is missing.
        approved: 1, 0, or NaN without a decision (N,).
        group: Group of each output (N,), 0..n_groups - 1.
        n_groups: G.
        stratum: Non-negative code of each output (N,); codes are told apart within groups only. None = one stratum.
        by_value: Rows in the order of each feature's values (J, N), `value_order(features)`; None = found here.
    """
    decided = np.isfinite(approved)
    _, stratum = np.unique(np.zeros_like(group) if stratum is None else stratum, return_inverse=True)
    width = int(stratum.max(initial=0)) + 1
    keys, cell = np.unique(group * width + stratum, return_inverse=True)
    # A stable sort of small unsigned integers is a radix sort: linear.
    cell = cell.astype(np.uint16 if len(keys) <= np.iinfo(np.uint16).max else np.intp)
    by_value = value_order(features) if by_value is None else by_value
    columns = []
    for values, order in zip(np.ascontiguousarray(features.T), by_value, strict=True):
        rows = order[decided[order] & np.isfinite(values[order])]
        rows = rows[np.argsort(cell[rows], kind="stable")]
        columns.append(
            _column(values[rows], approved[rows] == 1.0, group[rows], cell[rows].astype(np.intp), keys // width, n_groups)
        )
    if not columns:
        none = np.zeros(n_groups, dtype=np.intp)
        columns = [_column(np.empty(0), np.empty(0, dtype=bool), none[:0], none[:0], keys[:0], n_groups)]
    stacked = {name: np.stack([getattr(column, name) for column in columns], axis=1) for name in Effects.__dataclass_fields__}
    return Effects(**{name: values[:, : features.shape[1]] for name, values in stacked.items()})


def value_order(features: Floats) -> Ints:
    """Rows in the order of each feature's values, (N, J) -> (J, N)."""
    order: Ints = np.argsort(np.ascontiguousarray(features.T), axis=1)
    return order


def _column(x: Floats, approved: npt.NDArray[np.bool_], group: Ints, cell: Ints, owner: Ints, n_groups: int) -> Effects:
    """Effects of one feature (G,); rows are sorted by cell, a cell being a stratum of a group (`owner`), then by value."""
    scale = _scale(x, group, n_groups)
    x = x / scale[group]
    n_cells = len(owner)
    side = 2 * cell + approved
    n_side = np.bincount(side, minlength=2 * n_cells).astype(np.float64)
    mean_side = np.bincount(side, x, 2 * n_cells) / np.maximum(n_side, 1.0)
    squares = np.bincount(side, (x - mean_side[side]) ** 2, 2 * n_cells)
    n0, n1 = n_side.reshape(-1, 2).T

    def total(per_cell: Floats) -> Floats:
        return np.asarray(np.bincount(owner, per_cell, n_groups), dtype=np.float64)

    weight = n0 * n1 / np.maximum(n0 + n1, 1.0)
    weights = total(weight)
    freedom = total(np.maximum(n0 - 1.0, 0.0) + np.maximum(n1 - 1.0, 0.0))
    approved_n, other_n = total(n1), total(n0)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = total(weight * (mean_side[1::2] - mean_side[::2])) / weights
        sd = np.sqrt(total(squares.reshape(-1, 2).sum(axis=1)) / freedom)
        correction = np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
        d = difference / sd
        g = correction * d
        se = correction * np.sqrt(1.0 / weights + d * d / (2.0 * (approved_n + other_n)))
        means = [total(mean_side[k::2] * n_side[k::2]) / n * scale for k, n in ((1, approved_n), (0, other_n))]
    cliff, p_value, varies = _ranks(x, approved, cell, n0, n1, total)
    # A spread of rounding errors is none.
    usable = varies & (sd > 1e-12)
    reason = _reasons(approved_n, other_n, weights, usable)
    undefined = np.array([why is not None for why in reason])
    g, se, cliff, p_value = (np.where(undefined, np.nan, value) for value in (g, se, cliff, p_value))
    counts = approved_n.astype(np.intp), other_n.astype(np.intp)
    return Effects(g, se, g - Z95 * se, g + Z95 * se, cliff, p_value, means[0], means[1], *counts, reason)


def _ranks(
    x: Floats, approved: npt.NDArray[np.bool_], cell: Ints, n0: Floats, n1: Floats, total: Callable[[Floats], Floats]
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Cliff's delta, van Elteren's p and whether any stratum with both outcomes varies, of each group (G,)."""
    start = np.flatnonzero(np.diff(cell, prepend=-1).astype(bool) | np.diff(x, prepend=np.nan).astype(bool))
    length = np.diff(start, append=len(x))
    cell_start = np.searchsorted(cell, cell[start])
    ranks, ties = np.repeat(start - cell_start + 0.5 * (length + 1.0), length), np.repeat(length, length).astype(np.float64)
    n = n0 + n1
    u = np.bincount(cell[approved], ranks[approved], len(n)) - n1 * (n1 + 1.0) / 2.0
    # Summed over the rows of a tie of t, t^2 - 1 is t^3 - t.
    tied = np.bincount(cell, ties * ties - 1.0, len(n)) / np.maximum(n * (n - 1.0), 1.0)
    variance = n0 * n1 / 12.0 * np.maximum(n + 1.0 - tied, 0.0)
    excess, spread = total((u - n0 * n1 / 2.0) / (n + 1.0)), total(variance / (n + 1.0) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        cliff = total(2.0 * u - n0 * n1) / total(n0 * n1)
        p_value = 2.0 * special.ndtr(-np.abs(excess) / np.sqrt(spread))
    return cliff, p_value, spread > 0


def _scale(x: Floats, group: Ints, n_groups: int) -> Floats:
    """A power of two near the largest value of each group (G,): squares of huge or tiny values neither overflow nor vanish."""
    largest = np.zeros(n_groups)
    np.maximum.at(largest, group, np.abs(x))
    scale: Floats = np.ldexp(1.0, np.clip(np.frexp(largest)[1], -1000, 1000))
    return np.where(largest > 0, scale, 1.0)


def _reasons(approved: Floats, other: Floats, weights: Floats, varies: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    """Why each group has no effect (G,), None where it has one."""
    reason = np.full(len(approved), None, dtype=object)
    reason[~varies] = CONSTANT
    reason[weights == 0] = CONFOUNDED
    reason[np.minimum(approved, other) < MIN_CLASS] = ONE_CLASS
    reason[approved + other < MIN_OUTPUTS] = INSUFFICIENT_DATA
    return reason
