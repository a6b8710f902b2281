"""What leaves the ledger after an extraction: entries of rows that were read again and found fine, or that are gone.

An extraction takes back only what it can find itself (EXTRACTION_REASONS and SHARED_REASONS); what else a load found stays
until the rows are loaded again. A row counts as read when its day was read: that of the review, or of a review of its
execution. Shared reasons may stand for rows that a load never stored, so that a missing review voids them only if it is known
to have been deleted.
"""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Final

import pyarrow as pa
from psycopg.sql import SQL, Composable, Literal

from feedback_pipeline.storage.copying import copy_table
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.day_ranges import moment, within
from feedback_pipeline.storage.ledger import EXTRACTION_REASONS, SHARED_REASONS, Reason, record
from feedback_pipeline.storage.refusals import Refusals
from feedback_pipeline.storage.source_columns import SOURCE_TABLES, SourceColumns, source_columns

_ENTRIES: Final = pa.schema([("source", pa.string()), ("row_id", pa.string()), ("reason", pa.string())])
# Only a text of this form is cast to the type of the key: an index can be used, and no entry makes the query fail.
_FORMS: Final = {
    "uuid": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
    "bigint": "^-?[0-9]{1,18}$",
    "integer": "^-?[0-9]{1,9}$",
}


def settled_entries(conn: Connection, read: Sequence[date], untouched: Collection[date], first_day: date) -> pa.Table:
    """Return the entries that leave the ledger unless the extraction has found them again: source, row_id, reason.

    Args:
        conn: The connection of the snapshot in which the days have been read.
        read: Days that have been read, ascending.
        untouched: Days of the store that have not been read.
        first_day: First day that counts.
    """
    columns = source_columns(conn)
    parts = [_of_early_reviews(columns, first_day), _of_days(untouched), _of_deleted_reviews(columns)]
    parts += [_of_missing_rows(columns, table) for table in SOURCE_TABLES]
    if read:
        parts += _of_read_rows(columns, read)
    query = SQL(" UNION ").join(SQL("SELECT l.source, l.row_id, l.reason FROM rejected_feedback l {}").format(p) for p in parts)
    return copy_table(conn, query, _ENTRIES)


def settle(database: Database, refusals: Refusals, settled: pa.Table) -> None:
    """Enter what was refused and remove the settled entries that were not found again, in one transaction."""
    texts = [settled[name].to_pylist() for name in _ENTRIES.names]
    with database.connect() as conn:
        record(conn, refusals.table())
        conn.execute(
            "DELETE FROM rejected_feedback l USING unnest(%s::text[], %s::text[], %s::text[]) AS s (source, row_id, reason) "
            "WHERE l.source = s.source AND l.row_id = s.row_id AND l.reason = s.reason AND l.last_seen < now()",
            texts,
        )


def _of_read_rows(columns: SourceColumns, read: Sequence[date]) -> list[Composable]:
    """Entries of the rows on which the reviews of some days depend."""
    run = SQL("agent_performance p")
    reviews = SQL(
        "JOIN content_review_workflows w ON w.workflow_execution_id = p.execution_id JOIN review_feedback r ON {}"
    ).format(columns.equal(("r", "review_feedback", "workflow_id"), ("w", "content_review_workflows", "id")))
    decided = columns.equal(("d", "agent_decisions", "performance_id"), ("p", "agent_performance", "id"))
    rows = {
        "review_feedback": SQL("review_feedback r"),
        "agent_performance": SQL("{} {}").format(run, reviews),
        "agent_decisions": SQL("agent_decisions d JOIN {} ON {} {}").format(run, decided, reviews),
    }
    return [
        SQL("JOIN {rows} ON {own} WHERE l.source = {source} AND {found} AND {days}").format(
            rows=joined,
            own=_is_row(columns, source, {"review_feedback": "r", "agent_performance": "p", "agent_decisions": "d"}[source]),
            source=Literal(source),
            found=_reason((*EXTRACTION_REASONS, *SHARED_REASONS)),
            days=within(read),
        )
        for source, joined in rows.items()
    ]


def _of_early_reviews(columns: SourceColumns, first_day: date) -> Composable:
    """Entries of reviews that are no longer before the first day."""
    return SQL(
        "JOIN review_feedback r ON {} WHERE l.source = 'review_feedback' AND {} AND (r.reviewed_at < {}) IS NOT TRUE"
    ).format(_is_row(columns, "review_feedback", "r"), _reason([Reason.BEFORE_FIRST_DAY]), moment(first_day))


def _of_days(untouched: Collection[date]) -> Composable:
    """Entries of an agent and a day, unless the day is stored as it was."""
    days = Literal(sorted(day.isoformat() for day in untouched))
    return SQL("WHERE {} AND right(l.row_id, 10) <> ALL({}::text[])").format(_reason([Reason.TOO_MANY_FEATURES]), days)


def _of_missing_rows(columns: SourceColumns, table: str) -> Composable:
    """Entries that only a stored row can have, without that row."""
    reasons = [reason for reason in EXTRACTION_REASONS if reason is not Reason.TOO_MANY_FEATURES]
    return SQL("WHERE l.source = {} AND {} AND {}").format(Literal(table), _reason(reasons), _is_missing(columns, table))


def _of_deleted_reviews(columns: SourceColumns) -> Composable:
    """Entries of reviews that were stored and are not any more."""
    return SQL(
        "WHERE l.source = 'review_feedback' AND {} AND {} AND EXISTS (SELECT FROM feedback_changes c "
        "WHERE c.source = 'review_feedback' AND (c.operation = 'DELETE' AND c.row_id = l.row_id OR c.operation = 'TRUNCATE'))"
    ).format(_reason(SHARED_REASONS), _is_missing(columns, "review_feedback"))


def _is_missing(columns: SourceColumns, table: str) -> Composable:
    return SQL("NOT EXISTS (SELECT FROM {} t WHERE {})").format(SQL(table), _is_row(columns, table, "t"))


def _is_row(columns: SourceColumns, table: str, alias: str) -> Composable:
    """Whether ledger entry l is about a row of the table."""
    kind = columns.type_of(table, "id")
    if kind not in _FORMS:
        return SQL("{} = l.row_id").format(columns.text(alias, table, "id"))
    return SQL("{id} = CASE WHEN l.row_id ~ {form} THEN l.row_id::{kind} END").format(
        id=columns.raw(alias, table, "id"), form=Literal(_FORMS[kind]), kind=SQL(kind)
    )


def _reason(reasons: Sequence[Reason]) -> Composable:
    return SQL("l.reason = ANY({})").format(Literal([str(reason) for reason in reasons]))
