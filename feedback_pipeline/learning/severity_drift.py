"""Severity over time: per reviewer and calendar month, and whether it changes beyond chance.

Only comparisons within an output count: a score against what the other reviewers of the same output gave, their severity
taken out. So neither agents that get better nor other outputs than before can look like a change of the reviewer. When all
reviewers change together nobody is seen to change: severity is relative.

Months are what is shown; the test compares consecutive parts of a reviewer's own comparisons (see `severity_change`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from feedback_pipeline.learning.adjustment import Adjustment
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.panel import Floats, Ints, Panel, group_sums
from feedback_pipeline.learning.ratings import Ratings
from feedback_pipeline.learning.severity_change import FALSE_DISCOVERIES, Comparisons, SeverityChange, ratio_or_nan, settle

NOT_SHARED = "no output shared with another reviewer"
TOO_FEW_SHARED = "fewer than 5 outputs shared with another reviewer"
TOO_FEW_TO_TEST = "fewer than 20 outputs shared with another reviewer, too few to tell a change from chance"

_LEAST_IN_MONTH = 5
_LEVEL = 0.95


@dataclass(frozen=True)
class SeverityDrift:
    """Severity over time.

    Attributes:
        months: One row per reviewer and calendar month (UTC) with a score: reviewer_id, month ('2026-03'), severity (raw
            points, positive = gives more than average), se, ci_low, ci_high (95 %, given the other reviewers' severities;
            NaN where undefined), n_reviews (outputs scored), n_shared (those others scored too), reason or None.
        reviewers: One row per reviewer with a score: reviewer_id, n_months with a severity, spread (standard deviation over
            time beyond chance, points), p_value of no change, q_value (Benjamini-Hochberg over reviewers), drifted
            (q_value <= .05), reason or None. Two to six parts are compared, of ten shared outputs or more.
    """

    months: pd.DataFrame
    reviewers: pd.DataFrame


@dataclass(frozen=True)
class _Scores:
    """Scores of one aspect, one per output and reviewer, sorted by output."""

    output: Ints  # (P,)
    reviewer: Ints  # (P,)
    moment: npt.NDArray[np.datetime64]  # of the last review, UTC (P,)
    score: Floats  # (P,)

    @classmethod
    def of(cls, panel: Panel, raw: Floats) -> "_Scores":
        ratings = Ratings.of(panel)
        score = ratings.mean(raw)
        last = panel.reviews[["feedback_id", "reviewed_at"]].iloc[ratings.last_review]
        # A review of an execution counts for each of its agents; here it is one comparison.
        used = ~np.isnan(score) & ~last["feedback_id"].duplicated().to_numpy(dtype=bool)
        utc = pd.to_datetime(last["reviewed_at"][used], utc=True).dt.tz_localize(None)
        return cls(ratings.output[used], ratings.reviewer[used], utc.to_numpy(dtype="datetime64[us]"), score[used])


def severity_drift(panel: Panel, adjustment: Adjustment, aspect: str = OVERALL) -> SeverityDrift:
    """Estimate severity per reviewer and month and test whether it changes.

    Args:
        panel: Deduplicated reviews.
        adjustment: Severities of the same panel.
        aspect: One of the adjustment's aspects.
    """
    k, n_reviewers = adjustment.aspects.index(aspect), len(panel.reviewers)
    scores = _Scores.of(panel, adjustment.raw[:, k])
    both = np.bincount(scores.output, minlength=1)[scores.output] > 1
    shared = Comparisons.of(scores.output[both], scores.reviewer[both], scores.moment[both], scores.score[both], n_reviewers)
    contrast, change = settle(shared, adjustment.severities[k].value)

    months, month = np.unique(scores.moment.astype("datetime64[M]"), return_inverse=True)
    cells, cell = np.unique(scores.reviewer * max(len(months), 1) + month, return_inverse=True)
    cell_reviewer, cell_month = np.divmod(cells, max(len(months), 1))
    frame = pd.DataFrame(
        {
            "reviewer_id": panel.reviewers[cell_reviewer],
            "month": np.datetime_as_string(months[cell_month], unit="M").astype(object),
            **_month_columns(cell, both, contrast, shared.weight, change, cell_reviewer),
        }
    )
    known = frame["severity"].notna().to_numpy(dtype=bool)
    n_months = np.bincount(cell_reviewer[known], minlength=n_reviewers)
    reviewers = _reviewer_frame(panel, change, n_months, np.bincount(shared.reviewer, minlength=n_reviewers))
    return SeverityDrift(frame, reviewers.iloc[np.unique(cell_reviewer)].reset_index(drop=True))


def _month_columns(
    cell: Ints, both: npt.NDArray[np.bool_], contrast: Floats, weight: Floats, change: SeverityChange, cell_reviewer: Ints
) -> dict[str, Floats | Ints | pd.Series]:
    """Severity of each reviewer and month from the contrasts of that month; their noise is that of all months together."""
    n, shared = len(cell_reviewer), cell[both]
    n_shared = np.bincount(shared, minlength=n)
    total = group_sums(shared, weight, n)
    known = n_shared >= _LEAST_IN_MONTH
    mean = np.where(known, ratio_or_nan(group_sums(shared, weight * contrast, n), total), np.nan)
    se = np.where(known, np.sqrt(ratio_or_nan(change.noise[cell_reviewer], total)), np.nan)
    margin = se * stats.t.ppf((1.0 + _LEVEL) / 2.0, np.maximum(change.freedom[cell_reviewer], 1))
    reason = np.where(n_shared == 0, NOT_SHARED, TOO_FEW_SHARED).astype(object)
    reason[known] = None
    return {
        "severity": mean,
        "se": se,
        "ci_low": mean - margin,
        "ci_high": mean + margin,
        "n_reviews": np.bincount(cell, minlength=n),
        "n_shared": n_shared,
        "reason": pd.Series(reason, dtype=object),
    }


def _reviewer_frame(panel: Panel, change: SeverityChange, n_months: Ints, n_shared: Ints) -> pd.DataFrame:
    q = change.q_value
    reason = np.where(n_shared > 0, TOO_FEW_TO_TEST, NOT_SHARED).astype(object)
    reason[~np.isnan(q)] = None
    return pd.DataFrame(
        {
            "reviewer_id": panel.reviewers,
            "n_months": n_months,
            "spread": change.spread,
            "p_value": np.exp(change.log_p),
            "q_value": q,
            "drifted": q <= FALSE_DISCOVERIES,
            "reason": pd.Series(reason, dtype=object),
        }
    )
