"""The table agent_learning_patterns: what was found is written, counters are kept, what was not found again is superseded."""

import re
import uuid
from itertools import chain, groupby
from operator import itemgetter
from typing import Final

import pandas as pd

from feedback_pipeline.learning.pattern_frame import (
    CORRELATION_PATTERN,
    DECISION_RULE,
    FAILURE_PATTERNS,
    QUALITY_THRESHOLD,
    SUCCESSFUL_DECISIONS,
    TERM_TYPES,
)
from feedback_pipeline.storage.copy_fields import (
    NULL,
    Fields,
    fields,
    json_numbers,
    json_objects,
    json_texts,
    stable_ids,
    stage_fields,
    text_fields,
)
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.publication_rows import Publication

ONE_CLASS: Final = "one_class"
_ALGORITHM: Final = "spearman_severity_adjusted"
# The part of an agent's state that says why there may be no pattern of a type.
_PARTS: Final = {
    CORRELATION_PATTERN: "correlations",
    **dict.fromkeys((SUCCESSFUL_DECISIONS, FAILURE_PATTERNS, QUALITY_THRESHOLD, DECISION_RULE), "decisions"),
    **dict.fromkeys(TERM_TYPES, "terms"),
}
_UUIDS: Final = re.compile(r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12},?)+")
_EVIDENCE: Final = "learned_from_feedback_ids"
_IDENTITY: Final = ("agent_name", "pattern_type", "pattern_description")
# Set anew by every run that finds the pattern; counters are not among them.
_FOUND: Final = (
    *("agent_type", "input_features", "output_characteristics", "human_feedback_signals", "confidence_score", "sample_size"),
    *("accuracy_rate", "learning_algorithm", "sentence", "published", "reason", "learning_run_id", "updated_at"),
)


def written_patterns(run: Publication) -> pd.DataFrame:
    """The candidates of `run.patterns` that become rows: those published, and what an agent of one class looks like."""
    frame = run.patterns
    return frame[frame["published"] | (frame["reason"] == ONE_CLASS)]


def write_patterns(connection: Connection, run: Publication) -> int:
    """Upsert what was found, keep the counters, mark what was not found again; returns the number newly superseded."""
    found = run.findings[run.findings["published"]]
    others = written_patterns(run)
    correlations, rest = _correlation_columns(found), _other_columns(others)
    columns: dict[str, Fields | str] = {name: chain(correlations[name], rest[name]) for name in correlations}
    agents = found["agent_name"].tolist() + others["agent_name"].tolist()
    types = {agent.agent_name: agent.agent_type for agent in run.agents}
    columns |= {
        "agent_name": text_fields(agents),
        "agent_type": text_fields([types.get(agent) for agent in agents]),
        "learning_run_id": run.learning_run_id,
        "updated_at": run.published_at.isoformat(),
    }
    stage_fields(connection, "new_patterns", "agent_learning_patterns", columns, len(agents))
    _stage_evidence(connection, run)
    _upsert(connection)
    return _supersede(connection, run)


def _upsert(connection: Connection) -> None:
    listed = ("id", *_IDENTITY, *_FOUND)
    updates = ", ".join(f"{name} = excluded.{name}" for name in (*_FOUND, _EVIDENCE))
    # By identity, not by id: rows written before this program came keep their id.
    connection.execute(
        f"INSERT INTO agent_learning_patterns ({', '.join(listed)}, {_EVIDENCE})"  # noqa: S608 - constant names
        f" SELECT {', '.join(f'n.{name}' for name in listed)}, e.{_EVIDENCE}"
        " FROM new_patterns n LEFT JOIN new_evidence e USING (agent_name)"
        f" ON CONFLICT ({', '.join(_IDENTITY)}) DO UPDATE SET {updates}, superseded_by_run = NULL, superseded_reason = NULL"
    )


