"""Jobs: named selections of assets.

`learn` holds the days and the reduce. It takes a day, or a range of days by two run tags; the unpartitioned assets run once. The
report of an agent is no part of it: whoever wants one materializes that agent's partition.
"""

from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.days import FEATURE_TABLE, HUMAN_FEEDBACK
from feedback_pipeline.orchestration.assets.insights import (
    CONTENT_STRATEGY,
    DECISION_PATTERNS,
    PREFERENCE_MODELS,
    QUALITY_CORRELATIONS,
)
from feedback_pipeline.orchestration.assets.publication import LEARNED_IMPROVEMENTS

DAY_ASSETS: Final = (HUMAN_FEEDBACK, FEATURE_TABLE)
REDUCE_ASSETS: Final = (PREFERENCE_MODELS, QUALITY_CORRELATIONS, DECISION_PATTERNS, CONTENT_STRATEGY, LEARNED_IMPROVEMENTS)

learn = dg.define_asset_job(
    "learn",
    selection=dg.AssetSelection.assets(*DAY_ASSETS, *REDUCE_ASSETS),
    description="Reads the days that changed, learns from the window over all agents, publishes what was learned.",
    executor_def=dg.in_process_executor,
)

jobs = [learn]
