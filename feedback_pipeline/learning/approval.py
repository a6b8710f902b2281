"""How high an output must score for a reviewer to approve it: one logistic curve, moved sideways for each reviewer.

P(approve) = expit(intercept_r + slope * score) with intercept_r ~ N(population intercept, tau2), by penalised quasi-likelihood
(Breslow & Clayton 1993): Newton's working responses go through a linear mixed model, all reviewers at once, until nothing moves.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

ROUNDS = 60
RESTED = 1e-4
"""Change of the logits, relative to their mean size, at which a fit has come to rest."""
WEAK_PRIOR = 0.04
"""Precision of population effects (sd 5 logits): what separates decisions completely gets no infinite effect."""
PSEUDO_REVIEWERS = 2.0
"""With a handful of decisions each, quasi-likelihood may find reviewers all alike; a prior worth two reviewers does not."""
FURTHEST = 15.0  # logits
LONGEST_STEP = 4.0  # logits; Newton's step can overshoot far from the end, near it none is this long
_LEAST_VARIANCE, _MOST_VARIANCE = 1e-9, 1e4  # between reviewers, squared logits

ALL_APPROVED = 1
NONE_APPROVED = -1


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

        A reviewer of -1 is new: the population's intercept with its variance.
        """
        known = reviewer >= 0
        intercept = np.where(known, self.intercept[reviewer], self.population_intercept)
        variance = np.where(known, self.intercept_variance[reviewer], self.population_variance)
        variance = variance + self.slope**2 * score_variance
        return averaged_logistic(intercept + self.slope * score, variance)


def averaged_logistic(logit: Floats, variance: Floats) -> Floats:
    """E expit(x) for x ~ N(logit, variance), within .02 (probit approximation, MacKay 1992)."""
    return np.asarray(expit(logit / np.sqrt(1.0 + np.pi * variance / 8.0)), dtype=np.float64)


