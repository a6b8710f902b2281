"""The daily part of the lineage: what people said about which output, and what that output was like.

Free text never leaves Postgres, so the features of the text and the reviews are computed from one snapshot of the database
and written together: one step yields both assets.
"""

from collections.abc import Iterator
from datetime import date
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.columns import (
    SOURCE_COLUMNS,
    feature_table_lineage,
    feature_table_schema,
    human_feedback_lineage,
    human_feedback_schema,
)
from feedback_pipeline.orchestration.failures import only_stores_are_retried
from feedback_pipeline.orchestration.late_pictures import LatePictures
from feedback_pipeline.orchestration.ownership import OWNERS
from feedback_pipeline.orchestration.partitions import DAYS
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, LearningLock
from feedback_pipeline.orchestration.withdrawal import withdrawn_unless_done
from feedback_pipeline.settings import Settings

HUMAN_FEEDBACK: Final = dg.AssetKey("human_feedback")
FEATURE_TABLE: Final = dg.AssetKey("feature_table")

_SPECS = [
    dg.AssetSpec(
        HUMAN_FEEDBACK,
        deps=list(SOURCE_COLUMNS),
        group_name="reviewed_days",
        kinds={"python", "parquet"},
        owners=OWNERS,
        code_version="1",
        description="Every valid review of a UTC day, typed: ids, decisions and scores, no free text. "
        "A row for each output and review; refused rows are in rejected_feedback with the reason.",
        metadata={"dagster/column_schema": human_feedback_schema()},
    ),
    dg.AssetSpec(
        FEATURE_TABLE,
        deps=[HUMAN_FEEDBACK, "agent_performance", "agent_decisions", "content_review_workflows"],
        group_name="reviewed_days",
        kinds={"python", "parquet"},
        owners=OWNERS,
        code_version="1",
        description="One row for each output reviewed that day: numbers and categories measured from the run, its decisions and "
        "its text. A missing value stays missing.",
        metadata={"dagster/column_schema": feature_table_schema()},
    ),
]


@dg.multi_asset(
    name="reviewed_days",
    specs=_SPECS,
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def reviewed_days(
    context: dg.AssetExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
    late_pictures: LatePictures,
) -> Iterator[dg.MaterializeResult[None]]:
    """Reads the days of this run that changed, and reports the others as they are."""
    from feedback_pipeline.orchestration.day_report import describe_days, picture_days, report_sources
    from feedback_pipeline.storage.extraction import extract

    plain, days = database.open(), [date.fromisoformat(key) for key in context.partition_keys]
    with only_stores_are_retried():
        store = feature_store.open(plain)
        report = extract(plain, store, Settings(), days)
        with withdrawn_unless_done(store, report.days):
            for seen in report_sources(plain):
                context.log_event(seen)
            summary = describe_days(context, store, report, days)
            last = max(days).isoformat()
            picture = late_pictures.now_or_later(context, FEATURE_TABLE, lambda: picture_days(store, days), last)
            context.add_asset_metadata(picture, asset_key=FEATURE_TABLE, partition_key=last)
    yield dg.MaterializeResult(asset_key=HUMAN_FEEDBACK, metadata=summary | {"dagster/column_lineage": human_feedback_lineage()})
    yield dg.MaterializeResult(asset_key=FEATURE_TABLE, metadata=summary | {"dagster/column_lineage": feature_table_lineage()})


assets = [reviewed_days]
