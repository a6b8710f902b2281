"""Holds stored days against the database: read again in memory, compared table by table.

Reviews, executions, decisions and texts all go into these tables, so a difference in any of them shows, whichever way it came
about: a change that was never recorded, a file that was altered or is damaged.
"""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Final

import pyarrow as pa

from feedback_pipeline.errors import StoreError, StoreUnavailable
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.day_assembly import DayTables
from feedback_pipeline.storage.day_reading import DayReader, grouped_days
from feedback_pipeline.storage.day_tables import (
    DECISION_POINTS,
    OUTPUT_ORDER,
    REVIEW_ORDER,
    checked_decision_points,
    checked_outputs,
    checked_reviews,
    in_order,
)
from feedback_pipeline.storage.feature_store import FeatureStore

_TABLES: Final = ("reviews", "executions", "decisions")


def differing_days(
    database: Database, store: FeatureStore, settings: Settings, days: Sequence[date], present: Collection[date]
) -> dict[date, str]:
    """Say of each day of the store that is not what the database holds in which of its tables they differ.

    Args:
        database: With the source tables.
        store: The feature store of its installation; nobody else writes to it meanwhile.
        settings: Score bounds.
        days: Days of the store, ascending, that no recorded change touches.
        present: Those of them that have reviews in the database.

    Raises:
        StoreUnavailable: the database or the store cannot be reached.
    """
    differing = {day: "no reviews in the database" for day in days if day not in present}
    with database.snapshot() as connection, database.snapshot(connection) as beside:
        reader = DayReader(connection, beside, settings.score_bounds)
        for group in grouped_days(connection, [day for day in days if day in present]):
            for day, fresh in reader.read(group).items():
                found = _differences(store, day, fresh)
                if found:
                    differing[day] = found
    return dict(sorted(differing.items()))


def _differences(store: FeatureStore, day: date, fresh: DayTables) -> str:
    try:
        reviews, outputs = store.read_tables(day, day)
        kept = [reviews, outputs, store.read_decision_points(day, day)]
    except StoreUnavailable:
        raise
    except (StoreError, pa.ArrowException):
        return "its files cannot be read"
    expected = [
        in_order(checked_reviews(fresh.human_feedback), REVIEW_ORDER),
        in_order(checked_outputs(fresh.feature_table), OUTPUT_ORDER),
        in_order(checked_decision_points(fresh.decision_points), DECISION_POINTS.names[:3]),
    ]
    differ = [name for name, one, two in zip(_TABLES, kept, expected, strict=True) if not _equal(one, two)]
    return ", ".join(differ)


def _equal(kept: pa.Table, expected: pa.Table) -> bool:
    """Whether two tables hold the same rows; the order of their columns and the way texts are encoded do not matter."""
    if set(kept.column_names) != set(expected.column_names) or kept.num_rows != expected.num_rows:
        return False
    plain = expected.select(kept.column_names)
    return bool(kept.cast(plain.schema).equals(plain))
