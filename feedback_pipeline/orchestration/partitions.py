"""The one partitioning of the lineage: UTC days of `reviewed_at`."""

from collections.abc import Iterable
from datetime import date

import dagster as dg

from feedback_pipeline.settings import Settings

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def daily_partitions(first_day: date) -> dg.DailyPartitionsDefinition:
    """One partition for every UTC day from the first day to today, today included."""
    return dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), timezone="UTC", end_offset=1)


DAYS = daily_partitions(Settings().first_day)


def range_tags(days: Iterable[date]) -> dict[str, str]:
    """Tags of one run over the range that covers the days; none when there are no days."""
    ordered = sorted(days)
    return {RANGE_START_TAG: ordered[0].isoformat(), RANGE_END_TAG: ordered[-1].isoformat()} if ordered else {}
