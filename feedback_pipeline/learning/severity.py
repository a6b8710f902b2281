"""Reviewer severity: how many points more than the average reviewer somebody gives.

score = agent + o_output + u_reviewer + e, with o ~ N(0, s_o2), u ~ N(0, s_u2), e ~ N(0, s_e2). Outputs are nested in agents,
so both are absorbed and one system in the reviewers is left (Henderson's mixed-model equations). Where every reviewer's
within-output contrast is precise, output effects are fixed instead: contrasts cannot be fooled by who reviews what. Where no
output has two reviewers the model is not identified and a moment estimate on agent means stands in, marked not comparable.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.mixed_model import (
    ReviewDesign,
    absorbed,
    solve_laplacian,
    solve_random_outputs,
    variance_components,
)
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

FIXED_OUTPUTS = "fixed outputs"
RANDOM_OUTPUTS = "random outputs"
AGENT_MEANS = "agent means"
NOT_ESTIMATED = "none"

_MIN_RESIDUAL_DF = 10
_PRECISE_CONTRAST = 0.25
_LEAST_NOISE = 1e-6


@dataclass(frozen=True)
class Severity:
    """Severity of each reviewer in one aspect.

    Attributes:
        value: Points more than average (R,), 0 for a reviewer without a score in this aspect.
        se: Standard error (R,), NaN where undefined.
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
    laplacian = absorbed(design, 1.0 / design.per_output)
    output_mean = group_sums(design.row_output, score, len(design.per_output)) / design.per_output
    within = score - output_mean[design.row_output]
    contrast_rhs = group_sums(design.row_reviewer, within, design.n_reviewers)
    contrast, contrast_var = solve_laplacian(laplacian, contrast_rhs, design)

    within_ss = float(within @ within)
    # Reviewers who differ by a constant leave no noise at all; what rounding leaves must not decide a division.
    unexplained = max(within_ss - float(contrast_rhs @ contrast), _LEAST_NOISE * within_ss)
    noise = unexplained / design.n_residual
    variances = variance_components(design, score, within_ss, noise)
    noise, output, reviewer = variances
    if reviewer <= 0.0:
        reason = "reviewers do not differ beyond chance"
        return _result(design, np.zeros(design.n_reviewers), np.zeros(design.n_reviewers), RANDOM_OUTPUTS, reason, variances)

    # A reviewer who shares no output has no contrast at all; beyond _DENSE_REVIEWERS contrast variances are not computed.
    seen = design.per_reviewer > 0
    ridge = noise / reviewer
    if contrast_var is not None and (np.sqrt(noise * contrast_var[seen]) < _PRECISE_CONTRAST * np.sqrt(reviewer)).all():
        value, _ = solve_laplacian(laplacian, contrast_rhs, design, ridge)
        return _result(design, value, _standard_error(contrast_var, noise, seen), FIXED_OUTPUTS, None, variances)
    value, unit_var = solve_random_outputs(design, score, ridge, noise / output if output > 0.0 else np.inf)
    return _result(design, value, _standard_error(unit_var, noise, seen), RANDOM_OUTPUTS, None, variances)


def _standard_error(unit_var: Floats, noise: float, seen: npt.NDArray[np.bool_]) -> Floats:
    return np.where(seen, np.sqrt(noise * np.maximum(unit_var, 0.0)), np.nan)


def _agent_means(design: ReviewDesign, score: Floats, reason: str, rounds: int = 3) -> Severity:
    """Alternate agent means and shrunken reviewer means; s2 and t2 by the moments of the one-way layout."""
    n_rows, per_reviewer = len(score), design.per_reviewer
    n_seen = design.reviewers_seen
    value = np.zeros(design.n_reviewers)
    if n_rows <= n_seen:
        reason = f"{reason}, and no reviewer has two scores"
        return _result(design, value, np.full(len(value), np.nan), AGENT_MEANS, reason, (np.nan, np.nan, np.nan))
    per_agent = np.bincount(design.row_agent)
    noise = spread = 0.0
    for _ in range(rounds):
        agent_mean = group_sums(design.row_agent, score - value[design.row_reviewer], len(per_agent)) / per_agent
        residual = score - agent_mean[design.row_agent]
        mean = group_sums(design.row_reviewer, residual, len(value)) / np.maximum(per_reviewer, 1)
        noise = float(((residual - mean[design.row_reviewer]) ** 2).sum()) / (n_rows - n_seen)
        numerator = float((per_reviewer * mean**2).sum()) - noise * (n_seen - 1)
        spread = max(0.0, numerator / (n_rows - float((per_reviewer**2).sum()) / n_rows))
        shrink = (
            np.divide(per_reviewer * spread, per_reviewer * spread + noise, out=np.zeros_like(mean), where=per_reviewer > 0)
            if spread > 0
            else 0.0
        )
        value = mean * shrink
    se = np.sqrt(
        np.divide(
            spread * noise, per_reviewer * spread + noise, out=np.zeros_like(value), where=per_reviewer * spread + noise > 0
        )
    )
    return _result(design, value, np.where(per_reviewer > 0, se, np.nan), AGENT_MEANS, reason, (noise, np.nan, spread))


def _result(
    design: ReviewDesign, value: Floats, se: Floats, method: str, reason: str | None, variances: tuple[float, float, float]
) -> Severity:
    noise, output, reviewer = variances
    comparable = design.comparable if method != AGENT_MEANS else np.zeros(design.n_reviewers, dtype=bool)
    return Severity(
        value, se, design.per_reviewer.astype(np.intp), design.component, comparable, method, reason, noise, output, reviewer
    )
