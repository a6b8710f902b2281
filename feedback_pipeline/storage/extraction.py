"""Extraction: the days that changed, from Postgres to the feature store, in one snapshot."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from psycopg.sql import SQL

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.changes import all_changes, days_with_reviews, settled_changes, touched_days, unread_days
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.day_assembly import DayTables
from feedback_pipeline.storage.day_ranges import moment
from feedback_pipeline.storage.day_reading import DayReader
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.ledger import Reason, record
from feedback_pipeline.storage.refusals import Refusals

EXTRACTION_VERSION: Final = 1
"""To be raised whenever the same rows of the database would be stored differently."""

GROUP_REVIEWS: Final = 100_000
_ADVISORY_KEY: Final = 0x_FEED_E87A
_POLL_S: Final = 0.1
_WRITERS: Final = 4
# What is found on rows as they are stored; other reasons may stand for a row that a load refused.
_SETTLED_REASONS: Final = (
    *(Reason.DANGLING_KEY, Reason.NO_SUCCESSFUL_EXECUTION, Reason.NOT_A_NUMBER),
    *(Reason.SCORES_NOT_AN_OBJECT, Reason.SCORE_OUT_OF_BOUNDS, Reason.UNUSABLE_NAME),
)

_NUMBER_REASONS: Final = (Reason.NOT_A_NUMBER, Reason.NUMBER_OUT_OF_BOUNDS, Reason.UNUSABLE_NAME)
_READ_AGAIN: Final = (
    "l.last_seen < now() AND l.reason = ANY(%(reasons)s) AND EXISTS (SELECT FROM content_review_workflows w "
    "JOIN review_feedback r ON r.workflow_id::text = w.id::text "
    "WHERE w.workflow_execution_id::text = p.execution_id::text AND feedback_utc_day(r.reviewed_at) = ANY(%(days)s))"
)
_SETTLE_RUNS: Final = SQL(
    "DELETE FROM rejected_feedback l USING agent_performance p "
    "WHERE l.source = 'agent_performance' AND l.row_id = p.id::text AND {}"
).format(SQL(_READ_AGAIN))
_SETTLE_DECISIONS: Final = SQL(
    "DELETE FROM rejected_feedback l USING agent_decisions d, agent_performance p "
    "WHERE l.source = 'agent_decisions' AND l.row_id = d.id::text AND d.performance_id::text = p.id::text AND {}"
).format(SQL(_READ_AGAIN))


@dataclass(frozen=True)
class ExtractionReport:
    """What one extraction did.

    Attributes:
        days: Days that were read and written, ascending.
        removed: Days that have no review (any more) and are not in the store.
        unchanged: Days that the store already held as they are.
        reviews: Reviews read.
        rejected: Number of refused rows and scores by reason, of the days read.
        consumed: Number of recorded changes that are settled now.
    """

    days: tuple[date, ...] = ()
    removed: tuple[date, ...] = ()
    unchanged: tuple[date, ...] = ()
    reviews: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    consumed: int = 0


def extraction_version(settings: Settings, *, text: bool = True) -> str:
    """Return the version of stored days: they are read again when the code, the bounds or the first day change."""
    parts = [EXTRACTION_VERSION, settings.score_bounds, settings.first_day.isoformat(), text]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def pending_days(conn: Connection, store: FeatureStore, settings: Settings, *, today: date | None = None) -> list[date]:
    """Return the days to read, ascending: changed, with reviews but not in the store, or stored under another version.

    Args:
        conn: A connection, best inside a snapshot.
        store: The feature store.
        settings: First day and score bounds.
        today: Last day that counts; by default the UTC day of the database's clock.
    """
    last = today or _today(conn)
    stored, (consumed, _) = store.days(), store.read_consumed()
    present = days_with_reviews(conn, settings.first_day, last)
    unread = unread_days(present, stored, extraction_version(settings), settings.first_day, last)
    kept = [day for day in stored if settings.first_day <= day <= last and day not in unread]
    return sorted(unread | touched_days(conn, consumed, kept))


def extract(
    database: Database,
    store: FeatureStore,
    settings: Settings,
    days: Sequence[date],
    *,
    today: date | None = None,
    with_texts: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionReport:
    """Bring days of the feature store up to date, all from one snapshot of the database.

    Each day is written whole or not at all. What cannot be used goes to the ledger afterwards, in a transaction of its own;
    then the recorded changes that touch no day still to be read are marked as consumed in the store.

    Args:
        database: The database with the source tables.
        store: The feature store of its installation.
        settings: First day and score bounds.
        days: UTC days to bring up to date, in any order; days after today or before the first day are left alone.
        today: Last day that counts; by default the UTC day of the database's clock.
        with_texts: False leaves all text features missing; such days are stale for every later call that wants texts.
        progress: Called with (days done, days to do) after each group of days.

    Returns:
        What was read, removed and refused.

    Raises:
        StoreUnavailable: the database or the store cannot be reached.
        StoreError: a table is missing or the store is damaged.
    """
    version = extraction_version(settings, text=with_texts)
    with _one_extraction(database):
        with database.snapshot() as conn, database.snapshot(conn) as beside:
            last = today or _today(conn)
            stored, consumed = store.days(), store.read_consumed()[0]
            present = days_with_reviews(conn, settings.first_day, last)
            unread = unread_days(present, stored, version, settings.first_day, last)
            wanted = {day for day in days if settings.first_day <= day <= last}
            kept = {day for day in stored if settings.first_day <= day <= last and day not in unread}
            todo = (wanted & unread) | touched_days(conn, consumed, wanted & kept)
            for day in stored:
                if not settings.first_day <= day <= last:
                    store.remove_day(day)
            reader = DayReader(conn, beside, settings.score_bounds, with_texts=with_texts)
            job = _Job(conn, reader, store, version)
            job.run(sorted(todo & present), len(todo), progress)
            for day in todo - present:
                store.remove_day(day)
            reader.refuse_before(settings.first_day)
            if unread <= todo and not touched_days(conn, consumed, kept - wanted):
                settled = all_changes(conn, consumed)
            else:
                settled = settled_changes(conn, consumed, todo, kept)
        _settle_ledger(database, reader.refusals, job.days, settings.first_day)
        store.write_consumed(settled)
    return ExtractionReport(
        days=tuple(sorted(todo & present)),
        removed=tuple(sorted(todo - present)),
        unchanged=tuple(sorted(wanted - todo)),
        reviews=job.reviews,
        rejected=reader.refusals.by_reason(),
        consumed=len(settled),
    )


class _Job:
    """One extraction inside its snapshot."""

    def __init__(self, conn: Connection, reader: DayReader, store: FeatureStore, version: str) -> None:
        self.reviews = 0
        self.days: list[date] = []
        self._conn, self._reader, self._store, self._version = conn, reader, store, version

    def run(self, days: list[date], total: int, progress: Callable[[int, int], None] | None) -> None:
        """Read and write the days, some at a time."""
        # Threads: most of the time of a write is waiting for the disk.
        with ThreadPoolExecutor(_WRITERS) as pool:
            for group in self._groups(days):
                written = list(pool.map(lambda item: self._write(*item), self._reader.read(group).items()))
                self.reviews += sum(written)
                self.days += group
                if progress is not None:
                    progress(len(self.days), total)

    def _write(self, day: date, tables: DayTables) -> int:
        facts = {"reviews": tables.reviews, "refused_reviews": tables.refused_reviews}
        self._store.write_day(day, tables.human_feedback, tables.feature_table, self._version, facts)
        return tables.reviews

    def _groups(self, days: list[date]) -> Iterator[list[date]]:
        """Split days so that each group has about GROUP_REVIEWS reviews: what is in memory does not grow with the history."""
        if not days:
            return
        query = SQL(
            "SELECT feedback_utc_day(reviewed_at), count(*) FROM review_feedback "
            "WHERE reviewed_at >= {} AND reviewed_at < {} GROUP BY 1"
        ).format(moment(days[0]), moment(days[-1] + timedelta(days=1)))
        counts: dict[date, int] = dict(self._conn.execute(query).fetchall())
        group: list[date] = []
        size = 0
        for day in days:
            if group and size + counts[day] > GROUP_REVIEWS:
                yield group
                group, size = [], 0
            group.append(day)
            size += counts[day]
        yield group


@contextmanager
def _one_extraction(database: Database) -> Iterator[None]:
    """Hold the lock of extractions: an older snapshot must not overwrite a day that a newer one has written."""
    with database.connect(autocommit=True) as conn:
        while conn.execute("SELECT pg_try_advisory_lock(%s)", [_ADVISORY_KEY]).fetchone() != (True,):
            time.sleep(_POLL_S)
        yield


def _today(conn: Connection) -> date:
    row = conn.execute("SELECT feedback_utc_day(now())").fetchone()
    day: date = row[0] if row else date.min
    return day


def _settle_ledger(database: Database, refusals: Refusals, days: list[date], first_day: date) -> None:
    """Enter what was refused; an entry of a row that has been read again without being refused leaves the ledger."""
    with database.connect() as conn:
        record(conn, refusals.table())
        conn.execute(
            "DELETE FROM rejected_feedback l USING review_feedback r "
            "WHERE l.source = 'review_feedback' AND l.row_id = r.id::text AND l.last_seen < now() "
            "AND (l.reason = ANY(%(reasons)s) AND feedback_utc_day(r.reviewed_at) = ANY(%(days)s) "
            "OR l.reason = %(early)s AND r.reviewed_at >= %(first)s::timestamp AT TIME ZONE 'UTC')",
            {
                "reasons": [str(reason) for reason in _SETTLED_REASONS],
                "days": days,
                "early": str(Reason.BEFORE_FIRST_DAY),
                "first": first_day,
            },
        )
        for settle in (_SETTLE_RUNS, _SETTLE_DECISIONS):
            conn.execute(settle, {"reasons": [str(reason) for reason in _NUMBER_REASONS], "days": days})
