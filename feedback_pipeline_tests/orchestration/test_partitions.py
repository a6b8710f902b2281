from datetime import UTC, date, datetime

from feedback_pipeline.orchestration.checks import days_of
from feedback_pipeline.orchestration.partitions import DAYS, daily_partitions, range_tags


def test_partitions_are_utc_days_up_to_today() -> None:
    keys = daily_partitions(date(2026, 1, 30)).get_partition_keys(current_time=datetime(2026, 2, 2, 0, 0, 1, tzinfo=UTC))
    assert keys == ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]
    assert DAYS.get_first_partition_key() == "2020-01-01"


def test_a_range_covers_its_days() -> None:
    tags = range_tags([date(2026, 3, 5), date(2026, 3, 1)])
    assert days_of(tags, date(2030, 1, 1)) == (date(2026, 3, 1), date(2026, 3, 5))
    assert range_tags([]) == {}


def test_a_check_without_range_looks_at_its_day_or_the_last_week() -> None:
    assert days_of({"dagster/partition": "2026-03-01"}, date(2026, 6, 1)) == (date(2026, 3, 1), date(2026, 3, 1))
    assert days_of({}, date(2026, 6, 30)) == (date(2026, 6, 24), date(2026, 6, 30))
