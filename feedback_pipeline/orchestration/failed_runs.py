"""The sensor that tells of failed runs: one row in trigger_decisions each, and a webhook where one is set."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import dagster as dg

from feedback_pipeline import errors
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.resources import DatabaseResource
from feedback_pipeline.orchestration.run_states import BATCH_TAG
from feedback_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

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


@dg.run_failure_sensor(
    name="failed_run_sensor",
    minimum_interval_seconds=Settings().sensor_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes every failed run down in trigger_decisions, and tells the address in FEEDBACK_ALERT_WEBHOOK of it.",
)
def failed_run_sensor(context: dg.RunFailureSensorContext, database: DatabaseResource) -> None:
    """Tells once of each failed run."""
    from feedback_pipeline.storage.alerts import send_alert
    from feedback_pipeline.storage.trigger_book import Entry, write_entry

    failed = failure_of(context)
    webhook = Settings().alert_webhook
    with in_own_words():
        with database.open().connect() as connection:
            batch_id = context.dagster_run.tags.get(BATCH_TAG)
            new = write_entry(connection, Entry("failed", failed.sentence, batch_id=batch_id, run_id=failed.run_id))
        if new and webhook is not None:
            send_alert(webhook.get_secret_value(), vars(failed))


def failure_of(context: dg.RunFailureSensorContext) -> FailedRun:
    """The first failed step of a run, in words that may be told."""
    run, events = context.dagster_run, context.get_step_failure_events()
    if not events:
        return FailedRun(run.job_name, run.run_id, None, "RunFailure", _OUTSIDE)
    failure = events[0].step_failure_data
    told = failure.user_failure_data
    if told is not None and told.description:
        kind = told.metadata.get("error")
        return FailedRun(
            run.job_name, run.run_id, events[0].step_key, str(kind.value) if kind is not None else "Failure", told.description
        )
    kind_of_error, message = _innermost(failure.error)
    return FailedRun(run.job_name, run.run_id, events[0].step_key, kind_of_error, message)


def _innermost(error: "SerializableErrorInfo | None") -> tuple[str, str]:
    """Class and own words of the error behind the others."""
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None or error.cls_name is None:
        return "Unknown", _FOREIGN
    if error.cls_name not in _OWN:
        return error.cls_name, _FOREIGN
    return error.cls_name, error.message.strip().split(f"{error.cls_name}: ", 1)[-1]
