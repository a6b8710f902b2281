"""Whatever happens to the source tables, the next pass publishes what a fresh database with the same rows would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.passes import Pass

pytestmark = pytest.mark.slow

SOURCES = ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Pass:
    """A small world that has been learned once."""
    write_world(database, simulate(WorldSpec(agents=3, executions=40, reviewers=8, seed=5, days=12)))
    installation = Pass.at(database, tmp_path / "first", lookback_days=8)
    installation.learn()
    return installation


@pytest.fixture
def assert_equal_to_fresh(
    make_database: Callable[[str], Database], migrated_template: str, tmp_path: Path
) -> Callable[[Pass], None]:
    def check(shop: Pass) -> None:
        fresh = make_database(migrated_template)
        with shop.database.connect() as source, fresh.connect() as target:
            for table in SOURCES:
                with (
                    source.cursor().copy(f"COPY {table} TO STDOUT (FORMAT binary)".encode()) as rows,
                    target.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as into,
                ):
                    for block in rows:
                        into.write(block)
        other = Pass.at(fresh, tmp_path / "fresh", lookback_days=8)
        other.learn()
        assert other.published() == shop.published()
        assert shop.pending_changes() == 0

    return check


@contextmanager
def session(shop: Pass) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with shop.database.connect() as connection:
        yield connection


EDITS = {
    "edit a score": 'UPDATE review_feedback SET quality_scores = \'{"content_quality": {"score": 1}}\' WHERE id IN'
    " (SELECT id FROM review_feedback ORDER BY id LIMIT 20)",
    "back-date reviews": "UPDATE review_feedback SET reviewed_at = reviewed_at - interval '5 days' WHERE id IN"
    " (SELECT id FROM review_feedback ORDER BY id LIMIT 20)",
    "reviews reopened": "UPDATE review_feedback SET reviewed_at = NULL WHERE id IN"
    " (SELECT id FROM review_feedback ORDER BY reviewed_at DESC LIMIT 9)",
    "no longer training data": "UPDATE review_feedback SET is_training_data = false WHERE id IN"
    " (SELECT id FROM review_feedback ORDER BY id LIMIT 30)",
    "delete reviews": "DELETE FROM review_feedback WHERE id IN (SELECT id FROM review_feedback ORDER BY id LIMIT 25)",
    "delete the newest day": "DELETE FROM review_feedback WHERE reviewed_at::date ="
    " (SELECT max(reviewed_at::date) FROM review_feedback)",
    "delete an agent": "DELETE FROM agent_performance WHERE agent_name = (SELECT min(agent_name) FROM agent_performance)",
    "an execution took longer": "UPDATE agent_performance SET duration = duration * 3, cost = NULL WHERE id IN"
    " (SELECT id FROM agent_performance ORDER BY id LIMIT 30)",
    "an execution failed after all": "UPDATE agent_performance SET status = 'failed' WHERE id IN"
    " (SELECT id FROM agent_performance ORDER BY id LIMIT 15)",
    "decisions edited": "UPDATE agent_decisions SET confidence_score = 0.01, reasoning = 'short' WHERE id IN"
    " (SELECT id FROM agent_decisions ORDER BY id LIMIT 40)",
    "decisions deleted": "DELETE FROM agent_decisions WHERE id IN (SELECT id FROM agent_decisions ORDER BY id LIMIT 40)",
    "workflows point elsewhere": "UPDATE content_review_workflows SET workflow_execution_id ="
    " (SELECT min(execution_id) FROM agent_performance)"
    " WHERE id IN (SELECT id FROM content_review_workflows ORDER BY id LIMIT 30)",
    "decisions truncated": "TRUNCATE agent_decisions",
    "reviews truncated": "TRUNCATE review_feedback",
}


@pytest.mark.parametrize("name", EDITS)
def test_after_any_change_the_next_pass_equals_a_fresh_database(
    shop: Pass, name: str, assert_equal_to_fresh: Callable[[Pass], None]
) -> None:
    before = shop.published()
    with session(shop) as connection:
        assert connection.execute(EDITS[name].encode()).rowcount != 0
    shop.learn()
    assert shop.published() != before
    assert_equal_to_fresh(shop)


def test_a_rolled_back_change_leaves_nothing_to_do(shop: Pass) -> None:
    before = shop.published()
    with session(shop) as connection:
        connection.execute("DELETE FROM review_feedback")
        connection.rollback()
    assert shop.pending() == []
    shop.learn()
    assert shop.published() == before


_MOVE = (
    "INSERT INTO review_feedback (workflow_id, content_id, reviewer_id, stage, decision, reviewed_at, quality_scores)"
    " SELECT workflow_id, content_id, %s, stage, 'approve', reviewed_at + interval '1 minute',"
    ' \'{"content_quality": {"score": 9}, "brand_alignment": {"score": 8}}\' FROM review_feedback ORDER BY id LIMIT 25'
)


def test_two_sessions_with_interleaved_commits_one_open_over_a_whole_pass(
    shop: Pass, assert_equal_to_fresh: Callable[[Pass], None]
) -> None:
    with session(shop) as slow:
        slow.execute(_MOVE, ("late.larry",))
        with session(shop) as quick:
            quick.execute(_MOVE, ("early.erin",))
        shop.learn()
        seen = shop.published()
        slow.commit()
    assert shop.pending_changes() == 25
    shop.learn()
    assert shop.published() != seen
    assert_equal_to_fresh(shop)


def test_a_review_and_the_decision_it_depends_on_committed_by_two_sessions_that_do_not_see_each_other(
    shop: Pass, assert_equal_to_fresh: Callable[[Pass], None]
) -> None:
    with session(shop) as agent:
        agent.execute("UPDATE agent_decisions SET confidence_score = 0.02")
        with session(shop) as reviewer:
            reviewer.execute(_MOVE, ("new.nora",))
        shop.learn()
        agent.commit()
    shop.learn()
    assert_equal_to_fresh(shop)


def test_changes_committed_while_a_pass_runs_wait_for_the_next(shop: Pass, assert_equal_to_fresh: Callable[[Pass], None]) -> None:
    with session(shop) as connection:
        connection.execute(_MOVE, ("first.fay",))
    shop.extract()
    with session(shop) as connection:
        connection.execute(_MOVE, ("second.sam",))
    shop.reduce()
    assert shop.pending_changes() == 25
    shop.learn()
    assert_equal_to_fresh(shop)


def test_an_extraction_without_publish_is_consumed_by_the_next_publish(
    shop: Pass, assert_equal_to_fresh: Callable[[Pass], None]
) -> None:
    for name in ("one.ola", "two.tim"):
        with session(shop) as connection:
            connection.execute(_MOVE, (name,))
        shop.extract()
    shop.reduce()
    assert_equal_to_fresh(shop)


def test_odd_numbers_and_names_go_to_the_ledger_and_leave_it_once_they_are_fine(shop: Pass) -> None:
    with session(shop) as connection:
        connection.execute("ALTER TABLE agent_performance ALTER COLUMN agent_name TYPE text, ALTER COLUMN agent_type TYPE text")
        connection.execute(
            "UPDATE agent_decisions SET confidence_score = 85 WHERE id = (SELECT min(id::text)::uuid FROM agent_decisions)"
        )
        connection.execute(
            "UPDATE agent_performance SET duration = -5, cost = -0.01, agent_type = repeat('t', 300)"
            " WHERE id = (SELECT min(id::text)::uuid FROM agent_performance)"
        )
        connection.execute(
            "UPDATE agent_performance SET agent_name = repeat('n', 120)"
            " WHERE id = (SELECT max(id::text)::uuid FROM agent_performance)"
        )
    shop.learn()
    ledger = "SELECT source, reason, detail FROM rejected_feedback WHERE source LIKE 'agent%' ORDER BY 1, 2"
    with session(shop) as connection:
        assert connection.execute(ledger.encode()).fetchall() == [
            ("agent_decisions", "number out of bounds", "confidence_score"),
            ("agent_performance", "number out of bounds", "cost, duration_ms"),
            ("agent_performance", "unusable name", "agent_name"),
        ]
        assert connection.execute("SELECT count(*) FROM agent_learning_state WHERE status = 'success'").fetchone() == (3,)
        connection.execute("UPDATE agent_decisions SET confidence_score = 0.5 WHERE confidence_score > 1")
        connection.execute("UPDATE agent_performance SET duration = 5, cost = 0.01 WHERE duration < 0")
        connection.execute("UPDATE agent_performance SET agent_name = 'drafter' WHERE length(agent_name) > 100")
    shop.learn()
    with session(shop) as connection:
        assert connection.execute(ledger.encode()).fetchall() == []
