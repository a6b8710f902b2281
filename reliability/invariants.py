"""What has to hold once everything is quiet: every review learned exactly once, and all of it in what is published."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from feedback_pipeline.orchestration.run_states import ATTEMPT_TAG, BATCH_TAG
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline_tests.passes import Pass

Rows = Counter[tuple[Any, ...]]
_REVIEWS: Final = b"""
    SELECT r.id::text, p.agent_name
    FROM review_feedback r
    JOIN content_review_workflows w ON w.id = r.workflow_id
    JOIN (SELECT DISTINCT agent_name, execution_id FROM agent_performance WHERE status = 'success') p
      ON p.execution_id = w.workflow_execution_id
    WHERE r.reviewed_at < current_date + 1"""

_TWICE: Final = b"""
    SELECT count(*) FROM (
        SELECT FROM run_tags b JOIN run_tags a USING (run_id) WHERE b.key = %(batch)s AND a.key = %(attempt)s
        GROUP BY b.value, a.value HAVING count(*) > 1
    ) AS repeated"""


@dataclass(frozen=True)
class Verdict:
    """Rows that differ from what a fresh installation learns from the same database.

    Attributes:
        lost: Reviews or outputs that the feature store has not.
        doubled: Those that it has too often, or that the database has not (any more).
        mixed: Published rows that a fresh pass over the same database publishes otherwise.
    """

    lost: int
    doubled: int
    mixed: int


def compare(database: Database, settings: Settings) -> Verdict:
    """Learn once more, from nothing, beside what is there, and compare row by row.

    Args:
        database: Quiet: nothing pending, nobody writing.
        settings: Of the installation, with its feature store.
    """
    with tempfile.TemporaryDirectory(prefix="feedback-fresh-") as folder:
        fresh = settings.model_copy(update={"store_url": str(Path(folder) / "store")})
        now = datetime.now(UTC)
        there, again = Pass(database, settings, now), Pass(database, fresh, now)
        published = there.published()
        again.extract()
        known, expected = _rows(there.store, now.date()), _rows(again.store, now.date())
        again.reduce()
        otherwise = _differences(published, again.published())
    by_hand, learned = _reviews(database), _learned_reviews(there.store, now.date())
    return Verdict(
        max((expected - known).total(), (by_hand - learned).total()),
        max((known - expected).total(), (learned - by_hand).total()),
        otherwise,
    )


def attempts_made_twice(dagster: Database) -> int:
    """How many attempts to learn the same changes have more than one run, in the database of Dagster."""
    with dagster.connect() as connection:
        ((twice,),) = connection.execute(_TWICE, {"batch": BATCH_TAG, "attempt": ATTEMPT_TAG}).fetchall()
    return int(twice)


def _reviews(database: Database) -> Rows:
    """Every review by the agents it counts for, in plain SQL: what the extraction has to come to, without the extraction."""
    with database.snapshot() as connection:
        return Counter(connection.execute(_REVIEWS).fetchall())


def _learned_reviews(store: FeatureStore, last: date) -> Rows:
    reviews = store.read_tables(None, last)[0]
    return Counter(zip(reviews["feedback_id"].to_pylist(), reviews["agent_name"].to_pylist(), strict=True))


def _rows(store: FeatureStore, last: date) -> Rows:
    reviews, outputs = store.read_tables(None, last)
    found: Rows = Counter()
    for name, table in (("review", reviews), ("output", outputs)):
        columns = sorted(table.column_names)
        for record in table.select(columns).to_pylist():
            found[(name, *(repr(record[column]) for column in columns))] += 1
    return found


def _differences(before: Mapping[str, list[tuple[Any, ...]]], after: Mapping[str, list[tuple[Any, ...]]]) -> int:
    sides = [{table: Counter(map(repr, rows)) for table, rows in side.items()} for side in (before, after)]
    return sum(((sides[0][table] - sides[1][table]) + (sides[1][table] - sides[0][table])).total() for table in before)
