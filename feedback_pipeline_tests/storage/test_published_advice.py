import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest

from feedback_pipeline.storage.bulk import stable_id
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import ALLOCATION_COLUMNS, SEGMENT_COLUMNS
from feedback_pipeline_tests.storage.publications import agent_names, publication

pytestmark = pytest.mark.slow

YEAR_S = 365 * 86_400


def rows(database: Database, query: str, *values: object) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode(), values).fetchall()


def test_recommendations_are_stored_with_the_evidence_behind_them(database: Database) -> None:
    run = publication(2)
    assert publish_run(database, run)["agent_recommendations"] == 4
    stored = rows(
        database,
        "SELECT recommendation_id, agent_name, rank, kind, feature, direction, target, expected_effect, confidence_score,"
        " q_value, evidence, text, action, conflicts, learning_run_id, computed_at FROM agent_recommendations"
        " ORDER BY agent_name, rank",
    )
    for row, found in zip(stored, run.recommendations.to_dict("records"), strict=True):
        evidence = {
            "learning_run_id": run.learning_run_id,
            "pattern_ids": [str(stable_id(found["agent_name"], *key)) for key in found["pattern_keys"]],
            "n_contents": found["n_contents"],
            "n_reviewers": found["n_reviewers"],
            "window": {"first": "2026-10-02", "last": "2026-10-31", "lookback_days": 30},
        }
        values = {name: found[name] for name in ("agent_name", "rank", "kind", "feature", "direction", "target")}
        assert row == (
            *(stable_id("recommendation", found["agent_name"], found["identity"]), *values.values(), found["expected_effect"]),
            *(found["confidence"], found["q_value"], evidence, found["text"], found["action"], found["conflicts"]),
            *(uuid.UUID(run.learning_run_id), run.published_at),
        )
    ids = {str(identity) for (identity,) in rows(database, "SELECT id FROM agent_learning_patterns")}
    assert {named for row in stored for named in row[10]["pattern_ids"]} <= ids


def test_undefined_numbers_of_a_recommendation_are_null(database: Database) -> None:
    run = publication(1, recommendations=1)
    effect = {
        "outcome": "approval",
        "value": np.float64(0.25),
        "ci": np.array([np.nan, np.inf], dtype=np.float32),
        "n_good": np.int64(3),
        "from": None,
    }
    changed = run.recommendations.assign(q_value=np.nan, feature=None, expected_effect=pd.Series([effect], dtype=object))
    publish_run(database, replace(run, recommendations=changed))
    assert rows(database, "SELECT expected_effect, q_value, feature FROM agent_recommendations") == [
        ({"outcome": "approval", "value": 0.25, "ci": [None, None], "n_good": 3, "from": None}, None, None)
    ]


def test_a_recommendation_keeps_its_id_while_its_meaning_stays(database: Database) -> None:
    publish_run(database, publication(2, recommendations=2))
    before = dict(rows(database, "SELECT (agent_name, feature)::text, recommendation_id FROM agent_recommendations"))
    publish_run(database, publication(2, seed=2, tick=1, recommendations=3))
    after = dict(rows(database, "SELECT (agent_name, feature)::text, recommendation_id FROM agent_recommendations"))
    assert before.items() < after.items()
    assert len(set(after.values())) == 6
    publish_run(database, publication(2, seed=3, tick=2, recommendations=0))
    assert rows(database, "SELECT count(*) FROM agent_recommendations") == [(0,)]


def test_an_eleventh_recommendation_is_refused_and_nothing_is_published(database: Database) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        publish_run(database, publication(1, recommendations=11))
    assert rows(database, "SELECT count(*) FROM learning_runs") == [(0,)]


def test_segments_are_replaced(database: Database) -> None:
    publish_run(database, publication(3, segments=4))
    run = publication(2, seed=2, tick=1, segments=3)
    segments = run.segments.assign(score=np.nan, score_low=np.nan)
    assert publish_run(database, replace(run, segments=segments))["content_segments"] == 6
    columns = ", ".join(SEGMENT_COLUMNS)
    stored = rows(database, f"SELECT {columns} FROM content_segments ORDER BY agent_name, family, segment")
    expected = segments.sort_values(["agent_name", "family", "segment"])[list(SEGMENT_COLUMNS)].astype(object)
    assert stored == list(expected.where(expected.notna(), None).itertuples(index=False, name=None))
    assert rows(database, "SELECT DISTINCT learning_run_id::text FROM content_segments") == [(run.learning_run_id,)]


def test_allocations_are_a_log_of_a_year(database: Database) -> None:
    first, second = publication(2, tick=0), publication(2, seed=2, tick=1, arms=2)
    publish_run(database, first)
    assert publish_run(database, second)["content_allocations"] == 4
    runs = "SELECT learning_run_id::text, count(*) FROM content_allocations GROUP BY 1"
    assert dict(rows(database, runs)) == {first.learning_run_id: 6, second.learning_run_id: 4}
    columns = ", ".join(ALLOCATION_COLUMNS)
    query = f"SELECT {columns} FROM content_allocations WHERE learning_run_id = %s ORDER BY agent_name, segment"
    logged = list(first.allocation[list(ALLOCATION_COLUMNS)].itertuples(index=False, name=None))
    assert rows(database, query, first.learning_run_id) == logged
    # A year after the first to the second.
    third = publication(2, seed=3, tick=YEAR_S)
    publish_run(database, third)
    assert dict(rows(database, runs)) == {first.learning_run_id: 6, second.learning_run_id: 4, third.learning_run_id: 6}
    fourth = publication(2, seed=4, tick=YEAR_S + 1)
    publish_run(database, fourth)
    assert set(dict(rows(database, runs))) == {run.learning_run_id for run in (second, third, fourth)}


def test_publishing_a_run_again_replaces_its_allocation(database: Database) -> None:
    run = publication(2, arms=3)
    publish_run(database, run)
    publish_run(database, replace(run, allocation=run.allocation[run.allocation["agent_name"] == agent_names(1)[0]]))
    assert rows(database, "SELECT agent_name, count(*) FROM content_allocations GROUP BY 1") == [(agent_names(1)[0], 3)]


def test_a_run_without_advice_publishes_as_before(database: Database) -> None:
    run = publication(2)
    bare = replace(
        run, **{name: getattr(run, name).iloc[:0] for name in ("patterns", "recommendations", "segments", "allocation")}
    )
    counts = publish_run(database, bare)
    assert [counts[table] for table in ("agent_recommendations", "content_segments", "content_allocations")] == [0, 0, 0]
    assert counts["agent_learning_patterns"] == counts["feedback_quality_correlations"] * 3 // 8
