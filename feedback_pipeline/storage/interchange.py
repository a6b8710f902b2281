"""Load a folder of interchange files into the four source tables.

The folder is one transaction: the files refer to each other, an interrupted load leaves nothing half-done, and the change
list the triggers keep sees the rows when they count. Only rows are locked, and those that did not change not even that.
"""

from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier, Literal

from feedback_pipeline.errors import StoreError, StoreUnavailable
from feedback_pipeline.settings import ScoreBounds, Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.interchange_checks import check, check_scores
from feedback_pipeline.storage.interchange_files import find_files
from feedback_pipeline.storage.interchange_report import LoadReport, TableReport
from feedback_pipeline.storage.interchange_staging import Progress, Staged, clear, prepare, stage
from feedback_pipeline.storage.interchange_tables import INTERCHANGE_TABLES, SourceTable, read_target
from feedback_pipeline.storage.ledger import LOAD_REASONS, settle


def load_folder(database: Database, folder: Path | str, settings: Settings, progress: Progress | None = None) -> LoadReport:
    """Load a folder: new rows are inserted, changed rows updated, refused rows entered in the ledger.

    Loading the same files again changes nothing. A column the file lacks keeps what the table has, or its default;
    where a row's key refers to nothing, in the files before it or in the database, the row is refused.

    Args:
        database: a migrated database.
        folder: holds one file (.parquet, .csv, .csv.gz, .jsonl or .jsonl.gz) for each table that has rows to load.
        settings: score bounds.
        progress: called with (table, rows read, rows of the file or None) after every batch.

    Raises:
        UserError: nothing to load, an unreadable file, a required column missing, a database that is not migrated.
        StoreError: the database refuses the rows for a reason no check foresaw; nothing was loaded.
        StoreUnavailable: the database cannot be reached, or was lost on the way; nothing was loaded.
    """
    files = find_files(Path(folder), [table.name for table in INTERCHANGE_TABLES])
    with database.connect() as conn:
        try:
            prepare(conn)
            # Two loads of the same new rows would each insert them.
            conn.execute("SELECT pg_advisory_xact_lock(hashtext('feedback_pipeline load'))")
            tables = [
                _load_file(conn, table, files[table.name], settings.score_bounds, progress)
                for table in INTERCHANGE_TABLES
                if table.name in files
            ]
            clear(conn)
        except psycopg.OperationalError as error:
            if conn.closed:
                raise StoreUnavailable(
                    f"{database.description} was lost while loading; nothing was loaded, load again"
                ) from error
            raise _refused(database, error) from error
        except psycopg.DatabaseError as error:
            raise _refused(database, error) from error
    return LoadReport(tuple(tables))


def _refused(database: Database, error: psycopg.Error) -> StoreError:
    # Only the primary line: the details of an error quote the row.
    return StoreError(
        f"{database.description} refused the rows: {error.diag.message_primary or error}; correct that and load again"
    )


def _load_file(
    conn: Connection[Any], table: SourceTable, path: Path, bounds: ScoreBounds, progress: Progress | None
) -> TableReport:
    staged = stage(conn, read_target(conn, table), path, progress)
    check(conn, staged)
    check_scores(conn, staged, bounds)
    updated = _update(conn, staged)
    loaded = _insert(conn, staged)
    _enter_in_ledger(conn, staged)
    rejected = _counts(conn, "load_refused")
    return TableReport(
        table=table.name,
        noun=table.noun,
        file=path.name,
        rows=staged.rows,
        loaded=loaded,
        unchanged=staged.rows - loaded - updated - sum(rejected.values()),
        updated=updated,
        rejected=rejected,
        rejected_scores=_counts(conn, "load_scores"),
        ignored_columns=staged.ignored,
    )


def _update(conn: Connection[Any], staged: Staged) -> int:
    """Update the rows that differ; the others are not touched, so that nobody takes them for changed."""
    columns = [staged.target.columns[name] for name in staged.columns if name != "id"]
    suffixes = [SQL("" if column.is_comparable else "::text") for column in columns]
    names = [Identifier(column.name) for column in columns]
    old, new = (
        SQL(", ").join(
            SQL("{}.{}{}").format(Identifier(alias), name, suffix) for name, suffix in zip(names, suffixes, strict=True)
        )
        for alias in ("t", "s")
    )
    return conn.execute(
        SQL(
            "UPDATE {table} t SET {values} FROM load_typed s WHERE t.id = s.id AND ROW({old}) IS DISTINCT FROM ROW({new})"
        ).format(
            table=Identifier(staged.target.table.name),
            values=SQL(", ").join(SQL("{} = s.{}").format(name, name) for name in names),
            old=old,
            new=new,
        )
    ).rowcount


def _insert(conn: Connection[Any], staged: Staged) -> int:
    columns = [Identifier(name) for name in staged.columns]
    unknown = [name for name in staged.target.table.optional_null if name in staged.target.columns and name not in staged.columns]
    nulls = [name for name in unknown if not staged.target.columns[name].is_required]
    return conn.execute(
        SQL(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM load_typed s "
            "WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.id = s.id)"
        ).format(
            table=Identifier(staged.target.table.name),
            columns=SQL(", ").join([*columns, *(Identifier(name) for name in nulls)]),
            values=SQL(", ").join([*(SQL("s.{}").format(name) for name in columns), *(SQL("NULL") for _ in nulls)]),
        )
    ).rowcount


def _enter_in_ledger(conn: Connection[Any], staged: Staged) -> None:
    source = Literal(staged.target.table.name)
    rejections = SQL(
        "SELECT {source}::text AS source, row_id, reason, detail FROM load_refused "
        "UNION ALL SELECT {source}, row_id, reason, detail FROM load_scores"
    ).format(source=source)
    settle(conn, staged.target.table.name, LOAD_REASONS, _checked(staged, source), rejections)


def _checked(staged: Staged, source: Literal) -> Composed:
    """The rows that were looked at: those of the file, and those an earlier file of this name had without an id."""
    return SQL(
        "SELECT id::text AS row_id FROM load_typed UNION SELECT row_id FROM load_refused "
        "UNION SELECT row_id FROM rejected_feedback WHERE source = {source} AND starts_with(row_id, {places})"
    ).format(source=source, places=Literal(staged.places))


def _counts(conn: Connection[Any], table: str) -> dict[str, int]:
    counts = SQL("SELECT reason, count(*) FROM {} GROUP BY reason ORDER BY count(*) DESC, reason").format(Identifier(table))
    return dict(conn.execute(counts).fetchall())
