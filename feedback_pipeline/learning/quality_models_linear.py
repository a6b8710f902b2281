"""The plain candidates: the mean score, and a ridge regression."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality_models_base import (
    QualityModel,
    TrainingRows,
    full_standing,
    out_of_fold_columns,
)
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import shrunken_means

_PENALTIES: Final = 10.0 ** np.linspace(-1, 6, 29)
_BLOCK: Final = 16_384
_LINEAR: Final = ("slope", "missing", "level")


class MeanModel(QualityModel):
    """The mean score plus how much this reviewer usually gives: all that fewer than 50 outputs can tell."""

    def _learn(self, rows: TrainingRows) -> None:
        self.mean_ = float(rows.y.mean())
        self.severity_ = shrunken_means(rows.reviewer, rows.y, rows.n_reviewers)[:-1]

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        return self.mean_ + np.append(self.severity_, 0.0)[reviewer]


class RidgeModel(QualityModel):
    """Ridge regression on standardised features, categories, agents and the reviewer's severity.

    Skewed numbers are logged; a missing one is the mean and marked. All columns are brought to standard deviation 1 except the
    marks of categories and agents. The penalty minimises the generalised cross-validation n |y - Xb|^2 / (n - df)^2 (Golub, Heath
    and Wahba 1979), from the eigenvalues of X'X.
    """

    def _learn(self, rows: TrainingRows) -> None:
        encoding = Encoding.of(rows.X, self.features.numeric, self.features.categories)
        columns = tuple(column for column in encoding.columns if column.kind in _LINEAR)
        self.encoding_ = Encoding(encoding.scales, columns)
        self.n_agents_ = len(rows.agents)
        standing = out_of_fold_columns(rows, rows.folds(self.seed))
        self.severity_ = full_standing(rows).severity
        # One point of severity is about one point of the score: the feature weighs as much as a standardised one.
        self.severity_spread_ = max(float(standing[:, 0].std()), 1e-12)
        design = self._design(rows.X, rows.agent, standing[:, 0])
        self.mean_, self.centre_ = float(rows.y.mean()), design.mean(axis=0, dtype=np.float64)
        self.coef_, self.penalty_ = ridge_by_gcv(design, self.centre_, rows.y - self.mean_)

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        design = self._design(X, agent, np.append(self.severity_, 0.0)[reviewer])
        fitted: Floats = design @ self.coef_.astype(np.float32)
        return self.mean_ - float(self.centre_ @ self.coef_) + fitted

    def _design(self, X: pd.DataFrame, agent: Ints, severity: Floats) -> npt.NDArray[np.float32]:
        marks = np.zeros((len(X), self.n_agents_), dtype=np.float32)
        known = np.flatnonzero(agent >= 0)
        marks[known, agent[known]] = 1.0
        own = (severity / self.severity_spread_).astype(np.float32)
        return np.column_stack([self.encoding_.encode(X), marks, own])


def ridge_by_gcv(design: npt.NDArray[np.float32], centre: Floats, y: Floats) -> tuple[Floats, float]:
    """Coefficients (P,) of centred columns (M, P) and scores (M,), and the penalty of least generalised cross-validation."""
    n, p = design.shape
    xx, xy = np.zeros((p, p)), np.zeros(p)
    for start in range(0, n, _BLOCK):
        x = design[start : start + _BLOCK].astype(np.float64) - centre
        xx += x.T @ x
        xy += x.T @ y[start : start + _BLOCK]
    value, vector = np.linalg.eigh(xx)
    value = np.maximum(value, 0.0)
    turned = vector.T @ xy
    total = float(y @ y)
    left, loss = np.zeros(len(_PENALTIES)), np.zeros(len(_PENALTIES))
    for i, penalty in enumerate(_PENALTIES):
        shrunken = turned / (value + penalty)
        residual = max(total - 2.0 * float(turned @ shrunken) + float(value @ shrunken**2), 0.0)
        left[i] = n - 1.0 - float((value / (value + penalty)).sum())
        loss[i] = residual / max(left[i], 1.0) ** 2
    best = int(np.argmin(loss))
    return vector @ (turned / (value + _PENALTIES[best])), float(_PENALTIES[best])
