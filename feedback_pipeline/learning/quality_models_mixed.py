"""The empirical-Bayes mixed model as a candidate: curves for all, slopes of each agent, severity and tastes of each reviewer."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.agent_effects import UsualAmounts
from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.quality_models_base import QualityModel, Standing, TrainingRows
from feedback_pipeline.learning.reviewer_moments import ReviewerMoments, RowDesign, moments_of
from feedback_pipeline.learning.reviewers import ReviewerModel, fit_reviewer_model
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import choose_slopes

_ROUNDS: Final = 2
_LEAST_NOISE: Final = 1e-3


@dataclass(frozen=True)
class MixedRows:
    """Encoded rows of the mixed model.

    Attributes:
        encoding: What the columns mean.
        columns: Encoded rows (M, P).
        agent, reviewer: Codes (M,).
        output: Output of each row (M,): its reviews share how good it is beyond its features.
        n_agents, n_reviewers: G, R.
    """

    encoding: Encoding
    columns: npt.NDArray[np.float32]
    agent: Ints
    reviewer: Ints
    output: Ints
    n_agents: int
    n_reviewers: int

    def only(self, rows: npt.NDArray[np.bool_]) -> "MixedRows":
        """Some of the rows, with the same agents and reviewers."""
        return replace(
            self,
            columns=self.columns[rows],
            agent=self.agent[rows],
            reviewer=self.reviewer[rows],
            output=np.unique(self.output[rows], return_inverse=True)[1],
        )

    @property
    def agent_columns(self) -> Ints:
        """Columns in which agents differ: intercept and slopes."""
        kinds = ("intercept", "slope")
        return np.array([i for i, column in enumerate(self.encoding.columns) if column.kind in kinds], dtype=np.intp)


@dataclass(frozen=True)
class MixedEffects:
    """What the mixed model has learned.

    Attributes:
        population: Of every column (P,).
        agent_columns: Columns in which agents differ (A,); by_agent: their effects (G, A).
        reviewer_columns: Columns in which reviewers differ (Q,); by_reviewer: their effects (R, Q).
    """

    population: Floats
    agent_columns: Ints
    by_agent: Floats
    reviewer_columns: Ints
    by_reviewer: Floats

    def points(self, columns: npt.NDArray[np.float32], agent: Ints, reviewer: Ints) -> Floats:
        """Expected score of each row (M,); agent or reviewer -1 is the average one."""
        value = _linear(columns, agent, self.agent_columns, self.by_agent)
        value += _linear(columns, reviewer, self.reviewer_columns, self.by_reviewer)
        return value + columns @ self.population.astype(columns.dtype)


class MixedModel(QualityModel):
    """Crossed mixed model: y = X b + Z a_agent + W u_reviewer + e, every variance estimated.

    Amounts are taken relative to the agent's usual ones. Agents and reviewers are fitted in turn, each with the effects of the
    other taken out, by `reviewers.fit_reviewer_model`; whether reviewers have slopes of their own the likelihood decides.
    """

    def _learn(self, rows: TrainingRows) -> None:
        self._learn_effects(self._encode(rows), rows.y)

    def _learn_effects(self, encoded: MixedRows, y: Floats) -> None:
        effects = fit_effects(encoded, y)
        # Rows of unknown reviewers shared the last code: that is nobody.
        self.effects_ = replace(effects, by_reviewer=effects.by_reviewer[:-1])

    def _encode(self, rows: TrainingRows) -> MixedRows:
        self.usual_ = UsualAmounts.of(rows.X, rows.agent, len(rows.agents))
        relative = self.usual_.relative(rows.X, rows.agent)
        self.encoding_ = Encoding.of(relative, self.features.numeric, self.features.categories)
        columns = self.encoding_.encode(relative)
        n_agents = len(rows.agents)
        output = same_outputs(rows.content * n_agents + rows.agent, columns)
        return MixedRows(self.encoding_, columns, rows.agent, rows.reviewer, output, n_agents, rows.n_reviewers)

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        return self.effects_.points(self.encoding_.encode(self.usual_.relative(X, agent)), agent, reviewer)


def same_outputs(key: Ints, columns: npt.NDArray[np.float32]) -> Ints:
    """Code of each row (M,): rows with one key and equal columns are of one output. Equality by a 64-bit fingerprint."""
    odd = np.random.default_rng(0).integers(0, 2**63, columns.shape[1] + 1, dtype=np.uint64) * 2 + 1
    mark = key.astype(np.uint64) * odd[-1]
    for column, factor in zip(columns.T, odd[:-1], strict=True):
        # Integers wrap around; a sum of products with odd numbers hashes them (Dietzfelbinger et al. 1997).
        mark = mark + np.ascontiguousarray(column).view(np.uint32) * factor
    return np.unique(mark, return_inverse=True)[1].astype(np.intp)


@dataclass(frozen=True)
class Quality:
    """Variance of what the reviews of one output share beyond all effects, and of what they do not.

    Attributes:
        output: Code of each row (M,); size: rows of each output (O,).
        shared: Variance of the hidden quality; noise: of a single review.
    """

    output: Ints
    size: Floats
    shared: float
    noise: float

    @classmethod
    def of(cls, output: Ints, residual: Floats) -> "Quality":
        """Moments of the one-way layout; without outputs that have several reviews all is noise."""
        size = np.bincount(output).astype(np.float64)
        n, groups = len(output), len(size)
        total = max(float(residual @ residual) / n, 1e-12)
        if n == groups:
            return cls(output, size, 0.0, total)
        mean = group_sums(output, residual, groups) / size
        within = float(((residual - mean[output]) ** 2).sum()) / (n - groups)
        noise = max(within, _LEAST_NOISE * total)
        return cls(output, size, max(total - noise, 0.0), noise)

    def mean(self, value: Floats) -> tuple[Floats, Floats]:
        """Mean of each output (O,) and its weight: 1 for a single review, (noise + shared) / (noise / m + shared) for m."""
        mean = group_sums(self.output, value, len(self.size)) / self.size
        return mean, (self.noise + self.shared) / (self.noise / self.size + self.shared)

    def from_others(self, residual: Floats) -> tuple[Floats, Floats]:
        """Hidden quality as the other reviews of the same output tell it (M,), and each row's weight given that (M,)."""
        others = (self.size - 1.0)[self.output]
        total = group_sums(self.output, residual, len(self.size))[self.output] - residual
        precision = self.noise + others * self.shared
        known = self.shared * total / precision
        variance = self.noise + self.shared * self.noise / precision
        return known, (self.noise + self.shared) / variance


