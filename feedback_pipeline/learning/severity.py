"""Reviewer severity: how many points more than the average reviewer somebody gives.

score = agent + o_output + u_reviewer + e, with o ~ N(0, s_o2), u ~ N(0, s_u2), e ~ N(0, s_e2). Outputs are nested in agents,
so both are absorbed and one system in the reviewers is left (Henderson's mixed-model equations). Where every reviewer's
within-output contrast is precise, output effects are fixed instead: contrasts cannot be fooled by who reviews what. Where no
output has two reviewers the model is not identified and a moment estimate on agent means stands in, marked not comparable.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse import linalg as sparse_linalg

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

FIXED_OUTPUTS = "fixed outputs"
RANDOM_OUTPUTS = "random outputs"
AGENT_MEANS = "agent means"
NOT_ESTIMATED = "none"

_DENSE_REVIEWERS = 2000
_MIN_RESIDUAL_DF = 10
_PRECISE_CONTRAST = 0.25


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
        LearningError: a score is not finite, or the conjugate gradients did not converge.
    """
    if not np.isfinite(score).all():
        raise LearningError("severity needs finite scores; drop missing scores first")
    design = _Design.of(agent, output, reviewer, n_reviewers)
    if design.reviewers_seen <= 1:
        reason = "one reviewer" if design.reviewers_seen else "no data"
        return design.result(np.zeros(n_reviewers), np.full(n_reviewers, np.nan), NOT_ESTIMATED, reason, (np.nan, np.nan, np.nan))
    if design.n_residual < _MIN_RESIDUAL_DF:
        reason = "no output has two reviewers" if not design.overlaps else "too few outputs have two reviewers"
        return _agent_means(design, score, reason)
    return _joint_model(design, score)


@dataclass(frozen=True)
class _Design:
    """Counts of the design that every estimate shares; outputs and agents are recoded densely."""

    agent: Ints  # of each output (O,)
    row_output: Ints
    row_agent: Ints
    row_reviewer: Ints
    n_reviewers: int
    counts: sparse.csr_array  # (O, R) reviews
    per_output: Floats
    per_reviewer: Floats
    component: Ints
    n_components: int

    @classmethod
    def of(cls, agent: Ints, output: Ints, reviewer: Ints, n_reviewers: int) -> "_Design":
        outputs, row_output = np.unique(output, return_inverse=True)
        row_agent = np.unique(agent, return_inverse=True)[1]
        output_agent = np.zeros(len(outputs), dtype=np.intp)
        output_agent[row_output] = row_agent
        counts = sparse.csr_array((np.ones(len(reviewer)), (row_output, reviewer)), shape=(len(outputs), n_reviewers))
        counts.sum_duplicates()
        n_components, component = _components(counts)
        return cls(
            output_agent,
            row_output,
            row_agent,
            reviewer,
            n_reviewers,
            counts,
            np.bincount(row_output, minlength=len(outputs)).astype(np.float64),
            np.bincount(reviewer, minlength=n_reviewers).astype(np.float64),
            component,
            n_components,
        )

    @property
    def reviewers_seen(self) -> int:
        return int((self.per_reviewer > 0).sum())

    @property
    def overlaps(self) -> bool:
        return bool((np.diff(self.counts.indptr) > 1).any())

    @property
    def n_residual(self) -> int:
        """Degrees of freedom left by fixed outputs and reviewers: M - rank."""
        return len(self.row_output) - len(self.per_output) - self.reviewers_seen + self.n_components

    @property
    def comparable(self) -> npt.NDArray[np.bool_]:
        """Members of a component that holds most reviewers; nobody when no output has two reviewers."""
        size = np.bincount(self.component[self.component >= 0], minlength=max(self.n_components, 1))
        majority = size[self.component] * 2 > self.reviewers_seen
        return (self.component >= 0) & majority & (self.overlaps or self.reviewers_seen == 1)

    def result(
        self, value: Floats, se: Floats, method: str, reason: str | None, variances: tuple[float, float, float]
    ) -> Severity:
        noise, output, reviewer = variances
        comparable = self.comparable if method != AGENT_MEANS else np.zeros(self.n_reviewers, dtype=bool)
        return Severity(
            value, se, self.per_reviewer.astype(np.intp), self.component, comparable, method, reason, noise, output, reviewer
        )


