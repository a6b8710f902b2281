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
    TrainingRows,
    full_standing,
    out_of_fold_columns,
)

MOST_TREES: Final = 150
MOST_LEVELS: Final = 255
"""Of one column of codes: scikit-learn's trees take no more."""
_ONE_SIDED: Final = 1.645
_SINGLE: Final = 1e30
"""Where numbers are cut off: sums of many must still fit a float32."""

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BoostingColumns:
    """From features to the matrix that trees split: numbers, then codes of the categories.

    Attributes:
        features: Which columns count.
        usual: What each agent usually uses; amounts are taken relative to it.
        levels: Known levels of each category; none of one with more levels than trees can take.
    """

    features: FeatureList
    usual: UsualAmounts
    levels: tuple[Names, ...]

    @classmethod
    def of(cls, rows: TrainingRows, features: FeatureList) -> "BoostingColumns":
        """Learn levels and usual amounts."""
        levels = tuple(few_levels(Names.of(rows.X[name])) for name in features.categories)
        return cls(features, UsualAmounts.of(rows.X, rows.agent, len(rows.agents)), levels)

    @property
    def categorical(self) -> list[int]:
        """Positions of the categories in the matrix."""
        first = len(self.features.numeric)
        return [first + i for i, names in enumerate(self.levels) if len(names)]

    def matrix(self, X: pd.DataFrame, agent: Ints) -> Matrix:
        """The matrix (M, J) of features X and agents (M,); NaN where missing or unknown."""
        relative = self.usual.relative(X, agent)
        first = len(self.features.numeric)
        matrix = np.empty((len(X), first + len(self.levels)), dtype=np.float32)
        for i, name in enumerate(self.features.numeric):
            matrix[:, i] = single(relative[name].to_numpy(dtype=np.float64, na_value=np.nan))
        for i, (name, names) in enumerate(zip(self.features.categories, self.levels, strict=True)):
            matrix[:, first + i] = coded(names.codes(X[name]), names)
        return matrix


class BoostingModel(QualityModel):
    """Histogram gradient boosting on the features, the agent and its level, and the reviewer's severity, both out of fold."""

    def _learn(self, rows: TrainingRows) -> None:
        fold = rows.folds(self.seed)
        self.columns_ = BoostingColumns.of(rows, self.features)
        self.standing_ = full_standing(rows)
        self.mean_ = float(rows.y.mean())
        matrix = self._matrix(rows.X, rows.agent, out_of_fold_columns(rows, fold))
        categorical = self.columns_.categorical
        if len(few_levels(self.agents_)):
            categorical.append(matrix.shape[1] - 3)
        self.trees_ = fit_trees(matrix, rows.y - self.mean_, rows.content, fold, categorical, self.seed)

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        matrix = self._matrix(X, agent, self.standing_.columns(agent, reviewer))
        return self.mean_ + trees_points(self.trees_, matrix)

    def _matrix(self, X: pd.DataFrame, agent: Ints, standing: Floats) -> Matrix:
        own = coded(agent, few_levels(self.agents_))
        return np.column_stack([self.columns_.matrix(X, agent), own, standing.astype(np.float32)])


def single(value: Floats) -> Matrix:
    """Finite numbers as float32, at most 1e30 either way; NaN where there is none."""
    return np.where(np.isfinite(value), np.clip(value, -_SINGLE, _SINGLE), np.nan).astype(np.float32)


def few_levels(names: Names) -> Names:
    """The names, or none of them if trees cannot take so many."""
    return names if len(names) <= MOST_LEVELS else Names(names.values[:0])


def coded(code: Ints, names: Names) -> Matrix:
    """Codes as a column, NaN for the unknown (-1) and where there are no names."""
    return np.where((code >= 0) & (len(names) > 0), code, np.nan).astype(np.float32)


def fit_trees(
    matrix: Matrix, y: Floats, content: Ints, fold: Ints, categorical: list[int], seed: int
) -> HistGradientBoostingRegressor | None:
    """As many trees as pay most on folds they have not seen, at most 150, fitted on all rows.

    None unless what they gain there is beyond chance: one-sided 5 % by the spread of the gain between contents. Without that
    rule trees fit the noise of whatever they are given, and forecast worse than no trees at all where features say nothing.

    Args:
        matrix: Columns (M, J).
        y: What to explain (M,), around 0.
        content: Content of each row (M,), codes from 0.
        fold: Fold of each row (M,).
        categorical: Positions of the codes.
        seed: Of the trees.
    """
    present = np.unique(fold)
    if len(present) < 2 or not matrix.shape[1]:
        return None
    gain, square = np.zeros(MOST_TREES), np.zeros(MOST_TREES)
    for k in present:
        judged = fold == k
        trial = _trees(MOST_TREES, categorical, seed).fit(_splittable(matrix[~judged]), y[~judged])
        own, target = content[judged], y[judged]
        for i, fitted in enumerate(trial.staged_predict(matrix[judged])):
            by_content = np.bincount(own, weights=fitted * (2.0 * target - fitted))
            gain[i] += by_content.sum()
            square[i] += by_content @ by_content
    best = int(np.argmax(gain))
    if gain[best] <= _ONE_SIDED * np.sqrt(square[best]):
        return None
    return _trees(best + 1, categorical, seed).fit(_splittable(matrix), y)


def trees_points(trees: HistGradientBoostingRegressor | None, matrix: Matrix) -> Floats:
    """What the trees say of each row (M,); 0 without trees."""
    return np.zeros(len(matrix)) if trees is None else np.asarray(trees.predict(matrix), dtype=np.float64)


def _splittable(matrix: Matrix) -> Matrix:
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
