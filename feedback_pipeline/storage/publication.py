"""Publish one learning run in one transaction: a reader sees all of it or the run before."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg.types.json import Jsonb

from feedback_pipeline.storage.database import Connection, Database

CORRELATION_PATTERN = "correlation_pattern"
_NAMESPACE = uuid.UUID("5ad9f1f4-6f4c-5c65-9a46-3d5c3b8e2a11")

_CORRELATION_COLUMNS = {
    "feature": "agent_output_feature",
    "aspect": "human_feedback_aspect",
    "r": "correlation_strength",
    "n_contents": "sample_size",
    "p_value": "statistical_significance",
}
_CORRELATION_VALUES = (
    "r_pearson",
    "r_shrunk",
    "r_within",
    "confounded_with_agent",
    "ci_low",
    "ci_high",
    "q_value",
    "confidence",
    "n_reviewers",
    "scope",
    "method",
    "published",
    "reason",
    "sentence",
)


@dataclass(frozen=True)
class AgentState:
    """One row of agent_learning_state."""

    agent_name: str
    agent_type: str | None
    status: str
    reason: str | None
    parts: dict[str, Any]
    n_reviews: int
    n_contents: int
    n_reviewers: int

    @classmethod
    def of(cls, row: dict[Any, Any]) -> "AgentState":
        """From a record of the frame `agents`; the status is the one of its correlations where nothing could be tested."""
        parts = json.loads(row["parts"])
        correlations = parts["correlations"]
        insufficient = correlations["status"] == "insufficient_data"
        agent_type = row["agent_type"]
        return cls(
            row["agent_name"],
            agent_type if isinstance(agent_type, str) else None,
            "insufficient_data" if insufficient else "success",
            correlations["reason"] if insufficient else None,
            parts,
            int(row["n_reviews"]),
            int(row["n_contents"]),
            int(row["n_reviewers"]),
        )


@dataclass(frozen=True)
class Publication:
    """All that one learning run publishes.

    Attributes:
        findings: Every tested pair, as `learning.findings.find` returns them.
        evidence: agent_name and feedback_id of at most 100 reviews per agent.
        consumed: Ids of feedback_changes this run has learned from.
    """

    learning_run_id: str
    dagster_run_id: str | None
    started_at: datetime
    published_at: datetime
    window_start: str | None
    window_end: str | None
    lookback_days: int | None
    n_reviews: int
    n_contents: int
    n_agents: int
    n_reviewers: int
    code_version: str
    agents: Sequence[AgentState] = field(repr=False)
    findings: pd.DataFrame = field(repr=False)
    evidence: pd.DataFrame = field(repr=False)
    consumed: npt.NDArray[np.int64] = field(repr=False)


def publish_run(database: Database, publication: Publication) -> dict[str, int]:
    """Write everything in one transaction and return the rows per table."""
    with database.connect() as connection:
        patterns = publication.findings[publication.findings["published"]]
        _write_run(connection, publication, len(patterns))
        _write_states(connection, publication)
        _write_correlations(connection, publication)
        superseded = _write_patterns(connection, publication, patterns)
        deleted = connection.execute("DELETE FROM feedback_changes WHERE id = ANY(%s)", (publication.consumed.tolist(),)).rowcount
    return {
        "feedback_quality_correlations": len(publication.findings),
        "agent_learning_patterns": len(patterns),
        "patterns_superseded": superseded,
        "agent_learning_state": len(publication.agents),
        "feedback_changes_consumed": deleted,
    }


def _delete_changes(connection: Connection, ids: npt.NDArray[np.int64]) -> int:
    """Delete exactly these changes, as runs of consecutive ids: a first load consumes a million of them."""
    ids = np.unique(ids)
    first = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 2) > 1)
    last = np.append(first[1:], len(ids)) - 1
    return connection.execute(
        "DELETE FROM feedback_changes c USING unnest(%s::bigint[], %s::bigint[]) AS run (low, high)"
        " WHERE c.id BETWEEN run.low AND run.high",
        (ids[first].tolist(), ids[last].tolist()),
    ).rowcount


def _write_run(connection: Connection, run: Publication, n_patterns: int) -> None:
    summary = {"sample_size": run.n_reviews, "patterns_learned": n_patterns, "correlations_found": n_patterns}
    connection.execute(
        "INSERT INTO learning_runs (learning_run_id, dagster_run_id, started_at, published_at, window_start, window_end,"
        " lookback_days, n_reviews, n_contents, n_agents, n_reviewers, code_version, summary)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        # Publishing a run again repairs it; it stays one run.
        " ON CONFLICT (learning_run_id) DO UPDATE SET published_at = excluded.published_at,"
        " dagster_run_id = excluded.dagster_run_id, summary = excluded.summary",
        (
            run.learning_run_id,
            run.dagster_run_id,
            run.started_at,
            run.published_at,
            run.window_start,
            run.window_end,
            run.lookback_days,
            run.n_reviews,
            run.n_contents,
            run.n_agents,
            run.n_reviewers,
            run.code_version,
            Jsonb(summary),
        ),
    )


def _write_states(connection: Connection, run: Publication) -> None:
    _stage(connection, "new_states", "agent_learning_state", _state_rows(run), _STATE_COLUMNS)
    connection.execute(
        "INSERT INTO agent_learning_state AS old ({columns}) SELECT {columns} FROM new_states"  # noqa: S608 - constant names
        " ON CONFLICT (agent_name) DO UPDATE SET agent_type = coalesce(excluded.agent_type, old.agent_type),"
        " status = excluded.status, reason = excluded.reason, parts = excluded.parts, n_reviews = excluded.n_reviews,"
        " n_contents = excluded.n_contents, n_reviewers = excluded.n_reviewers,"
        " learning_run_id = excluded.learning_run_id, computed_at = excluded.computed_at".format(
            columns=", ".join(_STATE_COLUMNS)
        )
    )
    connection.execute(
        "UPDATE agent_learning_state SET status = 'insufficient_data', reason = 'no reviews in the window', parts = '{}',"
        " n_reviews = 0, n_contents = 0, n_reviewers = 0, learning_run_id = %s, computed_at = %s WHERE learning_run_id <> %s",
        (run.learning_run_id, run.published_at, run.learning_run_id),
    )


_STATE_COLUMNS = (
    "agent_name",
    "agent_type",
    "status",
    "reason",
    "parts",
    "n_reviews",
    "n_contents",
    "n_reviewers",
    "learning_run_id",
    "computed_at",
)


def _state_rows(run: Publication) -> Iterable[tuple[Any, ...]]:
    for agent in run.agents:
        counts = (agent.n_reviews, agent.n_contents, agent.n_reviewers)
        yield (
            agent.agent_name,
            agent.agent_type,
            agent.status,
            agent.reason,
            json.dumps(agent.parts),
            *counts,
            run.learning_run_id,
            run.published_at,
        )


def _write_correlations(connection: Connection, run: Publication) -> None:
    """Replace all rows: an agent that left the window has none."""
    columns = ["id", "agent_name", *_CORRELATION_COLUMNS.values(), *_CORRELATION_VALUES]
    columns += ["feature_range", "feedback_impact", "learning_run_id", "last_calculated"]
    connection.execute("DELETE FROM feedback_quality_correlations")
    records = zip(
        *(_nullable(run.findings[name]) for name in ["agent_name", *_CORRELATION_COLUMNS, *_CORRELATION_VALUES]),
        _nullable(run.findings["feature_range"]),
        _nullable(run.findings["feedback_impact"]),
        strict=True,
    )
    rows = ((stable_id("correlation", *record[:3]), *record, run.learning_run_id, run.published_at) for record in records)
    _copy(connection, "feedback_quality_correlations", rows, columns)


def _write_patterns(connection: Connection, run: Publication, patterns: pd.DataFrame) -> int:
    """Upsert what was found, keep the counters, mark what was not found again; returns the number newly superseded."""
    columns = [
        "id", "agent_name", "agent_type", "pattern_type", "pattern_description", "input_features", "output_characteristics",
        "human_feedback_signals", "confidence_score", "sample_size", "learned_from_feedback_ids", "learning_algorithm",
        "sentence", "published", "learning_run_id", "updated_at",
    ]  # fmt: skip
    _stage(connection, "new_patterns", "agent_learning_patterns", _pattern_rows(run, patterns), columns)
    updates = ", ".join(f"{name} = excluded.{name}" for name in columns[5:])
    listed = ", ".join(columns)
    # By identity, not by id: rows written before this program came keep their id.
    connection.execute(
        f"INSERT INTO agent_learning_patterns ({listed}) SELECT {listed} FROM new_patterns"  # noqa: S608 - constant names
        f" ON CONFLICT (agent_name, pattern_type, pattern_description) DO UPDATE SET agent_type = excluded.agent_type, {updates},"
        " reason = NULL, superseded_by_run = NULL, superseded_reason = NULL"
    )
    superseded = connection.execute(
        "UPDATE agent_learning_patterns p SET superseded_by_run = %s, updated_at = %s,"
        " superseded_reason = coalesce((SELECT s.reason FROM agent_learning_state s"
        " WHERE s.agent_name = p.agent_name AND s.status <> 'success'), 'not found again')"
        " WHERE learning_run_id IS DISTINCT FROM %s AND superseded_by_run IS NULL AND pattern_type = %s",
        (run.learning_run_id, run.published_at, run.learning_run_id, CORRELATION_PATTERN),
    )
    return superseded.rowcount


def _pattern_rows(run: Publication, patterns: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    types = {agent.agent_name: agent.agent_type for agent in run.agents}
    evidence = {str(agent): _uuid_array(ids) for agent, ids in run.evidence.groupby("agent_name")["feedback_id"]}
    for row in patterns.to_dict("records"):
        agent, feature, aspect = row["agent_name"], row["feature"], row["aspect"]
        description = f"{feature} | correlation | aspect={aspect}"
        effect = {"correlation": row["r"], "r_shrunk": row["r_shrunk"], "ci": [row["ci_low"], row["ci_high"]]}
        impact = json.loads(row["feedback_impact"])
        yield (
            stable_id(agent, CORRELATION_PATTERN, description),
            agent,
            types.get(agent),
            CORRELATION_PATTERN,
            description,
            json.dumps({"feature": feature, "range": json.loads(row["feature_range"])}),
            json.dumps(effect | {"q_value": row["q_value"]}),
            json.dumps({"feedback_category": aspect, "impact": impact, "scope": row["scope"]}),
            row["confidence"],
            row["n_contents"],
            evidence.get(agent),
            "spearman_severity_adjusted",
            row["sentence"],
            True,
            run.learning_run_id,
            run.published_at,
        )


def stable_id(*parts: str) -> uuid.UUID:
    """The same id for the same thing in every run and every database."""
    return uuid.uuid5(_NAMESPACE, "\x1f".join(parts))


def _uuid_array(ids: Iterable[str]) -> list[uuid.UUID] | None:
    """None where the reviews are keyed by something that is not a UUID: the column cannot hold it."""
    try:
        return [uuid.UUID(value) for value in ids]
    except ValueError:
        return None


def _stage(connection: Connection, name: str, like: str, rows: Iterable[tuple[Any, ...]], columns: Sequence[str]) -> None:
    connection.execute(f"CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {', '.join(columns)} FROM {like} WHERE false")  # noqa: S608
    _copy(connection, name, rows, columns)


def _copy(connection: Connection, table: str, rows: Iterable[tuple[Any, ...]], columns: Sequence[str]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _nullable(values: pd.Series) -> list[Any]:
    """Python values with None for missing ones."""
    return [None if missing else value for value, missing in zip(values.tolist(), values.isna(), strict=True)]
