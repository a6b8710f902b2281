"""Extraction against a plain Python reading of the same rows."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage import day_reading
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.extraction import extract, extraction_version, pending_days
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.interchange import load_folder
from feedback_pipeline_tests.storage.random_sources import (
    BOUNDS,
    FIRST_DAY,
    TODAY,
    Oracle,
    insert_all,
    plain_features,
    plain_feedback,
    random_sources,
    seeded,
)

pytestmark = pytest.mark.slow

SETTINGS = Settings(first_day=FIRST_DAY, score_bounds=BOUNDS)
UNRECORDED = [
    "duration_ms",
    "input_tokens",
    "output_tokens",
    "cost",
    "confidence_score",
    "alternatives_count",
    "reasoning_length",
]
ALL_DAYS = [FIRST_DAY + timedelta(days=index) for index in range((TODAY - FIRST_DAY).days + 1)]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(str(tmp_path), "test")


@pytest.fixture
def other_store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(str(tmp_path), "other")


def contents(store: FeatureStore) -> dict[date, tuple[pa.Table, pa.Table]]:
    return {day: store.read_tables(day, day) for day in store.days()}


def same(left: dict[date, tuple[pa.Table, pa.Table]], right: dict[date, tuple[pa.Table, pa.Table]]) -> bool:
    return left.keys() == right.keys() and all(
        one.equals(other) for day in left for one, other in zip(left[day], right[day], strict=True)
    )


def ledger(database: Database) -> set[tuple[str, str, str]]:
    with database.connect() as conn:
        return {(row[0], row[1], row[2]) for row in conn.execute("SELECT source, row_id, reason FROM rejected_feedback")}


def approximately(rows: list[dict[str, Any]]) -> list[Any]:
    return [{k: pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for k, v in row.items()} for row in rows]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_plain_reading(database: Database, store: FeatureStore, seed: int) -> None:
    sources = random_sources(seeded(seed))
    with database.connect() as conn:
        insert_all(conn, sources)
    expected = Oracle(sources)
    report = extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    assert list(report.days) == sorted(expected.feedback) == sorted(store.days())
    for day, (feedback, features) in contents(store).items():
        assert plain_feedback(feedback.to_pylist()) == expected.feedback[day]
        assert plain_features(features.to_pylist()) == approximately(expected.features[day])
        points = store.read_decision_points(day, day).to_pylist()
        assert points == approximately(expected.points[day])
    assert ledger(database) == expected.ledger
    reasons = {reason for _, _, reason in expected.ledger}
    assert set(report.rejected) == reasons
    assert len(reasons) >= 6


def test_manifests_account_for_every_review(database: Database, store: FeatureStore) -> None:
    sources = random_sources(seeded(1))
    with database.connect() as conn:
        insert_all(conn, sources)
    extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    for day, manifest in store.days().items():
        on_day = [row for row in sources["review_feedback"] if row["reviewed_at"] and row["reviewed_at"].date() == day]
        feedback, features = store.read_tables(day, day)
        used = len(set(feedback["feedback_id"].to_pylist()))
        assert manifest["facts"] == {"reviews": len(on_day), "refused_reviews": len(on_day) - used}
        assert manifest["trainable_rows"] == sum(feedback["is_training_data"].to_pylist())
        keys = set(zip(feedback["agent_name"].to_pylist(), feedback["execution_id"].to_pylist(), strict=True))
        assert keys == set(zip(features["agent_name"].to_pylist(), features["execution_id"].to_pylist(), strict=True))


def test_order_of_rows_and_number_of_calls_do_not_matter(
    database: Database, empty_database: Database, store: FeatureStore, other_store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feedback_pipeline.storage.migrations import migrate

    migrate(empty_database)
    sources = random_sources(seeded(2))
    with database.connect() as conn:
        insert_all(conn, sources)
    with empty_database.connect() as conn:
        insert_all(conn, {table: seeded(3).sample(rows, len(rows)) for table, rows in sources.items()})
    extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    monkeypatch.setattr(day_reading, "GROUP_REVIEWS", 7)
    for day in reversed(ALL_DAYS):
        extract(empty_database, other_store, SETTINGS, [day], today=TODAY)
    assert same(contents(store), contents(other_store))
    whole = [store.read_tables(FIRST_DAY, TODAY), other_store.read_tables(FIRST_DAY, TODAY)]
    assert whole[0][0].equals(whole[1][0])
    assert whole[0][1].equals(whole[1][1])
    points = [each.read_decision_points(FIRST_DAY, TODAY) for each in (store, other_store)]
    assert points[0].equals(points[1])
    assert points[0].num_rows >= 10


def test_many_small_groups_equal_one(
    database: Database, store: FeatureStore, other_store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(4)))
    extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    monkeypatch.setattr(day_reading, "GROUP_REVIEWS", 1)
    steps: list[tuple[int, int]] = []
    extract(database, other_store, SETTINGS, ALL_DAYS, today=TODAY, progress=lambda done, total: steps.append((done, total)))
    assert same(contents(store), contents(other_store))
    assert steps == [(done, len(store.days())) for done in range(1, len(store.days()) + 1)]


def test_again_changes_nothing(database: Database, store: FeatureStore, tmp_path: Path) -> None:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(5)))
    first = extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    before, files = contents(store), sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.parquet"))
    second = extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    assert (second.days, second.reviews, second.consumed) == ((), 0, 0)
    assert set(second.unchanged) == set(ALL_DAYS)
    assert set(first.days) <= set(second.unchanged)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.parquet")) == files
    with database.connect() as conn:
        conn.execute("UPDATE review_feedback SET comments = 'x'")
    third = extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    assert third.days == first.days
    assert same(contents(store), before)


def test_who_has_lost_the_lock_settles_nothing(database: Database, store: FeatureStore) -> None:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(1)))

    def lose(_done: int, _all: int) -> None:
        with database.connect(autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )

    with pytest.raises(psycopg.OperationalError):
        extract(database, store, SETTINGS, ALL_DAYS, today=TODAY, progress=lose)
    assert not len(store.read_consumed()[0])
    assert extract(database, store, SETTINGS, ALL_DAYS, today=TODAY).consumed


def test_only_requested_days_are_read(database: Database, store: FeatureStore) -> None:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(6)))
        pending = pending_days(conn, store, SETTINGS, today=TODAY)
    chosen = pending[::2]
    report = extract(database, store, SETTINGS, [*chosen, date(2020, 1, 1), TODAY + timedelta(days=1)], today=TODAY)
    assert list(report.days) == chosen == sorted(store.days())
    with database.connect() as conn:
        rest = pending_days(conn, store, SETTINGS, today=TODAY)
    # Also days read now whose changes touch others too: they are forgotten only when every day they touch has been read.
    assert {day for day in pending if day not in chosen} <= set(rest) <= set(pending)
    extract(database, store, SETTINGS, rest, today=TODAY)
    with database.connect() as conn:
        assert pending_days(conn, store, SETTINGS, today=TODAY) == []


def test_other_bounds_make_every_day_stale(database: Database, store: FeatureStore) -> None:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(7)))
    extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    narrow = Settings(first_day=FIRST_DAY, score_bounds={"*": (0.0, 5.0)})
    assert extraction_version(narrow) != extraction_version(SETTINGS)
    with database.connect() as conn:
        assert pending_days(conn, store, SETTINGS, today=TODAY) == []
        assert pending_days(conn, store, narrow, today=TODAY) == sorted(store.days())
    extract(database, store, narrow, ALL_DAYS, today=TODAY)
    scores = [score for feedback, _ in contents(store).values() for row in feedback["scores"].to_pylist() for score in row]
    assert scores
    assert max(scores) <= 5.0


def test_without_texts_their_features_are_missing_and_read_later(database: Database, store: FeatureStore) -> None:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(8)))
    extract(database, store, SETTINGS, ALL_DAYS, today=TODAY, with_texts=False)
    _, features = store.read_tables(None, TODAY)
    assert features["word_count"].null_count == features.num_rows
    assert features["decision_count"].null_count == 0
    assert extract(database, store, SETTINGS, ALL_DAYS, today=TODAY).days
    _, features = store.read_tables(None, TODAY)
    assert features["word_count"].null_count < features.num_rows


def test_ids_and_numbers_of_other_types(empty_database: Database, store: FeatureStore) -> None:
    """A platform with text ids, numeric columns, json and arrays is read as it is."""
    from feedback_pipeline.storage.migrations import migrate

    with empty_database.connect() as conn:
        conn.execute(
            "CREATE TABLE agent_performance (id text PRIMARY KEY, agent_name text, agent_type text, execution_id text, "
            "start_time timestamp, "
            "duration integer, status text, input_tokens numeric, output_tokens smallint, cost numeric(12, 6), metadata json);"
            "CREATE TABLE agent_decisions (id bigint PRIMARY KEY, performance_id text, input_data json, output_data json, "
            "reasoning text, confidence_score numeric, alternatives_considered text[]);"
            "CREATE TABLE content_review_workflows (id text PRIMARY KEY, content_id text, workflow_execution_id text);"
            "CREATE TABLE review_feedback (id text PRIMARY KEY, workflow_id text, content_id text, reviewer_id text, stage text, "
            "decision text, comments text, reviewed_at timestamptz)"
        )
    migrate(empty_database)
    with empty_database.connect() as conn:
        conn.execute(
            "INSERT INTO agent_performance VALUES "
            "('p', 'writer', 't', 'e', '2026-01-01', 12, 'success', 1e400, 7, 0.25, '{\"tone\": \"dry\"}');"
            "INSERT INTO agent_decisions VALUES (2, 'p', NULL, '{\"content\": \"two words\"}', 'why', 0.5, '{a,b,c}'), "
            "(10, 'p', NULL, '{\"content\": \"three more words\"}', NULL, 1e400, '{}');"
            "INSERT INTO content_review_workflows VALUES ('w', 'c', 'e');"
            "INSERT INTO review_feedback (id, workflow_id, decision, reviewed_at, quality_scores) "
            "VALUES ('r', 'w', 'maybe', '2026-02-03 23:30:00-02', '{\"clarity\": 5}')"
        )
    report = extract(empty_database, store, SETTINGS, ALL_DAYS, today=TODAY)
    assert report.days == (date(2026, 2, 4),)
    feedback, features = (table.to_pylist()[0] for table in store.read_tables(None, TODAY))
    assert (feedback["content_id"], feedback["decision"], feedback["scores"]) == ("c", None, [5.0])
    expected = {"duration_ms": 12.0, "input_tokens": None, "output_tokens": 7.0, "cost": 0.25, "confidence_score": 0.5,
                "alternatives_count": 1.5, "word_count": 3.0, "tone": "dry", "decision_count": 2.0}  # fmt: skip
    assert {name: features[name] for name in expected} == expected
    assert ledger(empty_database) == {
        ("review_feedback", "r", "unknown decision"),
        ("agent_performance", "p", "not a finite number"),
        ("agent_decisions", "10", "number out of bounds"),
    }


def test_an_empty_database(database: Database, store: FeatureStore) -> None:
    report = extract(database, store, SETTINGS, ALL_DAYS, today=TODAY)
    assert (report.days, report.removed, report.rejected, report.consumed) == ((), (), {}, 0)
    assert store.days() == {}


@pytest.fixture
def loaded(request: pytest.FixtureRequest, database: Database, shared_data: Path) -> tuple[Database, Settings]:
    name, bounds = request.param
    settings = Settings(score_bounds={"*": bounds})
    load_folder(database, shared_data / name, settings)
    return database, settings


@pytest.mark.parametrize("loaded", [("summeval_op", (1.0, 5.0))], indirect=True)
def test_real_summaries(loaded: tuple[Database, Settings], store: FeatureStore) -> None:
    database, settings = loaded
    with database.connect() as conn:
        days = pending_days(conn, store, settings)
        rows = conn.execute(
            "SELECT execution_id, output_data ->> 'content' FROM agent_performance p "
            "JOIN agent_decisions d ON d.performance_id = p.id"
        ).fetchall()
    report = extract(database, store, settings, days)
    feedback, features = store.read_tables(None, days[-1])
    assert (feedback.num_rows, features.num_rows, report.rejected) == (1248, 416, {})
    words = dict(zip(features["execution_id"].to_pylist(), features["word_count"].to_pylist(), strict=True))
    assert words == {execution: float(len(text.split())) for execution, text in rows}
    assert {len(scores) for scores in feedback["scores"].to_pylist()} == {7}


@pytest.mark.parametrize("loaded", [("wmt_ted_ende", (-25.0, 0.0))], indirect=True)
def test_real_translations(loaded: tuple[Database, Settings], store: FeatureStore) -> None:
    database, settings = loaded
    with database.connect() as conn:
        days = pending_days(conn, store, settings)
    report = extract(database, store, settings, days)
    feedback, features = (table.to_pandas() for table in store.read_tables(None, days[-1]))
    assert (len(feedback), len(features), report.rejected) == (7406, 7406, {})
    for name in (
        "duration_ms",
        "input_tokens",
        "output_tokens",
        "cost",
        "confidence_score",
        "alternatives_count",
        "reasoning_length",
    ):
        assert features[name].isna().all()
    assert (features["decision_count"] == 1).all()
    assert np.isfinite(features["word_count"]).all()