def _supersede(connection: Connection, run: Publication) -> int:
    """The reason is that of the agent, of the part of its state that finds such patterns, or that it was not found again."""
    superseded = connection.execute(
        "UPDATE agent_learning_patterns p SET superseded_by_run = %s, updated_at = %s,"
        " superseded_reason = coalesce((SELECT CASE WHEN s.status <> 'success' THEN s.reason"
        " WHEN s.parts -> part.name ->> 'status' <> 'success' THEN s.parts -> part.name ->> 'reason' END"
        " FROM agent_learning_state s WHERE s.agent_name = p.agent_name), 'not found again')"
        " FROM unnest(%s::text[], %s::text[]) AS part (pattern_type, name)"
        # By absence, not by run: a run may be published again with other findings.
        " WHERE p.superseded_by_run IS NULL AND p.pattern_type = part.pattern_type AND NOT EXISTS (SELECT FROM new_patterns n"
        " WHERE (n.agent_name, n.pattern_type, n.pattern_description)"
        " = (p.agent_name, p.pattern_type, p.pattern_description))",
        (run.learning_run_id, run.published_at, list(_PARTS), list(_PARTS.values())),
    )
    return superseded.rowcount


def _correlation_columns(found: pd.DataFrame) -> dict[str, Fields]:
    """Every published pair as a pattern, without what all rows of a run share."""
    named = list(zip(found["feature"].tolist(), found["aspect"].tolist(), strict=True))
    descriptions = [f"{feature} | correlation | aspect={aspect}" for feature, aspect in named]
    n, numbers = len(found), {name: json_numbers(found[name]) for name in ("r", "r_shrunk", "ci_low", "ci_high", "q_value")}
    effect = {
        "correlation": numbers["r"],
        "r_shrunk": numbers["r_shrunk"],
        "ci": (f"[{low}, {high}]" for low, high in zip(numbers["ci_low"], numbers["ci_high"], strict=True)),
        "q_value": numbers["q_value"],
    }
    signals = {
        "feedback_category": json_texts(found["aspect"]),
        "impact": found["feedback_impact"].tolist(),
        "scope": json_texts(found["scope"]),
    }
    inputs = {"feature": json_texts(found["feature"]), "range": found["feature_range"].tolist()}
    return {
        "id": stable_ids(found["agent_name"].tolist(), [CORRELATION_PATTERN] * n, descriptions),
        "pattern_type": [CORRELATION_PATTERN] * n,
        "pattern_description": text_fields(descriptions),
        "input_features": json_objects(inputs),
        "output_characteristics": json_objects(effect),
        "human_feedback_signals": json_objects(signals),
        "confidence_score": fields(found["confidence"]),
        "sample_size": fields(found["n_contents"]),
        "accuracy_rate": [NULL] * n,
        "learning_algorithm": [_ALGORITHM] * n,
        "sentence": fields(found["sentence"]),
        "published": ["t"] * n,
        "reason": [NULL] * n,
    }


def _other_columns(found: pd.DataFrame) -> dict[str, Fields]:
    """Every pattern of the other kinds, in the same columns."""
    documents = ("input_features", "output_characteristics", "human_feedback_signals")
    return {
        "id": stable_ids(*(found[name].tolist() for name in ("agent_name", "pattern_type", "description"))),
        "pattern_type": fields(found["pattern_type"]),
        "pattern_description": fields(found["description"]),
        # What is only described has no feature of its own and no signal.
        **{name: fields(found[name].fillna("{}")) for name in documents},
        "confidence_score": fields(found["confidence"]),
        "sample_size": fields(found["n_contents"]),
        "accuracy_rate": fields(found["accuracy_rate"]),
        "learning_algorithm": fields(found["algorithm"]),
        "sentence": fields(found["sentence"]),
        "published": fields(found["published"]),
        "reason": fields(found["reason"]),
    }


def _stage_evidence(connection: Connection, run: Publication) -> None:
    """The reviews of an agent once, not once a pattern."""
    ordered = run.evidence.sort_values("agent_name", kind="stable")
    reviews = zip(ordered["agent_name"].tolist(), ordered["feedback_id"].tolist(), strict=True)
    arrays = {agent: _uuid_array([review for _, review in rows]) for agent, rows in groupby(reviews, itemgetter(0))}
    columns: dict[str, Fields | str] = {"agent_name": text_fields(arrays), _EVIDENCE: text_fields(arrays.values())}
    stage_fields(connection, "new_evidence", "agent_learning_patterns", columns, len(arrays))


def _uuid_array(ids: list[str]) -> str | None:
    """None where the reviews are keyed by something that is not a UUID: the column cannot hold it."""
    listed = ",".join(ids)
    if not _UUIDS.fullmatch(listed):
        try:
            listed = ",".join(str(uuid.UUID(value)) for value in ids)
        except ValueError:
            return None
    return f"{{{listed}}}"
