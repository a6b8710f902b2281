import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.storage.bulk import stable_id
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import Publication
from feedback_pipeline.storage.reading_patterns import read_improvements, read_patterns
from feedback_pipeline.storage.reading_strategy import read_strategy
from feedback_pipeline_tests.storage.publications import ONE_CLASS_STATE, agent_names, publication, state
from feedback_pipeline_tests.storage.test_published_patterns import one_class

pytestmark = pytest.mark.slow

AGENT, OTHER = agent_names(2)
# What the platform's own agents ask for by name.
GUIDE = {
    *("type", "description", "input_features", "output_characteristics", "feedback_signals", "confidence", "sample_size"),
    *("applied_count", "success_rate", "success_rate_held_out"),
}


@pytest.fixture
def run(database: Database) -> Publication:
    published = publication(2)
    publish_run(database, published)
    return published


def execute(database: Database, statement: str) -> None:
    with database.connect() as connection:
        connection.execute(statement.encode())


def as_json(document: object) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


def test_patterns_are_those_of_the_last_run_most_certain_first(database: Database, run: Publication) -> None:
    document = read_patterns(database, AGENT)
    assert (document["agent_name"], document["status"], document["reason"]) == (AGENT, "success", None)
    assert document["parts"]["strategy"] == {"status": "success", "reason": None}
    assert (document["learning_run_id"], document["computed_at"]) == (run.learning_run_id, run.published_at.isoformat())
    patterns = document["patterns"]
    assert len(patterns) == 7
    confidence = [pattern["confidence"] for pattern in patterns]
    assert confidence == sorted(confidence, reverse=True)
    found = run.patterns[(run.patterns["agent_name"] == AGENT) & run.patterns["published"]]
    by_identity = {(pattern["type"], pattern["description"]): pattern for pattern in patterns}
    for row in found.to_dict("records"):
        pattern = by_identity[row["pattern_type"], row["description"]]
        assert pattern == {
            "id": str(stable_id(AGENT, row["pattern_type"], row["description"])),
            **{"type": row["pattern_type"], "description": row["description"], "sentence": row["sentence"]},
            **{name: json.loads(row[name]) for name in ("input_features", "output_characteristics")},
            "feedback_signals": json.loads(row["human_feedback_signals"]),
            **{"confidence": row["confidence"], "sample_size": row["n_contents"], "accuracy_rate": row["accuracy_rate"]},
            **{"applied_count": 0, "success_rate": None, "success_rate_held_out": None, "last_applied": None},
            "algorithm": row["algorithm"],
        }
    assert as_json(document) == document


def test_equally_certain_patterns_are_ordered_by_size_then_name(database: Database) -> None:
    run = publication(1, correlations=2, patterns=4)
    equal = run.patterns.assign(confidence=0.75, n_contents=[100 if i == 2 else 50 for i in range(len(run.patterns))])
    publish_run(database, replace(run, patterns=equal, findings=run.findings.assign(confidence=np.nan)))
    patterns = read_patterns(database, "*")["patterns"]
    assert [pattern["sample_size"] for pattern in patterns[:4]] == [100, 50, 50, 50]
    assert [pattern["type"] for pattern in patterns[1:4]] == sorted(pattern["type"] for pattern in patterns[1:4])
    assert [pattern["confidence"] for pattern in patterns[4:]] == [None, None]
    assert patterns[4]["description"] < patterns[5]["description"]


def test_what_is_superseded_not_published_or_not_ours_is_not_shown(database: Database) -> None:
    first = publication(1)
    publish_run(database, first)
    execute(
        database,
        "INSERT INTO agent_learning_patterns (agent_name, pattern_type, pattern_description, input_features,"
        " output_characteristics, human_feedback_signals, confidence_score, sample_size)"
        f" VALUES ('{AGENT}', 'theirs', 'x', '{{}}', '{{}}', '{{}}', 1, 9)",
    )
    none = publication(1, seed=2, tick=1, correlations=0, patterns=0)
    publish_run(database, replace(none, patterns=one_class(AGENT), agents=[state(AGENT, decisions=ONE_CLASS_STATE)]))
    document = read_patterns(database, AGENT)
    assert document["patterns"] == []
    assert document["parts"]["decisions"] == ONE_CLASS_STATE
    improvements = read_improvements(database, AGENT)
    assert (improvements["total_patterns"], improvements["high_confidence_patterns"], improvements["patterns"]) == (0, 0, [])


def test_the_fleet_has_patterns(database: Database, run: Publication) -> None:
    document = read_patterns(database, "*")
    assert (document["agent_name"], document["status"], document["reason"], document["parts"]) == ("*", "success", None, {})
    assert (document["learning_run_id"], document["computed_at"]) == (run.learning_run_id, run.published_at.isoformat())
    assert len(document["patterns"]) == 7


@pytest.mark.parametrize("rate", ["0", "'NaN'", "NULL"])
def test_a_rate_of_no_application_is_undefined(database: Database, run: Publication, rate: str) -> None:
    execute(database, f"UPDATE agent_learning_patterns SET success_rate = {rate}")
    assert {pattern["success_rate"] for pattern in read_patterns(database, AGENT)["patterns"]} == {None}


