"""The connections of the API: few, readers apart from writers, none waited for longer than a moment."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.serving.problems import Overloaded
from feedback_pipeline.storage.database import Connection, Database

READERS: Final = 8
WRITERS: Final = 4
WAIT_S: Final = 2.0
MOST_WAITING: Final = 64
READER_ROLE: Final = "feedback_reader"
_READING_LIMIT: Final = "-c statement_timeout=10s"
_WRITING_LIMIT: Final = "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s"
_WHAT_A_READER_NEEDS: Final = (
    "SELECT has_table_privilege(%(role)s, 'learning_runs', 'SELECT')"
    " AND has_column_privilege(%(role)s, 'installation', 'id', 'SELECT')"
)


@dataclass(frozen=True, repr=False)
class Pooled(Database):
    """The database for functions that open connections themselves: what they open comes from the pools, with their limits.

    Attributes:
        connections: The pools.
    """

    connections: "Connections"

    def connect(self, *, autocommit: bool = False) -> AbstractContextManager[Connection]:  # type: ignore[override]
        """A writer's connection in a transaction: these functions use it as a context manager, as that of `Database`."""
        if autocommit:
            raise ValueError("a connection of a pool is in a transaction")
        return self.connections.writing()

    @contextmanager
    def snapshot(self, same_as: Connection | None = None) -> Iterator[Connection]:
        """A reader's connection; two of them never share a snapshot."""
        if same_as is not None:
            raise ValueError("a snapshot of a pool is its own")
        with self.connections.snapshot() as one:
            yield one.connection


@dataclass(frozen=True, repr=False)
class OneSnapshot(Pooled):
    """The database as one snapshot sees it: whatever is read through it, and however often, is of one moment.

    Attributes:
        connection: In its transaction.
    """

    connection: Connection

    @contextmanager
    def snapshot(self, same_as: Connection | None = None) -> Iterator[Connection]:
        """The connection of this snapshot; `same_as` makes no difference."""
        del same_as
        yield self.connection


class Connections:
    """Two pools.

    Args:
        database: A migrated database.
        wait_s: How long anybody waits for a connection.
    """

    def __init__(self, database: Database, wait_s: float = WAIT_S) -> None:
        self.database = database
        self.pooled: Final = Pooled(database.url, self)
        self._readers = _pool(database, "readers", READERS, wait_s, _READING_LIMIT, _only_reads)
        self._writers = _pool(database, "writers", WRITERS, wait_s, _WRITING_LIMIT)
        self._role = ""

    def open(self) -> None:
        """Open both pools; where the role of readers exists and may be taken, what is published is read as it.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        self._role = _reader_role(self.database)
        for pool in (self._readers, self._writers):
            pool.open()

    def close(self) -> None:
        """Close what is open."""
        for pool in (self._readers, self._writers):
            pool.close()

    @contextmanager
    def snapshot(self, *, published: bool = False) -> Iterator[OneSnapshot]:
        """The database in one REPEATABLE READ, READ ONLY transaction.

        Args:
            published: Only what is published is read, with the rights of a reader.

        Raises:
            Overloaded: no connection was free in time.
        """
        with _borrowed(self._readers) as connection:
            if published and self._role:
                connection.execute(f"SET LOCAL ROLE {self._role}".encode())
            yield OneSnapshot(self.database.url, self, connection)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction, which is committed at the end.

        Raises:
            Overloaded: no connection was free in time.
        """
        with _borrowed(self._writers) as connection:
            yield connection

    def counts(self) -> dict[str, dict[str, int]]:
        """By pool: connections there are, that are free, and how many wait for one."""
        return {
            pool.name: {key: stats.get(name, 0) for key, name in _COUNTED.items()}
            for pool in (self._readers, self._writers)
            for stats in [pool.get_stats()]
        }


_COUNTED: Final = {"size": "pool_size", "free": "pool_available", "waiting": "requests_waiting"}
_Pool = ConnectionPool[Connection]


@contextmanager
def _borrowed(pool: _Pool) -> Iterator[Connection]:
    try:
        connection = _living(pool)
    except PoolClosed:
        raise StoreUnavailable("the service is stopping; ask again once it is back") from None
    except (PoolTimeout, TooManyRequests):
        raise Overloaded("no connection to the database was free in time; ask again in a moment") from None
    try:
        with connection.transaction():
            yield connection
    finally:
        pool.putconn(connection)


def _living(pool: _Pool) -> Connection:
    """A connection that answers. The server may have ended all of them; the check of the pool itself would pause after each."""
    for _ in range(pool.max_size):
        connection = pool.getconn()
        try:
            ConnectionPool.check_connection(connection)
        except psycopg.OperationalError:
            pool.putconn(connection)
        else:
            return connection
    return pool.getconn()


def _pool(database: Database, name: str, size: int, wait_s: float, limits: str, configure: object = None) -> _Pool:
    return ConnectionPool(
        "",
        kwargs=database.session(limits),
        min_size=1,
        max_size=size,
        open=False,
        configure=configure,  # type: ignore[arg-type]
        name=name,
        timeout=wait_s,
        max_waiting=MOST_WAITING,
    )


def _only_reads(connection: Connection) -> None:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def _reader_role(database: Database) -> str:
    """The role, where this user may take it and it sees all that is published; else nothing."""
    with database.connect(autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [READER_ROLE]).fetchone() is None:
            return ""
        try:
            connection.execute(f"SET ROLE {READER_ROLE}".encode())
        except psycopg.errors.InsufficientPrivilege:
            return ""
        connection.execute("RESET ROLE")
        sees_all = connection.execute(_WHAT_A_READER_NEEDS, {"role": READER_ROLE}).fetchone() == (True,)
    return READER_ROLE if sees_all else ""
