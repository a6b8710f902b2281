"""Old runs: what nobody will look at again does not stay for ever.

Ticks are purged by the Dagster instance (dagster.yaml), which knows no age of runs. With a run go its events, the pictures among
them, and what its steps printed. A run that holds the latest materialization of an asset, or of one of its partitions, stays
whatever its age and its end: Dagster keeps no other record of a materialization, and would show the day as missing. So for every
day the last run that reported it is there.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets import GROUPS
from feedback_pipeline.orchestration.daily_check import daily_check
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.jobs import forecast, learn
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag

KEPT: Final = timedelta(days=30)
_AT_ONCE: Final = 500
_FETCHED: Final = 500
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# The last one is Dagster's job of what is materialized from the lineage.
_JOBS: Final = (learn.name, forecast.name, daily_check.name, "__ASSET_JOB")


def remove_old_runs(instance: dg.DagsterInstance, installation: Mapping[str, str], now: datetime) -> int:
    """Delete runs of this installation that are older than 30 days and hold no latest materialization, at most 500 at once.

    Returns:
        How many runs are gone.
    """
    holders = _holders(instance)
    filters = [dg.RunsFilter(job_name=job, tags=dict(installation), statuses=_ENDED, created_before=now - KEPT) for job in _JOBS]
    old = [run_id for each in filters for run_id in instance.get_run_ids(each) if run_id not in holders][:_AT_ONCE]
    for run_id in old:
        # The run last: where this is interrupted, it is found again.
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
    return len(old)


def _holders(instance: dg.DagsterInstance) -> set[str]:
    """Runs that hold the latest materialization of an asset or of a partition."""
    keys = [key for modules in GROUPS.values() for module in modules for asset in module.assets for key in _keys(asset)]
    last = [instance.get_latest_materialization_event(key) for key in keys]
    return {event.run_id for event in last if event is not None} | {
        record.run_id for key in keys for record in _latest_of_partitions(instance, key)
    }


def _keys(asset: dg.AssetsDefinition | dg.AssetSpec) -> list[dg.AssetKey]:
    return [asset.key] if isinstance(asset, dg.AssetSpec) else list(asset.keys)


def _latest_of_partitions(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    event = dg.DagsterEventType.ASSET_MATERIALIZATION
    ids = sorted(instance.event_log_storage.get_latest_storage_id_by_partition(key, event).values())
    for first in range(0, len(ids), _FETCHED):
        asked = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[first : first + _FETCHED])
        yield from instance.fetch_materializations(asked, limit=_FETCHED).records


@dg.schedule(
    name="old_runs",
    target=forecast,
    cron_schedule="40 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every hour: deletes runs of this installation that are older than 30 days, but for those that hold the latest "
    "materialization of an asset or of a day.",
)
def old_runs(context: dg.ScheduleEvaluationContext, database: DatabaseResource) -> dg.SkipReason:
    """Starts nothing."""
    with in_own_words():
        installation = installation_tag(database.open())
    return dg.SkipReason(f"{remove_old_runs(context.instance, installation, datetime.now(UTC))} old runs deleted")
