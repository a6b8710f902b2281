"""Every failed run of ours is told of, whatever is away or dies meanwhile: in the book, and to a real receiver."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.orchestration import failed_runs
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.failed_runs import failed_run_sensor, failure_of, write_failures
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.orphans import OrphanWatch
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag
from feedback_pipeline.orchestration.run_states import BATCH_TAG, Ours
from feedback_pipeline.storage import alerts
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.orchestration.test_new_feedback import OTHERS, context, started
from feedback_pipeline_tests.storage.test_alerts import KEY, Receiver, receiver

pytestmark = pytest.mark.slow

__all__ = ["receiver"]
QUOTED = "reviewer-7f3a said: too long"


def _own() -> None:
    with in_own_words():
        raise UserError("the store is somebody else's; name your own")


def _retried() -> None:
    raise dg.RetryRequested(max_retries=0) from StoreUnavailable("the database is away")


def _foreign() -> None:
    raise ValueError(QUOTED)


@pytest.fixture
def instance(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("FEEDBACK_DATABASE_URL", database.url)
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def told(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """The receiver whose address is set; it listens at once."""
    receiver.states = [204]
    monkeypatch.setattr(alerts, "PAUSE_S", 0)
    monkeypatch.setenv("FEEDBACK_ALERT_WEBHOOK", receiver.address)
    return receiver


def _fail(database: Database, instance: dg.DagsterInstance, body: Callable[[], None] = _own) -> str:
    """A run of the command line, which no daemon has started, fails at its only step; its id."""

    @dg.op
    def step() -> None:
        body()

    @dg.job
    def learn() -> None:
        step()

    tags = installation_tag(database) | {BATCH_TAG: "1-2-2"}
    return learn.execute_in_process(instance=instance, raise_on_error=False, tags=tags).run_id


def _look(database: Database, instance: dg.DagsterInstance) -> str:
    """A tick as the daemon has it done, without any cursor."""
    resource = {"database": DatabaseResource(url=database.url)}
    with dg.build_sensor_context(instance=instance, definitions=build_defs(), resources=resource) as opened:
        return str(failed_run_sensor.evaluate_tick(opened).skip_message)


def _book(database: Database) -> list[tuple[str, bool]]:
    """The runs in the book, and whether the webhook is still to be told of them."""
    with database.connect() as connection:
        query = "SELECT run_id, alert IS NOT NULL FROM trigger_decisions WHERE kind = 'failed' ORDER BY id"
        return connection.execute(query).fetchall()


def _pause_is_over(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE trigger_decisions SET alert_after = clock_timestamp() WHERE alert IS NOT NULL")


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (_own, "UserError", "the store is somebody else's; name your own"),
        (_retried, "StoreUnavailable", "the database is away"),
        (_foreign, "ValueError", failed_runs._FOREIGN),
    ],
)
def test_a_failure_is_told_once_in_our_own_words(
    body: Callable[[], None], error: str, message: str, database: Database, instance: dg.DagsterInstance, told: Receiver
) -> None:
    told.states = [503, 500, 204]
    run_id = _fail(database, instance, body)
    assert _look(database, instance) == "failed runs: 1 written down, 1 told to the webhook"
    assert _look(database, instance) == "there is no failed run that is not told of"
    document = {"job": "learn", "run_id": run_id, "step": "step", "error": error, "message": message}
    assert told.received == [("application/json", document)] * 3
    with database.connect() as connection:
        rows = connection.execute("SELECT kind, reason, batch_id, run_id FROM trigger_decisions").fetchall()
    assert rows == [("failed", f"learn failed at step: {error}: {message}", "1-2-2", run_id)]


def test_a_failure_that_the_database_did_not_hear_of_is_told_later(
    database: Database, instance: dg.DagsterInstance, told: Receiver
) -> None:
    """Dagster's own sensor of failed runs moves its cursor whatever becomes of the look: the failure was lost for good."""
    run_id = _fail(database, instance)
    with pytest.raises(dg.Failure, match="cannot reach"):
        _look(Database("postgresql://nobody@127.0.0.1:1/none"), instance)
    assert _look(database, instance) == "failed runs: 1 written down, 1 told to the webhook"
    assert _book(database) == [(run_id, False)]


