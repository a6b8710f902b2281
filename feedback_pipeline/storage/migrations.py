"""Applies the numbered files of sql/: each once, in order, safely beside writers and beside another process doing the same."""

import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import psycopg
from psycopg import sql

from feedback_pipeline.errors import StoreError, StoreUnavailable
from feedback_pipeline.storage.database import Connection, Database

LOCK_TIMEOUT_MS = 2000
INDEX_LOCK_TIMEOUT_MS = 600_000
LOCK_ATTEMPTS = 15
LOCK_PAUSE_S = 1.0
# Waiting in pg_advisory_lock would hold a snapshot, on which the other process's CREATE INDEX CONCURRENTLY waits in turn.
ADVISORY_KEY = 0x_FEED_BAC4
ADVISORY_POLL_S = 0.1

_BOOKS = """
CREATE TABLE IF NOT EXISTS feedback_schema_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_TOKENS = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|(?P<end>;)", re.DOTALL)
_CONCURRENT_INDEX = re.compile(r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class Migration:
    """One file of sql/.

    Attributes:
        name: File name, which orders the files.
        text: Its SQL.
    """

    name: str
    text: str

    @property
    def concurrent(self) -> bool:
        """Statement by statement outside a transaction; each statement can be repeated."""
        return self.name.endswith(".concurrent.sql")

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, whatever its line ends."""
        return hashlib.sha256("\n".join(self.text.splitlines()).encode()).hexdigest()


def sql_files() -> list[Migration]:
    """The migrations in order: of the checkout's sql/ or, in an installed wheel, of the package's resources.

    Raises:
        StoreError: There are none: the installation is broken.
    """
    packaged: Traversable = files("feedback_pipeline") / "_resources" / "sql"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "sql"
    entries = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")] if folder.is_dir() else []
    if not entries:
        raise StoreError("the SQL files of feedback_pipeline are missing; install the package again")
    return [Migration(entry.name, entry.read_text(encoding="utf-8")) for entry in sorted(entries, key=lambda entry: entry.name)]


def migrate(database: Database) -> list[str]:
    """Bring the database to the newest schema, creating it if missing; return the names applied now.

    Two processes at once: one waits, both succeed. Locks on the source tables are asked for briefly and again, so
    that writers are not queued behind a long reader.

    Raises:
        StoreUnavailable: The server cannot be reached, or a table stayed locked through all attempts.
        StoreError: A file that was applied has changed since, or a statement failed.
    """
    database.ensure_exists()
    with database.connect(autocommit=True) as connection:
        while not _fetch(connection, "SELECT pg_try_advisory_lock(%s)", ADVISORY_KEY):
            time.sleep(ADVISORY_POLL_S)
        try:
            return _apply_pending(connection, sql_files(), database)
        finally:
            if not connection.broken:
                connection.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_KEY])


def _apply_pending(connection: Connection, migrations: list[Migration], database: Database) -> list[str]:
    if _fetch(connection, "SELECT to_regclass('feedback_schema_migrations')") is None:
        connection.execute(_BOOKS)
    applied: dict[str, str] = dict(connection.execute("SELECT name, checksum FROM feedback_schema_migrations").fetchall())
    changed = [m.name for m in migrations if applied.get(m.name, m.checksum) != m.checksum]
    if changed:
        raise StoreError(
            f"{', '.join(changed)} changed after being applied to {database.description}; "
            "restore the file and put the change into a new one"
        )
    pending = [m for m in migrations if m.name not in applied]
    for migration in pending:
        try:
            (_apply_concurrent if migration.concurrent else _apply_whole)(connection, migration)
        except psycopg.errors.InsufficientPrivilege as error:
            raise StoreError(f"{migration.name}: {_line(error)}; run migrate as the owner of the tables") from error
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            raise StoreUnavailable(
                f"{migration.name}: a table of {database.description} stayed locked for too long; "
                "end the long transaction that holds it (see pg_stat_activity) and run migrate again"
            ) from error
        except psycopg.Error as error:
            raise StoreError(
                f"{migration.name} failed on {database.description}: {_line(error)}; correct that and run migrate again"
            ) from error
    return [m.name for m in pending]


def _apply_whole(connection: Connection, migration: Migration) -> None:
    def apply() -> None:
        connection.execute(migration.text.encode())
        _record(connection, migration)

    _behind_locks(connection, apply)


def _apply_concurrent(connection: Connection, migration: Migration) -> None:
    for statement in statements(migration.text):
        index = _CONCURRENT_INDEX.search(statement)
        if index:
            _drop_if_invalid(connection, index.group(1))
            # It waits for old transactions, but blocks nobody meanwhile.
            connection.execute(sql.SQL("SET lock_timeout = {}").format(INDEX_LOCK_TIMEOUT_MS))
            # An index is for speed alone: a source table without the column has none.
            with suppress(psycopg.errors.UndefinedColumn):
                connection.execute(statement.encode())
        else:
            _behind_locks(connection, partial(connection.execute, statement.encode()))
    _record(connection, migration)


def _behind_locks(connection: Connection, action: Callable[[], object]) -> None:
    """Run the action in a transaction that gives up a lock it does not get soon, so that writers never queue behind it."""
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT_MS))
                action()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if attempt == LOCK_ATTEMPTS:
                raise
            time.sleep(LOCK_PAUSE_S)
        else:
            return


def _drop_if_invalid(connection: Connection, index: str) -> None:
    """An interrupted CREATE INDEX CONCURRENTLY leaves an index that IF NOT EXISTS would take for finished."""
    if _fetch(connection, "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid", index):
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(index)))


def _record(connection: Connection, migration: Migration) -> None:
    connection.execute(
        "INSERT INTO feedback_schema_migrations (name, checksum) VALUES (%s, %s)", [migration.name, migration.checksum]
    )


def statements(text: str) -> list[str]:
    """Split SQL at the semicolons that end statements, not at those in strings, comments or dollar quotes."""
    found, start = [], 0
    for token in _TOKENS.finditer(text):
        if token.group("end"):
            found.append(text[start : token.start()].strip())
            start = token.end()
    found.append(text[start:].strip())
    return [statement for statement in found if _TOKENS.sub("", statement).strip()]


def _fetch(connection: Connection, query: str, *values: object) -> object:
    row = connection.execute(query.encode(), values).fetchone()
    return row[0] if row else None


def _line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).splitlines()[0]
