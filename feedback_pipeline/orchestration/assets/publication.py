"""The end of the lineage: what agents may read, published in one transaction."""

from datetime import UTC, datetime
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.insights import PREFERENCE_MODELS, QUALITY_CORRELATIONS
from feedback_pipeline.orchestration.columns import published_schema
from feedback_pipeline.orchestration.failures import only_stores_are_retried
from feedback_pipeline.orchestration.ownership import OWNERS
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, LearningLock
from feedback_pipeline.settings import Settings

LEARNED_IMPROVEMENTS: Final = dg.AssetKey("learned_improvements")


@dg.asset(
    key=LEARNED_IMPROVEMENTS,
    deps=[PREFERENCE_MODELS, QUALITY_CORRELATIONS],
    group_name="published",
    kinds={"postgres", "python"},
    owners=OWNERS,
    code_version="1",
    description="The findings of one learning run, in Postgres where agents read them: published whole or not at all, "
    "with the state of every agent and the changes that were learned from.",
    metadata={"dagster/column_schema": published_schema(), "dagster/table_name": "public.feedback_quality_correlations"},
)
def learned_improvements(
    context: dg.AssetExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
) -> dg.MaterializeResult[None]:
    """Publishes the latest learning run in one transaction."""
    from feedback_pipeline.learning_pass.publication import publish
    from feedback_pipeline.orchestration.insight_report import describe_publication

    plain = database.open()
    with only_stores_are_retried():
        store = feature_store.open(plain)
        outcome = publish(plain, store, Settings(), dagster_run_id=context.run.run_id, now=datetime.now(UTC))
        return dg.MaterializeResult(metadata=describe_publication(outcome))


assets = [learned_improvements]
