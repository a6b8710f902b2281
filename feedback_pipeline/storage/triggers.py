"""What is pending, as the database has it at this moment: counts and times, read by every tick, so the reading is cheap.

Nothing is remembered between two readings, so nothing can be missed: a row counts from the moment it is committed until the
publication that learned from it deletes it. A count that cannot be read raises.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
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

_TOTALS: Final = (
    "SELECT count(*), count(*) FILTER (WHERE review), min(id) FILTER (WHERE review), max(id) FILTER (WHERE review), min(id), "
    "max(id), min(changed_at), max(changed_at) FILTER (WHERE review), count(*) FILTER (WHERE row_id IS NULL OR operation = %s), "
    "clock_timestamp() "
    "FROM (SELECT *, source = 'review_feedback' OR row_id IS NULL AS review FROM feedback_changes OFFSET 0) AS change"
)
# Apart from the totals: an order or a distinct number among them would sort all changes at every look.
_DEMANDS: Final = (
    "SELECT count(DISTINCT old_day) FILTER (WHERE operation = %s), "
    "(array_agg(operation ORDER BY id) FILTER (WHERE row_id IS NULL))[1], "
    "(array_agg(source ORDER BY id) FILTER (WHERE row_id IS NULL))[1] "
    "FROM feedback_changes WHERE row_id IS NULL OR operation = %s"
)
_TOUCHED: Final = (
    "FROM feedback_changes WHERE source = 'review_feedback' AND trainable "
    "AND (old_day BETWEEN %(first)s AND %(last)s OR new_day BETWEEN %(first)s AND %(last)s)"
)
_PUBLISHED: Final = (
    "SELECT dagster_run_id, window_start, feedback_utc_day(now()) FROM (VALUES (0)) AS always LEFT JOIN "
    "(SELECT * FROM learning_runs ORDER BY published_at DESC, learning_run_id LIMIT 1) AS last ON true"
)


@dataclass(frozen=True)
class _Window:
    """Days that count, both included: that of the last publication to today, by the clock of the database."""

    first: date
    last: date


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
    row = connection.execute(_TOTALS, [CHECK]).fetchone()
    if row is None:
        raise StoreError("the pending changes could not be counted; run `feedback-pipeline migrate`")
    changes, reviews, first, last, first_of_all, last_of_all, oldest, newest, demands, now = row
    published_by, window = _published(connection)
    if not changes:
        return State(Pending(), now, published_by)
    found = _by_agent_at_most(connection, policy, window, reviews)
    demanded = _demanded(connection) if demands else None
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
    _, window = _published(connection)
    return _by_agent(connection, Policy(), window).counts


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


def _published(connection: Connection) -> tuple[str | None, _Window]:
    """The Dagster run of the last publication, None before the first or where it had none, and the days that count since."""
    ((run_id, first, today),) = connection.execute(_PUBLISHED).fetchall()
    return run_id, _Window(first or date.min, today)


def _demanded(connection: Connection) -> str | None:
    """Why a pass is due whatever the counts."""
    ((days, operation, table),) = connection.execute(_DEMANDS, [CHECK, CHECK]).fetchall()
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


def _by_agent_at_most(connection: Connection, policy: Policy, window: _Window, changes: int) -> _Counts:
    """As `_by_agent`; of more reviews than `Policy.backlog` by agent only those of the oldest hundred changes.

    What a look-up of agents costs is what a tick costs: there is one for each workflow, and a pass is due whoever they are of.

    Args:
        connection: Where the changes are.
        policy: Thresholds.
        window: Days that count.
        changes: The number of changes of reviews: so many reviews at most.
    """
    if changes > policy.backlog:
        query = f'SELECT count(DISTINCT row_id COLLATE "C") {_TOUCHED}'
        ((in_all,),) = connection.execute(query, asdict(window)).fetchall()
        if in_all > policy.backlog:
            return replace(_by_agent(connection, policy, window, _FEW), in_all=in_all)
    return _by_agent(connection, policy, window)


def _by_agent(connection: Connection, policy: Policy, window: _Window, oldest: int | None = None) -> _Counts:
    """Pending reviews by agent, each once however often it changed, when the first agent crossed its threshold, and their number.

    Only reviews that are or were training data count, whose old or new day lies in the window and not in the future. A review
    counts for every agent of its execution.

    Args:
        connection: Where the changes are.
        policy: Thresholds.
        window: Days that count.
        oldest: Of so many of the oldest changes; None = of all.
    """
    some = SQL("ORDER BY changed_at LIMIT %(oldest)s" if oldest is not None else "")
    query = SQL(
        'WITH touched AS MATERIALIZED (SELECT row_id COLLATE "C" AS row_id, changed_at, workflows {touched} {some}), '
        "changed AS MATERIALIZED (SELECT row_id, min(changed_at) AS since FROM touched GROUP BY 1), "
        "belonging AS MATERIALIZED (SELECT DISTINCT row_id, workflow FROM touched "
        "CROSS JOIN LATERAL unnest(workflows) AS w (workflow)), "
        "working AS MATERIALIZED (SELECT DISTINCT c.workflow, p.agent_name FROM (SELECT DISTINCT workflow FROM belonging) AS c "
        "CROSS JOIN LATERAL ({agents}) AS p), "
        "concerned AS (SELECT DISTINCT row_id, agent_name FROM belonging JOIN working USING (workflow)), "
        "seen AS (SELECT coalesce(agent_name, {unknown}) AS agent, since FROM changed LEFT JOIN concerned USING (row_id)) "
        "SELECT agent, count(*), (array_agg(since ORDER BY since))[coalesce((%(own)s::jsonb ->> agent)::int, %(all)s)], "
        "(SELECT count(*) FROM changed) FROM seen GROUP BY 1 ORDER BY 1"
    ).format(touched=SQL(_TOUCHED), some=some, agents=_agents_of_workflow(source_columns(connection)), unknown=UNKNOWN_AGENT)
    asked = {"oldest": oldest, "own": Jsonb(dict(policy.thresholds)), "all": policy.threshold}
    rows = connection.execute(query, asdict(window) | asked).fetchall()
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
