"""The empirical-Bayes mixed model as a candidate: curves for all, slopes of each agent, severity and tastes of each reviewer."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.agent_effects import UsualAmounts
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality_models_base import QualityModel, Standing, TrainingRows
from feedback_pipeline.learning.reviewer_moments import RowDesign, moments_of
from feedback_pipeline.learning.reviewers import fit_reviewer_model
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import choose_slopes

_ROUNDS: Final = 2


@dataclass(frozen=True)
class MixedRows:
    """Encoded rows of the mixed model.

    Attributes:
        encoding: What the columns mean.
        columns: Encoded rows (M, P).
        agent, reviewer: Codes (M,).
        n_agents, n_reviewers: G, R.
    """

    encoding: Encoding
    columns: npt.NDArray[np.float32]
    agent: Ints
    reviewer: Ints
    n_agents: int
    n_reviewers: int

    def only(self, rows: npt.NDArray[np.bool_]) -> "MixedRows":
        """Some of the rows, with the same agents and reviewers."""
        return replace(self, columns=self.columns[rows], agent=self.agent[rows], reviewer=self.reviewer[rows])

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
        fitted: Floats = columns @ self.population.astype(columns.dtype)
        return value + fitted


class MixedModel(QualityModel):
    """Crossed mixed model: y = X b + Z a_agent + W u_reviewer + e, every variance estimated.

    Amounts are taken relative to the agent's usual ones. Agents and reviewers are fitted in turn, each with the effects of the
    other taken out, by `reviewers.fit_reviewer_model`; whether reviewers have slopes of their own the likelihood decides.
    """

    def _learn(self, rows: TrainingRows) -> None:
        encoded = self._encode(rows)
        self.effects_ = fit_effects(encoded, rows.y)
        # Rows of unknown reviewers shared the last code: that is nobody.
        self.effects_ = replace(self.effects_, by_reviewer=self.effects_.by_reviewer[:-1])

    def _encode(self, rows: TrainingRows) -> MixedRows:
        self.usual_ = UsualAmounts.of(rows.X, rows.agent, len(rows.agents))
        relative = self.usual_.relative(rows.X, rows.agent)
        self.encoding_ = Encoding.of(relative, self.features.numeric, self.features.categories)
        columns = self.encoding_.encode(relative)
        return MixedRows(self.encoding_, columns, rows.agent, rows.reviewer, len(rows.agents), rows.n_reviewers)

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        return self.effects_.points(self.encoding_.encode(self.usual_.relative(X, agent)), agent, reviewer)


def fit_effects(rows: MixedRows, y: Floats, rounds: int = _ROUNDS) -> MixedEffects:
    """Fit agents and reviewers in turn.

    Args:
        rows: Encoded rows.
        y: Scores (M,), finite.
        rounds: How often.

    Raises:
        LearningError: a fit did not converge.
    """
    encoding, unit = rows.encoding, np.arange(len(y))
    of_agents = RowDesign(rows.columns, unit, rows.agent, rows.n_agents, rows.agent_columns)
    of_reviewers = RowDesign(rows.columns, unit, rows.reviewer, rows.n_reviewers, encoding.personal)
    standing = Standing.of(rows.agent, rows.reviewer, y, rows.n_agents, rows.n_reviewers)
    reviewer_points = standing.severity[rows.reviewer]
    # All slopes of agents share one variance: few agents tell little of each.
    shared = np.minimum(np.arange(len(rows.agent_columns)), 1)
    for _ in range(rounds):
        agents = fit_reviewer_model(moments_of(of_agents, y - reviewer_points), encoding.group, personal_group=shared)
        agent_points = _linear(rows.columns, rows.agent, rows.agent_columns, agents.effects)
        personal = choose_slopes(encoding, np.zeros(rows.n_agents), moments_of(of_reviewers, y - agent_points)).model
        reviewer_points = _linear(rows.columns, rows.reviewer, personal.personal, personal.effects)
    return MixedEffects(personal.population, rows.agent_columns, agents.effects, personal.personal, personal.effects)


def _linear(columns: npt.NDArray[np.float32], code: Ints, positions: Ints, effects: Floats) -> Floats:
    """Effects of each row's code times its columns (M,); 0 for code -1."""
    own = np.vstack([effects, np.zeros((1, len(positions)))])
    value: Floats = np.einsum("mq,mq->m", columns[:, positions], own[code], dtype=np.float64)
    return value
