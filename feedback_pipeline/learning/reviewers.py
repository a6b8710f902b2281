"""The empirical-Bayes mixed model of reviewers, fitted from sums per reviewer alone.

y = X b + W u_r + e with u_r ~ N(0, diag tau2), e ~ N(0, s2). b is fixed, except for groups of columns (curvature, the levels of
a category) that share a normal prior whose variance p is estimated too: it keeps small data from being over-fitted.

Given the variances, with V_r = (W'W / s2 + diag 1/tau2)^-1 the posterior covariance of u_r at the b found,
    (X'X - sum_r X'W V_r W'X / s2 + s2 diag 1/p) b = X'y - sum_r X'W V_r W'y / s2,    u_r = V_r W'(y - X b) / s2.
Given b and u, every variance is a sum of squares over the degrees of freedom that it is known by (MacKay 1992, "Bayesian
interpolation"): tau2 = sum_r u_r^2 / sum_r (1 - V_r / tau2), p alike, s2 = residual squares / (rows - all those degrees).
It rests where EM does, tau2 = mean(u_r^2 + V_r), but a variance on its way to 0 shrinks geometrically instead of ever more
slowly. V_r leaves out that b is not known exactly: tau2 is a maximum likelihood estimate, not a restricted one.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.reviewer_moments import ReviewerMoments
from feedback_pipeline.learning.reviewers_steps import Variances, find_rest

FIXED = -1
"""Group of a column without a prior."""

_STEPS = 1000
_LEAST_GAIN = 1e-6
"""Of log likelihood per row: nothing that a forecast could show."""
_PART = 256
_THREADS = 2
_NEGLIGIBLE = 1e-6
_FLOOR = 1e-9
_LEAST_NOISE = 1e-4


@dataclass(frozen=True)
class ReviewerModel:
    """A fitted mixed model.

    Attributes:
        population: b (P,), and its covariance (P, P).
        effects: u of each reviewer (R, Q), 0 for a reviewer without rows.
        uncertainty: Posterior covariance of u given b (R, Q, Q), diag tau2 for a reviewer without rows.
        variances: Variance components.
        personal: Positions of the personal columns among the P (Q,).
        rows: Rows of each reviewer (R,).
        log_likelihood: Marginal log likelihood of the rows, maximised over fixed columns.
        steps: Steps until the variances rested.
    """

    population: Floats
    population_covariance: Floats
    effects: Floats
    uncertainty: Floats
    variances: Variances
    personal: Ints
    rows: Floats
    log_likelihood: float
    steps: int

    def effects_of(self, reviewer: Ints) -> tuple[Floats, Floats]:
        """Effects u (M, Q) and their covariance (M, Q, Q); a new reviewer (-1) gets the population: 0 with diag tau2."""
        known = reviewer >= 0
        effects = np.where(known[:, None], self.effects[reviewer], 0.0)
        prior = np.diag(self.variances.personal)
        return effects, np.where(known[:, None, None], self.uncertainty[reviewer], prior)


def fit_reviewer_model(
    moments: ReviewerMoments,
    group: Ints,
    *,
    personal_group: Ints | None = None,
    noise: float | None = None,
    start: Variances | None = None,
    pseudo_effects: float = 0.0,
) -> ReviewerModel:
    """Fit the mixed model.

    Args:
        moments: Sums of the rows.
        group: Prior group of each population column (P,), FIXED for none.
        personal_group: Columns of one group share their tau2 (Q,), as the levels of a category do; each its own when left out.
        noise: s2 where it is known, as with working responses of a logistic model.
        start: Where to start from, for example the variances of yesterday; a tau2 of 0 stays 0.
        pseudo_effects: Weight of a prior on every tau2, in effects known exactly, of variance 1.

    Raises:
        LearningError: there is no row, or the variances did not come to rest.
    """
    if moments.n_rows <= 0:
        raise LearningError("the reviewer model has no row to learn from; wait for reviews with scores")
    alone = np.arange(len(moments.personal))
    problem = _Problem(moments, moments.ww, group, alone if personal_group is None else personal_group, noise, pseudo_effects)
    # On a busy machine the threads of many small products wait for each other longer than one thread works.
    with threadpool_limits(limits=1, user_api="blas"):
        variances, steps = _at_rest(problem, start or _initial(problem))
        state = _solve(problem, variances)
        likelihood = _log_likelihood(problem, variances, state)
    return ReviewerModel(
        state.population,
        state.covariance,
        state.effects,
        state.uncertainty,
        variances,
        moments.personal,
        moments.rows,
        likelihood,
        steps,
    )


@dataclass(frozen=True)
class _Problem:
    moments: ReviewerMoments
    ww: Floats
    group: Ints
    personal_group: Ints
    noise: float | None
    pseudo_effects: float


@dataclass(frozen=True)
class _State:
    """The effects at given variances; information (P, P) of b without its prior, residual W'(y - X b) (R, Q)."""

    population: Floats
    covariance: Floats
    information: Floats
    effects: Floats
    uncertainty: Floats
    residual: Floats


