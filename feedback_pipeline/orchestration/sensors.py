"""Sensors: what starts a run by itself."""

from datetime import UTC, datetime
from typing import Final

import dagster as dg

from feedback_pipeline.learning.moments import told
from feedback_pipeline.learning.trigger import Run, Runs, after_failures
from feedback_pipeline.orchestration.drift import drift_sensor
from feedback_pipeline.orchestration.failed_runs import failed_run_sensor
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.jobs import forecast
from feedback_pipeline.orchestration.looks import looks_every
from feedback_pipeline.orchestration.new_feedback import new_feedback_sensor, policy_of
from feedback_pipeline.orchestration.orphans import orphaned_runs
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, installation_tag
from feedback_pipeline.orchestration.run_states import failures_in_a_row, ours_of
from feedback_pipeline.settings import Settings

EVERY_S: Final = 300


@dg.sensor(
    name="outputs_without_forecast",
    job=forecast,
    minimum_interval_seconds=looks_every(EVERY_S),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every five minutes: forecasts the outputs that came since, where there are any and a champion to ask.",
)
def outputs_without_forecast(
    context: dg.SensorEvaluationContext, database: DatabaseResource, feature_store: FeatureStoreResource
) -> dg.RunRequest | dg.SkipReason:
    """Starts the job `forecast` when an output waits for a forecast and no such run is under way; after failures a pause."""
    from feedback_pipeline.learning_pass.forecasts import outputs_wait

    plain, settings, now = database.open(), Settings(), datetime.now(UTC)
    with in_own_words():
        ours = ours_of(context, installation_tag(plain))
        if any(record.dagster_run.job_name == forecast.name for record in ours.under_way(context.instance)):
            return dg.SkipReason("a run that forecasts is under way")
        if not outputs_wait(plain, feature_store.open(plain), settings, now=now):
            return dg.SkipReason("no output waits for a forecast, or there is no champion to ask")
        failed = Runs(failed=failures_in_a_row(context.instance, ours, forecast.name))
    start = after_failures("forecast", "outputs wait for a forecast", failed, policy_of(settings), now)
    return dg.RunRequest(tags=dict(ours.tag)) if isinstance(start, Run) else dg.SkipReason(told(start.reason, now))


sensors = [new_feedback_sensor, outputs_without_forecast, drift_sensor, failed_run_sensor, orphaned_runs]
