"""Severity over time: per reviewer and calendar month, and whether it changes beyond chance.

Only comparisons within an output count: a score against what the other reviewers of the same output gave, their severity
taken out. So neither agents that get better nor other outputs than before can look like a change of the reviewer. When all
reviewers change together nobody is seen to change: severity is relative.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from feedback_pipeline.learning.adjustment import Adjustment
from feedback_pipeline.learning.agreement import reviewer_ratings
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.panel import Floats, Ints, Panel, group_sums

NOT_SHARED = "no output shared with another reviewer"
TOO_FEW_SHARED = "fewer than 5 outputs shared with another reviewer"
TOO_FEW_MONTHS = "fewer than two months with 5 outputs shared with another reviewer"

_LEAST_SHARED = 5
_FALSE_DISCOVERIES = 0.05
_LEVEL = 0.95
_MOST_ROUNDS = 20
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SeverityDrift:
    """Severity over time.

    Attributes:
        months: One row per reviewer and calendar month (UTC) with a score: reviewer_id, month ('2026-03'), severity (raw
            points, positive = gives more than average), se, ci_low, ci_high (95 %, given the other reviewers' severities;
            NaN where undefined), n_reviews (outputs scored), n_shared (those others scored too), reason or None.
        reviewers: One row per reviewer with a score: reviewer_id, n_months with a severity, spread (standard deviation of
            the months beyond chance, points), p_value of equal months, q_value (Benjamini-Hochberg over reviewers), drifted
            (q_value <= .05), reason or None.
    """

    months: pd.DataFrame
    reviewers: pd.DataFrame


@dataclass(frozen=True)
class _Shared:
    """Scores of outputs that several reviewers scored, sorted by output."""

    output: Ints  # dense (P,)
    reviewer: Ints  # (P,)
    cell: Ints  # reviewer and month (P,)
    score: Floats  # (P,)
    severity: Floats  # of the score's reviewer, in that month once the reviewer is known to drift (P,)
    others: Floats  # how many others scored the output (P,)

    @property
    def weight(self) -> Floats:
        """Inverse variance of a contrast in units of the noise: (m - 1) / m for m reviewers of the output."""
        return self.others / (self.others + 1.0)

    def contrasts(self) -> Floats:
        """Score minus the mean of what the others gave, their severity taken out (P,): the severity shown in this output."""
        adjusted = self.score - self.severity
        total = np.bincount(self.output, weights=adjusted)[self.output]
        return np.asarray(self.score - (total - adjusted) / self.others)


@dataclass(frozen=True)
class _Months:
    """Weighted means of the contrasts per cell, and the one-way analysis of variance of every reviewer's months."""

    mean: Floats  # (C,)
    weight: Floats  # (C,)
    n_shared: Ints  # (C,)
    noise: Floats  # variance of a contrast of weight 1 (R,), NaN without degrees of freedom
    freedom: Ints  # of noise (R,)
    n_months: Ints  # testable months (R,)
    spread: Floats  # (R,)
    log_p: Floats  # (R,), NaN where not testable


