"""Whether the severity of a reviewer changes beyond chance: consecutive parts of their comparisons against one another.

A comparison is a score against what the other reviewers of the same output gave. A reviewer's comparisons are divided in the
order of their time into parts of equal size, so the test needs no calendar: a window of 30 days often lies in one month, or has
a few days of the second, and months would leave nothing to test.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.pooling import q_values

FALSE_DISCOVERIES = 0.05

_LEAST_IN_PART = 10
_MOST_PARTS = 6
_MOST_ROUNDS = 20
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparisons:
    """Scores of outputs that several reviewers scored.

    Attributes:
        output: Dense output code, ascending (P,).
        reviewer: Reviewer code (P,).
        part: Consecutive parts of each reviewer's comparisons, numbered reviewer by reviewer (P,).
        part_reviewer: Reviewer of each part (C,).
        score: What the reviewer gave (P,).
        others: How many others scored the output (P,).
        n_reviewers: R.
    """

    output: Ints
    reviewer: Ints
    part: Ints
    part_reviewer: Ints
    score: Floats
    others: Floats
    n_reviewers: int

    @classmethod
    def of(
        cls, output: Ints, reviewer: Ints, moment: npt.NDArray[np.datetime64], score: Floats, n_reviewers: int
    ) -> "Comparisons":
        """Divide the comparisons of every reviewer into two to six parts of ten or more, or one where there are fewer than 20.

        Args:
            output: Output of each score (P,), ascending; every one with at least two.
            reviewer: Reviewer of each score (P,).
            moment: When it was given (P,); what counts is the last one of the output.
            score: Finite scores (P,).
            n_reviewers: R.
        """
        dense = np.unique(output, return_inverse=True)[1]
        others = np.bincount(dense, minlength=1)[dense].astype(np.float64) - 1.0
        # Both sides of a comparison have the same time, or two who share outputs with nobody else would differ by chance.
        time = np.full(len(output), np.iinfo(np.int64).min)
        np.maximum.at(time, dense, moment.astype(np.int64))

        n_shared = np.bincount(reviewer, minlength=n_reviewers)
        n_parts = np.minimum(np.clip(n_shared // _LEAST_IN_PART, 1, _MOST_PARTS), n_shared)
        order = np.lexsort((time[dense], reviewer))
        of_reviewer = reviewer[order]
        rank = np.arange(len(order)) - (np.cumsum(n_shared) - n_shared)[of_reviewer]
        part = np.empty(len(order), dtype=np.intp)
        part[order] = (np.cumsum(n_parts) - n_parts)[of_reviewer] + rank * n_parts[of_reviewer] // n_shared[of_reviewer]
        return cls(dense, reviewer, part, np.repeat(np.arange(n_reviewers), n_parts), score, others, n_reviewers)

    @property
    def weight(self) -> Floats:
        """Inverse variance of a contrast in units of the noise: (m - 1) / m for m reviewers of the output."""
        return self.others / (self.others + 1.0)

    def contrasts(self, severity: Floats) -> Floats:
        """Score minus the mean of what the others gave, their severity (P,) taken out: the severity shown in this output."""
        adjusted = self.score - severity
        total = np.bincount(self.output, weights=adjusted)[self.output]
        return np.asarray(self.score - (total - adjusted) / self.others)


@dataclass(frozen=True)
class SeverityChange:
    """One-way analysis of variance of every reviewer's parts.

    Attributes:
        mean: Of the contrasts of each part (C,).
        noise: Variance of a contrast of weight 1 (R,), NaN without degrees of freedom.
        freedom: Degrees of freedom of the noise (R,).
        spread: Standard deviation of the parts beyond chance (R,), NaN where not testable.
        log_p: Logarithm of the p-value of no change (R,), NaN where not testable.
    """

    mean: Floats
    noise: Floats
    freedom: Ints
    spread: Floats
    log_p: Floats

    @property
    def q_value(self) -> Floats:
        """Benjamini-Hochberg over reviewers (R,), NaN where not testable."""
        return np.asarray(q_values(np.exp(self.log_p)[None, :])[0])


def settle(shared: Comparisons, value: Floats) -> tuple[Floats, SeverityChange]:
    """Take the clearest changes among co-raters out, one after the other, until nobody else changes beyond chance.

    A change of one reviewer moves the contrasts of those who share outputs with them. So the clearest change among co-raters
    is taken first, given its own severity per part, and the others are tested again. Two reviewers who share outputs with
    nobody else are both named: no data can tell which of them changed.

    Args:
        shared: Comparisons.
        value: Severity of each reviewer (R,).

    Returns:
        Contrasts (P,) and what they show of every reviewer; of who changed as they were when that was found.
    """
    severity = value[shared.reviewer]
    contrast = shared.contrasts(severity)
    change = _analyse(shared, contrast)
    settled = np.zeros(shared.n_reviewers, dtype=bool)
    for _ in range(_MOST_ROUNDS):
        flagged = (change.q_value <= FALSE_DISCOVERIES) & ~settled
        clearest = _clearest(shared, np.where(flagged, -change.log_p, -np.inf))
        if not clearest.any():
            break
        settled |= clearest
        severity = np.where(clearest[shared.reviewer], change.mean[shared.part], severity)
        contrast = np.where(settled[shared.reviewer], contrast, shared.contrasts(severity))
        change = _analyse(shared, contrast)
    return contrast, change


def _clearest(shared: Comparisons, evidence: Floats) -> npt.NDArray[np.bool_]:
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


def _analyse(shared: Comparisons, contrast: Floats) -> SeverityChange:
    n_parts, n, of_reviewer = len(shared.part_reviewer), shared.n_reviewers, shared.part_reviewer
    part_weight = group_sums(shared.part, shared.weight, n_parts)
    mean = ratio_or_nan(group_sums(shared.part, shared.weight * contrast, n_parts), part_weight)

    within = group_sums(shared.reviewer, shared.weight * (contrast - mean[shared.part]) ** 2, n)
    steps = np.bincount(of_reviewer, minlength=n) - 1
    freedom = np.bincount(shared.reviewer, minlength=n) - steps - 1
    noise = ratio_or_nan(within, freedom)
    # What rounding leaves of contrasts that are all equal must not decide a division.
    noise = np.maximum(noise, (_ROUNDING * np.abs(shared.score).max(initial=0.0)) ** 2 + np.finfo(np.float64).tiny)

    total = group_sums(of_reviewer, part_weight, n)
    average = ratio_or_nan(group_sums(of_reviewer, part_weight * mean, n), total)
    between = group_sums(of_reviewer, part_weight * (mean - average[of_reviewer]) ** 2, n)
    tested = np.flatnonzero(steps > 0)
    mixed = total - ratio_or_nan(group_sums(of_reviewer, part_weight**2, n), total)
    spread, log_p = np.full(n, np.nan), np.full(n, np.nan)
    spread[tested] = np.sqrt(np.maximum(between - steps * noise, 0.0)[tested] / mixed[tested])
    log_p[tested] = stats.f.logsf((between / np.maximum(steps, 1) / noise)[tested], steps[tested], freedom[tested])
    return SeverityChange(mean, noise, freedom, spread, log_p)


def ratio_or_nan(above: Floats, below: npt.NDArray[np.floating | np.integer]) -> Floats:
    """Above / below, NaN where below is 0."""
    ratio: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio
