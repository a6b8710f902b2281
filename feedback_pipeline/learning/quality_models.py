"""The candidates for forecasting a score, in order of simplicity."""

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

CANDIDATES: Final[Mapping[str, Factory]] = MappingProxyType(
    {
        "mean": MeanModel,
        "ridge": RidgeModel,
        "eb_mixed": MixedModel,
        "hist_gradient_boosting": BoostingModel,
        "stack": StackModel,
        "random_forest_50": ForestModel,
    }
)
