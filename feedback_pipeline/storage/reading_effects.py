"""What readers get of trials and measured effects: whether applying what was learned helps."""

from typing import Final

from psycopg.rows import dict_row

from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.reading import Document, agent_state

_TRIALS: Final = """
    SELECT pattern_id, trial, agent_name, recommendation ->> 'text' AS text, recommendation ->> 'kind' AS kind,
           recommendation ->> 'feature' AS feature, state, p_on, target, n, n_applied, n_held_out, n_waiting, success_rate,
           success_rate_held_out, uplift, low, high, reason, since, computed_at, looks
    FROM pattern_effects WHERE agent_name = %(agent)s OR %(agent)s::text IS NULL
    ORDER BY agent_name COLLATE "C", pattern_id, trial DESC
"""
_MOST_TRIED: Final = """
    SELECT agent_name, recommendation ->> 'kind' AS kind, recommendation ->> 'feature' AS feature, trial, state, p_on, uplift,
           low, high, n, n_applied, n_held_out, n_waiting, success_rate, success_rate_held_out, reason, looks
    FROM pattern_effects ORDER BY n DESC, agent_name COLLATE "C", pattern_id, trial LIMIT %s
"""
_RUN: Final = "SELECT learning_run_id::text FROM learning_runs ORDER BY published_at DESC, learning_run_id LIMIT 1"
# Not on trial: a recommendation of a learning run that knew of no trials.
_NEWEST: Final = """
    SELECT r.recommendation_id::text AS id, coalesce(e.state, 'candidate') AS state, coalesce(e.trial, 0) AS trial,
           coalesce(e.p_on, 0) AS p_on, i.id::text || ':' || coalesce(e.trial, 0) AS salt, e.uplift, e.low, e.high,
           coalesce(e.n, 0) AS n, coalesce(e.reason, 'not on trial before the next learning run') AS reason
    FROM agent_recommendations r CROSS JOIN installation i LEFT JOIN LATERAL (
        SELECT * FROM pattern_effects e WHERE e.pattern_id = r.recommendation_id::text ORDER BY trial DESC LIMIT 1
    ) AS e ON true WHERE r.agent_name = %s
"""
_RETIRED: Final = """
    SELECT unnest(pattern_ids)::text FROM (
        SELECT DISTINCT ON (pattern_id) * FROM pattern_effects WHERE agent_name = %(agent)s ORDER BY pattern_id, trial DESC
    ) AS newest WHERE state = 'retired'
    EXCEPT SELECT unnest(pattern_ids)::text FROM pattern_effects WHERE agent_name = %(agent)s AND state <> 'retired'
"""


def read_effects(database: Database, agent_name: str | None = None) -> Document:
    """Every trial of an agent's recommendations, or of all agents', with what was measured.

    Returns:
        agent_name, learning_run_id, computed_at (when effects were last measured), trials: the newest trial of a pattern first;
        numbers are None where undefined.

    Raises:
        NotFound: the agent is not known.
    """
    with database.snapshot() as connection, connection.cursor(row_factory=dict_row) as cursor:
        if agent_name is not None:
            agent_state(connection, agent_name)
        trials = cursor.execute(_TRIALS, {"agent": agent_name}).fetchall()
        run = cursor.execute(_RUN).fetchone()
    measured = [trial["computed_at"] for trial in trials if trial["computed_at"] is not None]
    for trial in trials:
        trial["since"] = trial["since"].isoformat()
        trial["computed_at"] = trial["computed_at"] and trial["computed_at"].isoformat()
    return {
        "agent_name": agent_name,
        "learning_run_id": run and run["learning_run_id"],
        "computed_at": max(measured).isoformat() if measured else None,
        "trials": trials,
    }


def read_most_tried(connection: Connection, limit: int) -> list[Document]:
    """The trials with the most executions, retired ones among them: what is measured, and the bounds over time."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_MOST_TRIED, (limit,)).fetchall()


def trials_of_recommendations(connection: Connection, agent_name: str) -> dict[str, Document]:
    """The newest trial of each recommendation of an agent, by id: state, trial, p_on, salt, uplift, ci, n, reason."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_NEWEST, (agent_name,)).fetchall()
    return {
        row["id"]: {name: row[name] for name in ("state", "trial", "p_on", "salt", "uplift")}
        | {"ci": None if row["low"] is None else [row["low"], row["high"]], "n": row["n"], "reason": row["reason"]}
        for row in found
    }


def retired_patterns(connection: Connection, agent_name: str) -> set[str]:
    """Ids of the patterns of an agent of which only retired recommendations were made."""
    return {identity for (identity,) in connection.execute(_RETIRED, {"agent": agent_name})}
