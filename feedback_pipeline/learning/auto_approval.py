"""What if the surest outputs were approved without a review? How many reviews that spares, and how often it is wrong.

Learn then test (Angelopoulos et al. 2021), with past forecasts and the decisions that followed: coverages are tried on a fixed
grid from the highest P(approve) down. Each is passed if the 90 % upper bound (Clopper & Pearson 1934) of the share that
people rejected is at most alpha; the first failure ends it, and the last coverage passed gives the threshold. Trying in this
order keeps the probability of a threshold that is wrong too often at 10 %, as long as tomorrow resembles the rows tested.

Everything is reported as "the share of auto-approved that a person would have rejected", never as a share of all outputs.
Nothing here approves anything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.quality_drift import monday, week_of

ALPHAS = (0.02, 0.05, 0.10)
CONFIDENCE = 0.90
MIN_ROWS = 500
AUDITED = 0.1
"""Share of the auto-approved that a person reads all the same, drawn at random."""
WEEKS = 3
_STEP = 0.01
_START = 2.0  # times the fewest rows that could pass: with just those, one reject among the very best ends it


@dataclass(frozen=True)
class AutoApproval:
    """What auto-approval at one risk would have meant on the rows tested.

    Attributes:
        alpha: Share of auto-approved that may be rejects.
        threshold: Approve where P(approve) is at least this; NaN where no coverage passes.
        share: Share of outputs at or above it; 0 where none passes.
        spared: Share of reviews spared: the audited tenth is still read.
        rejected: Share of the auto-approved that people rejected; upper: its 90 % upper bound; NaN where none passes.
        n_approved: Rows auto-approved.
        n: Rows tested.
        reason: Why there is no threshold, or None.
    """

    alpha: float
    threshold: float
    share: float
    spared: float
    rejected: float
    upper: float
    n_approved: int
    n: int
    reason: str | None


def auto_approval(p: Floats, approved: Floats, alpha: float, weight: Floats | None = None) -> AutoApproval:
    """Learn the threshold for one alpha.

    Args:
        p: P(approve) as forecast before the decision (M,), NaN = none; one row per output, for rows have to be independent.
        approved: 1, 0 or NaN (M,).
        alpha: Share of auto-approved that may be rejects.
        weight: How many outputs each row stands for (M,): 1, or 10 for an audited one. The bound then counts
            (sum w)^2 / sum w^2 rows, not the outputs they stand for.
    """
    rows = np.isfinite(p) & np.isfinite(approved)
    n = int(rows.sum())
    if n < MIN_ROWS:
        return _none(alpha, n, f"{n} decisions on earlier forecasts; a threshold needs {MIN_ROWS}")
    w = np.ones(n) if weight is None else weight[rows]
    tested = _Tested.of(p[rows], approved[rows], w, alpha)
    failed = np.flatnonzero(tested.upper > alpha)
    last = (int(failed[0]) if len(failed) else len(tested.upper)) - 1
    if last < 0:
        return _none(alpha, n, f"even of the surest forecasts more than {100 * alpha:.0f} % may be rejects")
    share = float(tested.share[last])
    return AutoApproval(
        alpha=alpha,
        threshold=float(tested.threshold[last]),
        share=share,
        spared=(1.0 - AUDITED) * share,
        rejected=float(tested.rejected[last]),
        upper=float(tested.upper[last]),
        n_approved=int(tested.count[last]),
        n=n,
        reason=None,
    )


def what_if(p: Floats, approved: Floats, alphas: Sequence[float] = ALPHAS) -> tuple[AutoApproval, ...]:
    """The table for several alphas; arguments as for `auto_approval`."""
    return tuple(auto_approval(p, approved, alpha) for alpha in alphas)


def upper_bound(rejected: Floats, n: Floats) -> Floats:
    """Clopper-Pearson upper bound at 90 % of a share of which `rejected` of `n` were seen; 1 where all were or none was."""
    open_ended = rejected < n
    bound = special.betaincinv(rejected + 1.0, np.where(open_ended, n - rejected, 1.0), CONFIDENCE)
    return np.asarray(np.where(open_ended, bound, 1.0), dtype=np.float64)


def _none(alpha: float, n: int, reason: str) -> AutoApproval:
    return AutoApproval(alpha, math.nan, 0.0, 0.0, math.nan, math.nan, 0, n, reason)


@dataclass(frozen=True)
class _Tested:
    """The grid of coverages, from the surest down (K,)."""

    threshold: Floats
    share: Floats
    rejected: Floats
    upper: Floats
    count: npt.NDArray[np.intp]

    @classmethod
    def of(cls, p: Floats, approved: Floats, w: Floats, alpha: float) -> "_Tested":
        order = np.lexsort((w, approved, -p))
        p, w, reject = p[order], w[order], w[order] * (1.0 - approved[order])
        weight, squares, rejects = np.cumsum(w), np.cumsum(w * w), np.cumsum(reject)
        wanted = np.arange(1, round(1.0 / _STEP) + 1) * _STEP * weight[-1]
        place = np.minimum(np.searchsorted(weight, wanted - 1e-9 * weight[-1], side="left"), len(p) - 1)
        # All rows at the threshold pass it: end with the last of its ties. Neither depends on a decision.
        end = np.unique(np.searchsorted(-p, -p[place], side="right") - 1)
        effective = weight[end] ** 2 / squares[end]
        end = end[effective >= _START * math.log(1.0 - CONFIDENCE) / math.log(1.0 - alpha)]
        effective = weight[end] ** 2 / squares[end]
        rejected = rejects[end] / weight[end]
        return cls(p[end], weight[end] / weight[-1], rejected, upper_bound(rejected * effective, effective), end + 1)


@dataclass(frozen=True)
class Replay:
    """What the audit rule would have done, week by week.

    Attributes:
        weeks: One row per week: week (its Monday), n, threshold (NaN = off), n_approved, n_audited, rejected (share of the
            auto-approved that people rejected), audit_rejected (what the audits alone saw), reason (why it was off).
        alpha: The risk.
        spared: Share of all reviews spared, audits not counted.
        rejected: Share of all auto-approved that people rejected; NaN where nothing was.
        n_approved: Auto-approved in all weeks; n: outputs.
    """

    weeks: pd.DataFrame
    alpha: float
    spared: float
    rejected: float
    n_approved: int
    n: int


def replay(p: Floats, approved: Floats, moment: npt.NDArray[np.int64], alpha: float, seed: int) -> Replay:
    """Replay past forecasts under the audit rule.

    Each week has the threshold learned from the three weeks before it: what was not auto-approved then counts once, of the
    auto-approved only the audited tenth is known and counts ten times. Where no threshold passes, all outputs are read.

    Args:
        p: P(approve) as forecast before the decision (M,), NaN = none: left out.
        approved: 1 or 0 as people decided, NaN: left out (M,).
        moment: When (M,), ns since 1970.
        alpha: Share of auto-approved that may be rejects.
        seed: Of the audits.
    """
    rows = np.isfinite(p) & np.isfinite(approved)
    order = np.lexsort((approved[rows], p[rows], moment[rows]))
    p, approved, week = p[rows][order], approved[rows][order], week_of(moment[rows])[order]
    drawn = np.random.default_rng(seed).random(len(p)) < AUDITED
    passed = np.zeros(len(p), dtype=bool)
    records = []
    reasons: list[str | None] = []
    for this in range(int(week[0]), int(week[-1]) + 1) if len(week) else ():
        begin, now, end = (int(row) for row in np.searchsorted(week, [this - WEEKS, this, this + 1]))
        known = np.arange(begin, now)[~passed[begin:now] | drawn[begin:now]]
        rule = auto_approval(p[known], approved[known], alpha, np.where(passed[known], 1.0 / AUDITED, 1.0))
        passed[now:end] = p[now:end] >= rule.threshold  # nothing is at least NaN
        yes, audited = passed[now:end], passed[now:end] & drawn[now:end]
        reject = 1.0 - approved[now:end]
        audits = (int(yes.sum()), int(audited.sum()), _mean(reject[yes]), _mean(reject[audited]))
        records.append((monday(this), end - now, rule.threshold, *audits))
        reasons.append(rule.reason)
    names = ["week", "n", "threshold", "n_approved", "n_audited", "rejected", "audit_rejected"]
    weeks = pd.DataFrame(records, columns=names).assign(reason=pd.Series(reasons, dtype=object))
    spared = float((passed & ~drawn).mean()) if len(p) else math.nan
    return Replay(weeks, alpha, spared, _mean(1.0 - approved[passed]), int(passed.sum()), len(p))


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
