"""What the run records say about our runs: which is under way, which failed since something was published.

The records are the truth about attempts: they outlive the daemon, its cursor and the process of the run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.learning.trigger import Runs
from feedback_pipeline.orchestration.assets.publication import LEARNED_IMPROVEMENTS
from feedback_pipeline.orchestration.jobs import learn
from feedback_pipeline.orchestration.resources import INSTALLATION_TAG, PASS_TAG

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Connection

BATCH_TAG: Final = "feedback_pipeline/batch"
ATTEMPT_TAG: Final = "feedback_pipeline/attempt"
UNDER_WAY: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# Dagster's own tag of every run that it starts from a code location, also before the run says whose it is.
_REPOSITORY_TAG: Final = ".dagster/repository"
_LOOKED_AT: Final = 50


@dataclass(frozen=True)
class Ours:
    """Whose runs are ours, among those of others in the same Dagster.

    A run is tagged with the installation when it starts. Before that, as in the queue, it is ours if this
    code location is where it comes from.

    Attributes:
        tag: Of the installation.
        repository: The repository and the code location as Dagster labels runs with them; None = not known.
    """

    tag: Mapping[str, str]
    repository: str | None = None

    def filters(self, **restriction: Any) -> list[dg.RunsFilter]:
        """What finds our runs; the second also finds runs of another installation that is served from the same code location."""
        origins = [] if self.repository is None else [{_REPOSITORY_TAG: self.repository}]
        return [dg.RunsFilter(tags=tags, **restriction) for tags in [dict(self.tag), *origins]]

    @property
    def installation_id(self) -> str:
        """Of the installation."""
        return self.tag[INSTALLATION_TAG]

    def own(self, run: dg.DagsterRun) -> bool:
        """Whether a run that the filters found is ours."""
        return run.tags.get(INSTALLATION_TAG, self.installation_id) == self.installation_id

    def runs(self, instance: dg.DagsterInstance, statuses: Sequence[dg.DagsterRunStatus]) -> dict[str, dg.DagsterRun]:
        """Our runs of these statuses, by their ids."""
        filters = self.filters(statuses=statuses)
        return {run.run_id: run for each in filters for run in instance.get_runs(each) if self.own(run)}

    def under_way(self, instance: dg.DagsterInstance) -> list[dg.RunRecord]:
        """Our runs that are queued or executing."""
        filters = self.filters(statuses=UNDER_WAY)
        return [record for each in filters for record in instance.get_run_records(each) if self.own(record.dagster_run)]


def ours_of(context: dg.SensorEvaluationContext, tag: Mapping[str, str]) -> Ours:
    """Our runs, as a sensor knows them; `tag` is that of the installation."""
    origin, repository = context.code_location_origin, context.repository_name
    label = None if origin is None or repository is None else f"{repository}@{origin.location_name}"
    return Ours(tag, label)


def is_pass(run: dg.DagsterRun) -> bool:
    """Whether a run learns, or wants the learning lock for something else."""
    return run.job_name == learn.name or PASS_TAG.items() <= run.tags.items()


def run_in_flight(instance: dg.DagsterInstance, ours: Ours) -> tuple[dg.DagsterRun, datetime] | None:
    """The oldest run that learns, or is about to, and since when; None = none does.

    Those are the runs of `learn`, also in the queue, and every run that wants the learning lock, as one started from the lineage
    does.
    """
    passes = [found for found in ours.under_way(instance) if is_pass(found.dagster_run)]
    if not passes:
        return None
    oldest = min(passes, key=lambda record: record.create_timestamp)
    return oldest.dagster_run, oldest.create_timestamp.astimezone(UTC)


def runs_of(instance: dg.DagsterInstance, ours: Ours, batch_id: str, published_by: str | None) -> Runs:
    """Finished runs of `learn` as the decision to learn needs them; those that only train are neither attempts nor successes.

    Args:
        instance: Where the records are.
        ours: Whose runs count.
        batch_id: Of the changes that are pending.
        published_by: The run that published last: what failed before it is over and done with, and so is its own failure in a
            step that stands beside the publication.
    """
    latest = instance.get_run_records(dg.RunsFilter(job_name=learn.name, tags=dict(ours.tag)), limit=_LOOKED_AT)
    passes = [record for record in latest if _publishes(record.dagster_run)]
    since = list(takewhile(lambda record: not _ended_it(record, published_by), passes))
    failed = [record for record in since if record.dagster_run.is_failure_or_canceled]
    return Runs(
        failed=[_end(record) for record in failed],
        failed_of_batch=sum(record.dagster_run.tags.get(BATCH_TAG) == batch_id for record in failed),
        attempts=_last_attempt(instance.get_runs(dg.RunsFilter(job_name=learn.name, tags={**ours.tag, BATCH_TAG: batch_id}))),
    )


def trainings_of(instance: dg.DagsterInstance, ours: Ours, batch_id: str) -> tuple[Runs, bool]:
    """Runs that were asked for because of one alarm, and whether one of them has succeeded."""
    asked = instance.get_run_records(dg.RunsFilter(job_name=learn.name, tags={**ours.tag, BATCH_TAG: batch_id}))
    failed = [record for record in asked if record.dagster_run.is_failure_or_canceled]
    attempts = _last_attempt(record.dagster_run for record in asked)
    runs = Runs(failed=[_end(record) for record in failed], failed_of_batch=len(failed), attempts=attempts)
    return runs, any(record.dagster_run.is_success for record in asked)


def failures_in_a_row(instance: dg.DagsterInstance, ours: Ours, job_name: str) -> list[datetime]:
    """When our runs of a job ended that failed since one succeeded, latest first."""
    latest = instance.get_run_records(dg.RunsFilter(job_name=job_name, tags=dict(ours.tag)), limit=_LOOKED_AT)
    since = takewhile(lambda record: not record.dagster_run.is_success, latest)
    return [_end(record) for record in since if record.dagster_run.is_failure_or_canceled]


def name_starts(connection: "Connection", instance: dg.DagsterInstance, ours: Ours) -> None:
    """Adds their runs to the entries of the book that asked for one, whatever has become of the runs since."""
    from feedback_pipeline.storage.trigger_book import name_run, unnamed_starts

    for entry_id, batch_id, attempt in unnamed_starts(connection):
        tags = {**ours.tag, BATCH_TAG: batch_id, ATTEMPT_TAG: str(attempt)}
        found: Sequence[dg.DagsterRun] = instance.get_runs(dg.RunsFilter(job_name=learn.name, tags=tags), limit=1, ascending=True)
        for run in found:
            name_run(connection, entry_id, run.run_id)


def _last_attempt(runs: Iterable[dg.DagsterRun]) -> int:
    """Its number, 0 where there was none: a request that repeats the number of a run that is there starts nothing."""
    numbers = [run.tags.get(ATTEMPT_TAG, "") for run in runs]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _publishes(run: dg.DagsterRun) -> bool:
    """Whether the publication is among what the run materializes."""
    return run.asset_selection is None or LEARNED_IMPROVEMENTS in run.asset_selection


def _ended_it(record: dg.RunRecord, published_by: str | None) -> bool:
    return record.dagster_run.is_success or record.dagster_run.run_id == published_by


def _end(record: dg.RunRecord) -> datetime:
    if record.end_time is not None:
        return datetime.fromtimestamp(record.end_time, UTC)
    return record.update_timestamp.astimezone(UTC)
