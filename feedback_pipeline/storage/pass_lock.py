"""The session advisory lock of a learning pass: one pass at a time on one database, whoever starts it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from feedback_pipeline.storage.database import Connection, Database

ADVISORY_KEY = 0x_FEED_1EA2
# Waiting inside pg_advisory_lock would hold a snapshot open for as long: vacuum and index builds would wait with it.
POLL_S = 0.25


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
            # Closing the session frees the lock too, but only once the server notices.
            if not connection.broken:
                connection.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_KEY])


def pass_is_running(database: Database) -> bool:
    """Whether some process holds the lock at this moment.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    with database.connect(autocommit=True) as connection:
        # Where the look takes the lock, the end of this session gives it back.
        return not _take(connection)


def _take(connection: Connection) -> bool:
    return connection.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_KEY]).fetchone() == (True,)