def _initial(problem: _Problem) -> Variances:
    spread = _spread(problem.moments)
    personal = np.full(len(problem.moments.personal), 0.02 * spread)
    personal[:1] = 0.2 * spread
    population = np.full(int(problem.group.max()) + 1, 0.05 * spread)
    return Variances(problem.noise if problem.noise is not None else 0.6 * spread, personal, population)


def _spread(moments: ReviewerMoments) -> float:
    """Variance of y around its mean as far as a constant column is there, never 0."""
    square = moments.yy / moments.n_rows
    first = moments.xy[0] ** 2 / moments.xx[0, 0] / moments.n_rows if moments.xx[0, 0] > 0 else 0.0
    return float(max(square - first, 1e-8 * square) or 1.0)


def _at_rest(problem: _Problem, start: Variances) -> tuple[Variances, int]:
    if (problem.moments.rows > 0).sum() == 1:
        # A single reviewer cannot be told from the population.
        start = replace(start, personal=np.zeros_like(start.personal))
    least_noise = _LEAST_NOISE * _spread(problem.moments)

    def step(values: Floats) -> tuple[Floats, float]:
        return _step(problem, start.with_values(values), least_noise)

    found = find_rest(step, start.values, least_gain=_LEAST_GAIN * problem.moments.n_rows, steps=_STEPS)
    if found is None:
        raise LearningError(f"the reviewer model did not converge in {_STEPS} steps; check for extreme scores or features")
    variances = start.with_values(found[0])
    differ = variances.personal > _NEGLIGIBLE * variances.noise
    return replace(variances, personal=np.where(differ, variances.personal, 0.0)), found[1]


def _solve(problem: _Problem, variances: Variances) -> _State:
    moments, noise = problem.moments, variances.noise
    scale = _outer_root(variances.personal)
    uncertainty = np.empty_like(problem.ww)

    def absorb(first: int) -> tuple[Floats, Floats]:
        part = slice(first, first + _PART)
        wx = moments.wx[part]
        uncertainty[part] = scale * np.linalg.inv(_inner(problem.ww[part], scale / noise))
        gained = (uncertainty[part] @ wx).reshape(-1, wx.shape[2])
        return wx.reshape(gained.shape).T @ gained, gained.T @ moments.wy[part].ravel()

    # Parts that fit the cache, on both cores; their sums are added in order, so the result does not depend on who was first.
    with ThreadPoolExecutor(_THREADS) as pool:
        taken = list(pool.map(absorb, range(0, len(moments.rows), _PART)))
    information = (moments.xx - sum(part[0] for part in taken) / noise) / noise
    right = (moments.xy - sum(part[1] for part in taken) / noise) / noise
    precision = np.append(1.0 / variances.population, 0.0)[problem.group]
    covariance = _inverse(information + np.diag(precision))
    population = covariance @ right
    residual = moments.wy - moments.wx @ population
    effects = (uncertainty @ residual[:, :, None])[:, :, 0] / noise
    return _State(population, covariance, information, effects, uncertainty, residual)


def _outer_root(tau2: Floats) -> Floats:
    root = np.sqrt(tau2)
    return np.outer(root, root)


def _inner(information: Floats, scale: Floats) -> Floats:
    """T^1/2 information T^1/2 + I (..., Q, Q), T = diag tau2: the inverse of T^-1/2 V T^-1/2, and no division by a tau2 of 0."""
    inner: Floats = information * scale + np.eye(len(scale))
    return inner


