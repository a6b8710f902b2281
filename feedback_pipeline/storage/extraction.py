"""Extraction: the days that changed, from Postgres to the feature store, in one snapshot."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.changes import Ids, all_changes, days_with_reviews, settled_changes, touched_days, unread_days
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.day_assembly import DayTables
from feedback_pipeline.storage.day_reading import DayReader, grouped_days
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.ledger_settling import settle, settled_entries

EXTRACTION_VERSION: Final = 4
"""To be raised whenever the same rows of the database would be stored differently."""

_ADVISORY_KEY: Final = 0x_FEED_E87A
_POLL_S: Final = 0.1
_WRITERS: Final = 4


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
    with _one_extraction(database) as still_alone:
        with database.snapshot() as conn, database.snapshot(conn) as beside:
            plan = _planned(conn, store, settings, version, set(days), today or _today(conn))
            reader = DayReader(conn, beside, settings.score_bounds, with_texts=with_texts)
            job = _Job(conn, reader, store, version, still_alone)
            job.run(sorted(plan.todo & plan.present), len(plan.todo), progress)
            for day in plan.outside | plan.todo - plan.present:
                store.remove_day(day)
            reader.refuse_before(settings.first_day)
            changes = plan.settled_changes(conn)
            entries = settled_entries(conn, job.days, plan.kept - plan.todo, settings.first_day)
        settle(database, reader.refusals, entries)
        still_alone()
        store.write_consumed(changes)
    return ExtractionReport(
        days=tuple(sorted(plan.todo & plan.present)),
        removed=tuple(sorted(plan.todo - plan.present)),
        unchanged=tuple(sorted(plan.wanted - plan.todo)),
        reviews=job.reviews,
        rejected=reader.refusals.by_reason(),
        consumed=len(changes),
    )


@dataclass(frozen=True)
class _Plan:
    """What one extraction reads, as of its snapshot.

    Attributes:
        wanted: Days asked for, from the first day up to today.
        present: Days with reviews.
        kept: Days of the store that are stale only if a change touches them.
        outside: Days of the store that do not count any more.
        unread: Days that are stale whatever changed.
        todo: Days to bring up to date.
        consumed: Ids of the changes that the store already holds.
    """

    wanted: set[date]
    present: set[date]
    kept: set[date]
    outside: set[date]
    unread: set[date]
    todo: set[date]
    consumed: Ids

    def settled_changes(self, conn: Connection) -> Ids:
        """Ids of the changes that are settled once the days have been read."""
        if self.unread <= self.todo and not touched_days(conn, self.consumed, self.kept - self.wanted):
            return all_changes(conn, self.consumed)
        return settled_changes(conn, self.consumed, self.todo, self.kept)


def _planned(conn: Connection, store: FeatureStore, settings: Settings, version: str, days: set[date], last: date) -> _Plan:
    stored, consumed = store.days(), store.read_consumed()[0]
    present = days_with_reviews(conn, settings.first_day, last)
    unread = unread_days(present, stored, version, settings.first_day, last)
    wanted = {day for day in days if settings.first_day <= day <= last}
    counted = {day for day in stored if settings.first_day <= day <= last}
    kept = counted - unread
    todo = (wanted & unread) | touched_days(conn, consumed, wanted & kept)
    return _Plan(wanted, present, kept, set(stored) - counted, unread, todo, consumed)


class _Job:
    """One extraction inside its snapshot."""

    def __init__(
        self, conn: Connection, reader: DayReader, store: FeatureStore, version: str, still_alone: Callable[[], None]
    ) -> None:
        self.reviews = 0
        self.days: list[date] = []
        self._conn, self._reader, self._store, self._version, self._still_alone = conn, reader, store, version, still_alone

    def run(self, days: list[date], total: int, progress: Callable[[int, int], None] | None) -> None:
        """Read and write the days, some at a time."""
        # Threads: most of the time of a write is waiting for the disk.
        with ThreadPoolExecutor(_WRITERS) as pool:
            for group in grouped_days(self._conn, days):
                tables = self._reader.read(group)
                self._still_alone()
                written = list(pool.map(lambda item: self._write(*item), tables.items()))
                self.reviews += sum(written)
                self.days += group
                if progress is not None:
                    progress(len(self.days), total)

    def _write(self, day: date, tables: DayTables) -> int:
        facts = {"reviews": tables.reviews, "refused_reviews": tables.refused_reviews}
        self._store.write_day(
            day, tables.human_feedback, tables.feature_table, self._version, facts, decision_points=tables.decision_points
        )
        return tables.reviews


@contextmanager
def _one_extraction(database: Database) -> Iterator[Callable[[], None]]:
    """Hold the lock of extractions: an older snapshot must not overwrite a day that a newer one has written.

    Yields what raises OperationalError once the lock is lost, with the session that the server or a proxy has ended.
    """
    with database.connect(autocommit=True) as conn:
        while conn.execute("SELECT pg_try_advisory_lock(%s)", [_ADVISORY_KEY]).fetchone() != (True,):
            time.sleep(_POLL_S)

        def still_alone() -> None:
            conn.execute("SELECT 1")

        yield still_alone


def _today(conn: Connection) -> date:
    row = conn.execute("SELECT feedback_utc_day(now())").fetchone()
    day: date = row[0] if row else date.min
    return day
