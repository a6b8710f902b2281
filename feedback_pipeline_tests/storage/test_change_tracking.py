"""No change of the source tables is lost, whatever the order of commits: the store ends as a fresh extraction would make it."""

import random
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.extraction import ExtractionReport, extract, pending_days
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline_tests.storage.random_sources import (
    BOUNDS,
    FIRST_DAY,
    JSON_COLUMNS,
    TODAY,
    Row,
    Sources,
    decision,
    insert,
    insert_all,
    performance,
    random_sources,
    review,
    seeded,
    workflow,
)

pytestmark = pytest.mark.slow

SETTINGS = Settings(first_day=FIRST_DAY, score_bounds=BOUNDS)
TABLES = ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")
Contents = dict[date, tuple[pa.Table, pa.Table]]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(str(tmp_path), "kept")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], FeatureStore]:
    numbers = iter(range(1000))
    return lambda: FeatureStore(str(tmp_path), f"fresh{next(numbers)}")


def learn(database: Database, store: FeatureStore, today: date = TODAY) -> ExtractionReport:
    """What a pass does with the days: read the pending ones, then publish, which deletes the consumed changes."""
    with database.snapshot() as conn:
        days = pending_days(conn, store, SETTINGS, today=today)
    report = extract(database, store, SETTINGS, days, today=today)
    ids, tokens = store.read_consumed()
    with database.connect() as conn:
        conn.execute("DELETE FROM feedback_changes WHERE id = ANY(%s)", [ids.tolist()])
    store.drop_consumed(tokens)
    return report


def contents(store: FeatureStore) -> Contents:
    return {day: store.read_tables(day, day) for day in store.days()}


def assert_up_to_date(database: Database, store: FeatureStore, other: FeatureStore, today: date = TODAY) -> None:
    with database.connect() as conn:
        days = pending_days(conn, other, SETTINGS, today=today)
    extract(database, other, SETTINGS, days, today=today)
    kept, expected = contents(store), contents(other)
    assert kept.keys() == expected.keys()
    for day, tables in expected.items():
        for one, two in zip(kept[day], tables, strict=True):
            assert one.equals(two), day


def pending_changes(database: Database) -> int:
    with database.connect() as conn:
        row = conn.execute("SELECT count(*) FROM feedback_changes").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def learned(database: Database, store: FeatureStore) -> Database:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(1)))
    learn(database, store)
    return database


EDITS = {
    "edit of a score": "UPDATE review_feedback SET quality_scores = '{\"clarity\": 3}'",
    "back-dating": "UPDATE review_feedback SET reviewed_at = reviewed_at - interval '2 days'",
    "into the future": "UPDATE review_feedback SET reviewed_at = reviewed_at + interval '30 days' WHERE reviewer_id = 'ana'",
    "unfinished again": "UPDATE review_feedback SET reviewed_at = NULL WHERE reviewed_at < '2026-02-05'",
    "delete of reviews": "DELETE FROM review_feedback WHERE reviewed_at >= '2026-02-03' AND reviewed_at < '2026-02-06'",
    "delete of all reviews": "DELETE FROM review_feedback",
    "truncate of reviews": "TRUNCATE review_feedback",
    "truncate of decisions": "TRUNCATE agent_decisions",
    "truncate of executions": "TRUNCATE agent_performance",
    "truncate of workflows": "TRUNCATE content_review_workflows",
    "edit of the executions": "UPDATE agent_performance SET duration = 77, status = 'success' WHERE execution_id < 'run-4'",
    "executions swapped": "UPDATE agent_performance SET execution_id = CASE execution_id WHEN 'run-1' THEN 'run-2' "
    "ELSE 'run-1' END WHERE execution_id IN ('run-1', 'run-2')",
    "delete of executions": "DELETE FROM agent_performance WHERE agent_name = 'writer'",
    "edit of decisions": "UPDATE agent_decisions SET confidence_score = 0.9 WHERE reasoning = 'because'",
    "decisions moved": "UPDATE agent_decisions SET performance_id = (SELECT min(id::text)::uuid FROM agent_performance)",
    "delete of decisions": "DELETE FROM agent_decisions WHERE reasoning IS NULL",
    "workflow moved": "UPDATE content_review_workflows SET workflow_execution_id = 'run-5' WHERE workflow_execution_id < 'run-4'",
    "delete of workflows": "DELETE FROM content_review_workflows WHERE workflow_execution_id < 'run-3'",
    "workflow of reviews": "UPDATE review_feedback SET workflow_id = (SELECT min(id::text)::uuid FROM content_review_workflows)",
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda name: name.replace(" ", "-"))
def test_after_an_edit(learned: Database, store: FeatureStore, fresh: Callable[[], FeatureStore], edit: str) -> None:
    before = contents(store)
    with learned.connect() as conn:
        conn.execute(EDITS[edit].encode())
    report = learn(learned, store)
    assert_up_to_date(learned, store, fresh())
    assert pending_changes(learned) == 0
    after = contents(store)
    assert before.keys() != after.keys() or any(not a.equals(b) for d in after for a, b in zip(before[d], after[d], strict=True))
    assert report.days or report.removed
    again = learn(learned, store)
    assert (again.days, again.removed) == ((), ())