def _inverse(matrix: Floats) -> Floats:
    """Pseudo-inverse of a symmetric matrix, on the scale of its diagonal: columns that repeat others share their effect."""
    scale = 1.0 / np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
    inverse: Floats = scale[:, None] * np.linalg.pinv(scale[:, None] * matrix * scale, rcond=1e-10, hermitian=True) * scale
    return inverse


def _step(problem: _Problem, variances: Variances, least_noise: float) -> tuple[Floats, float]:
    """The next values of the variances, and what the step gains in log likelihood, to first order."""
    moments, state, values = problem.moments, _solve(problem, variances), variances.values
    own, own_freedom = _personal_squares(problem, variances.personal, state)
    shared, shared_freedom = _population_squares(problem, variances.population, state)
    left = max(moments.n_rows - float(own_freedom.sum()) - float(shared_freedom.sum()), 1.0)
    residual = max(_residual_squares(moments, variances, state), least_noise * left)
    if problem.noise is not None:
        residual = problem.noise * left
    # The prior of the personal variances is made of effects known exactly.
    imagined = np.where(variances.personal > 0, problem.pseudo_effects, 0.0)
    squares = np.concatenate([[residual], own + imagined, shared])
    freedom = np.concatenate([[left], own_freedom + imagined, shared_freedom])
    found = np.divide(squares, freedom, out=np.zeros(len(squares)), where=freedom > 1e-12)
    positive = values > 0
    point = np.where(positive, np.maximum(found, _FLOOR * found[0]), 0.0)
    gain = (squares[positive] / values[positive] - freedom[positive]) * np.log(point[positive] / values[positive])
    return point, float(0.5 * np.abs(gain).sum())


def _personal_squares(problem: _Problem, tau2: Floats, state: _State) -> tuple[Floats, Floats]:
    """Sum of squares of the effects in each personal column, and its degrees of freedom (Q,): means over columns of one group."""
    active = problem.moments.rows > 0
    posterior = np.diagonal(state.uncertainty, axis1=1, axis2=2)[active]
    freedom = np.where(tau2 > 0, 1.0 - posterior / np.where(tau2 > 0, tau2, 1.0), 0.0).sum(axis=0)
    squares = (state.effects[active] ** 2).sum(axis=0)
    shared, size = problem.personal_group, np.bincount(problem.personal_group)
    return (group_sums(shared, squares, len(size)) / size)[shared], (group_sums(shared, freedom, len(size)) / size)[shared]


def _population_squares(problem: _Problem, prior: Floats, state: _State) -> tuple[Floats, Floats]:
    """The same for each group of population columns with a prior (groups,)."""
    columns = problem.group >= 0
    group = problem.group[columns]
    freedom = 1.0 - np.diag(state.covariance)[columns] / prior[group]
    return group_sums(group, state.population[columns] ** 2, len(prior)), group_sums(group, freedom, len(prior))


def _residual_squares(moments: ReviewerMoments, variances: Variances, state: _State) -> float:
    """|y - X b - W u|^2, with W'W u = W'(y - X b) - s2 u / tau2."""
    b, u, tau2 = state.population, state.effects, variances.personal
    without_personal = moments.yy - 2.0 * b @ moments.xy + b @ moments.xx @ b
    squares = (u * u).sum(axis=0)
    penalty = variances.noise * float((squares[tau2 > 0] / tau2[tau2 > 0]).sum())
    return float(without_personal - (u * state.residual).sum() - penalty)


def _log_likelihood(problem: _Problem, variances: Variances, state: _State) -> float:
    """Of the rows, with every effect that has a prior integrated out, at the best values of the fixed columns."""
    moments, noise = problem.moments, variances.noise
    inner = _inner(problem.ww, _outer_root(variances.personal) / noise)
    own = 2.0 * np.log(np.diagonal(np.linalg.cholesky(inner), axis1=1, axis2=2)).sum()
    random = problem.group >= 0
    prior = _outer_root(variances.population[problem.group[random]])
    shared = np.linalg.slogdet(_inner(state.information[np.ix_(random, random)], prior))[1]
    explained = state.population @ moments.xy + (state.effects * moments.wy).sum()
    rows = moments.n_rows * np.log(2.0 * np.pi * noise)
    return float(-0.5 * (rows + own + shared + (moments.yy - explained) / noise))
