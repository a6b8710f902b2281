"""Which days must be read again, and which recorded changes are settled once some days have been read.

A day is stale when a recorded change touches it, when the database has reviews of it that the store has not, or when the
store holds it under another version. A change touches the days of the reviews that depend on the changed row, as of the
snapshot in which it is read: the old and the new day of a review, else the days of all reviews of the execution. Only days
from the first day up to today count; a review dated in the future makes its day stale when that day comes, because the store
does not have it, so its change need not be kept.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from psycopg.sql import SQL, Composable

from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.day_ranges import moment
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns

Ids = npt.NDArray[np.int64]

_ONE: Final = timedelta(days=1)


@dataclass(frozen=True)
class Staleness:
    """The state of the days first..last in one snapshot.

    Attributes:
        stale: Days to read again.
        present: Days with reviews in the database.
    """

    stale: frozenset[date]
    present: frozenset[date]


def find_stale(
    conn: Connection, stored: Mapping[date, Mapping[str, Any]], version: str, consumed: Ids, first: date, last: date
) -> Staleness:
    """Find the days to read again.

    Args:
        conn: A connection inside one snapshot.
        stored: Manifests by day.
        version: What the stored days must have been extracted with.
        consumed: Ids of changes whose days the store already holds.
        first: First day that counts.
        last: Last day that counts: today.
    """
    present = days_with_reviews(conn, first, last)
    current = {day for day, manifest in stored.items() if manifest["version"] == version and first <= day <= last}
    relevant = present | {day for day in stored if first <= day <= last}
    stale = relevant - current
    if current:
        stale |= _touched(conn, source_columns(conn), consumed, first, last, current) & relevant
    return Staleness(frozenset(stale), frozenset(present))


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


def settled_changes(conn: Connection, consumed: Ids, waiting: Collection[date]) -> Ids:
    """Return the ids of changes, not yet consumed, that touch none of the waiting days.

    Args:
        conn: The connection of the snapshot in which the other days have been read.
        consumed: Ids already consumed.
        waiting: Stale days that have not been read.
    """
    if waiting:
        c = source_columns(conn)
        touches = SQL(
            "c.row_id IS NULL OR c.old_day = ANY(%(days)s) OR c.new_day = ANY(%(days)s) "
            "OR EXISTS (SELECT FROM ({execution_days}) AS touched "
            "WHERE touched.source = c.source AND touched.row_id = c.row_id AND touched.day = ANY(%(days)s))"
        ).format(execution_days=_execution_days(c))
    else:
        touches = SQL("false").format()
    query = SQL("WITH {fresh} SELECT c.id FROM fresh c WHERE NOT coalesce({touches}, false)").format(
        fresh=_fresh(), touches=touches
    )
    rows = conn.execute(query, {"consumed": _multirange(consumed), "days": sorted(waiting)}).fetchall()
    return np.array([row[0] for row in rows], dtype=np.int64)


def pending_counts(conn: Connection, first: date | None = None, last: date | None = None) -> dict[str, int]:
    """Count by agent the reviews with changes that no learning run has published yet.

    Only reviews that are or were training data count, each once however often it changed. A deleted review no longer names
    its agent and is not counted here.

    Args:
        conn: Any connection.
        first: First day of the window, None = no limit; a change counts when its old or new day lies inside.
        last: Last day of the window, None = no limit.
    """
    c = source_columns(conn)
    query = SQL(
        "SELECT p.agent_name::text, count(DISTINCT c.row_id) FROM (SELECT DISTINCT row_id FROM feedback_changes "
        "WHERE source = 'review_feedback' AND trainable "
        "AND (old_day BETWEEN %(first)s AND %(last)s OR new_day BETWEEN %(first)s AND %(last)s)) AS c "
        "JOIN review_feedback r ON r.id = c.row_id::{review} JOIN content_review_workflows w ON {joined} "
        "JOIN agent_performance p ON p.execution_id = w.workflow_execution_id AND p.status::text = 'success' "
        "GROUP BY 1 ORDER BY 1"
    ).format(review=c.key("review_feedback", "id"), joined=_review_of_workflow(c))
    window = {"first": first or date(1, 1, 2), "last": last or date(9999, 12, 30)}
    return {str(agent): int(count) for agent, count in conn.execute(query, window)}


def _touched(
    conn: Connection, columns: SourceColumns, consumed: Ids, first: date, last: date, current: Collection[date]
) -> set[date]:
    """Days touched by a change; of the execution side only those among `current`, the others are stale anyway."""
    direct = SQL(
        "WITH {fresh} SELECT old_day FROM fresh WHERE old_day IS NOT NULL "
        "UNION SELECT new_day FROM fresh WHERE new_day IS NOT NULL"
    ).format(fresh=_fresh())
    values: dict[str, Any] = {"consumed": _multirange(consumed)}
    days = {day for (day,) in conn.execute(direct, values) if first <= day <= last}
    truncated = SQL("WITH {fresh} SELECT EXISTS (SELECT FROM fresh WHERE row_id IS NULL)").format(fresh=_fresh())
    if conn.execute(truncated, values).fetchone() == (True,):
        return set(current)
    undecided = sorted(set(current) - days)
    if undecided:
        query = SQL(
            "WITH {fresh} SELECT DISTINCT touched.day "
            "FROM (SELECT DISTINCT source, row_id FROM fresh WHERE source <> 'review_feedback') AS c "
            "JOIN ({execution_days}) AS touched ON touched.source = c.source AND touched.row_id = c.row_id "
            "WHERE touched.day = ANY(%(days)s)"
        ).format(fresh=_fresh(), execution_days=_execution_days(columns))
        days |= {day for (day,) in conn.execute(query, values | {"days": undecided})}
    return days


def _fresh() -> Composable:
    return SQL("fresh AS MATERIALIZED (SELECT * FROM feedback_changes WHERE NOT id <@ %(consumed)s::int8multirange)")


def _execution_days(columns: SourceColumns) -> Composable:
    """(source, row_id, day) of all reviews, by the rows of the execution side that they depend on."""
    return SQL(
        "SELECT 'agent_performance' AS source, w.workflow_execution_id::text AS row_id, "
        "feedback_utc_day(r.reviewed_at) AS day "
        "FROM content_review_workflows w JOIN review_feedback r ON {joined} "
        "UNION ALL SELECT 'content_review_workflows', r.workflow_id::text, feedback_utc_day(r.reviewed_at) "
        "FROM review_feedback r "
        "UNION ALL SELECT 'agent_decisions', p.id::text, feedback_utc_day(r.reviewed_at) FROM agent_performance p "
        "JOIN content_review_workflows w ON w.workflow_execution_id = p.execution_id JOIN review_feedback r ON {joined}"
    ).format(joined=_review_of_workflow(columns))


def _review_of_workflow(columns: SourceColumns) -> Composable:
    return columns.equal(("r", "review_feedback", "workflow_id"), ("w", "content_review_workflows", "id"))


def _multirange(ids: Ids) -> str:
    """Ascending ids as a Postgres multirange: long runs of ids become short."""
    if not len(ids):
        return "{}"
    breaks = np.flatnonzero(np.diff(ids) > 1)
    lows, highs = ids[np.concatenate([[0], breaks + 1])], ids[np.append(breaks, len(ids) - 1)]
    return "{" + ",".join(f"[{low},{high}]" for low, high in zip(lows.tolist(), highs.tolist(), strict=True)) + "}"
