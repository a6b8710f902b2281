"""Session advisory locks: one learning pass at a time on one database, and a sign that the process of a run lives.

The server frees both when their session ends, however its process ends. It may also end the session of a process that lives: it
is started again, or a proxy loses patience. Then another pass begins, and whatever the first one still publishes would undo what
the other has done. So a pass writes through the database that `learning_pass_lock` yields: each of its transactions begins with
the proof that the lock is held, and the next holder waits for those that have begun.
"""

import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from feedback_pipeline.errors import StoreError, StoreUnavailable
from feedback_pipeline.storage.database import Connection, Database

ADVISORY_KEY: Final = 0x_FEED_1EA2
# Waiting inside pg_advisory_lock would hold a snapshot open for as long: vacuum and index builds would wait with it.
POLL_S: Final = 0.25
# Less than what lies between the two looks that fail a run without a sign.
SHOWN_EVERY_S: Final = 2.0
END_PATIENCE_S: Final = 5.0
_WRITING_KEY: Final = 0x_FEED_1EA3
"""Shared by the transactions of a holder until they end."""
_RUNS: Final = 0x_FEED
"""Class of the locks of single runs: PostgreSQL keeps locks of one key and those of two apart."""
_HOLDS: Final = (
    b"SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
    b" AND classid = 0 AND objid = %s AND objsubid = 1)"
)
# Either side notices within two minutes that the other is gone, and what lies between them sees that the session is in use.
_CLIENT: Final = {
    **{"keepalives": "1", "keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"},
    "tcp_user_timeout": "120000",
}
_SERVER: Final = {"idle_session_timeout": 0, "tcp_keepalives_idle": 60, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 6}


class LastingDatabase(Database):
    """The database for sessions that say nothing for as long as a pass computes."""

    def session(self, options: str = "") -> dict[str, str]:
        """As of `Database`, without an end for being idle; what the URL itself says of keepalives stays."""
        lasting = " ".join(f"-c {name}={value}" for name, value in _SERVER.items())
        return _CLIENT | super().session(f"{lasting} {options}")


@dataclass(frozen=True, repr=False)
class HeldDatabase(LastingDatabase):
    """The database as the holder of the learning lock writes to it.

    Args:
        url: of the database.
        holder: the session that holds the lock.
    """

    holder: Connection

    def connect(self, *, autocommit: bool = False) -> Connection:
        """As of `Database`; its first transaction begins under the lock, and no other pass begins before that transaction ends.

        Raises:
            StoreUnavailable: the server or the database cannot be reached.
            StoreError: the lock is lost.
        """
        connection = super().connect(autocommit=autocommit)
        try:
            # First this, then the proof: who takes the lock in between sees this transaction, and waits for its end.
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_WRITING_KEY])
            self.prove()
        except BaseException:
            connection.close()
            raise
        return connection

    def prove(self) -> None:
        """Ask whether the lock is held; the session answers itself, and no other that has the same number.

        Raises:
            StoreError: the lock is lost.
        """
        lost = StoreError(
            "this learning pass has lost its lock: the database server, or a proxy before it, has ended the session that held it,"
            " and another pass may have begun; it writes nothing more, and what it would have learned is learned by the next pass"
        )
        try:
            held = self.holder.execute(_HOLDS, [ADVISORY_KEY]).fetchone() == (True,)
        except psycopg.OperationalError as error:
            raise lost from error
        if not held:
            raise lost

    @contextmanager
    def snapshot(self, same_as: Connection | None = None) -> Iterator[Connection]:
        """As of `Database`: reading needs no lock."""
        with LastingDatabase(self.url).snapshot(same_as) as connection:
            yield connection


@contextmanager
def learning_pass_lock(database: Database, on_wait: Callable[[], None], run_id: str | None = None) -> Iterator[HeldDatabase]:
    """Holds the lock for the block; the server frees it when this process dies.

    Args:
        database: the database the pass learns from.
        on_wait: called once when another pass holds the lock, before waiting for it.
        run_id: a run that shows its sign of life meanwhile, also while it waits; both are lost together or not at all.

    Yields:
        The database to write to in the block.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    with LastingDatabase(database.url).connect(autocommit=True) as connection, _freeing(connection):
        if run_id is not None:
            _show(connection, run_id)
        if not _take(connection):
            on_wait()
            while not _take(connection):
                time.sleep(POLL_S)
        while not _is_alone(connection):
            time.sleep(POLL_S)
        yield HeldDatabase(database.url, connection)


@contextmanager
def sign_of_life(database: Database, run_id: str) -> Iterator[None]:
    """Shows for the block that the process of a run lives; several steps of it may show it at once.

    A thread shows it again where its session is lost, as at a restart of the server: unlike a pass, the run does not depend on
    that session and goes on. While no session can be opened it keeps trying; the run hears nothing of it.

    Raises:
        StoreUnavailable: the server cannot be reached at the beginning.
    """
    lasting = LastingDatabase(database.url)
    connection, ended = lasting.connect(autocommit=True), threading.Event()
    try:
        _show(connection, run_id)
    except BaseException:
        connection.close()
        raise
    thread = threading.Thread(
        target=_keep_showing, args=(lasting, connection, run_id, ended), name=f"sign of life of run {run_id}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # One that waits for a server that does not answer ends by itself, or with the process.
        thread.join(END_PATIENCE_S)


def _keep_showing(database: Database, connection: Connection, run_id: str, ended: threading.Event) -> None:
    """Shows a sign again and again, in a new session where the last one is lost; in the end frees it."""
    while not ended.wait(SHOWN_EVERY_S):
        try:
            if connection.closed:
                connection = database.connect(autocommit=True)
            _show(connection, run_id)
        except (psycopg.OperationalError, StoreUnavailable):
            connection.close()
    _free(connection)
    connection.close()


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


def _show(connection: Connection, run_id: str) -> None:
    connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", [_RUNS, _key(run_id)])


def _take(connection: Connection) -> bool:
    return connection.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_KEY]).fetchone() == (True,)


def _is_alone(connection: Connection) -> bool:
    """Whether no transaction is open that an earlier holder began; what it takes to find out ends with the statement."""
    return connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_WRITING_KEY]).fetchone() == (True,)


@contextmanager
def _freeing(connection: Connection) -> Iterator[None]:
    """Frees the locks of a session after the block."""
    try:
        yield
    finally:
        _free(connection)


def _free(connection: Connection) -> None:
    """Frees the locks of a session at once: closing it frees them too, but only once the server notices.

    A session that the server has ended holds nothing any more; what was written meanwhile was written under the lock.
    """
    with suppress(psycopg.OperationalError):
        connection.execute("SELECT pg_advisory_unlock_all()")
