"""The safety net: once a day every day of the window is held against the database, and what differs is read again.

Changes are recorded in the transaction that makes them, so nothing should ever differ. Where something does (triggers that were
switched off, a store that was restored or altered), it is found here, said, and mended by the next pass.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

import numpy as np

from feedback_pipeline.learning_pass.inputs import learning_window
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.changes import days_with_reviews, touched_days, unread_days
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.day_comparison import differing_days
from feedback_pipeline.storage.extraction import extraction_version, pending_days
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.trigger_book import Entry, forget_old, write_entry
from feedback_pipeline.storage.triggers import ask_for_days, read_last_publication

_NAMED: Final = 5


@dataclass(frozen=True)
class DailyCheck:
    """Result of `check_days`.

    Attributes:
        compared: Number of days that were held against the database.
        differing: What differs, by day; none should.
        due: Days that are to be read for a reason that is no fault: dated in the future when they were written, or stored by
            another version of the extraction.
    """

    compared: int
    differing: dict[date, str] = field(default_factory=dict)
    due: tuple[date, ...] = ()

    @property
    def warning(self) -> str | None:
        """What to say of the days that differ; None where all is well."""
        if not self.differing:
            return None
        named = [f"{day} ({what})" for day, what in list(self.differing.items())[:_NAMED]]
        more = f" and {len(self.differing) - _NAMED} more" if len(self.differing) > _NAMED else ""
        days = "1 day differs" if len(self.differing) == 1 else f"{len(self.differing)} days differ"
        return f"{days} from the database: {', '.join(named)}{more}; read again by the next pass"


def check_days(database: Database, store: FeatureStore, settings: Settings, *, now: datetime) -> DailyCheck:
    """Compare the days of the window, ask for those that differ, write down that there were some.

    The caller holds the learning lock: a pass would change the store meanwhile. Days that a recorded change touches are left
    alone: they are known to be stale, and the sensor counts them.

    Raises:
        StoreUnavailable: the database or the store cannot be reached.
    """
    stored, today = store.days(), now.date()
    with database.snapshot() as connection:
        published, lookback = read_last_publication(connection), read_installation(connection).lookback_days
        window = learning_window(store, lookback, today)
        first, last = window.first or settings.first_day, today
        stale = {day for day in pending_days(connection, store, settings, today=today) if day >= first}
        kept = [day for day in stored if day not in stale and first <= day <= last]
        present = days_with_reviews(connection, first, last)
        unread = unread_days(present, stored, extraction_version(settings), first, last)
        # Also changes that a pass has read and not published: it will come back to their days.
        unrecorded = unread - touched_days(connection, np.empty(0, dtype=np.int64), unread)
    differing = differing_days(database, store, settings, kept, present)
    # Before the first publication everything is missing, and a day after the last one has come since.
    lost = {day for day in unrecorded if day not in stored and published is not None and day <= published.astimezone(UTC).date()}
    differing |= dict.fromkeys(lost, "not in the feature store")
    check = DailyCheck(len(kept), dict(sorted(differing.items())), tuple(sorted(unrecorded - lost)))
    _ask_and_note(database, check)
    return check


def _ask_and_note(database: Database, check: DailyCheck) -> None:
    """In one transaction: the sensor sees the days as changes, and why."""
    with database.connect() as connection:
        ask_for_days(connection, [*check.differing, *check.due])
        if check.warning is not None:
            write_entry(connection, Entry("safety_net", check.warning))
        forget_old(connection)
