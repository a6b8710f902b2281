"""What an extraction refuses, and how it leaves the ledger: one sound world, faults put into it."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.extraction import ExtractionReport, extract
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.ledger import EXTRACTION_REASONS, SHARED_REASONS, Reason
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline_tests.storage.interchange_folder import an_id, ledger
from feedback_pipeline_tests.storage.random_sources import insert

pytestmark = pytest.mark.slow

FIRST_DAY, TODAY = date(2026, 2, 1), date(2026, 2, 10)
DAYS = [FIRST_DAY + timedelta(days=index) for index in range(10)]
SETTINGS = Settings(first_day=FIRST_DAY)
RUNS = 6
Extract = Callable[..., ExtractionReport]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(str(tmp_path), "test")


@pytest.fixture
def world(database: Database) -> Database:
    """Runs 0..5 of agents a and b in turn, each with two decisions and a review; run 0 is reviewed on day 0 and so on.

    The columns are those of a platform that checks nothing.
    """
    with database.connect() as conn:
        conn.execute(
            "ALTER TABLE agent_performance DROP CONSTRAINT agent_performance_agent_name_check, "
            "ALTER agent_name TYPE text, ALTER agent_name DROP NOT NULL, ALTER agent_type TYPE text;"
            "ALTER TABLE review_feedback DROP CONSTRAINT IF EXISTS review_feedback_feedback_confidence_check, "
            "ALTER decision TYPE text"
        )
        for number in range(RUNS):
            run = {"id": an_id(f"p{number}"), "agent_name": "ab"[number % 2], "agent_type": "text", "execution_id": f"e{number}"}
            insert(conn, "agent_performance", [run | {"duration": 1.0, "input_tokens": 2, "output_tokens": 3, "cost": 4.0}])
            own = {"performance_id": run["id"], "confidence_score": 0.5}
            insert(conn, "agent_decisions", [own | {"id": an_id(f"d{number}{part}")} for part in "xy"])
            insert(conn, "content_review_workflows", [{"id": an_id(f"w{number}"), "workflow_execution_id": f"e{number}"}])
            moment = datetime(2026, 2, 1 + number, 12, tzinfo=UTC)
            review = {"id": an_id(f"r{number}"), "workflow_id": an_id(f"w{number}"), "reviewed_at": moment, "decision": "approve"}
            insert(conn, "review_feedback", [review | {"feedback_confidence": 0.5, "quality_scores": '{"clarity": 5}'}])
    return database


@pytest.fixture
def read(world: Database, store: FeatureStore) -> Extract:
    def extract_days(*days: date, settings: Settings = SETTINGS) -> ExtractionReport:
        return extract(world, store, settings, days or DAYS, today=TODAY)

    return extract_days


def put(database: Database, table: str, name: str, **values: Any) -> None:
    with database.connect() as conn:
        changes = ", ".join(f"{column} = %s" for column in values)
        assert conn.execute(f"UPDATE {table} SET {changes} WHERE id = %s", [*values.values(), an_id(name)]).rowcount == 1


def features(store: FeatureStore) -> dict[str, dict[str, Any]]:
    return {row["execution_id"]: row for row in store.read_tables(None, TODAY)[1].to_pylist()}


# table, row, column, fault, its reason and detail, what makes it fine again
FAULTS = [
    ("agent_performance", "p0", "duration", -0.5, "number out of bounds", "duration_ms", 1.0),
    ("agent_performance", "p0", "duration", 1.1e100, "number out of bounds", "duration_ms", 1e100),
    ("agent_performance", "p0", "input_tokens", -1, "number out of bounds", "input_tokens", 0),
    ("agent_performance", "p0", "output_tokens", -1, "number out of bounds", "output_tokens", None),
    ("agent_performance", "p0", "cost", -1e-9, "number out of bounds", "cost", 0.0),
    ("agent_performance", "p0", "cost", float("nan"), "not a finite number", "cost", 0.0),
    ("agent_performance", "p0", "cost", float("-inf"), "not a finite number", "cost", 0.0),
    ("agent_performance", "p0", "metadata", '{"features": {"x": -1e101}}', "number out of bounds", "x", '{"features": {"x": 1}}'),
    ("agent_performance", "p0", "metadata", '{"features": {"1x": 1}}', "unusable name", "1x", "{}"),
    ("agent_performance", "p0", "agent_name", "n" * 101, "unusable name", "agent_name", "n" * 100),
    ("agent_performance", "p0", "agent_name", "*", "unusable name", "agent_name", "**"),
    ("agent_performance", "p0", "agent_name", " * ", "unusable name", "agent_name", "a"),
    ("agent_performance", "p0", "agent_name", " ", "unusable name", "agent_name", "a"),
    ("agent_performance", "p0", "agent_name", "a\nb", "unusable name", "agent_name", "a"),
    ("agent_performance", "p0", "agent_name", None, "unusable name", "agent_name", "日" * 100),
    ("agent_decisions", "d0y", "confidence_score", 1.0000001, "number out of bounds", "confidence_score", 1.0),
    ("agent_decisions", "d0y", "confidence_score", -1e-9, "number out of bounds", "confidence_score", 0.0),
    ("agent_decisions", "d0y", "confidence_score", 1e308, "number out of bounds", "confidence_score", None),
    ("agent_decisions", "d0y", "confidence_score", float("nan"), "not a finite number", "confidence_score", 0.0),
    ("agent_decisions", "d0y", "confidence_score", float("inf"), "not a finite number", "confidence_score", 0.0),
    ("review_feedback", "r0", "decision", "maybe", "unknown decision", "decision", "reject"),
    ("review_feedback", "r0", "feedback_confidence", 1.5, "confidence out of bounds", "feedback_confidence", 1.0),
    ("review_feedback", "r0", "feedback_confidence", float("nan"), "not a finite number", "feedback_confidence", 0.0),
    ("review_feedback", "r0", "quality_scores", '{"clarity": 1e400}', "score out of bounds", "clarity", '{"clarity": 10}'),
    ("review_feedback", "r0", "quality_scores", '{"clarity": "5"}', "not a number", "clarity", "{}"),
    ("review_feedback", "r0", "quality_scores", "[]", "scores not an object", "quality_scores", "{}"),
    ("review_feedback", "r0", "quality_scores", '{"1": 5}', "unusable name", "1", "{}"),
    ("review_feedback", "r0", "workflow_id", None, "dangling key", "workflow_id", an_id("w0")),
    ("review_feedback", "r0", "reviewed_at", "2026-01-31", "before the first day", "reviewed_at", "2026-02-01"),
    ("review_feedback", "r0", "reviewed_at", "2026-01-31", "before the first day", "reviewed_at", None),
    ("agent_performance", "p0", "status", "failed", "no successful execution", "workflow_id", "success"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[2]}={fault[3]!r:.20}")
def test_a_fault_costs_its_value_alone_and_leaves_the_ledger_once_it_is_mended(
    world: Database, store: FeatureStore, read: Extract, fault: tuple[Any, ...]
) -> None:
    table, row, column, bad, reason, detail, good = fault
    put(world, table, row, **{column: bad})
    read()
    source, name = ("review_feedback", "r0") if reason == "no successful execution" else (table, row)
    assert ledger(world) == [(source, an_id(name), reason, detail)]
    assert set(features(store)) >= {f"e{number}" for number in range(1, RUNS)}
    put(world, "review_feedback", "r0", comments="read again")
    read()
    assert ledger(world) == [(source, an_id(name), reason, detail)]
    put(world, table, row, **{column: good})
    read()
    assert ledger(world) == []


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault[2] != "status"], ids=lambda f: f"{f[2]}={f[3]!r:.20}")
def test_an_entry_leaves_with_its_row(world: Database, read: Extract, fault: tuple[Any, ...]) -> None:
    table, row, column, bad, *_ = fault
    put(world, table, row, **{column: bad})
    read()
    with world.connect() as conn:
        conn.execute(f"DELETE FROM {table} WHERE id = %s", [an_id(row)])
    read()
    expected = [("review_feedback", an_id("r0"), "no successful execution", "workflow_id")]
    assert ledger(world) == (expected if table == "agent_performance" else [])
    with world.connect() as conn:
        conn.execute("TRUNCATE agent_performance, agent_decisions, content_review_workflows, review_feedback")
    read()
    assert ledger(world) == []


def test_what_a_load_refused_stays_although_it_never_was_stored(world: Database, read: Extract) -> None:
    never = [
        ("review_feedback", an_id("never"), "unknown decision"),
        ("review_feedback", "review_feedback.csv row 17", "dangling key"),
        ("agent_performance", an_id("never"), "unusable agent name"),
        ("agent_performance", an_id("p0"), "broken JSON"),
        ("agent_decisions", an_id("never"), "not a number"),
    ]
    with world.connect() as conn:
        for entry in never:
            conn.execute("INSERT INTO rejected_feedback (source, row_id, reason) VALUES (%s, %s, %s)", entry)
        conn.execute("DELETE FROM review_feedback WHERE id = %s", [an_id("r1")])
    read()
    assert [entry[:3] for entry in ledger(world)] == sorted(never)


def test_an_entry_of_a_row_that_was_not_read_stays(world: Database, read: Extract) -> None:
    for number in (0, 1):
        put(world, "agent_performance", f"p{number}", cost=-1)
    read()
    put(world, "agent_performance", "p0", cost=1)
    put(world, "agent_performance", "p1", cost=1)
    read(FIRST_DAY)
    assert [entry[1] for entry in ledger(world)] == [an_id("p1")]
    read()
    assert ledger(world) == []


def test_an_entry_of_a_run_that_is_no_output_any_more_leaves(world: Database, store: FeatureStore, read: Extract) -> None:
    put(world, "agent_performance", "p0", cost=-1)
    put(world, "agent_decisions", "d0x", confidence_score=7)
    read()
    assert len(ledger(world)) == 2
    with world.connect() as conn:
        retry = {"id": an_id("p0 again"), "agent_name": "a", "execution_id": "e0", "start_time": datetime(2030, 1, 1, tzinfo=UTC)}
        insert(conn, "agent_performance", [retry | {"cost": 9.0}])
    read()
    assert features(store)["e0"]["cost"] == 9.0
    assert ledger(world) == []


def test_odd_numbers_become_missing_and_the_others_are_used(world: Database, store: FeatureStore, read: Extract) -> None:
    put(world, "agent_performance", "p0", duration=-1, cost=2e100, metadata='{"features": {"x": 1e300, "y": -1e100}}')
    put(world, "agent_decisions", "d0x", confidence_score=85)
    read()
    row = features(store)["e0"]
    expected = {
        "duration_ms": None,
        "cost": None,
        "input_tokens": 2.0,
        "confidence_score": 0.5,
        "min_confidence": 0.5,
        "y": -1e100,
    }
    assert {name: row[name] for name in expected} == expected
    assert "x" not in row
    assert ledger(world) == [
        ("agent_decisions", an_id("d0x"), "number out of bounds", "confidence_score"),
        ("agent_performance", an_id("p0"), "number out of bounds", "cost, duration_ms, x"),
    ]


@pytest.mark.parametrize("kind", ["double precision", "numeric", "real"])
def test_equal_numbers_have_exactly_their_own_mean(world: Database, store: FeatureStore, read: Extract, kind: str) -> None:
    with world.connect() as conn:
        conn.execute(f"ALTER TABLE agent_decisions ALTER confidence_score TYPE {kind}")
        insert(conn, "agent_decisions", [{"id": an_id("d0z"), "performance_id": an_id("p0")}])
        conn.execute(
            "UPDATE agent_decisions SET confidence_score = 0.7, reasoning = repeat('r', 49), "
            "alternatives_considered = '[1, 2, 3]'"
        )
    read()
    row = features(store)["e0"]
    assert sum([0.7] * 3) / 3 != 0.7
    assert row["confidence_score"] == row["min_confidence"]
    assert kind == "real" or row["confidence_score"] == 0.7
    assert (row["reasoning_length"], row["alternatives_count"], row["decision_count"]) == (49.0, 3.0, 3.0)


def test_a_run_without_usable_name_costs_the_run_and_is_one_entry(world: Database, store: FeatureStore, read: Extract) -> None:
    put(world, "agent_performance", "p0", agent_name="n" * 101)
    with world.connect() as conn:
        insert(conn, "agent_performance", [{"id": an_id("helper"), "agent_name": "*", "execution_id": "e1"}])
        for number in range(3):
            values = {"workflow_id": an_id("w0"), "reviewed_at": datetime(2026, 2, 1, tzinfo=UTC)}
            insert(conn, "review_feedback", [values | {"id": an_id(f"more {number}")}])
    report = read()
    assert sorted(ledger(world)) == sorted(
        ("agent_performance", an_id(name), "unusable name", "agent_name") for name in ("p0", "helper")
    )
    assert report.rejected == {"unusable name": 2}
    assert features(store)["e1"]["agent_name"] == "b"
    assert store.days()[FIRST_DAY]["facts"] == {"reviews": 4, "refused_reviews": 4}


def test_a_long_type_is_cut(world: Database, store: FeatureStore, read: Extract) -> None:
    put(world, "agent_performance", "p0", agent_type="日" * 101)
    put(world, "agent_performance", "p1", agent_type=None)
    read()
    assert [features(store)[run]["agent_type"] for run in ("e0", "e1", "e2")] == ["日" * 100, None, "text"]
    assert ledger(world) == []


def test_a_flood_of_custom_features_costs_its_agent_the_rarest(world: Database, store: FeatureStore, read: Extract) -> None:
    flood = {f"f{number:03}": number for number in range(60)}
    put(world, "agent_performance", "p0", metadata=json.dumps({"features": flood}))
    put(world, "agent_performance", "p2", metadata=json.dumps({"features": flood}))
    put(world, "agent_performance", "p1", metadata='{"features": {"own": 1}}')
    with world.connect() as conn:
        conn.execute("UPDATE review_feedback SET reviewed_at = '2026-02-01' WHERE id = %s", [an_id("r1")])
    report = read()
    detail = ", ".join(f"f{number:03}" for number in range(50, 60))
    floods = [("agent_performance", f"a on {day}", "too many features", detail) for day in ("2026-02-01", "2026-02-03")]
    assert ledger(world) == floods
    assert report.rejected == {"too many features": 2}
    custom = [name for name in store.read_tables(FIRST_DAY, FIRST_DAY)[1].column_names if name.startswith(("f0", "own"))]
    assert custom == [*(f"f{number:03}" for number in range(50)), "own"]
    put(world, "agent_performance", "p0", metadata="{}")
    read()
    assert ledger(world) == floods[1:]
    with world.connect() as conn:
        conn.execute("DELETE FROM review_feedback WHERE id = %s", [an_id("r2")])
    read()
    assert ledger(world) == []


def test_every_reason_of_an_extraction_is_among_the_faults() -> None:
    assert {Reason(fault[4]) for fault in FAULTS} | {Reason.TOO_MANY_FEATURES} == {*EXTRACTION_REASONS, *SHARED_REASONS}


def test_keys_of_other_types_settle_too(empty_database: Database, store: FeatureStore) -> None:
    with empty_database.connect() as conn:
        conn.execute(
            "CREATE TABLE agent_performance (id text PRIMARY KEY, agent_name text, execution_id text, status text, cost float8);"
            "CREATE TABLE agent_decisions (id bigint PRIMARY KEY, performance_id varchar(9), confidence_score integer);"
            "CREATE TABLE content_review_workflows (id text PRIMARY KEY, workflow_execution_id varchar(20));"
            "CREATE TABLE review_feedback (id integer PRIMARY KEY, workflow_id text, reviewed_at timestamptz, decision text)"
        )
    migrate(empty_database)
    with empty_database.connect() as conn:
        conn.execute(
            "INSERT INTO agent_performance VALUES ('p', 'a', 'e', 'success', -1);"
            "INSERT INTO agent_decisions VALUES (2, 'p', 85), (3, 'p', 1);"
            "INSERT INTO content_review_workflows VALUES ('w', 'e');"
            "INSERT INTO review_feedback VALUES (7, 'w', '2026-02-03', 'maybe')"
        )
        conn.execute(
            "INSERT INTO rejected_feedback (source, row_id, reason) "
            "SELECT 'review_feedback', unnest(%s::text[]), 'unknown decision'",
            [["99999999999999999999", "x"]],
        )
    extract(empty_database, store, SETTINGS, DAYS, today=TODAY)
    assert [entry[:2] for entry in ledger(empty_database)] == [
        ("agent_decisions", "2"), ("agent_performance", "p"),
        ("review_feedback", "7"), ("review_feedback", "99999999999999999999"), ("review_feedback", "x"),
    ]  # fmt: skip
    with empty_database.connect() as conn:
        conn.execute("UPDATE agent_decisions SET confidence_score = 0; UPDATE agent_performance SET cost = 0")
        conn.execute("DELETE FROM review_feedback")
        conn.execute("INSERT INTO review_feedback VALUES (8, 'w', '2026-02-03', 'approve')")
    extract(empty_database, store, SETTINGS, DAYS, today=TODAY)
    assert [entry[1] for entry in ledger(empty_database)] == ["99999999999999999999", "x"]
