"""What the run records say about learning passes: which is under way, which failed since something was published.

The records are the truth about attempts: they outlive the daemon, its cursor and the process of the run.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import takewhile
from typing import Final

import dagster as dg

from feedback_pipeline.learning.trigger import Runs
from feedback_pipeline.orchestration.jobs import learn
from feedback_pipeline.orchestration.resources import INSTALLATION_TAG, PASS_TAG

BATCH_TAG: Final = "feedback_pipeline/batch"
UNDER_WAY: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_LOOKED_AT: Final = 50


def run_in_flight(instance: dg.DagsterInstance, installation: Mapping[str, str]) -> tuple[dg.DagsterRun, datetime] | None:
    """The oldest run that learns, or is about to, and since when; None = none does.

    Those are the runs of `learn`, also in the queue, where they may not say yet whose they are, and every run that wants the
    learning lock, as one started from the lineage does. Runs of another installation in the same Dagster are none of ours.
    """
    own = installation[INSTALLATION_TAG]
    filters = [dg.RunsFilter(statuses=UNDER_WAY, job_name=learn.name), dg.RunsFilter(statuses=UNDER_WAY, tags=PASS_TAG)]
    records = [record for each in filters for record in instance.get_run_records(each)]
    ours = [record for record in records if record.dagster_run.tags.get(INSTALLATION_TAG, own) == own]
    if not ours:
        return None
    oldest = min(ours, key=lambda record: record.create_timestamp)
    return oldest.dagster_run, oldest.create_timestamp.astimezone(UTC)


def runs_of(instance: dg.DagsterInstance, installation: Mapping[str, str], batch_id: str, published_by: str | None) -> Runs:
    """Finished runs of `learn` as the decision needs them.

    Args:
        instance: Where the records are.
        installation: The tag of our runs.
        batch_id: Of the changes that are pending.
        published_by: The run that published last: what failed before it is over and done with, and so is its own failure in a
            step that stands beside the publication.
    """
    latest = instance.get_run_records(dg.RunsFilter(job_name=learn.name, tags=dict(installation)), limit=_LOOKED_AT)
    since = list(takewhile(lambda record: not _ended_it(record, published_by), latest))
    failed = [record for record in since if record.dagster_run.is_failure_or_canceled]
    return Runs(
        failed=[_end(record) for record in failed],
        failed_of_batch=sum(record.dagster_run.tags.get(BATCH_TAG) == batch_id for record in failed),
        of_batch=instance.get_runs_count(dg.RunsFilter(job_name=learn.name, tags=dict(installation) | {BATCH_TAG: batch_id})),
    )


def _ended_it(record: dg.RunRecord, published_by: str | None) -> bool:
    return record.dagster_run.is_success or record.dagster_run.run_id == published_by


def _end(record: dg.RunRecord) -> datetime:
    if record.end_time is not None:
        return datetime.fromtimestamp(record.end_time, UTC)
    return record.update_timestamp.astimezone(UTC)
