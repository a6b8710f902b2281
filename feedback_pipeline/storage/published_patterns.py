"""The table agent_learning_patterns: what was found is written, counters are kept, what was not found again is superseded."""

import json
import uuid
from collections.abc import Iterable
from typing import Any

import pandas as pd

from feedback_pipeline.storage.bulk import stable_id, stage
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.publication_rows import Publication

CORRELATION_PATTERN = "correlation_pattern"


def write_patterns(connection: Connection, run: Publication, patterns: pd.DataFrame) -> int:
    """Upsert what was found, keep the counters, mark what was not found again; returns the number newly superseded."""
    columns = [
        "id", "agent_name", "agent_type", "pattern_type", "pattern_description", "input_features", "output_characteristics",
        "human_feedback_signals", "confidence_score", "sample_size", "learned_from_feedback_ids", "learning_algorithm",
        "sentence", "published", "learning_run_id", "updated_at",
    ]  # fmt: skip
    stage(connection, "new_patterns", "agent_learning_patterns", _pattern_rows(run, patterns), columns)
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
        # By absence, not by run: a run may be published again with other findings.
        " WHERE superseded_by_run IS NULL AND pattern_type = %s AND NOT EXISTS (SELECT FROM new_patterns n"
        " WHERE (n.agent_name, n.pattern_type, n.pattern_description)"
        " = (p.agent_name, p.pattern_type, p.pattern_description))",
        (run.learning_run_id, run.published_at, CORRELATION_PATTERN),
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


def _uuid_array(ids: Iterable[str]) -> list[uuid.UUID] | None:
    """None where the reviews are keyed by something that is not a UUID: the column cannot hold it."""
    try:
        return [uuid.UUID(value) for value in ids]
    except ValueError:
        return None