def test_an_edit_touches_only_its_days(learned: Database, store: FeatureStore) -> None:
    with learned.connect() as conn:
        row = conn.execute(
            "UPDATE review_feedback SET decision = 'reject' WHERE id = (SELECT id FROM review_feedback "
            "WHERE decision = 'approve' AND reviewed_at BETWEEN '2026-02-02' AND '2026-02-08' LIMIT 1) "
            "RETURNING (reviewed_at AT TIME ZONE 'UTC')::date"
        ).fetchone()
    assert row is not None
    assert learn(learned, store).days == (row[0],)


def test_a_rolled_back_change_reads_nothing(learned: Database, store: FeatureStore) -> None:
    with learned.connect() as conn:
        conn.execute("DELETE FROM review_feedback")
        conn.rollback()
    assert learn(learned, store).days == ()


def test_a_commit_held_open_over_a_whole_pass(learned: Database, store: FeatureStore, fresh: Callable[[], FeatureStore]) -> None:
    rng = seeded(5)
    sources = random_sources(rng)
    with learned.connect() as slow:
        insert(slow, "agent_performance", sources["agent_performance"])
        insert(slow, "review_feedback", sources["review_feedback"][:20])
        with learned.connect() as quick:
            insert(quick, "content_review_workflows", sources["content_review_workflows"])
            insert(quick, "review_feedback", sources["review_feedback"][20:])
        learn(learned, store)
        assert_up_to_date(learned, store, fresh())
        insert(slow, "agent_decisions", sources["agent_decisions"])
    assert learn(learned, store).days
    assert_up_to_date(learned, store, fresh())
    assert pending_changes(learned) == 0


def test_a_commit_between_snapshot_and_publish_is_kept(
    learned: Database, store: FeatureStore, fresh: Callable[[], FeatureStore]
) -> None:
    with learned.connect() as conn:
        conn.execute("UPDATE review_feedback SET quality_scores = '{\"clarity\": 1}'")
        days = pending_days(conn, store, SETTINGS, today=TODAY)
    interrupted: list[int] = []

    def commit_meanwhile(done: int, total: int) -> None:
        if not interrupted:
            with learned.connect() as conn:
                conn.execute("UPDATE review_feedback SET quality_scores = '{\"clarity\": 2}'")
        interrupted.append(done)

    extract(learned, store, SETTINGS, days, today=TODAY, progress=commit_meanwhile)
    assert interrupted
    assert learn(learned, store).days
    assert_up_to_date(learned, store, fresh())


def test_an_extraction_that_was_never_published_is_not_repeated(learned: Database, store: FeatureStore) -> None:
    with learned.connect() as conn:
        conn.execute("UPDATE review_feedback SET quality_scores = '{}'")
        days = pending_days(conn, store, SETTINGS, today=TODAY)
    assert extract(learned, store, SETTINGS, days, today=TODAY).days
    assert pending_changes(learned) > 0
    with learned.connect() as conn:
        assert pending_days(conn, store, SETTINGS, today=TODAY) == []
    assert extract(learned, store, SETTINGS, days, today=TODAY).days == ()
    with learned.connect() as conn:
        conn.execute("UPDATE review_feedback SET quality_scores = '{\"clarity\": 2}'")
        assert pending_days(conn, store, SETTINGS, today=TODAY) != []


def test_a_change_is_consumed_once_all_its_days_are_read(learned: Database, store: FeatureStore) -> None:
    with learned.connect() as conn:
        rows = conn.execute(
            "UPDATE review_feedback SET reviewed_at = '2026-02-07 10:00:00+00' WHERE id = (SELECT id FROM review_feedback "
            "WHERE reviewed_at BETWEEN '2026-02-02' AND '2026-02-03' LIMIT 1) RETURNING id"
        ).fetchall()
    assert len(rows) == 1
    old, new = date(2026, 2, 2), date(2026, 2, 7)
    assert extract(learned, store, SETTINGS, [old], today=TODAY).consumed == 0
    assert extract(learned, store, SETTINGS, [old, new], today=TODAY).consumed == 1


