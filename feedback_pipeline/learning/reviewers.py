"""The empirical-Bayes mixed model of reviewers, fitted from sums per reviewer alone.

y = X b + W u_r + e with u_r ~ N(0, diag tau2), e ~ N(0, s2). b is fixed, except for groups of columns (curvature, the levels of
a category, agents) that share a normal prior whose variance is estimated too: it keeps small data from being over-fitted.
Variances are found by the fixed-point form of EM (MacKay 1992): at its rest the derivative of the marginal likelihood is 0 as
with EM, but a variance on its way to 0 shrinks geometrically instead of ever more slowly.
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
_TOLERANCE = 1e-4
_PART = 256
_THREADS = 2
_MANY_REVIEWERS = 2000
_MATTERS_NOT = 1e-5
_NEGLIGIBLE = 1e-6
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
        start: Where to start from, for example the variances of yesterday.
        pseudo_effects: Weight of a prior on every tau2, in effects known exactly, of variance 1.

    Raises:
        LearningError: there is no row, or the variances did not come to rest.
    """
    if moments.n_rows <= 0:
        raise LearningError("the reviewer model has no row to learn from; wait for reviews with scores")
    # On a busy machine the threads of many small products wait for each other longer than one thread works.
    with threadpool_limits(limits=1, user_api="blas"):
        variances = start or _initial(moments, group, noise)
        active = np.flatnonzero(moments.rows > 0)
        if len(active) == 1:
            # A single reviewer cannot be told from the population.
            variances = replace(variances, personal=np.zeros_like(variances.personal))
        alone = np.arange(len(moments.personal))
        problem = _Problem(moments, group, alone if personal_group is None else personal_group, noise, pseudo_effects)
        variances, steps = _at_rest(problem, variances)
        state = _solve(moments, group, variances)
        likelihood = _log_likelihood(moments, group, variances, state)
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
    group: Ints
    personal_group: Ints
    noise: float | None
    pseudo_effects: float


@dataclass(frozen=True)
class _State:
    population: Floats
    covariance: Floats
    effects: Floats
    uncertainty: Floats


def _initial(moments: ReviewerMoments, group: Ints, noise: float | None) -> Variances:
    spread = _spread(moments)
    personal = np.full(len(moments.personal), 0.02 * spread)
    personal[:1] = 0.2 * spread
    return Variances(noise if noise is not None else 0.6 * spread, personal, np.full(int(group.max()) + 1, 0.05 * spread))


def _spread(moments: ReviewerMoments) -> float:
    """Variance of y around its mean as far as a constant column is there, never 0."""
    square = moments.yy / moments.n_rows
    first = moments.xy[0] ** 2 / moments.xx[0, 0] / moments.n_rows if moments.xx[0, 0] > 0 else 0.0
    return float(max(square - first, 1e-8 * (square + 1.0)))


def _at_rest(problem: _Problem, variances: Variances) -> tuple[Variances, int]:
    least = _LEAST_NOISE * _spread(problem.moments)

    def step(flat: Floats) -> Floats:
        return _update(problem, variances.with_values(flat), least).values

    # The more reviewers, the dearer a step, and the smaller a step is against what reviewers leave unknown.
    tolerance = _TOLERANCE if len(problem.moments.rows) < _MANY_REVIEWERS else 10 * _TOLERANCE
    found = find_rest(step, variances.values, tolerance=tolerance, negligible=_MATTERS_NOT, steps=_STEPS)
    if found is None:
        raise LearningError(f"the reviewer model did not converge in {_STEPS} steps; check for extreme scores or features")
    return variances.with_values(found[0]), found[1]


