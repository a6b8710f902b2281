"""What is pending, as the database has it at this moment: counts and times, read by every tick, so the reading is cheap.

Nothing is remembered between two readings, so nothing can be missed: a row counts from the moment it is committed until the
publication that learned from it deletes it. A count that cannot be read raises.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from psycopg.sql import SQL, Composable
from psycopg.types.json import Jsonb

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.trigger import UNKNOWN_AGENT, Pending, Policy
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns

_FEW: Final = 100
CHECK: Final = "CHECK"
"""Operation of a change that asks for a day to be read again."""

_TOTALS: Final = SQL(
    "SELECT count(*), count(*) FILTER (WHERE review), min(id) FILTER (WHERE review), max(id) FILTER (WHERE review), min(id), "
    "max(id), min(changed_at), max(changed_at) FILTER (WHERE review), "
    "count(DISTINCT old_day) FILTER (WHERE operation = {check}), "
    "(array_agg(operation ORDER BY id) FILTER (WHERE row_id IS NULL))[1], "
    "(array_agg(source ORDER BY id) FILTER (WHERE row_id IS NULL))[1], clock_timestamp() "
    "FROM (SELECT *, source = 'review_feedback' OR row_id IS NULL AS review FROM feedback_changes) AS change"
)


@dataclass(frozen=True)
class State:
    """One reading.

    Attributes:
        pending: What no learning run has published yet.
        now: The time by the clock that dated the changes.
        published_by: The Dagster run of the last publication, None before the first or where it had none.
    """

    pending: Pending
    now: datetime
    published_by: str | None = None


def read_pending(connection: Connection, policy: Policy) -> State:
    """Read what no learning run has published yet.

    Args:
        connection: Inside one snapshot.
        policy: Thresholds, for the moment at which they were crossed.

    Raises:
        StoreError: the database is not migrated.
    """
    row = connection.execute(_TOTALS.format(check=CHECK)).fetchone()
    if row is None:
        raise StoreError("the pending changes could not be counted; run `feedback-pipeline migrate`")
    changes, reviews, first, last, first_of_all, last_of_all, oldest, newest, days, operation, table, now = row
    published = connection.execute("SELECT dagster_run_id FROM learning_runs ORDER BY published_at DESC, learning_run_id LIMIT 1")
    (published_by,) = published.fetchone() or (None,)
    if not changes:
        return State(Pending(), now, published_by)
    found = _by_agent(connection, policy, policy.backlog)
    demanded = _demanded(days, operation, table)
    batch = f"{first}-{last}-{reviews}" if reviews else f"{first_of_all}-{last_of_all}-{changes}"
    pending = Pending(batch, found.counts, found.in_all, oldest, newest, found.crossed, demanded)
    return State(pending, now, published_by)


def read_clock(connection: Connection) -> datetime:
    """The time by the clock that dates the changes."""
    now: datetime
    ((now,),) = connection.execute("SELECT clock_timestamp()").fetchall()
    return now


def read_counts(connection: Connection) -> dict[str, int]:
    """Count the pending reviews by agent, those of no known agent under `UNKNOWN_AGENT`; every one, however many there are."""
    return _by_agent(connection, Policy(), None).counts


def read_last_publication(connection: Connection) -> datetime | None:
    """When a learning run was last published, None before the first."""
    published: datetime | None
    ((published,),) = connection.execute("SELECT max(published_at) FROM learning_runs").fetchall()
    return published


def ask_for_days(connection: Connection, days: Iterable[date]) -> None:
    """Record for each day that it must be read again; the next pass does, and what asked for it is gone with its publication."""
    connection.cursor().executemany(
        "INSERT INTO feedback_changes (source, operation, row_id, old_day, new_day) VALUES ('review_feedback', %s, '', %s, %s)",
        [(CHECK, day, day) for day in sorted(days)],
    )


def _demanded(days: int, operation: str | None, table: str | None) -> str | None:
    """Why a pass is due whatever the counts."""
    if days:
        return f"{days} {'day is' if days == 1 else 'days are'} to be read again after the daily check"
    if operation == "EXISTING":
        return "reviews of before the installation"
    return None if operation is None else f"table {table} was emptied"


@dataclass(frozen=True)
class _Counts:
    counts: dict[str, int]
    crossed: datetime | None
    in_all: int


def _by_agent(connection: Connection, policy: Policy, limit: int | None) -> _Counts:
    """Pending reviews by agent, each once however often it changed, when the first agent crossed its threshold, and their number.

    Only reviews that are or were training data count, whose old or new day lies in the window and not in the future. A review
    counts for every agent of its execution. What a look-up of agents costs is what a tick costs: there is one for each workflow,
    and where there are more than `limit` reviews, the oldest hundred have to do, for a pass is due whoever they are of.

    Args:
        connection: Where the changes are.
        policy: Thresholds.
        limit: So many reviews are counted by agent; None = all.
    """
    query = SQL(
        "WITH span AS (SELECT (SELECT window_start FROM learning_runs ORDER BY published_at DESC, learning_run_id LIMIT 1) "
        "AS first, feedback_utc_day(now()) AS last), "
        'touched AS MATERIALIZED (SELECT row_id COLLATE "C" AS row_id, changed_at, workflows FROM span, feedback_changes '
        "WHERE source = 'review_feedback' AND trainable AND ("
        "(old_day <= last AND (first IS NULL OR old_day >= first)) "
        "OR (new_day <= last AND (first IS NULL OR new_day >= first)))), "
        "changed AS MATERIALIZED (SELECT row_id, min(changed_at) AS since FROM touched GROUP BY 1), "
        "oldest AS MATERIALIZED (SELECT row_id, since FROM changed ORDER BY since "
        "LIMIT CASE WHEN (SELECT count(*) FROM changed) > %(limit)s THEN %(few)s ELSE %(limit)s END), "
        "belonging AS MATERIALIZED (SELECT DISTINCT row_id, workflow FROM oldest JOIN touched USING (row_id) "
        "CROSS JOIN LATERAL unnest(workflows) AS w (workflow)), "
        "working AS MATERIALIZED (SELECT DISTINCT c.workflow, p.agent_name FROM (SELECT DISTINCT workflow FROM belonging) AS c "
        "CROSS JOIN LATERAL ({agents}) AS p), "
        "concerned AS (SELECT DISTINCT row_id, agent_name FROM belonging JOIN working USING (workflow)), "
        "seen AS (SELECT coalesce(agent_name, {unknown}) AS agent, since FROM oldest LEFT JOIN concerned USING (row_id)) "
        "SELECT agent, count(*), (array_agg(since ORDER BY since))[coalesce((%(own)s::jsonb ->> agent)::int, %(all)s)], "
        "(SELECT count(*) FROM changed) FROM seen GROUP BY 1 ORDER BY 1"
    ).format(agents=_agents_of_workflow(source_columns(connection)), unknown=UNKNOWN_AGENT)
    own = Jsonb(dict(policy.thresholds))
    rows = connection.execute(query, {"own": own, "all": policy.threshold, "limit": limit, "few": _FEW}).fetchall()
    moments = [crossed for _, _, crossed, _ in rows if crossed is not None]
    counts = {str(agent): int(count) for agent, count, _, _ in rows}
    return _Counts(counts, min(moments, default=None), int(rows[0][3]) if rows else 0)


def _agents_of_workflow(columns: SourceColumns) -> Composable:
    """The agents of workflow c.workflow, found by indexes: the planner's idea of the size of a queue is often wrong.

    OFFSET 0 keeps the look-ups inside the loop over the pending reviews.
    """
    workflow, review = ("content_review_workflows", "id"), ("review_feedback", "workflow_id")
    if columns.type_of(*workflow) == columns.type_of(*review):
        named = SQL("{} = c.workflow::{}").format(columns.raw("w", *workflow), columns.key(*workflow))
    else:
        named = SQL("{} = c.workflow").format(columns.text("w", *workflow))
    executed = columns.equal(
        ("p", "agent_performance", "execution_id"), ("w", "content_review_workflows", "workflow_execution_id")
    )
    return SQL(
        "SELECT p.agent_name::text AS agent_name FROM (SELECT w.* FROM content_review_workflows w WHERE {} OFFSET 0) AS w "
        "CROSS JOIN LATERAL (SELECT p.agent_name FROM agent_performance p WHERE {} AND p.status::text = 'success' OFFSET 0) AS p"
    ).format(named, executed)
