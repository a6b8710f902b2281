"""The sensor that tells of failed runs: one row in trigger_decisions each, and a webhook where one is set.

Which failures are not told yet is asked of the run records and of that table, not of Dagster's cursor: whatever is away or dies
meanwhile, the next look finds what is left. So a failure is told at least once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

from feedback_pipeline import errors
from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.looks import looks_every
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag
from feedback_pipeline.orchestration.run_states import BATCH_TAG, Ours, ours_of
from feedback_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

    from feedback_pipeline.storage.database import Database

LOOKED_BACK: Final = timedelta(days=30)
_WRITTEN_AT_ONCE: Final = 50
# Each takes the webhook up to 18 s, and Dagster gives a look 60 s.
_TOLD_AT_ONCE: Final = 3
# Only the words of these are this package's own; what libraries say may quote rows.
_OWN: Final = {name for name, value in vars(errors).items() if isinstance(value, type)}
_OUTSIDE: Final = "the run failed outside its steps; its page in the Dagster UI says why"
_FOREIGN: Final = "an error that this package did not expect; the log of the run says more"


@dataclass(frozen=True)
class FailedRun:
    """What may be told of a failed run: no free text of reviews, no ids of people.

    Attributes:
        job: Name of the job.
        run_id: Of Dagster.
        step: The first step that failed; None where none did.
        error: Class of the error.
        message: In this package's own words.
    """

    job: str
    run_id: str
    step: str | None
    error: str
    message: str

    @property
    def sentence(self) -> str:
        """The same in one line."""
        where = "" if self.step is None else f" at {self.step}"
        return f"{self.job} failed{where}: {self.error}: {self.message}"


@dg.sensor(
    name="failed_run_sensor",
    minimum_interval_seconds=looks_every(Settings().sensor_seconds),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes every failed run down in trigger_decisions, and tells the address in FEEDBACK_ALERT_WEBHOOK of it.",
)
def failed_run_sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SkipReason:
    """Starts nothing."""
    plain, webhook = database.open(), Settings().alert_webhook
    with in_own_words():
        written = write_failures(context.instance, plain, ours_of(context, installation_tag(plain)), to_tell=webhook is not None)
        sent = 0 if webhook is None else tell(plain, webhook.get_secret_value())
    if not written and not sent:
        return dg.SkipReason("there is no failed run that is not told of")
    return dg.SkipReason(f"failed runs: {written} written down, {sent} told to the webhook")


def write_failures(instance: dg.DagsterInstance, database: "Database", ours: Ours, *, to_tell: bool) -> int:
    """Add the failures of the last 30 days that are not in the book, at most 50 at once, the oldest first.

    Args:
        instance: Where the run records are.
        database: Where the book is.
        ours: Whose runs are told of, also those of the command line and those that the watch for orphans has failed.
        to_tell: Whether the webhook is to be told of them too; it is a part of the row, so nothing comes between the two.

    Returns:
        How many were added.
    """
    from feedback_pipeline.storage.trigger_book import Entry, failures_in_book, write_entry

    filters = ours.filters(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.now(UTC) - LOOKED_BACK)
    failed = list({run_id: None for each in filters for run_id in instance.get_run_ids(each)})
    with database.connect(autocommit=True) as connection:
        known = failures_in_book(connection, failed)
        new = [run_id for run_id in failed if run_id not in known]
        if not new:
            return 0
        runs = instance.get_runs(dg.RunsFilter(run_ids=new), ascending=True)
        added = 0
        for run in [run for run in runs if ours.own(run)][:_WRITTEN_AT_ONCE]:
            failure = failure_of(instance, run)
            entry = Entry("failed", failure.sentence, batch_id=run.tags.get(BATCH_TAG), run_id=run.run_id)
            added += write_entry(connection, entry, vars(failure) if to_tell else None)
    return added


def tell(database: "Database", address: str) -> int:
    """Send what the webhook has not taken yet, the oldest first and a few at once; returns how many it took.

    Raises:
        StoreUnavailable: it did not take one; they all are sent again, after a pause.
    """
    from feedback_pipeline.storage.alerts import send_alert
    from feedback_pipeline.storage.trigger_book import alert_taken, next_alert, postpone_alerts

    with database.connect(autocommit=True) as connection:
        for sent in range(_TOLD_AT_ONCE):
            try:
                with connection.transaction():
                    due = next_alert(connection)
                    if due is None:
                        return sent
                    send_alert(address, due[1])
                    alert_taken(connection, due[0])
            except StoreUnavailable:
                postpone_alerts(connection)
                raise
    return _TOLD_AT_ONCE


def failure_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> FailedRun:
    """The first failed step of a run, in words that may be told."""
    found = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    event = found[0].event_log_entry.dagster_event if found else None
    if event is None:
        return FailedRun(run.job_name, run.run_id, None, "RunFailure", _OUTSIDE)
    failure = event.step_failure_data
    said = failure.user_failure_data
    if said is not None and said.description:
        kind = said.metadata.get("error")
        return FailedRun(run.job_name, run.run_id, event.step_key, str(kind.value) if kind else "Failure", said.description)
    kind_of_error, message = _innermost(failure.error)
    return FailedRun(run.job_name, run.run_id, event.step_key, kind_of_error, message)


def _innermost(error: "SerializableErrorInfo | None") -> tuple[str, str]:
    """Class and own words of the error behind the others."""
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None or error.cls_name is None:
        return "Unknown", _FOREIGN
    if error.cls_name not in _OWN:
        return error.cls_name, _FOREIGN
    return error.cls_name, error.message.strip().split(f"{error.cls_name}: ", 1)[-1]