def _solve(moments: ReviewerMoments, group: Ints, variances: Variances) -> _State:
    noise = variances.noise
    n_reviewers = len(moments.rows)
    parts = [slice(start, start + _PART) for start in range(0, n_reviewers, _PART)]
    uncertainty = np.empty_like(moments.wx[:, :, : len(variances.personal)])

    def absorb(part: slice) -> tuple[Floats, Floats]:
        root, wx = np.sqrt(variances.personal), moments.wx[part]
        inner = root[:, None] * wx[:, :, moments.personal] * (root / noise) + np.eye(len(root))
        uncertainty[part] = root[:, None] * np.linalg.inv(inner) * root
        gained = (uncertainty[part] @ wx).reshape(-1, wx.shape[2])
        return wx.reshape(gained.shape).T @ gained, gained.T @ moments.wy[part].ravel()

    # Parts that fit the cache, on both cores; their sums are added in order, so the result does not depend on who was first.
    if len(parts) > 1:
        with ThreadPoolExecutor(_THREADS) as pool:
            taken = list(pool.map(absorb, parts))
    else:
        taken = [absorb(part) for part in parts]
    information = (moments.xx - sum(part[0] for part in taken) / noise) / noise
    right = (moments.xy - sum(part[1] for part in taken) / noise) / noise
    covariance = _inverse(information + np.diag(_precision(group, variances.population)))
    population = covariance @ right
    residual = moments.wy - moments.wx @ population
    effects = (uncertainty @ residual[:, :, None])[:, :, 0] / noise
    return _State(population, covariance, effects, uncertainty)


def _precision(group: Ints, population: Floats) -> Floats:
    padded = np.append(1.0 / np.maximum(population, 1e-12), 0.0)
    return padded[group]


def _inverse(matrix: Floats) -> Floats:
    """Pseudo-inverse of a symmetric matrix, on the scale of its diagonal: columns that repeat others share their effect."""
    scale = 1.0 / np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
    inverse: Floats = scale[:, None] * np.linalg.pinv(scale[:, None] * matrix * scale, rcond=1e-10, hermitian=True) * scale
    return inverse


def _update(problem: _Problem, variances: Variances, least: float) -> Variances:
    moments, group, noise = problem.moments, problem.group, problem.noise
    state = _solve(moments, group, variances)
    active = moments.rows > 0
    posterior = np.diagonal(state.uncertainty, axis1=1, axis2=2)[active]
    tau2 = variances.personal
    free = np.where(tau2 > 0, 1.0 - posterior / np.where(tau2 > 0, tau2, 1.0), 0.0).sum(axis=0)
    own = (state.effects[active] ** 2).sum(axis=0)
    shared, n_shared = problem.personal_group, int(problem.personal_group.max()) + 1
    prior_effects = np.where(tau2 > 0, problem.pseudo_effects, 0.0)
    personal = _ratio(group_sums(shared, own + prior_effects, n_shared), group_sums(shared, free + prior_effects, n_shared))[
        shared
    ]
    personal = np.where(personal > _NEGLIGIBLE * variances.noise, personal, 0.0)

    prior, in_group = variances.population, group[group >= 0]
    well = 1.0 - np.diag(state.covariance)[group >= 0] / prior[in_group]
    squares = state.population[group >= 0] ** 2
    learned = group_sums(in_group, well, len(prior))
    population = np.maximum(_ratio(group_sums(in_group, squares, len(prior)), learned), 1e-9 * variances.noise)
    if noise is not None:
        return Variances(noise, personal, population)
    left = max(moments.n_rows - float(free.sum()) - float(learned.sum()), 1.0)
    return Variances(max(_residual_squares(moments, state) / left, least), personal, population)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    ratio: Floats = np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 1e-12)
    return ratio


def _residual_squares(moments: ReviewerMoments, state: _State) -> float:
    b, u = state.population, state.effects
    fitted = moments.yy - 2.0 * b @ moments.xy + b @ moments.xx @ b
    cross = moments.wy - moments.wx @ b
    own = (moments.ww @ u[:, :, None])[:, :, 0]
    return float(max(fitted - 2.0 * (u * cross).sum() + (u * own).sum(), 0.0))


def _log_likelihood(moments: ReviewerMoments, group: Ints, variances: Variances, state: _State) -> float:
    noise, root = variances.noise, np.sqrt(variances.personal)
    inner = root[:, None] * moments.ww * (root / noise) + np.eye(len(root))
    personal = np.linalg.slogdet(inner)[1].sum()
    explained = state.population @ moments.xy + (state.effects * moments.wy).sum()
    prior = np.append(variances.population, 1.0)[group]
    # Columns without a prior are maximised over, the others integrated out.
    free = group >= 0
    shared = -np.linalg.slogdet(state.covariance[np.ix_(free, free)] / np.sqrt(np.outer(prior[free], prior[free])))[1]
    total = moments.n_rows * np.log(2.0 * np.pi * noise) + personal + shared + (moments.yy - explained) / noise
    return float(-0.5 * total)