def test_a_failure_is_told_although_the_teller_is_killed_in_the_middle(
    database: Database, instance: dg.DagsterInstance, told: Receiver
) -> None:
    run_id = _fail(database, instance)
    assert write_failures(instance, database, Ours(installation_tag(database)), to_tell=True) == 1
    code = (
        "from feedback_pipeline.orchestration.failed_runs import tell\n"
        "from feedback_pipeline.storage.database import Database\n"
        f"tell(Database({database.url!r}), {told.address!r})"
    )
    told.states = [500]
    with subprocess.Popen([sys.executable, "-c", code]) as teller:
        while not told.received and teller.poll() is None:
            time.sleep(0.01)
        teller.kill()
    assert teller.returncode == -signal.SIGKILL
    assert _book(database) == [(run_id, True)]
    told.states, told.received = [204], []
    assert _look(database, instance) == "failed runs: 0 written down, 1 told to the webhook"
    assert [document["run_id"] for _, document in told.received] == [run_id]
    assert _book(database) == [(run_id, False)]


def test_a_receiver_that_does_not_listen_fails_the_look_without_its_address_and_is_asked_again_after_a_pause(
    database: Database, instance: dg.DagsterInstance, told: Receiver
) -> None:
    told.states = [500]
    run_id = _fail(database, instance)
    with pytest.raises(dg.Failure, match="did not take the message") as failure:
        _look(database, instance)
    assert KEY not in str(failure.value)
    assert (len(told.received), _book(database)) == (3, [(run_id, True)])
    # A receiver that is away for days does not take 18 s of every look of the daemon.
    assert _look(database, instance) == "there is no failed run that is not told of"
    assert len(told.received) == 3
    told.states = [204]
    _pause_is_over(database)
    assert _look(database, instance) == "failed runs: 0 written down, 1 told to the webhook"
    assert _book(database) == [(run_id, False)]


def test_many_failures_are_told_in_several_looks(
    database: Database, instance: dg.DagsterInstance, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_runs, "_WRITTEN_AT_ONCE", 6)
    tags = installation_tag(database)
    failed = [started(instance, tags, dg.DagsterRunStatus.FAILURE) for _ in range(7)]
    assert _look(database, instance) == "failed runs: 6 written down, 3 told to the webhook"
    assert _look(database, instance) == "failed runs: 1 written down, 3 told to the webhook"
    assert [document["run_id"] for _, document in told.received] == failed[:6]
    assert [run_id for run_id, _ in _book(database)] == failed


def test_every_failure_of_ours_is_told_and_none_of_others(database: Database, instance: dg.DagsterInstance) -> None:
    tags, failure = installation_tag(database), dg.DagsterRunStatus.FAILURE
    orphan = started(instance, tags, dg.DagsterRunStatus.STARTED)
    watch = OrphanWatch(instance, database)
    assert [watch.look(), watch.look()] == [[], [orphan]]
    # One of the queue that no process took up, so that it does not say yet whose it is.
    ours = {orphan, _fail(database, instance), started(instance, {}, failure, job="daily_check")}
    started(instance, OTHERS, failure)
    started(instance, {}, failure, location="another_team.definitions")
    started(instance, tags, dg.DagsterRunStatus.CANCELED)
    resource: dict[str, Any] = {"database": DatabaseResource(url=database.url)}
    said = failed_run_sensor(context(instance), **resource)
    assert str(getattr(said, "skip_message", "")) == "failed runs: 3 written down, 0 told to the webhook"
    assert {run_id for run_id, _ in _book(database)} == ours


def test_what_failed_before_there_was_a_webhook_is_not_told_to_it(
    database: Database, instance: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = _fail(database, instance)
    assert _look(database, instance) == "failed runs: 1 written down, 0 told to the webhook"
    monkeypatch.setenv("FEEDBACK_ALERT_WEBHOOK", receiver.address)
    assert _look(database, instance) == "there is no failed run that is not told of"
    assert (receiver.received, _book(database)) == ([], [(run_id, False)])


def test_a_run_whose_process_died_failed_outside_its_steps(instance: dg.DagsterInstance) -> None:
    @dg.job
    def learn() -> None:
        pass

    run = instance.create_run_for_job(learn, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run)
    found = failure_of(instance, run)
    assert (found.step, found.error) == (None, "RunFailure")
    assert found.sentence == f"learn failed: RunFailure: {failed_runs._OUTSIDE}"