def severity_drift(panel: Panel, adjustment: Adjustment, aspect: str = OVERALL) -> SeverityDrift:
    """Estimate severity per reviewer and month and test whether it changes.

    A change of one reviewer moves the contrasts of those who share outputs with them. So the clearest change among co-raters
    is taken first, given its own severity per month, and the others are tested again. Two reviewers who share outputs with
    nobody else are both named: no data can tell which of them changed.

    Args:
        panel: Deduplicated reviews.
        adjustment: Severities of the same panel.
        aspect: One of the adjustment's aspects.
    """
    k = adjustment.aspects.index(aspect)
    ratings = reviewer_ratings(panel, adjustment.raw[:, [k]])
    identity = panel.reviews["feedback_id"].iloc[ratings.last_review]
    # A review of an execution counts for each of its agents; here it is one comparison.
    used = ~np.isnan(ratings.values[:, 0]) & ~identity.duplicated().to_numpy(dtype=bool)
    output, reviewer, score = ratings.output[used], ratings.reviewer[used], ratings.values[used, 0]
    months, month = _months_of(panel.reviews["reviewed_at"].iloc[ratings.last_review[used]])
    cells, cell = np.unique(reviewer * max(len(months), 1) + month, return_inverse=True)
    cell_reviewer, cell_month = np.divmod(cells, max(len(months), 1))

    others = np.bincount(output, minlength=1)[output].astype(np.float64) - 1.0
    both = others > 0
    shared = _Shared(
        np.unique(output[both], return_inverse=True)[1],
        reviewer[both],
        cell[both],
        score[both],
        adjustment.severities[k].value[reviewer[both]],
        others[both],
    )
    found = _settle(shared, cell_reviewer, len(panel.reviewers))
    frame = pd.DataFrame(
        {
            "reviewer_id": panel.reviewers[cell_reviewer],
            "month": np.datetime_as_string(months[cell_month], unit="M").astype(object),
            **_month_columns(found, cell_reviewer, np.bincount(cell, minlength=len(cells))),
        }
    )
    return SeverityDrift(frame, _reviewer_frame(panel, found, np.unique(cell_reviewer), shared))


def _months_of(reviewed_at: pd.Series) -> tuple[npt.NDArray[np.datetime64], Ints]:
    """The calendar months (UTC) that occur, and the place of each row's month among them."""
    moment = pd.to_datetime(reviewed_at, utc=True).dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    months, month = np.unique(moment.astype("datetime64[M]"), return_inverse=True)
    return months, month.astype(np.intp)


def _settle(shared: _Shared, cell_reviewer: Ints, n_reviewers: int) -> _Months:
    """Take the clearest changes among co-raters out, one after the other, until nobody else changes beyond chance."""
    found = _analyse(shared, cell_reviewer, n_reviewers)
    settled = np.zeros(n_reviewers, dtype=bool)
    for _ in range(_MOST_ROUNDS):
        flagged = (_q_values(found.log_p) <= _FALSE_DISCOVERIES) & ~settled
        clearest = _clearest(shared, np.where(flagged, -found.log_p, -np.inf))
        if not clearest.any():
            break
        settled |= clearest
        own = clearest[shared.reviewer] & (found.n_shared[shared.cell] >= _LEAST_SHARED)
        shared = replace(shared, severity=np.where(own, found.mean[shared.cell], shared.severity))
        found = _keep(found, _analyse(shared, cell_reviewer, n_reviewers), settled, cell_reviewer)
    return found


def _clearest(shared: _Shared, evidence: Floats) -> npt.NDArray[np.bool_]:
    """Reviewers (R,) whose evidence is finite and below nobody's with whom they share an output; ties stand together."""
    evidence = np.round(evidence, 6)
    starts = np.flatnonzero(np.diff(shared.output, prepend=-1))
    if not len(starts):
        return np.zeros(len(evidence), dtype=bool)
    own = evidence[shared.reviewer]
    beaten = own < np.maximum.reduceat(own, starts)[shared.output]
    clearest: npt.NDArray[np.bool_] = evidence > -np.inf
    clearest[shared.reviewer[beaten]] = False
    return clearest


def _keep(before: _Months, after: _Months, settled: npt.NDArray[np.bool_], cell_reviewer: Ints) -> _Months:
    """Settled reviewers stay as they were found, the others are as they are now."""
    cells = settled[cell_reviewer]
    return _Months(
        np.where(cells, before.mean, after.mean),
        after.weight,
        after.n_shared,
        np.where(settled, before.noise, after.noise),
        after.freedom,
        after.n_months,
        np.where(settled, before.spread, after.spread),
        np.where(settled, before.log_p, after.log_p),
    )