def _components(counts: sparse.csr_array) -> tuple[int, Ints]:
    """Connected components of the reviewer-output graph, numbered by their first reviewer; -1 for reviewers without a score."""
    n_outputs, n_reviewers = counts.shape
    graph = sparse.block_array([[None, counts], [counts.T, None]], format="csr")
    label = csgraph.connected_components(graph.astype(bool), directed=False)[1][n_outputs:]
    seen = np.asarray(counts.sum(axis=0)).ravel() > 0
    component = np.full(n_reviewers, -1, dtype=np.intp)
    first = np.unique(label[seen], return_index=True, return_inverse=True)
    component[seen] = np.argsort(np.argsort(first[1]))[first[2]]
    return len(first[0]), component


def _joint_model(design: _Design, score: Floats) -> Severity:
    laplacian = _absorbed(design, 1.0 / design.per_output)
    output_mean = group_sums(design.row_output, score, len(design.per_output)) / design.per_output
    within = score - output_mean[design.row_output]
    contrast_rhs = group_sums(design.row_reviewer, within, design.n_reviewers)
    contrast, contrast_var = _solve_laplacian(laplacian, contrast_rhs, design)

    within_ss = float(within @ within)
    noise = max(within_ss - float(contrast_rhs @ contrast), 0.0) / design.n_residual
    variances = _variance_components(design, score, within_ss, noise)
    noise, output, reviewer = variances
    if reviewer <= 0.0:
        reason = "reviewers do not differ beyond chance"
        return design.result(np.zeros(design.n_reviewers), np.zeros(design.n_reviewers), RANDOM_OUTPUTS, reason, variances)

    # A reviewer who shares no output has no contrast at all; beyond _DENSE_REVIEWERS contrast variances are not computed.
    seen = design.per_reviewer > 0
    ridge = noise / reviewer
    if contrast_var is not None and (np.sqrt(noise * contrast_var[seen]) < _PRECISE_CONTRAST * np.sqrt(reviewer)).all():
        value, _ = _solve_ridge(laplacian, contrast_rhs, ridge, None)
        return design.result(value, _standard_error(contrast_var, noise, seen), FIXED_OUTPUTS, None, variances)
    value, unit_var = _solve_random_outputs(design, score, ridge, noise / output if output > 0.0 else np.inf)
    return design.result(value, _standard_error(unit_var, noise, seen), RANDOM_OUTPUTS, None, variances)


def _standard_error(unit_var: Floats, noise: float, seen: npt.NDArray[np.bool_]) -> Floats:
    return np.where(seen, np.sqrt(noise * np.maximum(unit_var, 0.0)), np.nan)


def _absorbed(design: _Design, weight: Floats) -> sparse.csr_array:
    """W'W - C' diag(weight) C: reviewers after absorbing the outputs with the given weights, (R, R)."""
    scaled = sparse.diags_array(np.sqrt(weight)) @ design.counts
    absorbed: sparse.csr_array = (sparse.diags_array(design.per_reviewer) - scaled.T @ scaled).tocsr()
    return absorbed


def _variance_components(design: _Design, score: Floats, within_ss: float, noise: float) -> tuple[float, float, float]:
    """Moments (Henderson's method 1 on nested sums of squares): s_u2 from within outputs, s_o2 from within agents."""
    n_rows = len(score)
    squares = design.counts.multiply(design.counts)
    per_output_mix = float((np.asarray(squares.sum(axis=1)).ravel() / design.per_output).sum())
    between = n_rows - per_output_mix
    reviewer = max((within_ss - noise * (n_rows - len(design.per_output))) / between, 0.0) if between > 0 else 0.0

    per_agent = np.bincount(design.row_agent).astype(np.float64)
    agent_mean = group_sums(design.row_agent, score, len(per_agent)) / per_agent
    residual = score - agent_mean[design.row_agent]
    output_mix = float((group_sums(design.agent, design.per_output**2, len(per_agent)) / per_agent).sum())
    cells = sparse.csr_array(
        (np.ones(n_rows), (design.row_agent, design.row_reviewer)), shape=(len(per_agent), design.n_reviewers)
    )
    cells.sum_duplicates()
    reviewer_mix = float((np.asarray(cells.multiply(cells).sum(axis=1)).ravel() / per_agent).sum())
    explained = noise * (n_rows - len(per_agent)) + reviewer * (n_rows - reviewer_mix)
    spread = n_rows - output_mix
    output = max((float(residual @ residual) - explained) / spread, 0.0) if spread > 0 else 0.0
    return noise, output, reviewer


