"""The daily comparison finds what the recorded changes do not say."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feedback_pipeline.learning.trigger import Policy
from feedback_pipeline.learning_pass.daily_check import DailyCheck, check_days
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.triggers import read_pending
from feedback_pipeline_tests.passes import NOW, Pass

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Pass:
    """A small world whose days have been read and published; the reduce plays no part here."""
    write_world(
        database, simulate(WorldSpec(agents=2, executions=30, reviewers=6, seed=5, days=6, until=NOW.date() - timedelta(days=9)))
    )
    installation = Pass.at(database, tmp_path)
    installation.extract()
    published(installation)
    return installation


def published(shop: Pass) -> None:
    with shop.database.connect() as connection:
        connection.execute("DELETE FROM feedback_changes")
        connection.execute(
            "INSERT INTO learning_runs (learning_run_id, started_at, published_at, n_reviews, n_contents, n_agents, n_reviewers,"
            " code_version) VALUES (gen_random_uuid(), now(), %s, 0, 0, 0, 0, '')",
            [NOW - timedelta(days=1)],
        )


def check(shop: Pass) -> DailyCheck:
    return check_days(shop.database, shop.store, shop.settings, now=NOW)


def behind_its_back(shop: Pass, change: Callable[[Connection], object]) -> None:
    """A change that no trigger records."""
    with shop.database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        change(connection)


def asked_for(shop: Pass) -> list[date]:
    with shop.database.connect() as connection:
        return [day for (day,) in connection.execute("SELECT old_day FROM feedback_changes WHERE operation = 'CHECK' ORDER BY 1")]


def entries(shop: Pass) -> list[str]:
    with shop.database.connect() as connection:
        return [reason for (reason,) in connection.execute("SELECT reason FROM trigger_decisions WHERE kind = 'safety_net'")]


def test_where_nothing_differs_nothing_is_said_or_asked(shop: Pass) -> None:
    found = check(shop)
    assert (found.compared, found.differing, found.due, found.warning) == (len(shop.store.days()), {}, (), None)
    assert (asked_for(shop), entries(shop)) == ([], [])


UNRECORDED = {
    "reviews": "UPDATE review_feedback SET decision = 'reject', quality_scores = '{}' WHERE reviewed_at::date = %(day)s",
    "reviews, executions, decisions": "DELETE FROM review_feedback WHERE id = ("
    "SELECT min(r.id::text)::uuid FROM review_feedback r WHERE reviewed_at::date = %(day)s"
    " AND (SELECT count(*) FROM review_feedback o WHERE o.workflow_id = r.workflow_id) = 1)",
    "executions": "UPDATE agent_performance SET duration = duration + 1 WHERE execution_id IN (SELECT workflow_execution_id FROM"
    " content_review_workflows w JOIN review_feedback r ON r.workflow_id = w.id GROUP BY 1"
    " HAVING min(reviewed_at::date) = %(day)s AND max(reviewed_at::date) = %(day)s)",
    "executions, decisions": "UPDATE agent_decisions SET confidence_score = 0.123 WHERE performance_id IN (SELECT p.id FROM"
    " agent_performance p JOIN content_review_workflows w ON w.workflow_execution_id = p.execution_id"
    " JOIN review_feedback r ON r.workflow_id = w.id GROUP BY 1"
    " HAVING min(reviewed_at::date) = %(day)s AND max(reviewed_at::date) = %(day)s)",
    "no reviews in the database": "DELETE FROM review_feedback WHERE reviewed_at::date = %(day)s",
}


@pytest.mark.parametrize("what", UNRECORDED)
def test_a_change_that_was_never_recorded_is_found_said_and_mended(shop: Pass, what: str) -> None:
    day = sorted(shop.store.days())[2]
    behind_its_back(shop, lambda connection: connection.execute(UNRECORDED[what].encode(), {"day": day}))
    assert shop.pending() == []

    found = check(shop)
    assert found.differing == {day: what}
    assert found.warning == f"1 day differs from the database: {day} ({what}); read again by the next pass"
    assert entries(shop) == [found.warning]
    assert asked_for(shop) == [day]
    with shop.database.snapshot() as connection:
        assert read_pending(connection, Policy()).pending.demanded == "1 day is to be read again after the daily check"

    assert shop.pending() == [day]
    shop.extract()
    published(shop)
    assert check(shop).differing == {}


def test_a_row_of_the_changes_that_was_removed_is_made_good(shop: Pass) -> None:
    day = sorted(shop.store.days())[1]
    with shop.database.connect() as connection:
        connection.execute("UPDATE review_feedback SET decision = 'reject' WHERE reviewed_at::date = %s", [day])
    assert check(shop).differing == {}  # known to be stale, so nothing to warn of
    with shop.database.connect() as connection:
        connection.execute("DELETE FROM feedback_changes")
    assert check(shop).differing == {day: "reviews"}


def test_a_stored_day_that_was_altered_damaged_or_lost_is_found(shop: Pass) -> None:
    altered, damaged, halved, lost = sorted(shop.store.days())[:4]

    def file_of(day: date, table: str) -> Path:
        manifest = shop.store.manifest(day)
        assert manifest is not None
        (found,) = Path(shop.settings.store).rglob(Path(manifest[table]["file"]).name)
        return found

    rows = pq.read_table(file_of(altered, "human_feedback"))
    pq.write_table(rows.slice(1), file_of(altered, "human_feedback"))
    file_of(damaged, "feature_table").write_bytes(b"nothing of use")
    file_of(halved, "decision_points").unlink()
    shop.store.remove_day(lost)
    unreadable = "its files cannot be read"
    assert check(shop).differing == {
        altered: "reviews",
        damaged: unreadable,
        halved: unreadable,
        lost: "not in the feature store",
    }
    shop.extract()
    published(shop)
    assert check(shop).differing == {}


def test_a_day_that_has_come_since_is_due_and_no_fault(shop: Pass) -> None:
    def add(connection: Connection) -> None:
        connection.execute(
            "INSERT INTO review_feedback (workflow_id, reviewed_at) SELECT id, %s FROM content_review_workflows LIMIT 1", [NOW]
        )

    behind_its_back(shop, add)
    found = check(shop)
    assert (found.differing, found.due) == ({}, (NOW.date(),))
    assert (asked_for(shop), entries(shop)) == ([NOW.date()], [])
