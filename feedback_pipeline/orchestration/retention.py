"""Old runs: what nobody will look at again does not stay for ever.

Ticks are purged by the Dagster instance (dagster.yaml), which knows no age of runs. Runs that forecast come every five minutes
and say nothing that the table of forecasts does not; runs that failed are of use while somebody looks into why. Runs that learned
stay: what the lineage shows of a day is their events.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.jobs import forecast

KEPT: Final = timedelta(days=30)
_AT_ONCE: Final = 500
_FORECAST: Final = [dg.DagsterRunStatus.SUCCESS]
_FAILED: Final = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def remove_old_runs(instance: dg.DagsterInstance, now: datetime) -> int:
    """Delete what is older than 30 days, at most 500 runs of a kind at once; the newest run that forecast stays.

    Returns:
        How many runs are gone.
    """
    newest = instance.get_runs(dg.RunsFilter(job_name=forecast.name, statuses=_FORECAST), limit=1)
    filters = (
        dg.RunsFilter(job_name=forecast.name, statuses=_FORECAST, created_before=now - KEPT),
        dg.RunsFilter(statuses=_FAILED, created_before=now - KEPT),
    )
    old = {run.run_id for each in filters for run in instance.get_runs(each, limit=_AT_ONCE)} - {run.run_id for run in newest}
    for run_id in sorted(old):
        instance.delete_run(run_id)
    return len(old)


@dg.schedule(
    name="old_runs",
    target=forecast,
    cron_schedule="40 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every hour: deletes runs older than 30 days that forecast, or failed.",
)
def old_runs(context: dg.ScheduleEvaluationContext) -> dg.SkipReason:
    """Starts nothing."""
    return dg.SkipReason(f"{remove_old_runs(context.instance, datetime.now(UTC))} old runs deleted")
