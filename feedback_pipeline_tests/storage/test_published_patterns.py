import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.learning.pattern_frame import (
    COMMENT_TERMS,
    CORRELATION_PATTERN,
    QUALITY_THRESHOLD,
    SUCCESSFUL_DECISIONS,
    concatenated,
    pattern_frame,
)
from feedback_pipeline.storage.bulk import stable_id
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import Publication
from feedback_pipeline_tests.storage.publications import ONE_CLASS_STATE, agent_names, publication, state

pytestmark = pytest.mark.slow

ONE_CLASS = {"duration_ms": {"mean": 1.5, "std": 0.5, "min": 1.0, "max": 2.0}}


def rows(database: Database, query: str, *values: object) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode(), values).fetchall()


def live(database: Database) -> set[tuple[str, str, str]]:
    query = "SELECT agent_name, pattern_type, pattern_description FROM agent_learning_patterns WHERE superseded_by_run IS NULL"
    return set(rows(database, query))


def identities(run: Publication) -> set[tuple[str, str, str]]:
    found = run.findings[run.findings["published"]].to_dict("records")
    others = run.patterns[run.patterns["published"]].to_dict("records")
    correlations = {
        (row["agent_name"], CORRELATION_PATTERN, f"{row['feature']} | correlation | aspect={row['aspect']}") for row in found
    }
    return correlations | {(row["agent_name"], row["pattern_type"], row["description"]) for row in others}


def one_class(agent: str) -> pd.DataFrame:
    columns = {"agent_name": agent, "pattern_type": SUCCESSFUL_DECISIONS, "description": "all features | description"}
    described = {"reason": "one_class", "confidence": 0.0, "output_characteristics": [json.dumps(ONE_CLASS)], "n_contents": 96}
    return pattern_frame(columns | described | {"algorithm": "description"}, 1)


def test_patterns_of_every_kind_are_rows_with_the_columns_agents_read(database: Database) -> None:
    run = publication(3)
    counts = publish_run(database, run)
    assert live(database) == identities(run)
    assert counts["agent_learning_patterns"] == len(identities(run))
    stored = {
        row[:3]: row[3:]
        for row in rows(
            database,
            "SELECT agent_name, pattern_type, pattern_description, id, agent_type, input_features, output_characteristics,"
            " human_feedback_signals, confidence_score, sample_size, accuracy_rate, learning_algorithm, sentence, published,"
            " reason, learning_run_id::text, cardinality(learned_from_feedback_ids), times_applied, success_rate"
            " FROM agent_learning_patterns",
        )
    }
    for row in run.patterns[run.patterns["published"]].to_dict("records"):
        identity = row["agent_name"], row["pattern_type"], row["description"]
        fleet = row["agent_name"] == "*"
        documents = [json.loads(row[name]) for name in ("input_features", "output_characteristics", "human_feedback_signals")]
        assert stored[identity] == (
            *(stable_id(*identity), None if fleet else "writer", *documents, row["confidence"], row["n_contents"]),
            *(row["accuracy_rate"], row["algorithm"], row["sentence"], True, None, run.learning_run_id),
            *(None if fleet else 5, 0, None),
        )
    for row in run.findings[run.findings["published"]].to_dict("records"):
        identity = row["agent_name"], CORRELATION_PATTERN, f"{row['feature']} | correlation | aspect={row['aspect']}"
        effect = {"correlation": row["r"], "r_shrunk": row["r_shrunk"], "ci": [row["ci_low"], row["ci_high"]]}
        signals = {"feedback_category": row["aspect"], "impact": json.loads(row["feedback_impact"]), "scope": row["scope"]}
        assert stored[identity][0] == stable_id(*identity)
        assert stored[identity][2:8] == (
            *({"feature": row["feature"], "range": json.loads(row["feature_range"])}, effect | {"q_value": row["q_value"]}),
            *(signals, row["confidence"], row["n_contents"], None),
        )


def test_of_what_is_not_published_only_the_description_of_one_class_is_written(database: Database) -> None:
    (agent,) = agent_names(1)
    run = publication(1, correlations=0, patterns=0, candidates=5)
    run = replace(run, patterns=concatenated([run.patterns, one_class(agent)]), agents=[state(agent, decisions=ONE_CLASS_STATE)])
    assert publish_run(database, run)["agent_learning_patterns"] == 1
    columns = "input_features, output_characteristics, human_feedback_signals, confidence_score, published, reason, sentence"
    assert rows(database, f"SELECT {columns} FROM agent_learning_patterns") == [
        ({}, ONE_CLASS, {}, 0.0, False, "one_class", None)
    ]
    summary = rows(database, "SELECT summary FROM learning_runs")[0][0]
    assert (summary["patterns_learned"], summary["patterns"]) == (0, {CORRELATION_PATTERN: 0})


