"""Beside the flow: the model that knows the verdict before the review, and what it says of outputs nobody has reviewed.

Nothing that is published waits for these two, and a store of MLflow that is away costs nothing else.
"""

from datetime import UTC, datetime
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.days import FEATURE_TABLE
from feedback_pipeline.orchestration.assets.insights import PREFERENCE_MODELS
from feedback_pipeline.orchestration.failures import only_stores_are_retried
from feedback_pipeline.orchestration.learned_columns import FORECASTS, MODELS
from feedback_pipeline.orchestration.ownership import OWNERS
from feedback_pipeline.orchestration.resources import (
    DatabaseResource,
    FeatureStoreResource,
    LearningLock,
    RunSign,
    TrackingResource,
)
from feedback_pipeline.settings import Settings

QUALITY_PREDICTOR: Final = dg.AssetKey("quality_predictor")
QUALITY_FORECASTS: Final = dg.AssetKey("quality_forecasts")
# Of the steps that are ready, the publication goes first.
_AFTER_THE_REST: Final = {"dagster/priority": "-1"}


@dg.asset(
    key=QUALITY_PREDICTOR,
    deps=[PREFERENCE_MODELS, FEATURE_TABLE],
    group_name="forecasts",
    kinds={"python", "scikitlearn", "mlflow"},
    owners=OWNERS,
    code_version="1",
    op_tags=_AFTER_THE_REST,
    description="The model that says how an output will be judged. Candidates from the mean to a stack compete forward in time, "
    "in MLflow; a new model replaces the champion only where it is certainly better on reviews that neither has seen. It trains "
    "when there is no champion, when reviews drift away from the forecasts, after a tenth more reviewed outputs, after a week.",
    metadata={"dagster/column_schema": MODELS, "dagster/table_name": "public.quality_models"},
)
def quality_predictor(
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    tracking: TrackingResource,
    learning_lock: LearningLock,  # held, not called
) -> dg.MaterializeResult[None]:
    """Trains where there is a reason to; the champion stays what it is unless it is beaten."""
    from feedback_pipeline.learning_pass.predictor import train_if_due
    from feedback_pipeline.orchestration.quality_pictures import training_figures
    from feedback_pipeline.orchestration.quality_report import describe_predictor

    plain, store_of_models = database.open(), tracking.open()
    with only_stores_are_retried():
        store = feature_store.open(plain)
        outcome = train_if_due(plain, store, Settings(), store_of_models, training_figures, now=datetime.now(UTC))
        return dg.MaterializeResult(metadata=describe_predictor(outcome, store_of_models, tracking.address))


@dg.asset(
    key=QUALITY_FORECASTS,
    deps=[QUALITY_PREDICTOR, "agent_performance", "agent_decisions", "content_review_workflows"],
    group_name="forecasts",
    kinds={"python", "postgres", "mlflow"},
    owners=OWNERS,
    code_version="1",
    op_tags=_AFTER_THE_REST,
    description="What the champion expects of every successful output of the window that nobody has reviewed yet: score, "
    "interval and chance of approval by the average reviewer, or why these are not to be relied on. Kept for good, so "
    "that what was expected can be held against the review.",
    metadata={"dagster/column_schema": FORECASTS, "dagster/table_name": "public.quality_forecasts"},
)
def quality_forecasts(
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    tracking: TrackingResource,
    run_sign: RunSign,  # shown, not called
) -> dg.MaterializeResult[None]:
    """Forecasts the outputs of which the champion has said nothing yet."""
    from feedback_pipeline.learning_pass.forecasts import forecast_unreviewed
    from feedback_pipeline.orchestration.quality_report import describe_forecasts

    plain, store_of_models = database.open(), tracking.open()
    with only_stores_are_retried():
        outcome = forecast_unreviewed(plain, feature_store.open(plain), Settings(), store_of_models, now=datetime.now(UTC))
        return dg.MaterializeResult(metadata=describe_forecasts(outcome))


assets = [quality_predictor, quality_forecasts]
