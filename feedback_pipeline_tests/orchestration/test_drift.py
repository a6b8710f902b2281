"""While reviews come out otherwise than forecast, a training is asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.learning.trigger import FIRST_PAUSE, MAX_RETRIES, PAUSES
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.drift import ask_for_training, drift_sensor
from feedback_pipeline.orchestration.jobs import FORECAST_ASSETS, learn
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag
from feedback_pipeline.orchestration.run_states import BATCH_TAG, Ours
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.trigger_book import ASKED_AGAIN_AFTER
from feedback_pipeline_tests.storage.forecasts import champion_says, forecast

pytestmark = pytest.mark.slow

SINCE = datetime.now(UTC) - timedelta(weeks=5)
REFERENCE = {"reference": {"mean": 0.0, "sd": 1.0, "design_effect": 1.0, "n": 1000, "reason": None}, "r2": 0.4}


@pytest.fixture
def drifting(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A champion that expected 5 of forty outputs, which two weeks ago were given 9."""
    monkeypatch.setenv("FEEDBACK_DATABASE_URL", database.url)
    names = [f"run {number}" for number in range(40)]
    with database.connect() as connection:
        for name in names:
            connection.execute(
                "INSERT INTO agent_performance (agent_name, execution_id, start_time) VALUES ('writer', %s, %s)", [name, SINCE]
            )
            connection.execute(
                "INSERT INTO content_review_workflows (id, workflow_execution_id) VALUES (md5(%s)::uuid, %s)", [name, name]
            )
        forecasts = [forecast(name, score=5.0) for name in names]
        champion_says(connection, forecasts, made_at=SINCE, trained_at=SINCE, metrics=REFERENCE)
        connection.execute(
            "INSERT INTO review_feedback (workflow_id, reviewer_id, decision, quality_scores, reviewed_at)"
            " SELECT id, 'ana', 'approve', '{\"content_quality\": {\"score\": 9}}', now() - interval '2 weeks'"
            " FROM content_review_workflows"
        )
    return database


def _look(database: Database, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    resource: dict[str, Any] = {"database": DatabaseResource(url=database.url)}
    found = drift_sensor(dg.build_sensor_context(instance=instance), **resource)
    assert isinstance(found, (dg.RunRequest, dg.SkipReason))
    return found


def _lost(database: Database) -> None:
    """Whoever asked for a run last has died before Dagster heard of it, some time ago."""
    with database.connect() as connection:
        connection.execute("UPDATE trigger_decisions SET decided_at = decided_at - %s", [ASKED_AGAIN_AFTER])


def test_an_alarm_asks_for_one_training(drifting: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first, second = _look(drifting, instance), _look(drifting, instance)
        assert isinstance(first, dg.RunRequest)
        assert isinstance(second, dg.SkipReason)  # another daemon in the same moment
        assert first.asset_selection == list(FORECAST_ASSETS)
        with drifting.connect() as connection:
            rows = connection.execute("SELECT kind, batch_id, attempt, reason FROM trigger_decisions").fetchall()
        alarm = first.tags[BATCH_TAG].removeprefix("retrain ")
        assert rows == [("retrain", first.tags[BATCH_TAG], 1, alarm)]
        assert alarm.startswith("model 1: since the week of ")

        defs = build_defs()
        resource = {"database": DatabaseResource(url=drifting.url)}
        _lost(drifting)
        with dg.build_sensor_context(instance=instance, definitions=defs, resources=resource) as context:
            tick = drift_sensor.evaluate_tick(context)  # as the daemon does, which checks the request against the job
        assert [request.run_key for request in tick.run_requests or []] == [first.run_key]

        job = defs.resolve_job_def(learn.name)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=installation_tag(drifting))
        assert "a run learns at the moment" in str(getattr(_look(drifting, instance), "skip_message", ""))


def test_a_training_that_fails_is_asked_for_again_after_a_pause_and_not_for_ever(drifting: Database) -> None:
    """With one run key for an alarm, a training that failed was never asked for again."""
    job = build_defs().resolve_job_def(learn.name)
    ours, settings, keys = Ours(installation_tag(drifting)), Settings(), []
    with dg.DagsterInstance.ephemeral() as instance:

        def ask(after: timedelta = timedelta(0)) -> dg.RunRequest | dg.SkipReason:
            return ask_for_training(instance, drifting, "model 1: higher", ours, settings, datetime.now(UTC) + after)

        def end(tags: dict[str, str], status: dg.DagsterRunStatus) -> None:
            instance.create_run_for_job(job, status=status, tags=tags, asset_selection=frozenset(FORECAST_ASSETS))

        for attempt in range(1 + MAX_RETRIES):
            if attempt:
                assert "failed, the next starts in" in str(getattr(ask(), "skip_message", ""))
            request = ask(FIRST_PAUSE * PAUSES[attempt - 1] + timedelta(seconds=1) if attempt else timedelta(0))
            assert isinstance(request, dg.RunRequest)
            keys.append(request.run_key)
            end(dict(request.tags), dg.DagsterRunStatus.FAILURE)
        assert keys == [f"retrain model 1: higher/{attempt}" for attempt in (1, 2, 3, 4)]
        assert "gave up after 4 failed runs" in str(getattr(ask(timedelta(days=2)), "skip_message", ""))

        end({**ours.tag, BATCH_TAG: "retrain model 1: higher"}, dg.DagsterRunStatus.SUCCESS)
        assert "a run has trained because of it" in str(getattr(ask(timedelta(days=2)), "skip_message", ""))
        with drifting.connect() as connection:
            rows = connection.execute("SELECT kind, reason FROM trigger_decisions ORDER BY id").fetchall()
        retried = [f"model 1: higher; retry {n} of 3" for n in (1, 2, 3)]
        assert rows == [("retrain", reason) for reason in ["model 1: higher", *retried]]


def test_a_training_since_or_no_champion_is_no_alarm(drifting: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        with drifting.connect() as connection:
            connection.execute("UPDATE quality_models SET trained_at = now()")
        assert str(getattr(_look(drifting, instance), "skip_message", "")).startswith("no alarm")
        with drifting.connect() as connection:
            connection.execute("DELETE FROM quality_forecasts; DELETE FROM quality_models")
        assert getattr(_look(drifting, instance), "skip_message", "") == "there is no champion"
