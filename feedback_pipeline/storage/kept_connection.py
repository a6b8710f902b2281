"""A connection that stays open from one look of a sensor to the next.

A session that is new to PostgreSQL reads the catalog and maps the shared memory anew: that costs it more than the look itself.
"""

import atexit
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from feedback_pipeline.storage.database import Connection, Database

# What lies between may drop a silent connection without a word: one that is older is not asked, but opened anew.
_SILENT_S: Final = 60.0
_ANSWERS_WITHIN_MS: Final = 10_000
_kept: "list[_Kept]" = []
"""At most one: a process looks at one database."""


@dataclass(frozen=True, repr=False)
class KeptDatabase(Database):
    """The database for sessions that wait between two looks: neither side waits long for one that is gone."""

    def session(self, options: str = "") -> dict[str, str]:
        """As of `Database`; what the URL itself says stays."""
        ends = f"-c idle_session_timeout={_SILENT_S:.0f}s {options}"
        return {"tcp_user_timeout": str(_ANSWERS_WITHIN_MS)} | super().session(ends)


@dataclass(frozen=True)
class _Kept:
    database: KeptDatabase
    connection: Connection
    since: float


@contextmanager
def kept_connection(database: KeptDatabase) -> Iterator[Connection]:
    """A connection in autocommit mode: the one of the last time where it still answers, else a new one.

    Whoever comes while it is in use gets one of their own. It is kept unless the block raises.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    connection = _last(database) or database.connect(autocommit=True)
    # Planned anew each time: one plan for a queue of any length would be a bad one for most.
    connection.prepare_threshold = None
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    _kept.append(_Kept(database, connection, time.monotonic()))
    with suppress(IndexError):  # somebody else has just taken it
        while len(_kept) > 1:
            _kept.pop(0).connection.close()


@atexit.register
def _close() -> None:
    while _kept:
        _kept.pop().connection.close()


def _last(database: KeptDatabase) -> Connection | None:
    """What was kept, if it is of this database and answers."""
    try:
        kept = _kept.pop()
    except IndexError:
        return None
    if kept.database == database and time.monotonic() - kept.since < _SILENT_S:
        try:
            kept.connection.execute("SELECT")
        except psycopg.Error:
            pass  # the server has ended it; a new one says what is the matter, if anything is
        else:
            return kept.connection
    kept.connection.close()
    return None
