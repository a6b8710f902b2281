"""Which days must be read again, and which recorded changes are settled once some days have been read.

A day is stale when a recorded change touches it, when the database has reviews of it that the store has not, or when the
store holds it under another version. A change touches the days of the reviews that depend on the changed row, as of the
snapshot in which it is read: the old and the new day of a review, else the days of all reviews of the execution. Only days
from the first day up to today count.

A change is settled when a day it touches has been read and every other day it touches either has been read too or is not in
the store: such a day is read because it is missing, also one of the future when it comes. Once no day is stale, every change
of the snapshot is settled, also those that touch no day.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from psycopg.sql import SQL, Composable, Literal

from feedback_pipeline.storage.copying import copy_table
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.day_ranges import moment, within
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns

Ids = npt.NDArray[np.int64]

_ONE: Final = timedelta(days=1)
_LONG_RUN: Final = 256


def days_with_reviews(conn: Connection, first: date, last: date) -> set[date]:
    """Return the days first..last that have a review, by one index look-up a day."""
    end = moment(last + _ONE)
    query = SQL(
        "WITH RECURSIVE found(day) AS ("
        "SELECT feedback_utc_day(min(reviewed_at)) FROM review_feedback WHERE reviewed_at >= {first} AND reviewed_at < {end} "
        "UNION ALL SELECT (SELECT feedback_utc_day(min(reviewed_at)) FROM review_feedback "
        "WHERE reviewed_at >= (found.day + 1)::timestamp AT TIME ZONE 'UTC' AND reviewed_at < {end}) "
        "FROM found WHERE found.day IS NOT NULL) SELECT day FROM found WHERE day IS NOT NULL"
    ).format(first=moment(first), end=end)
    return {day for (day,) in conn.execute(query)}


def unread_days(present: set[date], stored: Mapping[date, Mapping[str, Any]], version: str, first: date, last: date) -> set[date]:
    """Return the days first..last that are stale whatever changed: not in the store, or stored under another version."""
    missing = {day for day in present if day not in stored}
    return missing | {day for day, manifest in stored.items() if first <= day <= last and manifest["version"] != version}


def touched_days(conn: Connection, consumed: Ids, days: Iterable[date]) -> set[date]:
    """Return those of some days that a change not yet consumed touches.

    Args:
        conn: A connection inside one snapshot.
        consumed: Ids of changes whose days the store already holds, ascending.
        days: The days to ask about.
    """
    asked = sorted(days)
    if not asked:
        return set()
    fresh = _fresh(consumed)
    query = SQL("SELECT DISTINCT old_day, new_day, row_id IS NULL FROM {} WHERE source = 'review_feedback' OR row_id IS NULL")
    rows = conn.execute(query.format(fresh)).fetchall()
    if any(whole_table for _, _, whole_table in rows):
        return set(asked)
    direct = {day for old, new, _ in rows for day in (old, new)}.intersection(asked)
    undecided = [day for day in asked if day not in direct]
    if not undecided:
        return direct
    parts = [
        SQL("SELECT feedback_utc_day(r.reviewed_at) FROM {fresh} {joins} WHERE c.source = {source} AND {days}").format(
            fresh=fresh, joins=joins, source=Literal(source), days=within(undecided)
        )
        for source, joins in _reviews_of_changes(source_columns(conn)).items()
    ]
    return direct | {day for (day,) in conn.execute(SQL(" UNION ").join(parts))}


def all_changes(conn: Connection, consumed: Ids) -> Ids:
    """Return the ids of all changes not yet consumed."""
    return _ids(conn, SQL("SELECT id FROM {}").format(_fresh(consumed)))


def settled_changes(conn: Connection, consumed: Ids, read: Collection[date], stored: Collection[date]) -> Ids:
    """Return the ids of changes, not yet consumed, that touch a read day and no other day of the store.

    Args:
        conn: The connection of the snapshot in which the days have been read.
        consumed: Ids already consumed, ascending.
        read: Days that have been read.
        stored: Days of the store that would miss the change: neither read nor stored under another version.
    """
    if not read:
        return np.empty(0, dtype=np.int64)
    fresh, others = _fresh(consumed), sorted(set(stored) - set(read))
    literals = [SQL("{}::date[]").format(Literal([day.isoformat() for day in sorted(days)])) for days in (read, others)]
    columns = source_columns(conn)
    joins = _reviews_of_changes(columns)
    touching = []
    for source, keys in _keys_of_reviews(columns).items():
        found = SQL("{} WHERE {}").format(keys, within(sorted(read)))
        if others:
            found = SQL("{keys} EXCEPT SELECT c.row_id FROM ({keys}) AS c {joins} WHERE {days}").format(
                keys=found, joins=joins[source], days=within(others)
            )
        touching.append(SQL("SELECT {}, row_id FROM ({}) AS found").format(Literal(source), found))
    query = SQL(
        "SELECT id FROM {fresh} WHERE source = 'review_feedback' AND (old_day = ANY({read}) OR new_day = ANY({read})) "
        "AND NOT coalesce(old_day = ANY({others}), false) AND NOT coalesce(new_day = ANY({others}), false) "
        "UNION ALL SELECT id FROM {fresh} WHERE (source, row_id) IN ({touching})"
    )
    return _ids(conn, query.format(fresh=fresh, read=literals[0], others=literals[1], touching=SQL(" UNION ALL ").join(touching)))


def _reviews_of_changes(columns: SourceColumns) -> dict[str, Composable]:
    """By source of the execution side: joins from changed keys c to the reviews r that depend on them."""
    reviews = SQL("JOIN review_feedback r ON {}").format(_review_of_workflow(columns))
    workflow, run = ("content_review_workflows", "id"), ("agent_performance", "id")
    return {
        "agent_performance": SQL("JOIN content_review_workflows w ON w.workflow_execution_id = c.row_id {}").format(reviews),
        "content_review_workflows": SQL("JOIN review_feedback r ON {}").format(
            _named_by_change(columns, ("r", "review_feedback", "workflow_id"), workflow)
        ),
        "agent_decisions": SQL(
            "JOIN agent_performance p ON {} JOIN content_review_workflows w ON w.workflow_execution_id = p.execution_id {}"
        ).format(_named_by_change(columns, ("p", *run), ("agent_decisions", "performance_id")), reviews),
    }


def _keys_of_reviews(columns: SourceColumns) -> dict[str, Composable]:
    """By source of the execution side: the keys, as text, that reviews r depend on."""
    workflows = SQL("FROM review_feedback r JOIN content_review_workflows w ON {}").format(_review_of_workflow(columns))
    return {
        "agent_performance": SQL("SELECT w.workflow_execution_id::text AS row_id {}").format(workflows),
        "content_review_workflows": SQL("SELECT r.workflow_id::text AS row_id FROM review_feedback r").format(),
        "agent_decisions": SQL(
            "SELECT p.id::text AS row_id {} JOIN agent_performance p ON p.execution_id = w.workflow_execution_id"
        ).format(workflows),
    }


def _named_by_change(columns: SourceColumns, own: tuple[str, str, str], recorded: tuple[str, str]) -> Composable:
    """Equality of a column and the key of a change; only a key recorded from the same type can be cast to it."""
    if columns.type_of(*own[1:]) == columns.type_of(*recorded):
        return SQL("{} = c.row_id::{}").format(columns.raw(*own), columns.key(*own[1:]))
    return SQL("{} = c.row_id").format(columns.text(*own))


def _review_of_workflow(columns: SourceColumns) -> Composable:
    return columns.equal(("r", "review_feedback", "workflow_id"), ("w", "content_review_workflows", "id"))


def _ids(conn: Connection, query: Composable) -> Ids:
    found: Ids = copy_table(conn, query, pa.schema([("id", pa.int64())]))["id"].to_numpy()
    return found


def _fresh(consumed: Ids) -> Composable:
    """The changes that are not consumed, as a table expression named c."""
    if not len(consumed):
        return SQL("feedback_changes AS c").format()
    # Long runs of ids as ranges, looked up one by one; the rest is hashed.
    begin = np.flatnonzero(np.diff(consumed, prepend=consumed[0] - 2) > 1)
    length = np.diff(np.append(begin, len(consumed)))
    long = length >= _LONG_RUN
    lows, highs = consumed[begin[long]], consumed[begin[long] + length[long] - 1]
    ranges = ",".join(f"[{low},{high}]" for low, high in zip(lows.tolist(), highs.tolist(), strict=True))
    single = consumed[np.repeat(~long, length)].tolist()
    return SQL(
        "(SELECT * FROM feedback_changes a WHERE NOT a.id <@ {ranges}::int8multirange "
        "AND NOT EXISTS (SELECT FROM unnest({single}::bigint[]) AS k (id) WHERE k.id = a.id)) AS c"
    ).format(ranges=Literal(f"{{{ranges}}}"), single=Literal(f"{{{','.join(map(str, single))}}}"))
