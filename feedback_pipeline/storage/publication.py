"""Publish one learning run in one transaction: a reader sees all of it or the run before."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from psycopg.types.json import Jsonb

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.pattern_frame import CORRELATION_PATTERN
from feedback_pipeline.storage.bulk import stage
from feedback_pipeline.storage.copy_fields import Fields, copy_fields, fields, stable_ids
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.publication_rows import Publication
from feedback_pipeline.storage.published_advice import write_advice
from feedback_pipeline.storage.published_effects import write_trials
from feedback_pipeline.storage.published_patterns import write_patterns, written_patterns
from feedback_pipeline.storage.published_reviewers import write_reviewers

_A_MOMENT: Final = timedelta(microseconds=1)
_CORRELATION_COLUMNS = {
    "agent_output_feature": "feature",
    "human_feedback_aspect": "aspect",
    "correlation_strength": "r",
    "sample_size": "n_contents",
    "statistical_significance": "p_value",
}
_CORRELATION_VALUES = (
    *("agent_name", "r_pearson", "r_shrunk", "r_within", "confounded_with_agent", "ci_low", "ci_high", "q_value", "confidence"),
    *("n_contents", "n_reviewers", "scope", "method", "published", "reason", "sentence", "feature_range", "feedback_impact"),
)


def publish_run(database: Database, publication: Publication) -> dict[str, int]:
    """Write everything in one transaction and return the rows per table.

    Nothing here asks for a lock that a reader could hold (no TRUNCATE, no DDL of tables that last): readers neither wait nor are
    waited for, and see the run before until this one is committed.
    """
    with database.connect() as connection:
        publication = _after_the_last(connection, publication)
        _write_run(connection, publication)
        _write_states(connection, publication)
        _write_correlations(connection, publication)
        superseded = write_patterns(connection, publication)
        advice = write_advice(connection, publication)
        opened = write_trials(connection, publication)
        reviewers = write_reviewers(connection, publication)
        deleted = _delete_changes(connection, publication.consumed)
    return {
        "feedback_quality_correlations": len(publication.findings),
        "agent_learning_patterns": int(publication.findings["published"].sum()) + len(written_patterns(publication)),
        "patterns_superseded": superseded,
        **advice,
        "trials_opened": opened,
        "agent_learning_state": len(publication.agents),
        **reviewers,
        "feedback_changes_consumed": deleted,
    }


def _after_the_last(connection: Connection, run: Publication) -> Publication:
    """The run, published later than every other: readers take the latest to be the last, and a clock can be moved back."""
    ((last,),) = connection.execute(
        "SELECT max(published_at) FROM learning_runs WHERE learning_run_id <> %s", (run.learning_run_id,)
    ).fetchall()
    return run if last is None or last < run.published_at else replace(run, published_at=last + _A_MOMENT)


def _delete_changes(connection: Connection, ids: npt.NDArray[np.int64]) -> int:
    """Delete exactly these changes, as runs of consecutive ids: a first load consumes a million of them."""
    ids = np.unique(ids)
    if not len(ids):
        return 0
    first = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 2) > 1)
    last = np.append(first[1:], len(ids)) - 1
    return connection.execute(
        "DELETE FROM feedback_changes c USING unnest(%s::bigint[], %s::bigint[]) AS run (low, high)"
        " WHERE c.id BETWEEN run.low AND run.high",
        (ids[first].tolist(), ids[last].tolist()),
    ).rowcount


def _summary(run: Publication) -> dict[str, Any]:
    """What the run found, in numbers; patterns by type, the published ones."""
    found = run.findings["published"]
    others = run.patterns.loc[run.patterns["published"], "pattern_type"].value_counts().sort_index()
    patterns = {CORRELATION_PATTERN: int(found.sum())} | {str(kind): int(n) for kind, n in others.items()}
    return {
        "sample_size": run.n_reviews,
        "patterns_learned": sum(patterns.values()),
        "correlations_found": int((found & (run.findings["agent_name"] != FLEET)).sum()),
        "patterns": patterns,
        "recommendations": len(run.recommendations),
        "fleet_parts": dict(run.fleet_parts),
    }


def _write_run(connection: Connection, run: Publication) -> None:
    connection.execute(
        "INSERT INTO learning_runs (learning_run_id, dagster_run_id, started_at, published_at, window_start, window_end,"
        " lookback_days, n_reviews, n_contents, n_agents, n_reviewers, code_version, summary)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        # Publishing a run again repairs it; it stays one run.
        " ON CONFLICT (learning_run_id) DO UPDATE SET dagster_run_id = excluded.dagster_run_id, summary = excluded.summary",
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
            Jsonb(_summary(run)),
        ),
    )


def _write_states(connection: Connection, run: Publication) -> None:
    stage(connection, "new_states", "agent_learning_state", _state_rows(run), _STATE_COLUMNS)
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
    found = run.findings
    names = found["agent_name"].tolist(), found["feature"].tolist(), found["aspect"].tolist()
    columns: dict[str, Fields | str] = {
        "id": stable_ids(["correlation"] * len(found), *names),
        **{name: fields(found[source]) for name, source in _CORRELATION_COLUMNS.items()},
        **{name: fields(found[name]) for name in _CORRELATION_VALUES},
        "learning_run_id": run.learning_run_id,
        "last_calculated": run.published_at.isoformat(),
    }
    connection.execute("DELETE FROM feedback_quality_correlations")
    copy_fields(connection, "feedback_quality_correlations", columns, len(found))
