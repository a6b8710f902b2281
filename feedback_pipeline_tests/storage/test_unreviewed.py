"""Unreviewed outputs against a plain reading of the same rows, and against what the extraction makes of them once reviewed."""

import math
import re
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feedback_pipeline.learning.features import CATEGORIES, NUMERIC_FEATURES
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage import copying
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.day_tables import FEATURE_TABLE
from feedback_pipeline.storage.extraction import extract
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.unreviewed import count_unreviewed, read_outputs_of, read_unreviewed
from feedback_pipeline_tests.storage.forecasts import champion_says, forecast
from feedback_pipeline_tests.storage.original_schema import VARIANTS, original_schema
from feedback_pipeline_tests.storage.random_sources import (
    BOUNDS,
    FIRST_DAY,
    TODAY,
    Oracle,
    Sources,
    insert,
    insert_all,
    plain_features,
    random_sources,
    seeded,
)

pytestmark = pytest.mark.slow

SETTINGS = Settings(first_day=FIRST_DAY, score_bounds=BOUNDS)
DAYS = [FIRST_DAY + timedelta(days=day) for day in range((TODAY - FIRST_DAY).days + 1)]
START = datetime(2026, 2, 5, 12, tzinfo=UTC)
DAY = START.date()


def half_reviewed(seed: int) -> Sources:
    """Random sources in which half of the executions have no finished review, and runs start on several days."""
    rng, sources = seeded(seed), random_sources(seeded(seed))
    for run in sources["agent_performance"]:
        run["start_time"] = datetime(2026, 1, 30, tzinfo=UTC) + timedelta(hours=rng.randrange(12 * 24))
    waiting = {
        row["id"] for row in sources["content_review_workflows"] if int(row["workflow_execution_id"].removeprefix("run-")) % 2
    }
    for review in sources["review_feedback"]:
        if review["workflow_id"] in waiting:
            review["reviewed_at"] = None
    return sources


def expected(sources: Sources, first: date, last: date) -> list[dict[str, Any]]:
    oracle, rows = Oracle(sources), []
    workflows = {row["id"]: row for row in sources["content_review_workflows"]}
    reviewed = {
        workflows[row["workflow_id"]]["workflow_execution_id"]
        for row in sources["review_feedback"]
        if row["reviewed_at"] is not None and row["workflow_id"] in workflows
    }
    for execution in {run["execution_id"] for run in sources["agent_performance"]} - reviewed:
        contents = [row["content_id"] for row in workflows.values() if row["workflow_execution_id"] == execution]
        content = min((each for each in contents if each is not None), default=execution)
        for run, retries in oracle.outputs(execution):
            if first <= run["start_time"].date() <= last:
                row = oracle.output(run, retries)
                rows.append(row | {"content_id": content, "start_time": run["start_time"]})
    return sorted(rows, key=lambda row: [row[key].encode() for key in ("agent_name", "execution_id")])


