"""What an answer rests on, which state it is of, and which learning runs there were."""

from datetime import date, datetime
from typing import Final

from psycopg.rows import dict_row
from psycopg.sql import SQL, Literal

from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.reading import Document, run_document
from feedback_pipeline.storage.source_columns import source_columns

NOTHING_LEARNED: Final[Document] = {
    "learning_run_id": None,
    "window": None,
    "n_reviews": None,
    "n_contents": None,
    "computed_at": None,
}
_LAST: Final = (
    "SELECT learning_run_id::text, window_start, window_end, lookback_days, n_reviews, n_contents, published_at"
    " FROM learning_runs ORDER BY published_at DESC, learning_run_id LIMIT 1"
)
# Every change of a row, committed in whatever order, changes the sum of the transactions that wrote the rows.
_STATE: Final = """
    SELECT concat_ws('.', (SELECT learning_run_id FROM learning_runs ORDER BY published_at DESC, learning_run_id LIMIT 1),
        (SELECT xmin FROM agent_learning_state WHERE agent_name = %(agent)s),
        (SELECT concat(count(*), '+', sum(xmin::text::bigint)) FROM agent_learning_patterns WHERE agent_name = %(agent)s),
        (SELECT concat(count(*), '+', sum(xmin::text::bigint)) FROM agent_recommendations WHERE agent_name = %(agent)s),
        (SELECT concat(count(*), '+', sum(xmin::text::bigint)) FROM pattern_effects WHERE agent_name = %(agent)s))
"""
_APPLIED: Final = """
    SELECT agent_name, date_trunc('week', assigned_at AT TIME ZONE 'UTC')::date AS week,
           count(DISTINCT execution_id) FILTER (WHERE applied) AS applied,
           count(DISTINCT execution_id) FILTER (WHERE NOT applied) AS held_out
    FROM learning_applications WHERE assigned_at >= %s GROUP BY 1, 2
"""
_RUNS: Final = """
    SELECT * FROM learning_runs
    WHERE %(before)s::timestamptz IS NULL OR (published_at, learning_run_id) < (%(before)s, %(run)s::uuid)
    ORDER BY published_at DESC, learning_run_id DESC LIMIT %(limit)s
"""


def read_provenance(connection: Connection) -> Document:
    """The last learning run and what went into it; every value None before the first."""
    row = connection.execute(_LAST).fetchone()
    if row is None:
        return NOTHING_LEARNED
    run, first, last, lookback, reviews, contents, published = row
    return {
        "learning_run_id": run,
        "window": {"first": first and first.isoformat(), "last": last and last.isoformat(), "lookback_days": lookback},
        "n_reviews": reviews,
        "n_contents": contents,
        "computed_at": published.isoformat(),
    }


def known_agent(connection: Connection, agent_name: str) -> bool:
    """Whether an agent has run, or has been learned from."""
    columns = source_columns(connection)
    named = columns.text("p", "agent_performance", "agent_name")
    ran = SQL(
        "SELECT EXISTS (SELECT FROM agent_learning_state WHERE agent_name = {agent})"
        " OR EXISTS (SELECT FROM agent_performance p WHERE {named} = {agent})"
    ).format(agent=Literal(agent_name), named=named)
    return connection.execute(ran).fetchone() == (True,)


def improvements_state(connection: Connection, agent_name: str) -> str:
    """A text that changes whenever anything changes that the improvements of an agent are read from."""
    ((state,),) = connection.execute(_STATE.encode(), {"agent": agent_name}).fetchall()
    return str(state)


def read_runs(connection: Connection, limit: int, after: tuple[datetime, str] | None) -> list[Document]:
    """Learning runs, newest first.

    Args:
        connection: Inside a snapshot.
        limit: How many.
        after: Only what comes after the run that was published then, with this id.
    """
    before, run = after or (None, None)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_RUNS.encode(), {"limit": limit, "before": before, "run": run}).fetchall()
    return [run_document(row) for row in rows]


def read_applications_by_week(database: Database, first: date) -> dict[tuple[str, str], tuple[int, int]]:
    """Executions that applied a recommendation, and that held one out, by agent and week (its Monday)."""
    with database.snapshot() as connection:
        rows = connection.execute(_APPLIED.encode(), (first,)).fetchall()
    return {(agent, week.isoformat()): (applied, held_out) for agent, week, applied, held_out in rows}