def _analyse(shared: _Shared, cell_reviewer: Ints, n_reviewers: int) -> _Months:
    n_cells, contrast, weight = len(cell_reviewer), shared.contrasts(), shared.weight
    n_shared = np.bincount(shared.cell, minlength=n_cells)
    cell_weight = group_sums(shared.cell, weight, n_cells)
    mean = _ratio(group_sums(shared.cell, weight * contrast, n_cells), cell_weight)

    tested = n_shared >= _LEAST_SHARED
    row = tested[shared.cell]
    deviation = contrast[row] - mean[shared.cell[row]]
    within = group_sums(shared.reviewer[row], weight[row] * deviation**2, n_reviewers)
    n_months = np.bincount(cell_reviewer[tested], minlength=n_reviewers)
    freedom = np.bincount(shared.reviewer[row], minlength=n_reviewers) - n_months
    noise = _ratio(within, freedom)
    # What rounding leaves of contrasts that are all equal must not decide a division.
    noise = np.maximum(noise, (_ROUNDING * np.abs(shared.score).max(initial=0.0)) ** 2 + np.finfo(np.float64).tiny)

    of_reviewer, w, m = cell_reviewer[tested], cell_weight[tested], mean[tested]
    total = group_sums(of_reviewer, w, n_reviewers)
    average = _ratio(group_sums(of_reviewer, w * m, n_reviewers), total)
    between = group_sums(of_reviewer, w * (m - average[of_reviewer]) ** 2, n_reviewers)
    testable = n_months > 1
    excess = between - (n_months - 1) * noise
    mixed = total - _ratio(group_sums(of_reviewer, w**2, n_reviewers), total)
    spread = np.where(testable, np.sqrt(np.maximum(_ratio(excess, np.where(testable, mixed, 0.0)), 0.0)), np.nan)
    log_p = np.full(n_reviewers, np.nan)
    steps = n_months[testable] - 1
    log_p[testable] = stats.f.logsf(between[testable] / steps / noise[testable], steps, freedom[testable])
    return _Months(mean, cell_weight, n_shared, noise, freedom, n_months, spread, log_p)


def _ratio(above: Floats, below: npt.NDArray[np.floating | np.integer]) -> Floats:
    """Above / below, NaN where below is 0."""
    ratio: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio


def _q_values(log_p: Floats) -> Floats:
    q, tested = np.full(len(log_p), np.nan), ~np.isnan(log_p)
    if tested.any():
        q[tested] = stats.false_discovery_control(np.exp(log_p[tested]))
    return q


def _month_columns(found: _Months, cell_reviewer: Ints, n_reviews: Ints) -> dict[str, npt.NDArray[np.generic] | pd.Series]:
    known = found.n_shared >= _LEAST_SHARED
    noise, freedom = found.noise[cell_reviewer], found.freedom[cell_reviewer]
    se = np.where(known, np.sqrt(_ratio(noise, found.weight)), np.nan)
    margin = se * stats.t.ppf((1.0 + _LEVEL) / 2.0, np.maximum(freedom, 1))
    mean = np.where(known, found.mean, np.nan)
    reason = np.where(found.n_shared == 0, NOT_SHARED, TOO_FEW_SHARED).astype(object)
    reason[known] = None
    return {
        "severity": mean,
        "se": se,
        "ci_low": mean - margin,
        "ci_high": mean + margin,
        "n_reviews": n_reviews,
        "n_shared": found.n_shared,
        "reason": pd.Series(reason, dtype=object),
    }


def _reviewer_frame(panel: Panel, found: _Months, seen: Ints, shared: _Shared) -> pd.DataFrame:
    q = _q_values(found.log_p)
    shares = np.bincount(shared.reviewer, minlength=len(q)) > 0
    reason = np.where(shares, TOO_FEW_MONTHS, NOT_SHARED).astype(object)
    reason[~np.isnan(q)] = None
    frame = pd.DataFrame(
        {
            "reviewer_id": panel.reviewers,
            "n_months": found.n_months,
            "spread": found.spread,
            "p_value": np.exp(found.log_p),
            "q_value": q,
            "drifted": q <= _FALSE_DISCOVERIES,
            "reason": pd.Series(reason, dtype=object),
        }
    )
    return frame.iloc[seen].reset_index(drop=True)