def approximately(rows: list[dict[str, Any]]) -> list[Any]:
    return [{k: pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_plain_reading(database: Database, seed: int) -> None:
    sources = half_reviewed(seed)
    with database.connect() as connection:
        insert_all(connection, sources)
    for first, last in ((None, TODAY), (date(2026, 2, 3), date(2026, 2, 6)), (DAY, DAY)):
        found = read_unreviewed(database, SETTINGS, first, last)
        want = expected(sources, first or FIRST_DAY, last)
        assert plain_features(found.to_pylist()) == approximately(want)
    assert len(expected(sources, FIRST_DAY, TODAY)) > len(expected(sources, date(2026, 2, 3), date(2026, 2, 6))) > 0


def test_the_schema_is_that_of_the_feature_table_with_the_start(database: Database) -> None:
    empty = read_unreviewed(database, SETTINGS, None, TODAY)
    assert empty.num_rows == 0
    assert empty.schema.remove(len(FEATURE_TABLE)) == FEATURE_TABLE
    with database.connect() as connection:
        insert_all(connection, half_reviewed(1))
    found = read_unreviewed(database, SETTINGS, None, TODAY)
    assert found.schema.names[: len(FEATURE_TABLE) + 1] == [*FEATURE_TABLE.names, "start_time"]
    custom = found.schema.names[len(FEATURE_TABLE) + 1 :]
    assert custom == sorted(custom) != []
    assert {found.schema.field(name).type for name in custom} == {pa.float64()}


def test_features_are_those_of_the_extraction_once_it_is_reviewed(database: Database, tmp_path: Path) -> None:
    with database.connect() as connection:
        insert_all(connection, half_reviewed(2))
    before = read_unreviewed(database, SETTINGS, None, TODAY)
    with database.connect() as connection:
        for row in before.to_pylist():
            workflow = str(uuid.uuid4())
            keys = {"id": workflow, "workflow_execution_id": row["execution_id"], "content_id": None}
            insert(connection, "content_review_workflows", [keys])
            insert(
                connection,
                "review_feedback",
                [{"id": str(uuid.uuid4()), "workflow_id": workflow, "decision": "approve", "reviewed_at": "2026-02-09"}],
            )
    assert read_unreviewed(database, SETTINGS, None, TODAY).num_rows == 0
    store = FeatureStore(str(tmp_path), "test")
    extract(database, store, SETTINGS, DAYS, today=TODAY)
    _, after = store.read_tables(date(2026, 2, 9), date(2026, 2, 9))
    by_key = {(row["agent_name"], row["execution_id"]): row for row in after.to_pylist()}
    rows = before.to_pylist()
    assert len(rows) >= 5
    for row in rows:
        stored = by_key[row["agent_name"], row["execution_id"]]
        assert {name: row[name] for name in row if name not in ("content_id", "start_time")} == {
            name: value for name, value in stored.items() if name in row and name not in ("content_id", "start_time")
        }


def test_texts_are_streamed_in_blocks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.connect() as connection:
        insert_all(connection, half_reviewed(3))
    whole = read_unreviewed(database, SETTINGS, None, TODAY)
    assert whole["word_count"].null_count < whole.num_rows
    monkeypatch.setattr(copying, "BLOCK_BYTES", 1)
    assert read_unreviewed(database, SETTINGS, None, TODAY).equals(whole)


def run(execution: str, agent: str = "writer", **changes: Any) -> dict[str, Any]:
    row = {"id": str(uuid.uuid4()), "agent_name": agent, "execution_id": execution, "start_time": START, "status": "success"}
    return row | changes


def workflow(execution: str, **changes: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "workflow_execution_id": execution} | changes


def keys(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["agent_name"].to_pylist(), table["execution_id"].to_pylist(), strict=True))


def test_a_review_counts_for_its_execution_once_it_is_finished(database: Database) -> None:
    flows = [workflow("e"), workflow("e"), workflow("f")]
    review = {"id": str(uuid.uuid4()), "workflow_id": flows[1]["id"], "decision": "approve", "is_training_data": False}
    with database.connect() as connection:
        insert(connection, "agent_performance", [run("e"), run("e", "editor"), run("f")])
        insert(connection, "content_review_workflows", flows)
        insert(connection, "review_feedback", [review])
    assert keys(read_unreviewed(database, SETTINGS, DAY, DAY)) == [("editor", "e"), ("writer", "e"), ("writer", "f")]
    with database.connect() as connection:
        connection.execute("UPDATE review_feedback SET reviewed_at = '2030-01-01'")
    assert keys(read_unreviewed(database, SETTINGS, DAY, DAY)) == [("writer", "f")]
    with database.connect() as connection:
        connection.execute("DELETE FROM review_feedback")
    assert len(keys(read_unreviewed(database, SETTINGS, DAY, DAY))) == 3


def test_the_output_is_the_last_successful_run_wherever_the_days_end(database: Database) -> None:
    late = START + timedelta(days=2)
    with database.connect() as connection:
        insert(
            connection,
            "agent_performance",
            [
                run("e", duration=1),
                run("e", duration=2, start_time=START + timedelta(hours=1)),
                run("e", duration=3, start_time=START + timedelta(hours=2), status="failed"),
                run("again", duration=4),
                run("again", duration=5, start_time=late),
                run("shared", duration=6),
                run("shared", "editor", duration=7, start_time=late),
                run("failed", status="failed"),
            ],
        )
    found = read_unreviewed(database, SETTINGS, DAY, DAY)
    assert keys(found) == [("writer", "e"), ("writer", "shared")]
    assert found["duration_ms"].to_pylist() == [2.0, 6.0]
    assert found["retry_count"].to_pylist() == [2, 0]
    found = read_unreviewed(database, SETTINGS, late.date(), late.date())
    assert list(zip(keys(found), found["duration_ms"].to_pylist(), strict=True)) == [
        (("editor", "shared"), 7.0),
        (("writer", "again"), 5.0),
    ]


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-02-05 00:00:00+00", True),
        ("2026-02-04 23:59:59.999999+00", False),
        ("2026-02-05 23:59:59.999999+00", True),
        ("2026-02-06 00:00:00+00", False),
        ("2026-02-06 00:30:00+01", True),
        ("infinity", False),
        ("-infinity", False),
        ("0044-03-15 BC", False),
    ],
)
def test_days_are_utc_days_of_the_start(database: Database, moment: str, inside: bool) -> None:
    with database.connect() as connection:
        insert(connection, "agent_performance", [run("e", start_time=moment)])
    assert read_unreviewed(database, SETTINGS, DAY, DAY).num_rows == inside
    (one,) = read_outputs_of(database, "writer", "e").to_pylist()
    assert (one["start_time"] is None) == ("infinity" in moment or "BC" in moment)