def test_the_run_counts_patterns_by_type_and_recommendations(database: Database) -> None:
    publish_run(database, publication(3, correlations=2, patterns=4, recommendations=2))
    assert rows(database, "SELECT summary FROM learning_runs")[0][0] == {
        **{
            "sample_size": 300,
            "patterns_learned": 4 * 2 + 4 * 4,
            "correlations_found": 3 * 2,
            "recommendations": 6,
            "fleet_parts": {},
        },
        "patterns": {
            **{CORRELATION_PATTERN: 8, "comment_terms": 4, "decision_rule": 4, "quality_threshold": 4, "successful_decisions": 4}
        },
    }


def test_what_is_gone_is_superseded_with_the_reason_of_its_part_and_comes_back_with_its_counters(database: Database) -> None:
    first = publication(2, tick=0)
    publish_run(database, first)
    applied = "UPDATE agent_learning_patterns SET times_applied = 3, success_rate = 0.5, last_applied = '2026-10-01' RETURNING 1"
    n = len(rows(database, applied))
    ours, other = agent_names(2)
    decisions = {"status": "insufficient_data", "reason": "12 decided outputs, 20 needed"}
    nothing = publication(2, seed=2, tick=1, correlations=0, patterns=0)
    second = replace(nothing, agents=[state(ours, decisions=decisions), state(other, "error", "broken")])
    counts = publish_run(database, second)
    assert counts["patterns_superseded"] == n == len(identities(first))
    assert live(database) == set()
    reasons = dict.fromkeys(("decision_rule", "quality_threshold", "successful_decisions"), "12 decided outputs, 20 needed")
    gone = reasons | dict.fromkeys(("comment_terms", CORRELATION_PATTERN), "not found again")
    query = "SELECT DISTINCT pattern_type, superseded_reason FROM agent_learning_patterns WHERE agent_name = %s"
    assert dict(rows(database, query, ours)) == gone
    assert dict(rows(database, query, other)) == dict.fromkeys(gone, "broken")
    assert dict(rows(database, query, "*")) == dict.fromkeys(gone, "not found again")
    assert rows(database, "SELECT DISTINCT superseded_by_run::text, learning_run_id::text FROM agent_learning_patterns") == [
        (second.learning_run_id, first.learning_run_id)
    ]
    # A second run without them leaves the run that lost them.
    publish_run(database, publication(2, seed=3, tick=2, correlations=0, patterns=0))
    assert rows(database, "SELECT DISTINCT superseded_by_run::text FROM agent_learning_patterns") == [(second.learning_run_id,)]
    again = publication(2, seed=4, tick=3)
    publish_run(database, again)
    state_of = (
        "SELECT DISTINCT learning_run_id::text, superseded_by_run, superseded_reason, times_applied, success_rate,"
        " last_applied::date::text FROM agent_learning_patterns"
    )
    assert rows(database, state_of) == [(again.learning_run_id, None, None, 3, 0.5, "2026-10-01")]


def test_a_row_that_was_there_before_is_adopted_and_others_of_its_kind_are_superseded(database: Database) -> None:
    """Rows of the platform's own, written before this program came: the same identity, the same type, a type of its own."""
    run = publication(1)
    (agent,) = agent_names(1)
    description = next(
        description for name, kind, description in sorted(identities(run)) if (name, kind) == (agent, QUALITY_THRESHOLD)
    )
    theirs = [(QUALITY_THRESHOLD, description), (COMMENT_TERMS, "Learned pattern: x"), ("theirs", "y"), (QUALITY_THRESHOLD, None)]
    ids = [
        rows(
            database,
            "INSERT INTO agent_learning_patterns (agent_name, agent_type, pattern_type, pattern_description, input_features,"
            " output_characteristics, human_feedback_signals, confidence_score, sample_size, times_applied, success_rate,"
            " accuracy_rate, learning_algorithm, reason) VALUES (%s, 'other', %s, %s, '{}', '{}', '{}', 0.9, 9, 7, 0.25, 1,"
            " 'pattern_recognition', 'theirs') RETURNING id",
            *(agent, kind, said),
        )[0][0]
        for kind, said in theirs
    ]
    publish_run(database, run)
    state_of = (
        "SELECT pattern_type, agent_type, times_applied, success_rate, learning_algorithm, reason, learning_run_id::text,"
        " superseded_reason FROM agent_learning_patterns WHERE id = %s"
    )
    adopted, gone, untouched, unnamed = (rows(database, state_of, identity)[0] for identity in ids)
    assert adopted == (*(QUALITY_THRESHOLD, "writer", 7, 0.25, "maximal_likelihood_ratio_cut", None, run.learning_run_id, None),)
    assert gone == (COMMENT_TERMS, "other", 7, 0.25, "pattern_recognition", "theirs", None, "not found again")
    assert untouched == ("theirs", "other", 7, 0.25, "pattern_recognition", "theirs", None, None)
    assert unnamed[-1] == "not found again"
    # The evidence names the row that is there.
    named = rows(
        database, "SELECT DISTINCT jsonb_array_elements_text(evidence -> 'pattern_ids')::uuid FROM agent_recommendations"
    )
    assert ids[0] in {identity for (identity,) in named}
    known = {
        identity for (identity,) in rows(database, "SELECT id FROM agent_learning_patterns WHERE learning_run_id IS NOT NULL")
    }
    assert {identity for (identity,) in named} <= known
