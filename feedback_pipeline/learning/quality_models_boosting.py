"""Gradient boosting as a candidate, and the columns and the stopping rule that the stack shares with it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from feedback_pipeline.learning.agent_effects import UsualAmounts
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models_base import (
    Names,
    QualityModel,
    Standing,
    TrainingRows,
    full_standing,
    out_of_fold_columns,
)

MOST_TREES: Final = 150
_LEVELS: Final = 255
_FROM_SINGLE: Final = np.finfo(np.float32).max


@dataclass(frozen=True)
class BoostingColumns:
    """From features to the matrix that trees split: numbers, codes of categories and of the agent, severity, agent level.

    Attributes:
        features: Which columns count.
        usual: What each agent usually uses; amounts are taken relative to it.
        levels: Known levels of each category, the agents last; none of a column with more levels than a tree can take.
        standing: Severities and agent levels for rows to come.
    """

    features: FeatureList
    usual: UsualAmounts
    levels: tuple[Names, ...]
    standing: Standing

    @classmethod
    def of(cls, rows: TrainingRows, features: FeatureList) -> "BoostingColumns":
        """Learn levels, usual amounts and standing."""
        named = [*(Names.of(rows.X[name]) for name in features.categories), rows.agents]
        levels = tuple(each if len(each) <= _LEVELS else Names(each.values[:0]) for each in named)
        usual = UsualAmounts.of(rows.X, rows.agent, len(rows.agents))
        return cls(features, usual, levels, full_standing(rows))

    @property
    def categorical(self) -> list[int]:
        """Positions of the categories and the agent in the matrix."""
        first = len(self.features.numeric)
        return [first + i for i, names in enumerate(self.levels) if len(names)]

    def matrix(self, X: pd.DataFrame, agent: Ints, reviewer: Ints, standing: Floats | None = None) -> npt.NDArray[np.float32]:
        """The matrix (M, J); NaN where missing or unknown.

        Args:
            X: Features.
            agent: Agent codes (M,).
            reviewer: Reviewer codes (M,).
            standing: Severity and level (M, 2) out of fold; looked up when left out.
        """
        relative = self.usual.relative(X, agent)
        first = len(self.features.numeric)
        matrix = np.full((len(X), first + len(self.levels) + 2), np.nan, dtype=np.float32)
        for i, name in enumerate(self.features.numeric):
            value = relative[name].to_numpy(dtype=np.float64, na_value=np.nan)
            matrix[:, i] = np.where(np.isfinite(value), np.clip(value, -_FROM_SINGLE, _FROM_SINGLE), np.nan)
        codes = [names.codes(X[name]) for name, names in zip(self.features.categories, self.levels, strict=False)]
        for i, (code, names) in enumerate(zip([*codes, agent], self.levels, strict=True)):
            if len(names):
                matrix[:, first + i] = np.where(code >= 0, code, np.nan)
        matrix[:, -2:] = self.standing.columns(agent, reviewer) if standing is None else standing
        return matrix


class BoostingModel(QualityModel):
    """Histogram gradient boosting on the features, the agent, and the reviewer's severity out of fold."""

    def _learn(self, rows: TrainingRows) -> None:
        fold = rows.folds(self.seed)
        self.columns_ = BoostingColumns.of(rows, self.features)
        matrix = self.columns_.matrix(rows.X, rows.agent, rows.reviewer, out_of_fold_columns(rows, fold))
        self.mean_ = float(rows.y.mean())
        self.trees_ = fit_trees(matrix, rows.y - self.mean_, fold, self.columns_.categorical, self.seed)

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        return self.mean_ + trees_points(self.trees_, self.columns_.matrix(X, agent, reviewer))


def fit_trees(
    matrix: npt.NDArray[np.float32], y: Floats, fold: Ints, categorical: list[int], seed: int
) -> HistGradientBoostingRegressor | None:
    """As many trees as pay on a fold they have not seen, at most 150, fitted on all rows; None if not even the first does.

    Without that stopping rule trees fit the noise of whatever they are given, and forecast worse than no trees at all where
    features say nothing.

    Args:
        matrix: Columns (M, J).
        y: What to explain (M,), around 0.
        fold: Fold of each row (M,): fold 0 judges, the others teach.
        categorical: Positions of the codes.
        seed: Of the trees.
    """
    judged = fold == 0
    if judged.all() or not judged.any():
        return None
    trial = _trees(MOST_TREES, categorical, seed).fit(_splittable(matrix[~judged]), y[~judged])
    loss = [float(((y[judged] - fitted) ** 2).mean()) for fitted in trial.staged_predict(matrix[judged])]
    best = int(np.argmin(loss))
    if loss[best] >= float((y[judged] ** 2).mean()):
        return None
    return _trees(best + 1, categorical, seed).fit(_splittable(matrix), y)


def trees_points(trees: HistGradientBoostingRegressor | None, matrix: npt.NDArray[np.float32]) -> Floats:
    """What the trees say of each row (M,); 0 without trees."""
    return np.zeros(len(matrix)) if trees is None else np.asarray(trees.predict(matrix), dtype=np.float64)


def _splittable(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Columns without any value as constants: scikit-learn refuses the former, and no tree ever splits either."""
    empty = np.isnan(matrix).all(axis=0)
    return np.where(empty, np.float32(0.0), matrix) if empty.any() else matrix


def _trees(n: int, categorical: list[int], seed: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=n,
        learning_rate=0.04,
        max_leaf_nodes=15,
        min_samples_leaf=30,
        l2_regularization=5.0,
        categorical_features=categorical or None,
        early_stopping=False,
        random_state=seed,
    )