def test_counters_are_shown(database: Database, run: Publication) -> None:
    execute(
        database,
        "UPDATE agent_learning_patterns SET times_applied = 4, success_rate = 0, success_rate_held_out = 0.25,"
        " last_applied = '2026-10-03 04:05:06+00'",
    )
    (pattern, *_) = read_patterns(database, AGENT)["patterns"]
    assert (pattern["applied_count"], pattern["success_rate"], pattern["success_rate_held_out"]) == (4, 0.0, 0.25)
    assert {one["success_rate_held_out"] for one in read_improvements(database, AGENT)["patterns"]} == {0.25}
    assert pattern["last_applied"] == "2026-10-03T04:05:06+00:00"


def test_improvements_are_what_the_guide_promises_and_recommendations(database: Database, run: Publication) -> None:
    levels = [0.9, 0.8000001, 0.8, 0.5000001, 0.5, 0.2, 0.1]
    with database.connect() as connection:
        for place, pattern in enumerate(read_patterns(database, AGENT)["patterns"]):
            connection.execute(
                "UPDATE agent_learning_patterns SET confidence_score = %s WHERE id = %s", (levels[place], pattern["id"])
            )
    document = read_improvements(database, AGENT)
    assert (document["total_patterns"], document["high_confidence_patterns"]) == (4, 2)
    assert [pattern["confidence"] for pattern in document["patterns"]] == levels[:4]
    assert {frozenset(pattern) for pattern in document["patterns"]} == {frozenset(GUIDE)}
    found = run.recommendations[run.recommendations["agent_name"] == AGENT].to_dict("records")
    assert [one["rank"] for one in document["recommendations"]] == [1, 2]
    ids = {pattern["id"] for pattern in read_patterns(database, AGENT)["patterns"]}
    for one, row in zip(document["recommendations"], found, strict=True):
        assert one["id"] == str(stable_id("recommendation", AGENT, row["identity"]))
        same = (
            "kind",
            "feature",
            "direction",
            "target",
            "expected_effect",
            "confidence",
            "q_value",
            "text",
            "action",
            "conflicts",
        )
        assert {name: one[name] for name in same} == {name: row[name] for name in same}
        assert set(one["evidence"]["pattern_ids"]) <= ids
        assert one["evidence"]["learning_run_id"] == document["learning_run_id"] == run.learning_run_id
    assert (document["status"], document["reason"], document["computed_at"]) == ("success", None, run.published_at.isoformat())
    assert as_json(document) == document


def test_a_strategy_is_ordered_by_the_shrunken_rate(database: Database, run: Publication) -> None:
    document = read_strategy(database, AGENT)
    assert [segment["family"] for segment in document["segments"]] == ["tone"] * 2 + ["tone x channel"] * 2
    for family in ("tone", "tone x channel"):
        rates = [segment["approval"] for segment in document["segments"] if segment["family"] == family]
        assert rates == sorted(rates, reverse=True)
    own = run.allocation[run.allocation["agent_name"] == AGENT].to_dict("records")
    rows = [{name: row[name] for name in ("segment", "n", "outputs", "propensity")} for row in own]
    assert document["allocation"] == {"tone": rows}
    assert (document["learning_run_id"], document["computed_at"]) == (run.learning_run_id, run.published_at.isoformat())
    assert as_json(document) == document


def test_the_raw_rate_does_not_decide_the_order(database: Database) -> None:
    """One approved output of one is a raw rate of 1; shrunken it is below 80 of 100."""
    run = publication(1, segments=2)
    segments = run.segments.assign(
        family="tone", segment=["few", "many"], n=[1, 100], approval_raw=[1.0, 0.8], approval=[0.6, 0.79]
    )
    publish_run(database, replace(run, segments=segments))
    assert [segment["segment"] for segment in read_strategy(database, AGENT)["segments"]] == ["many", "few"]


def test_only_the_last_allocation_is_current(database: Database, run: Publication) -> None:
    later = publication(2, seed=2, tick=5)
    publish_run(database, replace(later, allocation=later.allocation[later.allocation["agent_name"] == OTHER]))
    assert read_strategy(database, AGENT)["allocation"] == {}
    assert len(read_strategy(database, OTHER)["allocation"]["tone"]) == 3


def test_a_part_that_could_not_be_learned_says_why(database: Database) -> None:
    run = publication(2)
    why = {"status": "undefined", "reason": "the outputs do not differ"}
    agents = [state(AGENT, strategy=why), state(OTHER, "insufficient_data", "9 reviewed outputs, 10 needed")]
    del agents[1].parts["strategy"]
    publish_run(database, replace(run, agents=agents))
    assert [read_strategy(database, AGENT)[key] for key in ("status", "reason")] == [*why.values()]
    said = [read_strategy(database, OTHER)[key] for key in ("status", "reason")]
    assert said == ["insufficient_data", "9 reviewed outputs, 10 needed"]
    assert read_improvements(database, OTHER)["reason"] == "9 reviewed outputs, 10 needed"
    assert read_patterns(database, OTHER)["status"] == "insufficient_data"


@pytest.mark.parametrize("read", [read_patterns, read_improvements, read_strategy])
def test_who_is_not_known_is_told_who_is(database: Database, read: Any) -> None:
    with pytest.raises(UserError, match="feedback-pipeline learn"):
        read(database, AGENT)
    publish_run(database, publication(2))
    with pytest.raises(UserError, match=f"no agent 'nobody'.*{AGENT}, {OTHER}"):
        read(database, "nobody")


@pytest.mark.parametrize("read", [read_improvements, read_strategy])
def test_the_fleet_is_refused_where_it_makes_no_sense(database: Database, run: Publication, read: Any) -> None:
    with pytest.raises(UserError, match="one agent, not of '\\*'; name an agent"):
        read(database, "*")
