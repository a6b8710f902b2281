"""The guide's random forest, kept beside the others so that what it cannot do stays visible."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality_models_base import QualityModel, TrainingRows
from feedback_pipeline.learning.quality_models_boosting import single

FOREST_FEATURES: Final = (
    "duration_ms",
    "input_tokens",
    "output_tokens",
    "cost",
    "confidence_score",
    "alternatives_count",
    "reasoning_length",
)
MOST_ROWS: Final = 10_000


class ForestModel(QualityModel):
    """Fifty trees on the guide's seven features and nothing else, on at most 10,000 rows; missing stays missing."""

    def _learn(self, rows: TrainingRows) -> None:
        self.mean_ = float(rows.y.mean())
        self.n_rows_ = min(len(rows.y), MOST_ROWS)
        whole = self._matrix(rows.X)
        # Trees draw rows by their place: rows in an order of their own make the forest the same whatever order they came in.
        own = np.lexsort((rows.y, *whole.T))
        drawn = own[np.sort(np.random.default_rng(self.seed).permutation(len(rows.y))[: self.n_rows_])]
        matrix = whole[drawn]
        # Columns that nobody recorded say nothing, and there may be no others.
        self.used_ = np.flatnonzero(~np.isnan(matrix).all(axis=0))
        self.forest_ = None
        if len(self.used_):
            forest = RandomForestRegressor(n_estimators=50, random_state=self.seed, n_jobs=1)
            self.forest_ = forest.fit(matrix[:, self.used_], rows.y[drawn])

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        if self.forest_ is None:
            return np.full(len(X), self.mean_)
        return np.asarray(self.forest_.predict(self._matrix(X)[:, self.used_]), dtype=np.float64)

    def _matrix(self, X: pd.DataFrame) -> npt.NDArray[np.float32]:
        names = [name for name in FOREST_FEATURES if name in self.features.numeric]
        matrix = X[names].to_numpy(dtype=np.float64, na_value=np.nan).reshape(len(X), len(names))
        return single(matrix)