def test_without_a_first_day_those_that_count_begin_at_the_first_day(database: Database) -> None:
    with database.connect() as connection:
        days = {"early": FIRST_DAY - timedelta(days=1), "first": FIRST_DAY}
        insert(connection, "agent_performance", [run(name, start_time=day) for name, day in days.items()])
    assert keys(read_unreviewed(database, SETTINGS, None, TODAY)) == [("writer", "first")]


def test_what_cannot_be_used_is_missing_and_goes_to_no_ledger_yet(database: Database) -> None:
    wrong: dict[str, Any] = {
        "duration": -1.0,
        "cost": math.nan,
        "metadata": '{"features": {"good": 1, "start_time": 3, "huge": 1e101}}',
    }
    with database.connect() as connection:
        insert(connection, "agent_performance", [run("e", **wrong), run("nameless", " "), run("tab", "a\tb")])
    (row,) = read_unreviewed(database, SETTINGS, DAY, DAY).to_pylist()
    assert (row["duration_ms"], row["cost"], row["good"], row["start_time"]) == (None, None, 1.0, START)
    assert "huge" not in row
    assert row["content_id"] == "e"
    assert {row[name] for name in (*NUMERIC_FEATURES, *CATEGORIES) if name != "decision_count"} == {None}
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM rejected_feedback").fetchone() == (0,)


def test_an_agent_with_too_many_features_loses_its_rarest_alone(database: Database) -> None:
    many, two = ('{"features": {' + ", ".join(f'"f{i:02}": {i}' for i in each) + "}}" for each in (range(60), (58, 59)))
    runs = [run("1", metadata=many), run("2", metadata='{"features": {"f59": 1}}'), run("3", "editor", metadata=two)]
    with database.connect() as connection:
        insert(connection, "agent_performance", runs)
    found = read_unreviewed(database, SETTINGS, DAY, DAY)
    # The writer's: the one of two outputs, and of the others the first by name.
    values = {name: found[name].to_pylist() for name in found.column_names if re.fullmatch(r"f\d\d", name)}
    assert sorted(values) == [*(f"f{i:02}" for i in range(49)), "f58", "f59"]
    assert values["f59"] == [59.0, 59.0, 1.0]
    assert values["f58"] == [58.0, None, None]
    assert values["f48"] == [None, 48.0, None]


def test_the_smallest_content_of_the_workflows(database: Database) -> None:
    ids = [str(uuid.UUID(int=number)) for number in (7, 3, 5)]
    with database.connect() as connection:
        insert(connection, "agent_performance", [run("e"), run("f")])
        insert(connection, "content_review_workflows", [workflow("e", content_id=each) for each in (None, *ids)])
        insert(connection, "content_review_workflows", [workflow("f")])
    assert read_unreviewed(database, SETTINGS, DAY, DAY)["content_id"].to_pylist() == [ids[1], "f"]


