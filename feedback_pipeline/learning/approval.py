"""How good an output must be for a reviewer to approve it: empirical-Bayes logistic models of the decision.

A logistic model with normal effects per reviewer is fitted by penalised quasi-likelihood: Newton's working responses go
through the mixed model of scores, all reviewers at once, until nothing moves.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.reviewer_moments import ReviewerMoments, RowDesign, moments_of
from feedback_pipeline.learning.reviewers import FIXED, ReviewerModel, fit_reviewer_model
from feedback_pipeline.learning.reviewers_steps import Variances

_ROUNDS = 60
_RESTED = 1e-4
_WEAK_PRIOR = 0.04  # precision of the population effects: standard deviation 5 logits
_PSEUDO_EFFECTS = 2.0
"""With a handful of decisions each, quasi-likelihood may find reviewers all alike; a prior worth two reviewers does not."""
_LEAST_WEIGHT = 1e-8
_FURTHEST = 15.0  # logits
_LONGEST_STEP = 4.0

ALL_APPROVED = 1
NONE_APPROVED = -1


@dataclass(frozen=True)
class LogisticFit:
    """A logistic mixed model.

    Attributes:
        model: Effects in logits; its noise is 1, its likelihood that of the last working responses.
        moments: Weighted sums of the last working responses.
    """

    model: ReviewerModel
    moments: ReviewerMoments


def fit_logistic(
    design: RowDesign,
    approved: Floats,
    group: Ints,
    *,
    personal_group: Ints | None = None,
    offset: Floats | None = None,
) -> LogisticFit:
    """Fit decision ~ X b + W u_r by penalised quasi-likelihood.

    Args:
        design: M rows.
        approved: 1 or 0 for each row (M,).
        group: Prior group of each population column (P,), `reviewers.FIXED` for a weak one (sd 5), which keeps decisions
            that a column separates completely from driving its effect to infinity.
        personal_group: Personal columns of one group share their variance (Q,); each has its own when left out.
        offset: Known part of each row's logit (M,), 0 when left out.

    Raises:
        LearningError: there is no row, or the effects did not come to rest.
    """
    if not len(approved):
        raise LearningError("the approval model has no decision to learn from; wait for reviews with decisions")
    share = (approved.sum() + 0.5) / (len(approved) + 1.0)
    logit = np.full(len(approved), np.log(share / (1.0 - share)))
    known = np.zeros(len(approved)) if offset is None else offset
    variances = Variances(1.0, np.full(len(design.personal), 0.1), np.full(int(group.max()) + 1, 0.1))
    weak = np.diag(np.where(group == FIXED, _WEAK_PRIOR, 0.0))
    for _ in range(_ROUNDS):
        p = expit(logit)
        weight = np.maximum(p * (1.0 - p), _LEAST_WEIGHT)
        sums = moments_of(design, logit + (approved - p) / weight - known, weight)
        moments = replace(sums, xx=sums.xx + weak)
        model = fit_reviewer_model(
            moments, group, personal_group=personal_group, noise=1.0, start=variances, pseudo_effects=_PSEUDO_EFFECTS
        )
        variances = model.variances
        ahead = np.clip(known + design.linear(model.population, model.effects), -_FURTHEST, _FURTHEST)
        change = float(np.sqrt(np.mean((ahead - logit) ** 2)))
        # Newton's step can overshoot far from the end; near it, it is never cut.
        logit += np.clip(ahead - logit, -_LONGEST_STEP, _LONGEST_STEP)
        if change < _RESTED * (1.0 + float(np.abs(logit).mean())):
            return LogisticFit(model, moments)
    raise LearningError(f"the approval model did not converge in {_ROUNDS} rounds; check for extreme scores or features")


@dataclass(frozen=True)
class ApprovalModel:
    """P(approve) = expit(intercept_r + slope * score) for one aspect.

    Attributes:
        intercept: Of each reviewer (R,), the population's for a reviewer without a decision.
        intercept_variance: (R,), in squared logits.
        population_intercept: Of a new reviewer; population_variance: its variance, tau2.
        slope: Logits per point, the same for all reviewers; slope_se: its standard error.
        s50: Score at which each reviewer approves half of the outputs (R,), points; NaN where undefined.
        s80: Score at which four of five are approved (R,).
        se: Standard error of both (R,), points.
        n: Decisions with a score of each reviewer (R,).
        censored: 1 where a reviewer approved everything (the standard is at most s50), -1 where nothing, else 0 (R,).
        reason: Why there are no standards, or None.
    """

    intercept: Floats
    intercept_variance: Floats
    population_intercept: float
    population_variance: float
    slope: float
    slope_se: float
    s50: Floats
    s80: Floats
    se: Floats
    n: Ints
    censored: Ints
    reason: str | None

    def probability(self, score: Floats, score_variance: Floats | float, reviewer: Ints) -> Floats:
        """P(approve) of each row (M,) when the score is only expected, with a variance that counts the reviewer's noise.

        The logistic curve is averaged over both uncertainties by the probit approximation (MacKay 1992). A reviewer of -1 is
        new: the population's intercept with its variance.
        """
        known = reviewer >= 0
        intercept = np.where(known, self.intercept[reviewer], self.population_intercept)
        variance = np.where(known, self.intercept_variance[reviewer], self.population_variance)
        variance = variance + self.slope**2 * score_variance
        return averaged_logistic(intercept + self.slope * score, variance)


def averaged_logistic(logit: Floats, variance: Floats) -> Floats:
    """E expit(x) for x ~ N(logit, variance), within .02."""
    return np.asarray(expit(logit / np.sqrt(1.0 + np.pi * variance / 8.0)), dtype=np.float64)


def fit_approval(score: Floats, approved: Floats, reviewer: Ints, n_reviewers: int) -> ApprovalModel:
    """Fit decision ~ a_r + b * score on the rows with a score, a decision and a known reviewer.

    Args:
        score: Scores (M,), finite.
        approved: 1 or 0 (M,).
        reviewer: Reviewer of each row (M,).
        n_reviewers: R.

    Raises:
        LearningError: there is no row, or the fit did not converge.
    """
    if not len(score):
        raise LearningError("the approval model has no decision with a score to learn from; wait for more reviews")
    centre, spread = float(score.mean()), float(score.std())
    varies = spread > 1e-9 * (1.0 + abs(centre))
    scaled = (score - centre) / spread if varies else np.zeros(len(score))
    design = RowDesign(
        np.column_stack([np.ones(len(score)), scaled]), np.arange(len(score)), reviewer, n_reviewers, np.zeros(1, dtype=np.intp)
    )
    fit = fit_logistic(design, approved, np.full(2, FIXED))
    n = np.bincount(reviewer, minlength=n_reviewers).astype(np.intp)
    approvals = np.bincount(reviewer, weights=approved, minlength=n_reviewers)
    censored = np.where(n == 0, 0, np.where(approvals == n, ALL_APPROVED, np.where(approvals == 0, NONE_APPROVED, 0)))
    return _on_points(fit, centre, spread if varies else 1.0, n, censored.astype(np.intp), _no_standard(fit, approved, varies))


def _no_standard(fit: LogisticFit, approved: Floats, varies: bool) -> str | None:
    if approved.all():
        return "every decision is an approval: the standards lie below all scores"
    if not approved.any():
        return "no decision is an approval: the standards lie above all scores"
    if not varies:
        return "the scores do not vary"
    slope, se = fit.model.population[1], np.sqrt(fit.model.population_covariance[1, 1])
    return "approval does not rise with this score" if slope < 2.0 * se else None


def _on_points(fit: LogisticFit, centre: float, spread: float, n: Ints, censored: Ints, reason: str | None) -> ApprovalModel:
    model = fit.model
    base, scaled_slope = model.population
    own, own_variance = model.effects[:, 0], model.uncertainty[:, 0, 0]
    # The own effect answers to the population's: what the intercept takes, it gives back.
    answer = own_variance[:, None] * fit.moments.wx[:, 0]
    slope, covariance = scaled_slope / spread, model.population_covariance
    if reason is None:
        x50 = -(base + own) / scaled_slope
        gradient = np.column_stack([np.ones(len(own)), x50]) - answer
        variance = own_variance + np.einsum("rp,pk,rk->r", gradient, covariance, gradient)
        s50, se = centre + spread * x50, spread * np.sqrt(variance) / scaled_slope
    else:
        s50, se = np.full(len(own), np.nan), np.full(len(own), np.nan)
    s80 = s50 + np.log(4.0) / slope if reason is None else s50
    return ApprovalModel(
        base + own - slope * centre,
        own_variance,
        float(base - slope * centre),
        float(model.variances.personal[0]),
        float(slope),
        float(np.sqrt(covariance[1, 1]) / spread),
        s50,
        s80,
        se,
        n,
        censored,
        reason,
    )
