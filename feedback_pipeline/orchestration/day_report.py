"""What is shown of the extracted days: rows by day, the columns they come from, a picture of the features."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.orchestration.assets.days import FEATURE_TABLE, HUMAN_FEEDBACK

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Database
    from feedback_pipeline.storage.extraction import ExtractionReport
    from feedback_pipeline.storage.feature_store import FeatureStore

PICTURED_DAYS: Final = 30


def report_sources(database: "Database") -> Iterator[dg.AssetMaterialization]:
    """How many rows each source table holds now: the platform that writes the tables does not tell Dagster."""
    from feedback_pipeline.storage.source_counts import source_row_counts

    for table, (rows, counted) in source_row_counts(database).items():
        yield dg.AssetMaterialization(
            asset_key=table, metadata={"dagster/row_count": rows, "rows are": "counted" if counted else "estimated by Postgres"}
        )


def describe_days(
    context: dg.AssetExecutionContext, store: "FeatureStore", report: "ExtractionReport", days: Sequence[date]
) -> dict[str, Any]:
    """Adds to every day of the run its row counts and whether it was read; returns what holds for the run as a whole."""
    manifests, read = store.days(), set(report.days)
    for day in days:
        manifest, key = manifests.get(day), day.isoformat()
        state = "read" if day in read else "unchanged" if manifest else "no reviews"
        for asset in (HUMAN_FEEDBACK, FEATURE_TABLE):
            rows = manifest[asset.path[-1]]["rows"] if manifest else 0
            context.add_asset_metadata(
                {"dagster/partition_row_count": rows, "this day": state}, asset_key=asset, partition_key=key
            )
    context.log.info("Read %s of %s days; the others are unchanged or without reviews", len(read), len(days))
    return {
        "days in this run": len(days),
        "days read": len(read),
        "days unchanged": sum(day in manifests for day in days) - len(read),
    }


def picture_days(store: "FeatureStore", days: Sequence[date]) -> dict[str, Any]:
    """The distribution of the features over the days of the run, one picture for a whole range; none where no day has reviews."""
    stored = store.days()
    days = [day for day in days if day in stored]
    if not days:
        return {}
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.pictures import feature_distributions

    last = max(days)
    first = max(min(days), last - timedelta(days=PICTURED_DAYS - 1))
    _, features = store.read_tables(first, last)
    title = (
        f"{features.num_rows:,} reviewed outputs, {first} to {last}"
        if first < last
        else f"{features.num_rows:,} reviewed outputs, {last}"
    )
    picture = markdown(feature_distributions(features, title), "Distribution of the features")
    return {"distribution": dg.MetadataValue.md(picture)}