def test_one_output_on_demand_reviewed_or_not(database: Database) -> None:
    sources = half_reviewed(4)
    with database.connect() as connection:
        insert_all(connection, sources)
    waiting = read_unreviewed(database, SETTINGS, None, TODAY)
    assert waiting.num_rows >= 3
    with database.snapshot() as connection:
        for row in waiting.to_pylist():
            (found,) = read_outputs_of(connection, row["agent_name"], row["execution_id"]).to_pylist()
            assert found == {name: value for name, value in row.items() if name in found}
        execution = next(execution for execution in (f"run-{i}" for i in range(0, 12, 2)) if Oracle(sources).outputs(execution))
        reviewed, retries = Oracle(sources).outputs(execution)[0]
        (found,) = read_outputs_of(connection, reviewed["agent_name"], execution).to_pylist()
        assert found["retry_count"] == retries
        for agent, name in ((reviewed["agent_name"], "no such run"), ("nobody", execution), ("x' OR true --", "%s {} \\")):
            assert read_outputs_of(connection, agent, name).num_rows == 0


def test_only_what_is_new_to_a_model(database: Database) -> None:
    late = START + timedelta(days=1)
    with database.connect() as connection:
        insert(connection, "agent_performance", [run("e"), run("e", "editor"), run("f"), run("late", start_time=late)])
        insert(connection, "agent_performance", [run("nameless", "*\t"), run("failed", status="failed")])
        champion_says(connection, [forecast("e"), forecast("f", reviewer_id="ann"), forecast("late")])
    expected = {None: [("editor", "e"), ("writer", "e"), ("writer", "f")], 1: [("editor", "e"), ("writer", "f")]}
    for version, outputs in (*expected.items(), (2, expected[None])):
        assert keys(read_unreviewed(database, SETTINGS, DAY, DAY, new_to=version)) == outputs
        assert count_unreviewed(database, SETTINGS, DAY, DAY, new_to=version) == len(outputs)
    assert count_unreviewed(database, SETTINGS, late.date(), late.date(), new_to=1) == 0
    assert count_unreviewed(database, SETTINGS, date(2026, 2, 8), TODAY) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_types_of_keys(empty_database: Database, variant: str) -> None:
    execution = "bbbbbbbb-0000-0000-0000-000000000001"
    day = date(2024, 3, 1)
    with empty_database.connect() as connection:
        connection.execute(original_schema(variant))
    migrate(empty_database)
    settings = Settings(first_day=day)
    assert read_unreviewed(empty_database, settings, None, day).num_rows == 0
    with empty_database.connect() as connection:
        connection.execute("UPDATE review_feedback SET reviewed_at = NULL")
    assert keys(read_unreviewed(empty_database, settings, None, day)) == [("writer", execution)]
    assert keys(read_outputs_of(empty_database, "writer", execution)) == [("writer", execution)]
    assert read_outputs_of(empty_database, "writer", "no uuid").num_rows == 0


@pytest.mark.parametrize(("change", "found"), [("TYPE timestamp", 1), ("TYPE date", 1), ("TYPE text", 0)])
def test_a_start_of_another_type(database: Database, change: str, found: int) -> None:
    with database.connect() as connection:
        connection.execute("ALTER TABLE agent_performance ALTER COLUMN start_time DROP DEFAULT")
        connection.execute(f"ALTER TABLE agent_performance ALTER COLUMN start_time {change}".encode())
        insert(connection, "agent_performance", [run("e", start_time="2026-02-05")])
    assert read_unreviewed(database, SETTINGS, DAY, DAY).num_rows == found
    assert read_outputs_of(database, "writer", "e").num_rows == 1


def test_it_is_found_by_the_index_on_the_start(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO agent_performance (agent_name, execution_id, start_time) "
            "SELECT 'writer', 'e' || i, '2026-02-05'::timestamptz - i * interval '1 minute' FROM generate_series(1, 20000) i"
        )
        connection.execute("ANALYZE")
    found = read_unreviewed(database, SETTINGS, date(2026, 2, 4), DAY)
    assert found.num_rows == 1440
    with database.connect() as connection:
        scanned = "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'idx_agent_performance_start_time'"
        connection.execute("SELECT pg_stat_clear_snapshot()")
        assert connection.execute(scanned.encode()).fetchone() == (True,)
