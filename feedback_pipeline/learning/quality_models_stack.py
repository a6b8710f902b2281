"""The stack: the mixed model, and boosting on what it leaves of contents it has not seen."""

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality_models_base import TrainingRows
from feedback_pipeline.learning.quality_models_boosting import BoostingColumns, fit_trees, trees_points
from feedback_pipeline.learning.quality_models_mixed import MixedModel, fit_effects


class StackModel(MixedModel):
    """Mixed model + gradient boosting on its out-of-fold residual (Wolpert 1992), three folds of whole contents.

    The mixed model knows agents and reviewers, the trees find steps and interactions of features. Residuals of the rows a model
    was fitted on are too small where it is flexible, so that trees would learn least where most is left.
    """

    def _learn(self, rows: TrainingRows) -> None:
        fold = rows.folds(self.seed)
        encoded = self._encode(rows)
        self._learn_effects(encoded, rows.y)
        residual = np.zeros(len(rows.y))
        for k in np.unique(fold):
            inside, outside = fold == k, fold != k
            if outside.any():
                effects = fit_effects(encoded.only(outside), rows.y[outside])
                seen = encoded.only(inside)
                residual[inside] = rows.y[inside] - effects.points(seen.columns, seen.agent, seen.reviewer)
        # Neither agents nor severities: what a model without a fold gets too low for somebody it gets too high for the same one
        # inside the fold, and trees would learn the opposite of the truth.
        self.columns_ = BoostingColumns.of(rows, self.features)
        matrix = self.columns_.matrix(rows.X, rows.agent)
        self.trees_ = fit_trees(matrix, residual, rows.content, fold, self.columns_.categorical, self.seed)

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        return super()._points(X, agent, reviewer) + trees_points(self.trees_, self.columns_.matrix(X, agent))
