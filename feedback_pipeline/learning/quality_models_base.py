"""What all candidates share: the checks of their input, names as codes, folds, and how severe reviewers are."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Final, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from threadpoolctl import ThreadpoolController

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality_features import AGENT, REVIEWER, FeatureList
from feedback_pipeline.learning.reviewers_score import agent_levels, shrunken_means

UNKNOWN: Final = -1
N_FOLDS: Final = 3


@dataclass(frozen=True)
class Names:
    """Names as codes 0..n-1, in alphabetical order.

    Attributes:
        values: The names (n,).
    """

    values: npt.NDArray[np.object_]

    @classmethod
    def of(cls, column: pd.Series) -> "Names":
        """The names in a column; missing ones are none."""
        return cls(np.array(sorted(column.dropna().unique()), dtype=object))

    def __len__(self) -> int:
        return len(self.values)

    def codes(self, column: pd.Series) -> Ints:
        """Code of each row, -1 where the name is missing or new."""
        return np.asarray(pd.Index(self.values, dtype=object).get_indexer(pd.Index(column, dtype=object)), dtype=np.intp)


@dataclass(frozen=True)
class TrainingRows:
    """Checked rows to learn from.

    Attributes:
        X: Features, in the list's order.
        y: Scores (M,), finite.
        content: Content of each row (M,).
        agents, reviewers: Who there is.
        agent: Agent of each row (M,).
        reviewer: Reviewer of each row (M,); rows of unknown reviewers share the code len(reviewers).
    """

    X: pd.DataFrame
    y: Floats
    content: Ints
    agents: Names
    reviewers: Names
    agent: Ints
    reviewer: Ints

    @property
    def n_reviewers(self) -> int:
        """Reviewer codes, the shared one of the unknown included."""
        return len(self.reviewers) + 1

    def folds(self, seed: int) -> Ints:
        """Fold of each row (M,), whole contents."""
        return content_folds(self.content, N_FOLDS, seed)


class QualityModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts the overall score that a reviewer will give an output; without a reviewer, what the average one gives.

    Attributes:
        features: Which columns count.
        bounds: Lowest and highest possible score; predictions stay within.
        seed: Of everything random.
        threads: OpenMP threads; the numbers do not depend on it.
    """

    def __init__(self, features: FeatureList, bounds: tuple[float, float], seed: int = 0, threads: int = 1) -> None:
        self.features = features
        self.bounds = bounds
        self.seed = seed
        self.threads = threads

    def fit(self, X: pd.DataFrame, y: npt.ArrayLike, content: npt.ArrayLike | None = None) -> Self:
        """Learn from reviews.

        Args:
            X: One row per review.
            y: Scores (M,).
            content: Content of each row (M,): folds inside the fit keep contents whole. Each row its own when left out.

        Raises:
            LearningError: a column is missing, a score is not finite, or there is none.
        """
        rows = self._training_rows(X, np.asarray(y, dtype=np.float64), content)
        self.agents_ = rows.agents
        self.reviewers_ = rows.reviewers
        with self._limited():
            self._learn(rows)
        return self

    def predict(self, X: pd.DataFrame) -> Floats:
        """Expected scores (M,), within the bounds; columns in any order, unknown agents and reviewers are the population.

        Raises:
            LearningError: a column is missing, or the model is not fitted.
        """
        if not hasattr(self, "agents_"):
            raise LearningError("the quality model is not fitted; call fit first")
        known = self.features.select(X)
        if not len(known):
            return np.zeros(0)
        agent, reviewer = self.agents_.codes(known[AGENT]), self.reviewers_.codes(known[REVIEWER])
        with self._limited():
            points = self._points(known, agent, reviewer)
        return np.clip(points, *self.bounds)

    def _limited(self) -> AbstractContextManager[object]:
        # Small products on a busy machine: the threads of BLAS wait for each other longer than one works.
        return cast(AbstractContextManager[object], _libraries().limit(limits={"blas": 1, "openmp": self.threads}))

    def _learn(self, rows: TrainingRows) -> None:
        raise NotImplementedError

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        raise NotImplementedError

    def _training_rows(self, X: pd.DataFrame, y: Floats, content: npt.ArrayLike | None) -> TrainingRows:
        known = self.features.select(X)
        if not len(y):
            raise LearningError("the quality model has no score to learn from; wait for reviews with scores")
        if len(y) != len(known) or not np.isfinite(y).all():
            raise LearningError("the quality model needs one finite score for each row; drop reviews without a score first")
        group = np.arange(len(y)) if content is None else np.unique(np.asarray(content), return_inverse=True)[1]
        agents, reviewers = Names.of(known[AGENT]), Names.of(known[REVIEWER])
        agent, reviewer = agents.codes(known[AGENT]), reviewers.codes(known[REVIEWER])
        if (agent == UNKNOWN).any():
            raise LearningError(f"the quality model needs an {AGENT} in each row it learns from")
        return TrainingRows(
            known.reset_index(drop=True),
            y,
            np.asarray(group, dtype=np.intp),
            agents,
            reviewers,
            agent,
            np.where(reviewer == UNKNOWN, len(reviewers), reviewer),
        )