def fit_effects(rows: MixedRows, y: Floats, rounds: int = _ROUNDS) -> MixedEffects:
    """Fit agents and reviewers in turn, each given the other and the hidden quality q of the outputs.

    Agents and population see the means of outputs, weighted by 1 / (q2 + s2 / m) for m reviews. Reviewers are told apart by
    r_i - E[q | the other rows of the output], weighted by its inverse variance: with V the covariance of an output's rows that
    is row i of V^-1 r, so the resting point solves the mixed-model equations with the outputs absorbed.

    Args:
        rows: Encoded rows.
        y: Scores (M,), finite.
        rounds: How often.

    Raises:
        LearningError: a fit did not converge.
    """
    encoding, unit = rows.encoding, np.arange(len(y))
    first = np.unique(rows.output, return_index=True)[1]
    of_agents = RowDesign(rows.columns, first, rows.agent[first], rows.n_agents, rows.agent_columns)
    of_reviewers = RowDesign(rows.columns, unit, rows.reviewer, rows.n_reviewers, encoding.personal)
    standing = Standing.of(rows.agent, rows.reviewer, y, rows.n_agents, rows.n_reviewers)
    by_reviewer = standing.severity[rows.reviewer]
    quality = Quality.of(rows.output, y - standing.mean - standing.level[rows.agent] - by_reviewer)
    for _ in range(rounds):
        agents = _fit_agents(moments_of(of_agents, *quality.mean(y - by_reviewer)), encoding.group)
        rest = y - _linear(rows.columns, rows.agent, agents.personal, agents.effects)
        rest -= rows.columns @ agents.population.astype(np.float32)
        hidden, weight = quality.from_others(rest - by_reviewer)
        personal = choose_slopes(encoding, np.zeros(rows.n_agents), moments_of(of_reviewers, rest - hidden, weight)).model
        by_reviewer = _linear(rows.columns, rows.reviewer, personal.personal, personal.effects)
        quality = Quality.of(rows.output, rest - rows.columns @ personal.population.astype(np.float32) - by_reviewer)
    population = agents.population + personal.population
    return MixedEffects(population, agents.personal, agents.effects, personal.personal, personal.effects)


def _fit_agents(moments: ReviewerMoments, group: Ints) -> ReviewerModel:
    """Agents differ in level alone, in slopes of one variance, or of one each: every variance must gain more than one unit.

    Few agents tell little of each slope, and where none differ the slopes of each would only repeat the noise.
    """
    alone = np.arange(len(moments.personal))
    model = fit_reviewer_model(moments.with_personal(alone[:1]), group)
    cost = 1.0
    for structure in (np.minimum(alone, 1), alone) if len(alone) > 1 else ():
        other = fit_reviewer_model(moments, group, personal_group=structure)
        differ = len(np.unique(structure[other.variances.personal > 0]))
        if other.log_likelihood - differ > model.log_likelihood - cost:
            model, cost = other, float(differ)
    return model


def _linear(columns: npt.NDArray[np.float32], code: Ints, positions: Ints, effects: Floats) -> Floats:
    """Effects of each row's code times its columns (M,); 0 for code -1."""
    own = np.vstack([effects, np.zeros((1, len(positions)))])
    value: Floats = np.einsum("mq,mq->m", columns[:, positions], own[code], dtype=np.float64)
    return value
