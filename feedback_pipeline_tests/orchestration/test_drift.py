"""While reviews come out otherwise than forecast, one training is asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.drift import drift_sensor
from feedback_pipeline.orchestration.jobs import FORECAST_ASSETS, learn
from feedback_pipeline.orchestration.resources import DatabaseResource
from feedback_pipeline.storage.database import Database
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


def test_an_alarm_asks_for_one_training(drifting: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first, second = _look(drifting, instance), _look(drifting, instance)
        assert isinstance(first, dg.RunRequest)
        assert isinstance(second, dg.RunRequest)
        assert first.run_key == second.run_key  # for which Dagster starts one run
        assert first.asset_selection == list(FORECAST_ASSETS)
        with drifting.connect() as connection:
            rows = connection.execute("SELECT kind, reason FROM trigger_decisions").fetchall()
        assert rows == [("retrain", str(first.run_key).removeprefix("retrain "))]
        assert rows[0][1].startswith("model 1: since the week of ")

        defs = build_defs()
        resource = {"database": DatabaseResource(url=drifting.url)}
        with dg.build_sensor_context(instance=instance, definitions=defs, resources=resource) as context:
            tick = drift_sensor.evaluate_tick(context)  # as the daemon does, which checks the request against the job
        assert [request.run_key for request in tick.run_requests or []] == [first.run_key]

        job = defs.resolve_job_def(learn.name)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert isinstance(_look(drifting, instance), dg.SkipReason)


def test_a_training_since_or_no_champion_is_no_alarm(drifting: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        with drifting.connect() as connection:
            connection.execute("UPDATE quality_models SET trained_at = now()")
        assert str(getattr(_look(drifting, instance), "skip_message", "")).startswith("no alarm")
        with drifting.connect() as connection:
            connection.execute("DELETE FROM quality_forecasts; DELETE FROM quality_models")
        assert getattr(_look(drifting, instance), "skip_message", "") == "there is no champion"