def fit_approval(score: Floats, approved: Floats, reviewer: Ints, n_reviewers: int) -> ApprovalModel:
    """Fit the approval model on the rows with a score, a decision and a known reviewer.

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
    spread = spread if varies else 1.0
    fit = _fit((score - centre) / spread if varies else np.zeros(len(score)), approved, reviewer, n_reviewers)
    n = np.bincount(reviewer, minlength=n_reviewers).astype(np.intp)
    approvals = group_sums(reviewer, approved, n_reviewers)
    # In this order: no decision, nothing but approvals, nothing but refusals.
    censored = np.select([n == 0, approvals == n, approvals == 0], [0, ALL_APPROVED, NONE_APPROVED], default=0).astype(np.intp)
    return _in_points(fit, centre, spread, n, censored, _no_standard(fit, approved, varies))


def starting_logit(approved: Floats) -> float:
    """Logit of the share of approvals, finite also when all or none approve."""
    return float(np.log((approved.sum() + 0.5) / (len(approved) - approved.sum() + 0.5)))


@dataclass(frozen=True)
class _Sums:
    """Sums of the weighted working responses z: w, wx and wz by reviewer, and over all with the weak prior in them."""

    w: Floats
    wx: Floats
    wz: Floats
    xx: Floats
    xz: Floats


@dataclass(frozen=True)
class _Fit:
    """On standardised scores: population (2,) = intercept and slope, with covariance; own intercepts (R,) with variance."""

    population: Floats
    covariance: Floats
    own: Floats
    variance: Floats
    answer: Floats
    tau2: float


def _fit(x: Floats, approved: Floats, reviewer: Ints, n_reviewers: int) -> _Fit:
    logit = np.full(len(x), starting_logit(approved))
    for _ in range(ROUNDS):
        sums = _sums(x, approved, reviewer, n_reviewers, logit)
        fit = _solve(sums, _own_variance(sums))
        ahead = np.clip(fit.population[0] + fit.own[reviewer] + fit.population[1] * x, -FURTHEST, FURTHEST)
        ahead -= logit
        logit += np.clip(ahead, -LONGEST_STEP, LONGEST_STEP)
        if np.sqrt(np.mean(ahead**2)) < RESTED * (1.0 + np.abs(logit).mean()):
            return fit
    raise LearningError(f"the approval model did not converge in {ROUNDS} rounds; check for extreme scores")


def _sums(x: Floats, approved: Floats, reviewer: Ints, n_reviewers: int, logit: Floats) -> _Sums:
    p = expit(logit)
    w = p * (1.0 - p)
    # The working response z = logit + (approved - p) / w, times its weight.
    wz = w * logit + approved - p
    wx = w * x
    own = [group_sums(reviewer, value, n_reviewers) for value in (w, wx, wz)]
    xx = np.array([[w.sum(), wx.sum()], [wx.sum(), wx @ x]]) + WEAK_PRIOR * np.eye(2)
    return _Sums(own[0], own[1], own[2], xx, np.array([wz.sum(), wz @ x]))


def _solve(sums: _Sums, tau2: float) -> _Fit:
    """The mixed model z = X b + u_r + e with noise 1/w, for a given variance of u."""
    variance = tau2 / (1.0 + tau2 * sums.w)
    # What the population's intercept and slope take, a reviewer's own intercept gives back: d own / d population = -answer.
    answer = variance[:, None] * np.column_stack([sums.w, sums.wx])
    covariance = np.asarray(np.linalg.inv(sums.xx - np.column_stack([sums.w, sums.wx]).T @ answer), dtype=np.float64)
    population = covariance @ (sums.xz - answer.T @ sums.wz)
    return _Fit(population, covariance, variance * sums.wz - answer @ population, variance, answer, tau2)


def _own_variance(sums: _Sums) -> float:
    """tau2 where it equals the sum of squared effects over the number of effects that the data determine (MacKay 1992)."""
    if np.count_nonzero(sums.w) == 1:
        return 0.0  # a single reviewer cannot be told from the population

    def excess(logarithm: float) -> float:
        tau2 = np.exp(logarithm)
        determined = (tau2 * sums.w / (1.0 + tau2 * sums.w)).sum()
        squares = (_solve(sums, tau2).own ** 2).sum()
        return float(np.log((squares + PSEUDO_REVIEWERS) / (determined + PSEUDO_REVIEWERS)) - logarithm)

    # Near 0 the prior alone keeps the excess positive.
    least, most = np.log(_LEAST_VARIANCE), np.log(_MOST_VARIANCE)
    return _MOST_VARIANCE if excess(most) >= 0 else float(np.exp(brentq(excess, least, most, xtol=1e-5)))


def _no_standard(fit: _Fit, approved: Floats, varies: bool) -> str | None:
    if approved.all():
        return "every decision is an approval: the standards lie below all scores"
    if not approved.any():
        return "no decision is an approval: the standards lie above all scores"
    if not varies:
        return "the scores do not vary"
    certain = fit.population[1] >= 2.0 * np.sqrt(fit.covariance[1, 1])
    return None if certain else "approval does not rise with this score"


def _in_points(fit: _Fit, centre: float, spread: float, n: Ints, censored: Ints, reason: str | None) -> ApprovalModel:
    base, scaled_slope = fit.population
    slope = scaled_slope / spread
    s50 = s80 = se = np.full(len(n), np.nan)
    if reason is None:
        x50 = -(base + fit.own) / scaled_slope
        gradient = np.column_stack([np.ones(len(n)), x50]) - fit.answer
        variance = fit.variance + np.einsum("rp,pk,rk->r", gradient, fit.covariance, gradient)
        s50, se = centre + spread * x50, np.sqrt(variance) / slope
        s80 = s50 + np.log(4.0) / slope
    return ApprovalModel(
        intercept=base + fit.own - slope * centre,
        intercept_variance=fit.variance,
        population_intercept=float(base - slope * centre),
        population_variance=fit.tau2,
        slope=float(slope),
        slope_se=float(np.sqrt(fit.covariance[1, 1]) / spread),
        s50=s50,
        s80=s80,
        se=se,
        n=n,
        censored=censored,
        reason=reason,
    )
