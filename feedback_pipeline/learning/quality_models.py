"""The candidates for forecasting a score, in order of simplicity, and which of them may compete."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models_base import QualityModel
from feedback_pipeline.learning.quality_models_boosting import BoostingModel
from feedback_pipeline.learning.quality_models_forest import ForestModel
from feedback_pipeline.learning.quality_models_linear import MeanModel, RidgeModel
from feedback_pipeline.learning.quality_models_mixed import MixedModel
from feedback_pipeline.learning.quality_models_stack import StackModel

Factory = Callable[[FeatureList, tuple[float, float], int], QualityModel]

MEAN: Final = "mean"
COMPARISON: Final = "random_forest_50"
"""Shown beside the others, never the champion."""

CANDIDATES: Final[Mapping[str, Factory]] = MappingProxyType(
    {
        MEAN: MeanModel,
        "ridge": RidgeModel,
        "eb_mixed": MixedModel,
        "hist_gradient_boosting": BoostingModel,
        "stack": StackModel,
        COMPARISON: ForestModel,
    }
)
"""Makes an unfitted model from features, bounds and seed (and `threads`, 1 when left out)."""

_LEAST_OUTPUTS: Final[Mapping[str, int]] = MappingProxyType(
    {MEAN: 0, "ridge": 50, "eb_mixed": 50, "hist_gradient_boosting": 300, "stack": 1000, COMPARISON: 50}
)


def eligible(n_outputs: int) -> tuple[str, ...]:
    """Candidates that so many reviewed outputs can tell apart, in order of simplicity: below 50 the mean alone."""
    return tuple(name for name, least in _LEAST_OUTPUTS.items() if n_outputs >= least)
