"""The linear algebra of score = agent + output + reviewer + noise: outputs, nested in agents, are absorbed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse import linalg as sparse_linalg

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

_DENSE_REVIEWERS = 2000


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


def absorbed(design: ReviewDesign, weight: Floats) -> sparse.csr_array:
    """W'W - C' diag(weight) C: reviewers after absorbing the outputs with the given weights, (R, R)."""
    scaled = sparse.diags_array(np.sqrt(weight)) @ design.counts
    absorbed: sparse.csr_array = (sparse.diags_array(design.per_reviewer) - scaled.T @ scaled).tocsr()
    return absorbed


def variance_components(design: ReviewDesign, score: Floats, within_ss: float, noise: float) -> tuple[float, float, float]:
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


def solve_laplacian(
    laplacian: sparse.csr_array, rhs: Floats, design: ReviewDesign, ridge: float = 0.0
) -> tuple[Floats, Floats | None]:
    """Minimum-norm solution of (laplacian + ridge I) u = rhs, and the diagonal of the pseudo-inverse.

    The diagonal is infinite for a reviewer who shares no output; beyond dense sizes it is None and the ridge must be 0.
    """
    if design.n_reviewers > _DENSE_REVIEWERS:
        return _conjugate_gradients(laplacian, rhs, laplacian.diagonal()), None
    seen = np.flatnonzero(design.component >= 0)
    label = design.component[seen]
    size = np.bincount(label)
    null_space = (label[:, None] == label[None, :]) / size[label][:, None]
    # With the null space filled in the matrix is regular even without a ridge; rhs has no part in it.
    filled = laplacian.toarray()[np.ix_(seen, seen)] + null_space + ridge * np.eye(len(seen))
    inverse = np.linalg.inv(filled) - null_space / (1.0 + ridge)
    value, variance = np.zeros(design.n_reviewers), np.zeros(design.n_reviewers)
    value[seen] = inverse @ rhs[seen]
    variance[seen] = np.where(size[label] > 1, np.diag(inverse), np.inf)
    return value, variance


def _solve_ridge(matrix: sparse.csr_array, rhs: Floats, ridge: float, low_rank: Floats) -> tuple[Floats, Floats]:
    """Solve (matrix - low_rank' low_rank + ridge I) u = rhs; also the inverse's diagonal (a lower bound beyond dense sizes)."""
    n = len(rhs)
    if n <= _DENSE_REVIEWERS:
        inverse = np.linalg.inv(matrix.toarray() + ridge * np.eye(n) - low_rank.T @ low_rank)
        return inverse @ rhs, np.diag(inverse).copy()
    diagonal = matrix.diagonal() + ridge
    shifted = (matrix + ridge * sparse.eye_array(n)).tocsr()
    factor = sparse.csr_array(low_rank)
    operator = sparse_linalg.LinearOperator((n, n), matvec=lambda v: shifted @ v - factor.T @ (factor @ v), dtype=np.float64)
    return _conjugate_gradients(operator, rhs, diagonal), 1.0 / diagonal


def _conjugate_gradients(operator: sparse.csr_array | sparse_linalg.LinearOperator, rhs: Floats, diagonal: Floats) -> Floats:
    preconditioner = sparse.diags_array(1.0 / np.where(diagonal > 0, diagonal, 1.0))
    solution, info = sparse_linalg.cg(operator, rhs, rtol=1e-10, maxiter=5000, M=preconditioner)
    if info != 0:
        raise LearningError("severity did not converge: conjugate gradients stopped after 5000 steps; check for extreme scores")
    return np.asarray(solution)


def solve_random_outputs(design: ReviewDesign, score: Floats, ridge: float, output_ridge: float) -> tuple[Floats, Floats]:
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
    return _solve_ridge(absorbed(design, weight), rhs, ridge, root[:, None] * agent_reviewer)
