"""The plain candidates: the mean score, and a ridge regression."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.quality_models_base import (
    QualityModel,
    TrainingRows,
    full_standing,
    out_of_fold_columns,
)
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import shrunken_means

_PENALTIES: Final = 10.0 ** np.linspace(-1, 6, 43)
_BEYOND_CHANCE: Final = 0.5 * 2.706  # of log likelihood: the 90 % point of chi2(1)
_LEAST_LEFT: Final = 1e-9
_LEVEL: Final = 0.05
_BLOCK: Final = 16_384
_LINEAR: Final = ("slope", "missing", "level")


class MeanModel(QualityModel):
    """The mean score plus how much this reviewer usually gives: all that fewer than 50 outputs can tell."""

    def _learn(self, rows: TrainingRows) -> None:
        self.mean_ = float(rows.y.mean())
        self.severity_ = np.zeros(len(self.reviewers_))
        if differ_beyond_chance(rows.reviewer, rows.y):
            self.severity_ = shrunken_means(rows.reviewer, rows.y, rows.n_reviewers)[:-1]

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        return self.mean_ + np.append(self.severity_, 0.0)[reviewer]


def differ_beyond_chance(code: Ints, y: Floats) -> bool:
    """Whether the F-test of the one-way layout finds the means of the codes to differ (p < .05)."""
    count = np.bincount(code).astype(np.float64)
    groups, n = int((count > 0).sum()), len(y)
    if groups < 2 or n <= groups:
        return False
    centred = y - y.mean()
    between = float((group_sums(code, centred, len(count)) ** 2 / np.maximum(count, 1.0)).sum())
    within = float(centred @ centred) - between
    ratio = (between / (groups - 1)) / max(within / (n - groups), 1e-300)
    return bool(special.fdtrc(groups - 1, n - groups, ratio) < _LEVEL)


class RidgeModel(QualityModel):
    """Ridge regression on standardised features, categories, agents and the reviewer's severity.

    Skewed numbers are logged; a missing one is the mean and marked. All columns are brought to standard deviation 1 except the
    marks of categories and agents. The penalty is the most likely one.
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
        self.coef_, self.penalty_ = empirical_ridge(design, self.centre_, rows.y - self.mean_)

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        design = self._design(X, agent, np.append(self.severity_, 0.0)[reviewer])
        fitted = (design @ self.coef_.astype(np.float32)).astype(np.float64)
        return self.mean_ - float(self.centre_ @ self.coef_) + fitted

    def _design(self, X: pd.DataFrame, agent: Ints, severity: Floats) -> npt.NDArray[np.float32]:
        marks = np.zeros((len(X), self.n_agents_), dtype=np.float32)
        known = np.flatnonzero(agent >= 0)
        marks[known, agent[known]] = 1.0
        own = (severity / self.severity_spread_).astype(np.float32)
        return np.column_stack([self.encoding_.encode(X), marks, own])


def empirical_ridge(design: npt.NDArray[np.float32], centre: Floats, y: Floats) -> tuple[Floats, float]:
    """Ridge regression with the penalty that the data make most likely.

    With y ~ N(0, s2 (I + X X' / k)), d the eigenvalues of X'X and z = X'y along its eigenvectors, the profile log likelihood of
    the penalty k is -1/2 [sum log(1 + d / k) + (n - 1) log(y'y - sum z^2 / (d + k))]. Twice its gain over k = infinity is 0 or
    chi2(1), each with half the probability, where the columns say nothing (Self and Liang 1987); below the 95 % point of that
    all coefficients are 0.

    Args:
        design: Columns (M, P).
        centre: Their means (P,).
        y: Scores (M,), of mean 0.

    Returns:
        Coefficients (P,) of the centred columns, and the penalty k.
    """
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
    if total <= 0.0:
        return np.zeros(p), np.inf
    gain = np.zeros(len(_PENALTIES))
    for i, penalty in enumerate(_PENALTIES):
        left = max(1.0 - float((turned**2 / (value + penalty)).sum()) / total, _LEAST_LEFT)
        gain[i] = -0.5 * (np.log1p(value / penalty).sum() + (n - 1.0) * np.log(left))
    best = int(np.argmax(gain))
    if gain[best] < _BEYOND_CHANCE:
        return np.zeros(p), np.inf
    return vector @ (turned / (value + _PENALTIES[best])), float(_PENALTIES[best])
