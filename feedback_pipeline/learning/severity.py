"""Reviewer severity: how many points more than the average reviewer somebody gives.

score = agent + o_output + u_reviewer + e, with o ~ N(0, s_o2), u ~ N(0, s_u2), e ~ N(0, s_e2). Outputs are nested in agents,
so both are absorbed and one system in the reviewers is left (Henderson's mixed-model equations).

Random outputs trust that who reviews an output has nothing to do with how good it is; then they are the more precise estimate.
Fixed outputs compare reviewers on the same outputs alone and cannot be fooled by who reviews what. They are taken where they
are precise enough by themselves, and where the data contradict that trust, as with reviewers who work in fixed groups on
outputs of different difficulty. Where no output has two reviewers the model is not identified and a moment estimate on agent
means stands in, marked not comparable.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.mixed_model import (
    ReviewDesign,
    Solution,
    fixed_outputs,
    random_outputs,
    variance_components,
)
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

FIXED_OUTPUTS = "fixed outputs"
RANDOM_OUTPUTS = "random outputs"
AGENT_MEANS = "agent means"
NOT_ESTIMATED = "none"

_MIN_RESIDUAL_DF = 10
_PRECISE = 0.25
_CONTRADICTION = 3.0
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Severity:
    """Severity of each reviewer in one aspect.

    Attributes:
        value: Points more than the mean of the reviewers (R,), shrunken; 0 for a reviewer without a score in this aspect.
            With fixed outputs the mean of a component is taken to be that of all reviewers.
        se: Standard error of that deviation (R,): the posterior one with severities drawn from one population, so value and
            se make an interval. Beyond 2,000 reviewers that of a reviewer whose co-reviewers are known, which is less. NaN
            where undefined: without a score, with one reviewer in all, or where reviewers do not differ beyond chance.
        n_reviews: Scores the estimate of each reviewer rests on (R,).
        component: Connected component of the reviewer-output graph (R,), -1 for a reviewer without a score.
        comparable: Whether a reviewer can be compared with most others through outputs reviewed by both sides (R,).
        method: Which estimate was used: fixed outputs, random outputs, agent means or none.
        reason: Why it is not the joint model, or None.
        noise: Variance of e, output: of o, reviewer: of u (squared points); NaN where not estimated.
    """

    value: Floats
    se: Floats
    n_reviews: Ints
    component: Ints
    comparable: npt.NDArray[np.bool_]
    method: str
    reason: str | None
    noise: float
    output: float
    reviewer: float


def estimate_severity(agent: Ints, output: Ints, reviewer: Ints, score: Floats, n_reviewers: int) -> Severity:
    """Estimate the severity of every reviewer in one aspect.

    Args:
        agent: Agent code of each score (M,); an output belongs to one agent.
        output: Output code of each score (M,).
        reviewer: Reviewer code of each score (M,), in 0..n_reviewers-1.
        score: Finite scores (M,).
        n_reviewers: R, the length of the result's arrays.

    Raises:
        LearningError: a score is not finite, or the estimate did not converge.
    """
    return severity_of(ReviewDesign.of(agent, output, reviewer, n_reviewers), score)


def severity_of(design: ReviewDesign, score: Floats) -> Severity:
    """`estimate_severity` for a design that several aspects share.

    Raises:
        LearningError: a score is not finite, or the estimate did not converge.
    """
    if not np.isfinite(score).all():
        raise LearningError("severity needs finite scores; drop missing scores first")
    n_reviewers = design.n_reviewers
    if design.reviewers_seen <= 1:
        reason = "one reviewer" if design.reviewers_seen else "no data"
        return _result(
            design, np.zeros(n_reviewers), np.full(n_reviewers, np.nan), NOT_ESTIMATED, reason, (np.nan, np.nan, np.nan)
        )
    if design.n_residual < _MIN_RESIDUAL_DF:
        reason = "no output has two reviewers" if not design.overlaps else "too few outputs have two reviewers"
        return _agent_means(design, score, reason)
    severity = _joint_model(design, score)
    if not np.isfinite(severity.value).all():
        raise LearningError("severity did not converge: a value is not finite; check for extreme scores")
    return severity


def fallback_severity(design: ReviewDesign, score: Floats, reason: str) -> Severity:
    """The moment estimate on agent means, not comparable, for an aspect whose joint model failed."""
    return _agent_means(design, score, reason)


def _joint_model(design: ReviewDesign, score: Floats) -> Severity:
    within = fixed_outputs(design, score)
    variances = variance_components(design, score, within)
    noise, output, reviewer = variances
    if reviewer <= 0.0:
        reason = "reviewers do not differ beyond chance"
        return _result(
            design, np.zeros(design.n_reviewers), np.full(design.n_reviewers, np.nan), RANDOM_OUTPUTS, reason, variances
        )
    ridge = noise / reviewer
    method, chosen = FIXED_OUTPUTS, within.equations.solve(ridge)
    se = _standard_error(design, chosen, noise, reviewer)
    if not chosen.exact or (se[design.per_reviewer > 0] >= _PRECISE * np.sqrt(reviewer)).any():
        random = random_outputs(design, score, noise / output if output > 0.0 else np.inf).solve(ridge)
        if not _contradicts(chosen, random, noise):
            method, chosen, se = RANDOM_OUTPUTS, random, _standard_error(design, random, noise, reviewer)
    return _result(design, chosen.value, se, method, None, variances)


def _contradicts(fixed: Solution, random: Solution, noise: float) -> bool:
    """Whether random outputs are further from fixed ones than reviews handed out evenly would let them be.

    With outputs unrelated to their reviewers the difference of the two predictions has as covariance the difference of their
    error covariances (Hausman, Econometrica 46, 1978, Lemma 2.1; it holds for best linear predictions as well). What its sum
    of squares has beyond the trace estimates the squared bias of random outputs. At a ratio of 2 both are expected to be
    equally wrong; the line lies higher, because the ratio of a small design is often above 2 by chance.
    """
    expected = noise * max(fixed.trace - random.trace, _ROUNDING * fixed.trace)
    return float(((fixed.value - random.value) ** 2).sum()) > _CONTRADICTION * expected


def _standard_error(design: ReviewDesign, solution: Solution, noise: float, reviewer: float) -> Floats:
    """Of the deviation from the mean of the reviewers at hand, (R,): that mean is known from its prior only, s_u2 / R."""
    common = reviewer / design.reviewers_seen if solution.exact else 0.0
    return np.where(design.per_reviewer > 0, np.sqrt(np.maximum(noise * solution.variance - common, 0.0)), np.nan)


def _agent_means(design: ReviewDesign, score: Floats, reason: str, rounds: int = 3) -> Severity:
    """Alternate agent means and shrunken reviewer means; s2 and t2 by the moments of the one-way layout."""
    n_rows, n_seen = len(score), design.reviewers_seen
    per_reviewer = np.maximum(design.per_reviewer, 1.0)  # nothing is divided by the reviewers without a score
    value, undefined = np.zeros(design.n_reviewers), np.full(design.n_reviewers, np.nan)
    if n_rows <= n_seen:
        reason = f"{reason}, and no reviewer has two scores"
        return _result(design, value, undefined, AGENT_MEANS, reason, (np.nan, np.nan, np.nan))
    per_agent = np.bincount(design.row_agent)
    noise = spread = 0.0
    for _ in range(rounds):
        agent_mean = group_sums(design.row_agent, score - value[design.row_reviewer], len(per_agent)) / per_agent
        residual = score - agent_mean[design.row_agent]
        mean = group_sums(design.row_reviewer, residual, len(value)) / per_reviewer
        noise = float(((residual - mean[design.row_reviewer]) ** 2).sum()) / (n_rows - n_seen)
        numerator = float((per_reviewer * mean**2).sum()) - noise * (n_seen - 1)
        spread = max(0.0, numerator / (n_rows - float((design.per_reviewer**2).sum()) / n_rows))
        value = mean * (per_reviewer * spread / (per_reviewer * spread + noise)) if spread > 0 else np.zeros_like(mean)
    if spread <= 0.0:
        reason = f"{reason}, and reviewers do not differ beyond chance"
        return _result(design, value, undefined, AGENT_MEANS, reason, (noise, np.nan, spread))
    se = np.sqrt(spread * noise / (per_reviewer * spread + noise))
    se[design.per_reviewer == 0] = np.nan
    return _result(design, value, se, AGENT_MEANS, reason, (noise, np.nan, spread))


def _result(
    design: ReviewDesign, value: Floats, se: Floats, method: str, reason: str | None, variances: tuple[float, float, float]
) -> Severity:
    noise, output, reviewer = variances
    comparable = design.comparable if method != AGENT_MEANS else np.zeros(design.n_reviewers, dtype=bool)
    return Severity(
        value, se, design.per_reviewer.astype(np.intp), design.component, comparable, method, reason, noise, output, reviewer
    )