def test_a_review_of_the_future_waits_for_its_day(
    learned: Database, store: FeatureStore, fresh: Callable[[], FeatureStore]
) -> None:
    with learned.connect() as conn:
        conn.execute("UPDATE review_feedback SET reviewed_at = %s WHERE reviewer_id = 'ana'", [TODAY + timedelta(days=5)])
    learn(learned, store)
    # Its change is settled, since the store does not have the day; nothing else remembers it.
    assert pending_changes(learned) == 0
    assert TODAY + timedelta(days=5) not in store.days()
    later = TODAY + timedelta(days=6)
    assert learn(learned, store, later).days[-1] == TODAY + timedelta(days=5)
    assert_up_to_date(learned, store, fresh(), later)


def test_a_clock_that_was_ahead_loses_nothing(database: Database, store: FeatureStore, fresh: Callable[[], FeatureStore]) -> None:
    ahead = TODAY + timedelta(days=30)
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(2)))
        conn.execute("UPDATE review_feedback SET reviewed_at = reviewed_at + interval '20 days' WHERE reviewer_id = 'ana'")
    learn(database, store, ahead)
    with database.connect() as conn:
        conn.execute("UPDATE review_feedback SET quality_scores = '{\"clarity\": 4}'")
    learn(database, store)
    assert max(store.days()) <= TODAY
    learn(database, store, ahead)
    assert_up_to_date(database, store, fresh(), ahead)


def test_reviews_from_before_the_triggers_are_found(
    database: Database, store: FeatureStore, fresh: Callable[[], FeatureStore]
) -> None:
    with database.connect() as conn:
        insert_all(conn, random_sources(seeded(3)))
        conn.execute("DELETE FROM feedback_changes")
    assert learn(database, store).days
    assert_up_to_date(database, store, fresh())


def mutate(conn: Connection, rng: random.Random, sources: Sources) -> None:
    """One random statement; the rows known to `sources` serve as keys to refer to."""
    table = rng.choice(TABLES)
    makers: dict[str, Callable[[], Row]] = {
        "agent_performance": lambda: performance(rng),
        "agent_decisions": lambda: decision(rng, sources),
        "content_review_workflows": lambda: workflow(rng),
        "review_feedback": lambda: review(rng, sources),
    }
    make = makers[table]
    if rng.random() < 0.4 or not sources[table]:
        row = make()
        insert(conn, table, [row])
        sources[table].append(row)
        return
    # Each session has its own half of the rows: two sessions that want one row would wait for each other.
    target = rng.choice(sources[table])
    if rng.random() < 0.3:
        conn.execute(f"DELETE FROM {table} WHERE id = %s".encode(), [target["id"]])
        return
    values = {name: value for name, value in make().items() if name != "id" and name not in JSON_COLUMNS}
    changes = ", ".join(f"{name} = %s" for name in values)
    conn.execute(f"UPDATE {table} SET {changes} WHERE id = %s".encode(), [*values.values(), target["id"]])


@pytest.mark.parametrize("seed", range(4))
def test_random_sessions(database: Database, store: FeatureStore, fresh: Callable[[], FeatureStore], seed: int) -> None:
    """Two sessions with interleaved statements, commits and rollbacks; passes in between; publishes that sometimes fail."""
    rng = seeded(seed)
    halves = [random_sources(rng, 15), random_sources(rng, 15)]
    with ExitStack() as stack:
        sessions = [stack.enter_context(database.connect()) for _ in halves]
        for session, half in zip(sessions, halves, strict=True):
            insert_all(session, half)
            session.commit()
        for _ in range(60):
            which = rng.randrange(2)
            mutate(sessions[which], rng, halves[which])
            fate = rng.random()
            if fate < 0.25:
                sessions[which].commit()
            elif fate < 0.32:
                sessions[which].rollback()
            elif fate < 0.45:
                learn(database, store)
            elif fate < 0.5:
                some = [FIRST_DAY + timedelta(days=rng.randrange(10)) for _ in range(3)]
                extract(database, store, SETTINGS, some, today=TODAY)
    learn(database, store)
    assert_up_to_date(database, store, fresh())
    assert pending_changes(database) == 0