def content_folds(content: Ints, n_folds: int, seed: int) -> Ints:
    """Deal whole contents out to folds 0..n_folds-1 at random, evenly by number of contents (M,)."""
    contents, place = np.unique(content, return_inverse=True)
    dealt = np.arange(len(contents)) % n_folds
    return np.asarray(np.random.default_rng([seed, n_folds]).permutation(dealt)[place], dtype=np.intp)


@dataclass(frozen=True)
class Standing:
    """How much agents get and reviewers give, more than the average one: empirical Bayes, each with the other taken out.

    Attributes:
        mean: Mean score.
        level: Of each agent (G,).
        severity: Of each reviewer (R,), positive = gives more.
    """

    mean: float
    level: Floats
    severity: Floats

    @classmethod
    def of(cls, agent: Ints, reviewer: Ints, y: Floats, n_agents: int, n_reviewers: int) -> "Standing":
        """Estimate from rows (M,)."""
        level = agent_levels(agent, reviewer, y, n_agents, n_reviewers)
        mean = float(y.mean())
        return cls(mean, level, shrunken_means(reviewer, y - mean - level[agent], n_reviewers))

    def columns(self, agent: Ints, reviewer: Ints) -> Floats:
        """Severity and level as two columns (M, 2); 0 for the unknown (-1)."""
        return np.column_stack([_looked_up(self.severity, reviewer), _looked_up(self.level, agent)])


def out_of_fold_columns(rows: TrainingRows, fold: Ints) -> Floats:
    """`Standing.columns` of every training row from the rows of the other folds (M, 2): in-fold, a score explains itself."""
    columns = np.zeros((len(rows.y), 2))
    for k in np.unique(fold):
        inside, outside = fold == k, fold != k
        if outside.any():
            standing = Standing.of(
                rows.agent[outside], rows.reviewer[outside], rows.y[outside], len(rows.agents), rows.n_reviewers
            )
            columns[inside] = standing.columns(rows.agent[inside], rows.reviewer[inside])
    return columns


def full_standing(rows: TrainingRows) -> Standing:
    """From all training rows, for rows to come; the shared code of unknown reviewers is left out."""
    found = Standing.of(rows.agent, rows.reviewer, rows.y, len(rows.agents), rows.n_reviewers)
    return Standing(found.mean, found.level, found.severity[:-1])


@cache
def _libraries() -> ThreadpoolController:
    """Looked for once: that takes longer than one forecast. They are loaded by the imports of the models."""
    return ThreadpoolController()


def _looked_up(value: Floats, code: Ints) -> Floats:
    return np.append(value, 0.0)[code]
