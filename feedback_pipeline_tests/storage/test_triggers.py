"""What is pending, read from the changes alone, and the book of decisions."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from feedback_pipeline.learning.moments import since
from feedback_pipeline.learning.trigger import UNKNOWN_AGENT, Pending, Policy, Runs, decide
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.trigger_book import (
    ASKED_AGAIN_AFTER,
    Entry,
    alert_taken,
    claim_start,
    forget_old,
    name_run,
    next_alert,
    note_decision,
    postpone_alerts,
    read_last_decision,
    unnamed_starts,
    write_entry,
)
from feedback_pipeline.storage.triggers import ask_for_days, read_counts, read_pending
from feedback_pipeline_tests.storage.original_schema import VARIANTS, original_schema

pytestmark = pytest.mark.slow

ONE, TWO, GONE = (f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2, 9))


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """Two workflows: x of the agents a and b (c failed), y of b."""
    with database.connect() as opened:
        opened.execute(
            "INSERT INTO agent_performance (agent_name, execution_id, status) VALUES "
            "('a', 'x', 'success'), ('a', 'x', 'success'), ('b', 'x', 'success'), ('c', 'x', 'failed'), ('b', 'y', 'success')"
        )
        opened.execute("INSERT INTO content_review_workflows (id, workflow_execution_id) VALUES (%s, 'x'), (%s, 'y')", [ONE, TWO])
        opened.execute("DELETE FROM feedback_changes")
        yield opened


def review(connection: Connection, workflow: str | None, day: str | None = "2026-02-01", *, trainable: bool = True) -> None:
    connection.execute(
        "INSERT INTO review_feedback (workflow_id, reviewed_at, is_training_data) VALUES (%s, %s, %s)", [workflow, day, trainable]
    )


def learned(connection: Connection, first: str) -> None:
    """A publication whose window begins on a day."""
    connection.execute("DELETE FROM feedback_changes")
    connection.execute(
        "INSERT INTO learning_runs (learning_run_id, dagster_run_id, started_at, window_start, n_reviews, n_contents, n_agents,"
        " n_reviewers, code_version) VALUES (gen_random_uuid(), 'last', now(), %s, 0, 0, 0, 0, '')",
        [first],
    )


def test_each_review_counts_once_for_every_agent_that_succeeded(connection: Connection) -> None:
    for workflow in (ONE, ONE, TWO):
        review(connection, workflow)
    connection.execute("UPDATE review_feedback SET comments = 'again'")
    assert read_counts(connection) == {"a": 2, "b": 3}


def test_only_once_trainable_reviews_inside_the_window_and_not_in_the_future_count(connection: Connection) -> None:
    learned(connection, "2026-02-02")
    review(connection, ONE, "2026-02-01")
    review(connection, ONE, None)
    review(connection, ONE, trainable=False)
    connection.execute("INSERT INTO review_feedback (workflow_id, reviewed_at) VALUES (%s, now() + interval '2 days')", [ONE])
    assert read_counts(connection) == {}
    review(connection, TWO, "2026-02-02")
    connection.execute("UPDATE review_feedback SET reviewed_at = '2026-01-01' WHERE workflow_id = %s", [TWO])
    assert read_counts(connection) == {"b": 1}
    assert read_pending(connection, Policy()).published_by == "last"


def test_what_is_deleted_counts_as_long_as_its_workflow_is_known(connection: Connection) -> None:
    for workflow in (ONE, TWO, GONE, None):
        review(connection, workflow)
    learned(connection, "2026-01-01")
    connection.execute("DELETE FROM review_feedback")
    assert read_counts(connection) == {"a": 1, "b": 2, UNKNOWN_AGENT: 2}
    connection.execute("DELETE FROM content_review_workflows")
    assert read_counts(connection) == {UNKNOWN_AGENT: 4}


def test_a_review_moved_to_another_workflow_counts_for_both(connection: Connection) -> None:
    review(connection, TWO)
    learned(connection, "2026-01-01")
    connection.execute("UPDATE review_feedback SET workflow_id = %s", [ONE])
    assert read_counts(connection) == {"a": 1, "b": 1}


def test_the_batch_is_the_same_for_the_same_changes_of_reviews(connection: Connection) -> None:
    assert read_pending(connection, Policy()).pending == Pending()
    connection.execute("UPDATE agent_performance SET duration = 1 WHERE agent_name = 'a'")
    executions = read_pending(connection, Policy()).pending
    assert executions.batch_id
    assert (executions.counts, executions.newest) == ({}, None)
    review(connection, ONE)
    first = read_pending(connection, Policy()).pending
    connection.execute("UPDATE agent_performance SET duration = 2 WHERE agent_name = 'a'")
    again = read_pending(connection, Policy()).pending
    assert again.batch_id == first.batch_id != executions.batch_id
    review(connection, ONE)
    assert read_pending(connection, Policy()).pending.batch_id != first.batch_id


def test_when_the_first_agent_crossed_its_own_threshold(connection: Connection) -> None:
    for workflow in (ONE, TWO, ONE, TWO):
        review(connection, workflow)
    connection.execute("UPDATE feedback_changes SET changed_at = '2026-03-01'::timestamptz + id * interval '1 day'")
    moments = [moment for (moment,) in connection.execute("SELECT changed_at FROM feedback_changes ORDER BY id")]
    found = read_pending(connection, Policy(threshold=4)).pending
    assert (found.crossed, found.oldest, found.newest) == (moments[3], moments[0], moments[3])
    assert read_pending(connection, Policy(threshold=9, thresholds={"a": 2})).pending.crossed == moments[2]
    assert read_pending(connection, Policy(threshold=5)).pending.crossed is None


def test_of_more_reviews_than_start_a_pass_anyhow_only_the_oldest_are_looked_up(connection: Connection) -> None:
    for _ in range(Policy().backlog):
        review(connection, TWO)
    found = read_pending(connection, Policy()).pending
    assert (found.in_all, found.counts) == (300, {"b": 300})
    review(connection, ONE)
    found = read_pending(connection, Policy()).pending
    assert (found.in_all, found.counts) == (301, {"b": 100})
    assert read_counts(connection) == {"a": 1, "b": 301}


def test_many_changes_of_few_reviews_are_counted_by_agent(connection: Connection) -> None:
    review(connection, ONE)
    for _ in range(5):
        review(connection, TWO)
    before = read_counts(connection)
    for edit in range(60):
        connection.execute("UPDATE review_feedback SET comments = %s", [str(edit)])
    found = read_pending(connection, Policy()).pending
    assert (found.in_all, found.counts) == (6, before)
    assert read_counts(connection) == before == {"a": 1, "b": 6}


def test_one_review_edited_often_stands_for_the_oldest_of_very_many(connection: Connection) -> None:
    review(connection, ONE)
    for edit in range(100):
        connection.execute("UPDATE review_feedback SET comments = %s", [str(edit)])
    for _ in range(Policy().backlog):
        review(connection, TWO)
    found = read_pending(connection, Policy()).pending
    assert (found.in_all, found.counts) == (301, {"a": 1, "b": 1})


@pytest.mark.parametrize("table", ["review_feedback", "agent_decisions"])
def test_an_emptied_table_and_a_day_asked_for_demand_a_pass(connection: Connection, table: str) -> None:
    connection.execute(f"TRUNCATE {table}".encode())
    assert read_pending(connection, Policy()).pending.demanded == f"table {table} was emptied"
    ask_for_days(connection, [date(2026, 2, 1), date(2026, 2, 3)])
    found = read_pending(connection, Policy()).pending
    assert found.demanded == "2 days are to be read again after the daily check"
    assert found.counts == {}


@pytest.mark.parametrize("variant", VARIANTS)
def test_reviews_of_before_the_installation_are_new(empty_database: Database, variant: str) -> None:
    with empty_database.connect() as opened:
        opened.execute(original_schema(variant, enhanced=False))
    migrate(empty_database)
    with empty_database.connect() as opened:
        found = read_pending(opened, Policy()).pending
        assert found.demanded == "reviews of before the installation"
        opened.execute(
            "DELETE FROM feedback_changes; UPDATE review_feedback SET is_training_data = true, reviewed_at = '2026-02-01'"
        )
        opened.execute("DELETE FROM feedback_changes; DELETE FROM review_feedback")
        # Whatever the types of the keys are, they lead to the agents.
        counts = read_counts(opened)
        assert sum(counts.values()) > 0
        assert set(counts) - {UNKNOWN_AGENT}


def test_a_lasting_state_is_one_entry_with_current_numbers(connection: Connection) -> None:
    assert read_last_decision(connection) is None
    waiting = [Entry("waiting", f"a: {n} of 5", f"1-{n}-{n}", None, {"a": n}) for n in (1, 1, 2)]
    for entry in waiting:
        note_decision(connection, entry)
    write_entry(connection, Entry("failed", "learn failed", run_id="r"))
    assert not write_entry(connection, Entry("failed", "learn failed", run_id="r"))
    note_decision(connection, waiting[-1])
    last = read_last_decision(connection)
    assert last is not None
    assert {name: last[name] for name in ("kind", "reason", "batch_id", "run_id", "agents")} == vars(waiting[-1])
    for attempt in (1, 2):
        assert claim_start(connection, Entry("fired", "a: 5 of 5", "1-5-5", None, {"a": 5}), attempt)
    kinds = connection.execute("SELECT kind FROM trigger_decisions ORDER BY id").fetchall()
    assert [kind for (kind,) in kinds] == ["waiting", "failed", "fired", "fired"]
    connection.execute("UPDATE trigger_decisions SET decided_at = decided_at - %s WHERE kind = 'waiting'", [timedelta(days=91)])
    forget_old(connection)
    assert connection.execute("SELECT count(*) FROM trigger_decisions").fetchone() == (3,)


def test_the_age_in_a_reason_is_that_of_the_moment_it_is_read(connection: Connection) -> None:
    """Told as it was written down, "oldest waits 3 s" would stand for days while nothing else happens."""
    review(connection, ONE)
    connection.execute("UPDATE feedback_changes SET changed_at = now() - interval '3 seconds'")
    state = read_pending(connection, Policy())
    decision = decide(state.pending, Runs(), Policy(), state.now)
    note_decision(connection, Entry(decision.kind, decision.reason, state.pending.batch_id, None, state.pending.counts))
    later = decision.reason.replace(since(state.pending.oldest or state.now), since(state.now - timedelta(days=3)))
    for reason, age in ((decision.reason, "3 s"), (later, "3 d")):
        note_decision(connection, Entry(decision.kind, reason, state.pending.batch_id, None, state.pending.counts))
        last = read_last_decision(connection)
        assert last is not None
        assert last["reason"] == f"a: 1 of 5, b: 1 of 5 new reviews; oldest waits {age}"
    assert connection.execute("SELECT count(*) FROM trigger_decisions").fetchone() == (1,)


def test_one_run_is_asked_for_once_and_again_where_the_request_was_lost(connection: Connection) -> None:
    entry = Entry("fired", "why", "1-5-5", None, {"a": 5})
    assert claim_start(connection, entry, 1)
    assert not claim_start(connection, entry, 1)
    for moved in (ASKED_AGAIN_AFTER, -timedelta(hours=1)):  # lost; and a clock that was moved back behind the request
        connection.execute("UPDATE trigger_decisions SET decided_at = decided_at - %s", [moved])
        assert claim_start(connection, entry, 1)
        assert not claim_start(connection, entry, 1)
    assert claim_start(connection, entry, 2)
    assert claim_start(connection, Entry("fired", "why", "1-6-6"), 1)
    rows = connection.execute("SELECT batch_id, attempt FROM trigger_decisions ORDER BY id").fetchall()
    assert rows == [("1-5-5", 1), ("1-5-5", 2), ("1-6-6", 1)]


def test_a_start_is_named_once_its_run_is_known(connection: Connection) -> None:
    claim_start(connection, Entry("fired", "why", "1-5-5"), 1)
    claim_start(connection, Entry("retrain", "why", "alarm"), 1)
    (alarm, *_), (start, *_) = unnamed_starts(connection)
    name_run(connection, start, "run")
    assert unnamed_starts(connection) == [(alarm, "alarm", 1)]
    assert connection.execute("SELECT run_id FROM trigger_decisions WHERE kind = 'fired'").fetchone() == ("run",)


def test_an_alert_stays_until_it_is_taken_and_waits_longer_the_longer_nobody_takes_it(database: Database) -> None:
    def due() -> list[int]:
        with database.connect() as asking:
            found = next_alert(asking)
            asking.rollback()
            return [] if found is None else [found[0]]

    with database.connect(autocommit=True) as connection:
        for run_id in ("one", "two"):
            write_entry(connection, Entry("failed", "learn failed", run_id=run_id), {"run_id": run_id})
        write_entry(connection, Entry("failed", "learn failed", run_id="three"))
        (first,), (second,) = connection.execute(
            "SELECT id FROM trigger_decisions WHERE alert IS NOT NULL ORDER BY id"
        ).fetchall()
        assert due() == [first]
        with database.connect() as teller:
            assert next_alert(teller) == (first, {"run_id": "one"})
            assert due() == [second]  # while somebody tells the first
        postpone_alerts(connection)
        assert due() == []
        pause = "SELECT extract(epoch FROM alert_after - clock_timestamp()) FROM trigger_decisions WHERE id = %s"
        ((seconds,),) = connection.execute(pause, [second]).fetchall()
        assert 5 < seconds <= 10
        connection.execute("UPDATE trigger_decisions SET decided_at = decided_at - interval '2 minutes' WHERE id = %s", [first])
        postpone_alerts(connection)
        ((seconds,),) = connection.execute(pause, [second]).fetchall()
        assert 110 < seconds <= 125
        # A clock that was an hour ahead, and was put right, keeps no alert back.
        connection.execute("UPDATE trigger_decisions SET alert_after = alert_after + interval '1 hour' WHERE alert IS NOT NULL")
        assert due() == [first]
        alert_taken(connection, first)
        alert_taken(connection, second)
        assert due() == []
