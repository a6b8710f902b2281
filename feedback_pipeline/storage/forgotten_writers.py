"""Who is writing to the source tables: rows of an open transaction are seen by nobody, and come when it commits."""

import time
from typing import Final

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.source_columns import SOURCE_TABLES

_POLL_S: Final = 0.25
# Whoever inserts, updates or deletes rows of a table holds this lock on it until the transaction ends.
_WRITING: Final = """
    SELECT virtualtransaction, coalesce(pid::text, 'prepared') FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relation IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
"""


def wait_for_writers(database: Database, patience_s: float) -> None:
    """Wait until every transaction that has written to a source table by now has ended; later ones are not waited for.

    Raises:
        StoreUnavailable: one is still open after `patience_s` seconds.
    """
    with database.connect(autocommit=True) as connection:
        open_now, deadline = _writers(connection), time.monotonic() + patience_s
        while left := open_now & _writers(connection):
            if time.monotonic() > deadline:
                processes = ", ".join(sorted({process for _, process in left}))
                raise StoreUnavailable(
                    f"a transaction on the source tables has been open for {patience_s:g} s and may bring rows of it; end it "
                    f"(pid in pg_stat_activity: {processes})"
                )
            time.sleep(_POLL_S)


def _writers(connection: Connection) -> set[tuple[str, str]]:
    return set(connection.execute(_WRITING, [list(SOURCE_TABLES)]).fetchall())
