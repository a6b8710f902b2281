"""What readers of the published tables get, from one REPEATABLE READ snapshot: never two learning runs in one answer."""

from datetime import date
from typing import Any

from psycopg.rows import dict_row

from feedback_pipeline.errors import NotFound, NothingLearned
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.trigger import UNKNOWN_AGENT
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.forget_receipts import unfinished_receipts
from feedback_pipeline.storage.trigger_book import read_last_decision
from feedback_pipeline.storage.triggers import read_counts

Document = dict[str, Any]

_FINDINGS = """
    SELECT agent_output_feature AS feature, human_feedback_aspect AS aspect, correlation_strength AS r, r_pearson, r_shrunk,
           r_within, confounded_with_agent, ci_low, ci_high, statistical_significance AS p_value, q_value, confidence,
           sample_size AS n_contents, n_reviewers, scope, method, published, reason, sentence,
           feature_range, feedback_impact
    FROM feedback_quality_correlations
    WHERE agent_name = %s AND (published OR %s)
    ORDER BY published DESC, abs(coalesce(r_shrunk, correlation_strength)) DESC NULLS LAST,
             agent_output_feature COLLATE "C", human_feedback_aspect COLLATE "C"
"""
_FLEET_ONLY = ("r_within", "confounded_with_agent")


def read_findings(database: Database, agent_name: str, *, unpublished: bool = False) -> Document:
    """The findings of one agent, or of the fleet for `*`, strongest first.

    Args:
        database: A migrated database.
        agent_name: The agent, or `*`.
        unpublished: Also list tested pairs that are not published, with the reason.

    Raises:
        NothingLearned: nothing was learned yet.
        NotFound: the agent is not known.
    """
    with database.snapshot() as connection:
        run = learned_run(connection)
        state = fleet_state(run) if agent_name == FLEET else agent_state(connection, agent_name)
        with connection.cursor(row_factory=dict_row) as cursor:
            findings = cursor.execute(_FINDINGS, (agent_name, unpublished)).fetchall()
    if agent_name != FLEET:
        findings = [{name: value for name, value in finding.items() if name not in _FLEET_ONLY} for finding in findings]
    window = {"first": _iso(run["window_start"]), "last": _iso(run["window_end"]), "lookback_days": run["lookback_days"]}
    return state | {"window": window, "findings": findings}


def fleet_state(run: Document) -> Document:
    """The state of all agents together: that of an agent with all outputs of the learning run."""
    parts = run["summary"].get("fleet_parts", {})
    correlations = parts.get("correlations", {"status": "success", "reason": None})
    learned = correlations["status"] != "insufficient_data"
    return {
        "agent_name": FLEET,
        "status": "success" if learned else "insufficient_data",
        "reason": None if learned else correlations["reason"],
        "parts": parts,
        "n_contents": run["n_contents"],
        "n_reviewers": run["n_reviewers"],
        "learning_run_id": str(run["learning_run_id"]),
    }


def agent_state(connection: Connection, agent_name: str) -> Document:
    """The row of agent_learning_state of an agent.

    Raises:
        NotFound: the agent is not known.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        state = cursor.execute(
            "SELECT agent_name, status, reason, parts, n_contents, n_reviewers, learning_run_id::text"
            " FROM agent_learning_state WHERE agent_name = %s",
            (agent_name,),
        ).fetchone()
        if state is None:
            known = [
                row["agent_name"] for row in cursor.execute("SELECT agent_name FROM agent_learning_state ORDER BY 1 LIMIT 20")
            ]
            raise NotFound(f"no agent {agent_name!r} has been learned from; known agents: {', '.join(known) or 'none'}")
    return state


def learned_run(connection: Connection) -> Document:
    """The last learning run.

    Raises:
        NothingLearned: nothing was learned yet.
    """
    run = _last_run(connection)
    if run is None:
        raise NothingLearned("nothing has been learned yet; run `feedback-pipeline learn --all`")
    return run


def _last_run(connection: Connection) -> Document | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM learning_runs ORDER BY published_at DESC, learning_run_id LIMIT 1").fetchone()


def read_status(database: Database) -> Document:
    """Every agent with its status and pending reviews, by name, and the last run.

    Returns:
        agents, last_run, champion, rejected, trigger (why a pass was last started by itself, or is not: a row of
        trigger_decisions, None before the first), forgetting (how many forgettings are not finished).
    """
    with database.snapshot() as connection:
        run = _last_run(connection)
        pending, trigger = read_counts(connection), read_last_decision(connection)
        champion = champion_document(connection)
        unfinished = unfinished_receipts(connection)
        with connection.cursor(row_factory=dict_row) as cursor:
            agents = cursor.execute(
                "SELECT agent_name, status, reason, parts, n_contents, n_reviewers, learning_run_id::text"
                " FROM agent_learning_state ORDER BY agent_name"
            ).fetchall()
            rejected = cursor.execute("SELECT reason, count(*) AS n FROM rejected_feedback GROUP BY 1 ORDER BY 1").fetchall()
    listed = {agent["agent_name"] for agent in agents}
    unseen: Document = {
        "status": None,
        "reason": "not learned from yet",
        "parts": {},
        "n_contents": 0,
        "n_reviewers": 0,
        "learning_run_id": None,
    }
    agents += [{"agent_name": name} | unseen for name in sorted(set(pending) - listed - {UNKNOWN_AGENT})]
    agents.sort(key=lambda agent: agent["agent_name"])
    return {
        "agents": [agent | {"pending": pending.get(agent["agent_name"], 0)} for agent in agents],
        "last_run": run and run_document(run),
        "champion": champion,
        "rejected": {row["reason"]: row["n"] for row in rejected},
        "trigger": trigger,
        "forgetting": unfinished,
    }


def champion_document(connection: Connection) -> Document | None:
    """The champion of the quality predictor: {model_version, candidate, since, mlflow_run_id, metrics}; None before the first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        champion = cursor.execute(
            "SELECT model_version, candidate, champion_since AS since, mlflow_run_id, metrics FROM quality_models"
            " WHERE champion_since IS NOT NULL AND champion_until IS NULL"
        ).fetchone()
    return champion and champion | {"since": champion["since"].isoformat()}


def run_document(run: Document) -> Document:
    """A row of learning_runs as readers get it."""
    elapsed = (run["published_at"] - run["started_at"]).total_seconds()
    return {
        "learning_run_id": str(run["learning_run_id"]),
        "dagster_run_id": run["dagster_run_id"],
        "published_at": _iso(run["published_at"]),
        "window": {"first": _iso(run["window_start"]), "last": _iso(run["window_end"]), "lookback_days": run["lookback_days"]},
        "n_contents": run["n_contents"],
        "n_agents": run["n_agents"],
        "n_reviewers": run["n_reviewers"],
        "execution_time_seconds": elapsed,
        **{name: value for name, value in run["summary"].items() if name != "fleet_parts"},
    }


def _iso(value: date | None) -> str | None:
    return None if value is None else value.isoformat()
