"""Jobs: named selections of assets.

`learn` holds the days, the reduce and the forecasts. It takes a day, or a range of days by two run tags; the unpartitioned assets
run once. `forecast` holds the forecasts of new outputs alone. The report of an agent is part of neither: whoever wants one
materializes that agent's partition.
"""

from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.days import FEATURE_TABLE, HUMAN_FEEDBACK
from feedback_pipeline.orchestration.assets.effectiveness import LEARNING_EFFECTIVENESS
from feedback_pipeline.orchestration.assets.forecasts import QUALITY_FORECASTS, QUALITY_PREDICTOR
from feedback_pipeline.orchestration.assets.insights import (
    CONTENT_STRATEGY,
    DECISION_PATTERNS,
    PREFERENCE_MODELS,
    QUALITY_CORRELATIONS,
)
from feedback_pipeline.orchestration.assets.publication import LEARNED_IMPROVEMENTS
from feedback_pipeline.orchestration.resources import PASS_TAG

DAY_ASSETS: Final = (HUMAN_FEEDBACK, FEATURE_TABLE)
REDUCE_ASSETS: Final = (
    *(PREFERENCE_MODELS, QUALITY_CORRELATIONS, DECISION_PATTERNS, CONTENT_STRATEGY, LEARNED_IMPROVEMENTS),
    LEARNING_EFFECTIVENESS,
)
FORECAST_ASSETS: Final = (QUALITY_PREDICTOR, QUALITY_FORECASTS)

learn = dg.define_asset_job(
    "learn",
    tags=PASS_TAG,
    selection=dg.AssetSelection.assets(*DAY_ASSETS, *REDUCE_ASSETS, *FORECAST_ASSETS),
    description="Reads the days that changed, learns from the window over all agents, publishes what was learned, measures "
    "whether applying it helps; then trains the quality predictor if it is time and forecasts what nobody has reviewed yet.",
    executor_def=dg.in_process_executor,
)

forecast = dg.define_asset_job(
    "forecast",
    selection=dg.AssetSelection.assets(QUALITY_FORECASTS),
    description="Says how the outputs will be judged that came since the last pass; learns nothing.",
    executor_def=dg.in_process_executor,
)

jobs = [learn, forecast]
