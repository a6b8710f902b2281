"""A failed run is told of once: in the book, and to a receiver that fails twice before it listens."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.errors import StoreUnavailable, UserError
from feedback_pipeline.orchestration import failed_runs
from feedback_pipeline.orchestration.failed_runs import failed_run_sensor
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.resources import DatabaseResource
from feedback_pipeline.orchestration.run_states import BATCH_TAG
from feedback_pipeline.storage import alerts
from feedback_pipeline.storage.database import Database
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


def _tell(database: Database, instance: dg.DagsterInstance, body: Callable[[], None]) -> str:
    """A run that fails, and the sensor that looks at it; the run."""

    @dg.op
    def step() -> None:
        body()

    @dg.job(tags={BATCH_TAG: "1-2-2"})
    def learn() -> None:
        step()

    result = learn.execute_in_process(instance=instance, raise_on_error=False)
    (event,) = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_run_sensor", dagster_event=event, dagster_instance=instance, dagster_run=result.dagster_run
    ).for_run_failure()
    resource: dict[str, Any] = {"database": DatabaseResource(url=database.url)}
    for _ in range(2):
        failed_run_sensor(context, **resource)
    return result.run_id


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (_own, "UserError", "the store is somebody else's; name your own"),
        (_retried, "StoreUnavailable", "the database is away"),
        (_foreign, "ValueError", failed_runs._FOREIGN),
    ],
)
def test_a_failure_is_told_once_in_our_own_words(
    body: Callable[[], None],
    error: str,
    message: str,
    database: Database,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alerts, "PAUSE_S", 0)
    monkeypatch.setenv("FEEDBACK_ALERT_WEBHOOK", receiver.address)
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = _tell(database, instance, body)
    told = {"job": "learn", "run_id": run_id, "step": "step", "error": error, "message": message}
    assert receiver.received == [("application/json", told)] * 3
    with database.connect() as connection:
        rows = connection.execute("SELECT kind, reason, batch_id, run_id FROM trigger_decisions").fetchall()
    assert rows == [("failed", f"learn failed at step: {error}: {message}", "1-2-2", run_id)]


def test_a_receiver_that_never_listens_fails_the_sensor_without_its_address(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.states = [500]
    monkeypatch.setattr(alerts, "PAUSE_S", 0)
    monkeypatch.setenv("FEEDBACK_ALERT_WEBHOOK", receiver.address)
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.Failure, match="did not take the message") as failure:
        _tell(database, instance, _own)
    assert KEY not in str(failure.value)
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM trigger_decisions").fetchone() == (1,)


def test_a_run_whose_process_died_failed_outside_its_steps(database: Database) -> None:
    @dg.job
    def learn() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(learn, status=dg.DagsterRunStatus.STARTED)
        event = instance.report_run_failed(run)
        context = dg.build_run_status_sensor_context("failed_run_sensor", event, instance, run).for_run_failure()
        found = failed_runs.failure_of(context)
    assert (found.step, found.error) == (None, "RunFailure")
    assert found.sentence == f"learn failed: RunFailure: {failed_runs._OUTSIDE}"