def _solve_laplacian(laplacian: sparse.csr_array, rhs: Floats, design: _Design) -> tuple[Floats, Floats | None]:
    """Minimum-norm solution and diagonal of the pseudo-inverse (infinite for a reviewer who shares no output)."""
    if design.n_reviewers > _DENSE_REVIEWERS:
        return _conjugate_gradients(laplacian, rhs, laplacian.diagonal()), None
    seen = np.flatnonzero(design.component >= 0)
    label = design.component[seen]
    size = np.bincount(label)
    null_space = (label[:, None] == label[None, :]) / size[label][:, None]
    inverse = np.linalg.inv(laplacian.toarray()[np.ix_(seen, seen)] + null_space) - null_space
    value, variance = np.zeros(design.n_reviewers), np.zeros(design.n_reviewers)
    value[seen] = inverse @ rhs[seen]
    variance[seen] = np.where(size[label] > 1, np.diag(inverse), np.inf)
    return value, variance


def _solve_ridge(matrix: sparse.csr_array, rhs: Floats, ridge: float, low_rank: Floats | None) -> tuple[Floats, Floats]:
    """Solve (matrix - low_rank' low_rank + ridge I) u = rhs; also the inverse's diagonal (a lower bound beyond dense sizes)."""
    n = len(rhs)
    if n <= _DENSE_REVIEWERS:
        dense = matrix.toarray() + ridge * np.eye(n)
        if low_rank is not None:
            dense -= low_rank.T @ low_rank
        inverse = np.linalg.inv(dense)
        return inverse @ rhs, np.diag(inverse).copy()
    diagonal = matrix.diagonal() + ridge
    shifted = (matrix + ridge * sparse.eye_array(n)).tocsr()
    if low_rank is None:
        return _conjugate_gradients(shifted, rhs, diagonal), 1.0 / diagonal
    factor = sparse.csr_array(low_rank)
    operator = sparse_linalg.LinearOperator((n, n), matvec=lambda v: shifted @ v - factor.T @ (factor @ v), dtype=np.float64)
    return _conjugate_gradients(operator, rhs, diagonal), 1.0 / diagonal


def _conjugate_gradients(operator: sparse.csr_array | sparse_linalg.LinearOperator, rhs: Floats, diagonal: Floats) -> Floats:
    preconditioner = sparse.diags_array(1.0 / np.where(diagonal > 0, diagonal, 1.0))
    solution, info = sparse_linalg.cg(operator, rhs, rtol=1e-10, maxiter=5000, M=preconditioner)
    if info != 0:
        raise LearningError("severity did not converge: conjugate gradients stopped after 5000 steps; check for extreme scores")
    return np.asarray(solution)


def _solve_random_outputs(design: _Design, score: Floats, ridge: float, output_ridge: float) -> tuple[Floats, Floats]:
    """Random outputs nested in fixed agents: absorb both, then solve for the reviewers."""
    weight = 1.0 / (design.per_output + output_ridge)  # 0 where outputs do not vary within agents
    kept = 1.0 - design.per_output * weight
    n_agents = int(design.agent.max()) + 1
    agent_total = group_sums(design.agent, design.per_output * kept, n_agents)
    agent_by_output = sparse.csr_array((kept, (design.agent, np.arange(len(kept)))), shape=(n_agents, len(kept)))
    agent_reviewer = (agent_by_output @ design.counts).toarray()
    root = 1.0 / np.sqrt(agent_total)

    output_sum = group_sums(design.row_output, score, len(design.per_output))
    shrunk = score - (weight * output_sum)[design.row_output]
    rhs = group_sums(design.row_reviewer, shrunk, design.n_reviewers)
    agent_sum = group_sums(design.agent, kept * output_sum, n_agents)
    rhs -= agent_reviewer.T @ (agent_sum / agent_total)
    return _solve_ridge(_absorbed(design, weight), rhs, ridge, root[:, None] * agent_reviewer)


def _agent_means(design: _Design, score: Floats, reason: str, rounds: int = 3) -> Severity:
    """Alternate agent means and shrunken reviewer means; s2 and t2 by the moments of the one-way layout."""
    n_rows, per_reviewer = len(score), design.per_reviewer
    n_seen = design.reviewers_seen
    value = np.zeros(design.n_reviewers)
    if n_rows <= n_seen:
        reason = f"{reason}, and no reviewer has two scores"
        return design.result(value, np.full(len(value), np.nan), AGENT_MEANS, reason, (np.nan, np.nan, np.nan))
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
    return design.result(value, np.where(per_reviewer > 0, se, np.nan), AGENT_MEANS, reason, (noise, np.nan, spread))
