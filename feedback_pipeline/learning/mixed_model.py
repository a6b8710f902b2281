"""The linear algebra of score = agent + output + reviewer + noise: outputs, nested in agents, are absorbed."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse import linalg as sparse_linalg

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

_DENSE_REVIEWERS = 2000
_LEAST_NOISE = 1e-6
_TRACE_PROBES = 8


@dataclass(frozen=True)
class ReviewDesign:
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
    def of(cls, agent: Ints, output: Ints, reviewer: Ints, n_reviewers: int) -> "ReviewDesign":
        """Count the reviews of one aspect; the arguments are those of `severity.estimate_severity`."""
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
        """Reviewers with a score in this aspect."""
        return int((self.per_reviewer > 0).sum())

    @property
    def overlaps(self) -> bool:
        """Whether any output has two reviewers."""
        return bool((np.diff(self.counts.indptr) > 1).any())

    @property
    def n_residual(self) -> int:
        """Degrees of freedom left by fixed outputs and reviewers: M - rank."""
        return len(self.row_output) - len(self.per_output) - self.reviewers_seen + self.n_components

    @cached_property
    def laplacian(self) -> sparse.csr_array:
        """Matrix of the equations with fixed outputs (R, R): the Laplacian of the graph of reviewers who share outputs."""
        return _absorbed(self, 1.0 / self.per_output)

    @property
    def comparable(self) -> npt.NDArray[np.bool_]:
        """Members of a component that holds most reviewers; nobody when no output has two reviewers."""
        size = np.bincount(self.component[self.component >= 0], minlength=max(self.n_components, 1))
        majority = size[self.component] * 2 > self.reviewers_seen
        return (self.component >= 0) & majority & (self.overlaps or self.reviewers_seen == 1)


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


def _absorbed(design: ReviewDesign, weight: Floats) -> sparse.csr_array:
    """W'W - C' diag(weight) C: reviewers after absorbing the outputs with the given weights, (R, R)."""
    scaled = sparse.diags_array(np.sqrt(weight)) @ design.counts
    absorbed: sparse.csr_array = (sparse.diags_array(design.per_reviewer) - scaled.T @ scaled).tocsr()
    return absorbed


@dataclass(frozen=True)
class Solution:
    """Reviewers under the prior u ~ N(0, s_u2), with their prediction error covariance in units of the noise.

    Attributes:
        value: u (R,).
        variance: Diagonal of the covariance (R,), where not exact given all other reviewers, which is less.
        trace: Trace of the covariance, where not exact estimated with random signs (Hutchinson).
        exact: Whether the covariance was computed: up to 2,000 reviewers.
    """

    value: Floats
    variance: Floats
    trace: float
    exact: bool


@dataclass(frozen=True)
class Equations:
    """Normal equations of the reviewers, everything else absorbed: (matrix - low_rank' low_rank) u = rhs.

    Attributes:
        matrix: (R, R); low_rank: (any, R).
        rhs: (R,), sums to 0: reviewers are told apart, their common level belongs to the outputs.
    """

    matrix: sparse.csr_array
    low_rank: Floats
    rhs: Floats

    def solve(self, ridge: float) -> Solution:
        """Solve with the ridge s_e2 / s_u2 > 0.

        Raises:
            LearningError: conjugate gradients did not converge.
        """
        n = len(self.rhs)
        if n <= _DENSE_REVIEWERS:
            inverse = np.linalg.inv(self.matrix.toarray() - self.low_rank.T @ self.low_rank + ridge * np.eye(n))
            return Solution(inverse @ self.rhs, np.diag(inverse).copy(), float(np.trace(inverse)), exact=True)
        shifted = (self.matrix + ridge * sparse.eye_array(n)).tocsr()
        diagonal = shifted.diagonal() - (self.low_rank**2).sum(axis=0)
        factor = sparse.csr_array(self.low_rank)
        operator = sparse_linalg.LinearOperator((n, n), matvec=lambda v: shifted @ v - factor.T @ (factor @ v), dtype=np.float64)
        # Equal signs on every call: what is compared are traces of two matrices.
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (_TRACE_PROBES, n))
        traces = [sign @ _conjugate_gradients(operator, sign, diagonal, rtol=1e-6) for sign in signs]
        value = _conjugate_gradients(operator, self.rhs, diagonal)
        return Solution(value, 1.0 / diagonal, float(np.mean(traces)), exact=False)


def _conjugate_gradients(
    operator: sparse.csr_array | sparse_linalg.LinearOperator, rhs: Floats, diagonal: Floats, rtol: float = 1e-10
) -> Floats:
    preconditioner = sparse.diags_array(1.0 / np.where(diagonal > 0, diagonal, 1.0))
    solution, info = sparse_linalg.cg(operator, rhs, rtol=rtol, maxiter=5000, M=preconditioner)
    if info != 0:
        raise LearningError("severity did not converge: conjugate gradients stopped after 5000 steps; check for extreme scores")
    return np.asarray(solution)


@dataclass(frozen=True)
class WithinOutputs:
    """What the outputs with several reviews say by themselves.

    Attributes:
        equations: Normal equations with fixed outputs.
        sum_of_squares: Of the scores around the means of their outputs.
        noise: Variance of e: what fixed outputs and reviewers leave of it, by degree of freedom.
    """

    equations: Equations
    sum_of_squares: float
    noise: float


def fixed_outputs(design: ReviewDesign, score: Floats) -> WithinOutputs:
    """Fixed outputs, absorbed: reviewers are compared within outputs only. Needs `design.n_residual` > 0.

    Raises:
        LearningError: conjugate gradients did not converge.
    """
    output_mean = group_sums(design.row_output, score, len(design.per_output)) / design.per_output
    within = score - output_mean[design.row_output]
    equations = Equations(
        design.laplacian,
        np.zeros((0, design.n_reviewers)),
        group_sums(design.row_reviewer, within, design.n_reviewers),
    )
    total = float(within @ within)
    # Reviewers who differ by a constant leave no noise at all; what rounding leaves must not decide a division.
    unexplained = max(total - float(equations.rhs @ _contrasts(design, equations.rhs)), _LEAST_NOISE * total)
    return WithinOutputs(equations, total, unexplained / design.n_residual)


def _contrasts(design: ReviewDesign, rhs: Floats) -> Floats:
    """Solution of laplacian u = rhs, unshrunken (R,)."""
    if design.n_reviewers > _DENSE_REVIEWERS:
        return _conjugate_gradients(design.laplacian, rhs, design.laplacian.diagonal())
    seen = np.flatnonzero(design.component >= 0)
    label = design.component[seen]
    # Every component can be shifted as a whole; with that null space filled in the matrix is regular, and rhs has no part in it.
    null_space = (label[:, None] == label[None, :]) / np.bincount(label)[label][:, None]
    contrast = np.zeros(design.n_reviewers)
    contrast[seen] = np.linalg.solve(design.laplacian.toarray()[np.ix_(seen, seen)] + null_space, rhs[seen])
    return contrast


def random_outputs(design: ReviewDesign, score: Floats, output_ridge: float) -> Equations:
    """Normal equations with random outputs nested in fixed agents, both absorbed; `output_ridge` is s_e2 / s_o2."""
    weight = 1.0 / (design.per_output + output_ridge)  # 0 where outputs do not vary within agents
    kept = 1.0 - design.per_output * weight
    n_agents = int(design.agent.max()) + 1
    agent_total = group_sums(design.agent, design.per_output * kept, n_agents)
    agent_by_output = sparse.csr_array((kept, (design.agent, np.arange(len(kept)))), shape=(n_agents, len(kept)))
    agent_reviewer = (agent_by_output @ design.counts).toarray()

    output_sum = group_sums(design.row_output, score, len(design.per_output))
    shrunk = score - (weight * output_sum)[design.row_output]
    rhs = group_sums(design.row_reviewer, shrunk, design.n_reviewers)
    agent_sum = group_sums(design.agent, kept * output_sum, n_agents)
    rhs -= agent_reviewer.T @ (agent_sum / agent_total)
    return Equations(_absorbed(design, weight), agent_reviewer / np.sqrt(agent_total)[:, None], rhs)


def variance_components(design: ReviewDesign, score: Floats, within: WithinOutputs) -> tuple[float, float, float]:
    """Variances of e, o and u by moments (Henderson's method 1 on nested sums of squares): u within outputs, o within agents."""
    n_rows, noise = len(score), within.noise
    squares = design.counts.multiply(design.counts)
    per_output_mix = float((np.asarray(squares.sum(axis=1)).ravel() / design.per_output).sum())
    between = n_rows - per_output_mix
    explained = within.sum_of_squares - noise * (n_rows - len(design.per_output))
    reviewer = max(explained / between, 0.0) if between > 0 else 0.0

    per_agent = np.bincount(design.row_agent).astype(np.float64)
    agent_mean = group_sums(design.row_agent, score, len(per_agent)) / per_agent
    residual = score - agent_mean[design.row_agent]
    output_mix = float((group_sums(design.agent, design.per_output**2, len(per_agent)) / per_agent).sum())
    cells = sparse.csr_array(
        (np.ones(n_rows), (design.row_agent, design.row_reviewer)), shape=(len(per_agent), design.n_reviewers)
    )
    cells.sum_duplicates()
    reviewer_mix = float((np.asarray(cells.multiply(cells).sum(axis=1)).ravel() / per_agent).sum())
    expected = noise * (n_rows - len(per_agent)) + reviewer * (n_rows - reviewer_mix)
    spread = n_rows - output_mix
    output = max((float(residual @ residual) - expected) / spread, 0.0) if spread > 0 else 0.0
    return noise, output, reviewer
