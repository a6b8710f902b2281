"""Session advisory locks: one learning pass at a time on one database, and a sign that the process of a run lives.

The server frees both when the session ends, however its process ends.
"""

import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import psycopg

from feedback_pipeline.storage.database import Connection, Database

ADVISORY_KEY = 0x_FEED_1EA2
# Waiting inside pg_advisory_lock would hold a snapshot open for as long: vacuum and index builds would wait with it.
POLL_S = 0.25
_RUNS = 0x_FEED
"""Class of the locks of single runs: PostgreSQL keeps locks of one key and those of two apart."""


@contextmanager
def learning_pass_lock(database: Database, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock for the block; the server frees it when this process dies.

    Args:
        database: the database the pass learns from.
        on_wait: called once when another pass holds the lock, before waiting for it.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    with database.connect(autocommit=True) as connection:
        if not _take(connection):
            on_wait()
            while not _take(connection):
                time.sleep(POLL_S)
        try:
            yield
        finally:
            _release(connection, "SELECT pg_advisory_unlock(%s)", ADVISORY_KEY)


@contextmanager
def sign_of_life(database: Database, run_id: str) -> Iterator[None]:
    """Shows for the block that the process of a run lives; several steps of it may show it at once.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    with database.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", [_RUNS, _key(run_id)])
        try:
            yield
        finally:
            _release(connection, "SELECT pg_advisory_unlock_shared(%s, %s)", _RUNS, _key(run_id))


def living_runs(database: Database, run_ids: Collection[str]) -> set[str]:
    """Those of the runs that some process shows a sign of life for.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    with database.connect(autocommit=True) as connection:
        found = connection.execute(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [_RUNS],
        ).fetchall()
    held = {key for (key,) in found}
    return {run_id for run_id in run_ids if _key(run_id) % 2**32 in held}


def pass_is_running(database: Database) -> bool:
    """Whether some process holds the lock at this moment.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    with database.connect(autocommit=True) as connection:
        # Where the look takes the lock, the end of this session gives it back.
        return not _take(connection)


def _key(run_id: str) -> int:
    """A signed number of 32 bits."""
    return (zlib.crc32(run_id.encode()) ^ 2**31) - 2**31


def _release(connection: Connection, statement: str, *key: int) -> None:
    """Frees a lock at once: closing the session frees it too, but only once the server notices.

    A session that the server has ended holds nothing any more, and what was done meanwhile is not undone by it.
    """
    with suppress(psycopg.OperationalError):
        connection.execute(statement.encode(), key)


def _take(connection: Connection) -> bool:
    return connection.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_KEY]).fetchone() == (True,)
