"""Runs the job `learn` inside this process, in the persistent instance, so that the web UI shows it like any other run."""

import os
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Final

import dagster as dg

from feedback_pipeline.errors import FeedbackError, LearningError
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.jobs import FORECAST_ASSETS, REDUCE_ASSETS, learn
from feedback_pipeline.orchestration.partitions import range_tags
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

# The run's events are in the instance; on the terminal they would bury the result.
_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_ORIGIN_TAG: Final = {"started from": "feedback-pipeline learn"}


def run_learning(days: Sequence[date]) -> str:
    """Extracts the days that changed in the range covering `days`, learns, publishes; without days it learns from what is there.

    DAGSTER_HOME and the variables of the environment are set by the caller.

    Returns:
        The id of the Dagster run.

    Raises:
        LearningError: the run failed; the message names the step and the reason.
    """
    job = build_defs().resolve_job_def(learn.name)
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            instance=instance,
            tags=range_tags(days) | _ORIGIN_TAG | _owner(),
            asset_selection=None if days else [*REDUCE_ASSETS, *FORECAST_ASSETS],
            run_config=_QUIET,
            raise_on_error=False,
        )
    if not result.success:
        raise LearningError(f"{_reason(result.all_events)}; Dagster run {result.run_id}: `feedback-pipeline up` shows its log")
    return result.run_id


def _reason(events: Iterable[dg.DagsterEvent]) -> str:
    """Why a run failed: the checks that stopped it, else the first step that failed, in the words of the error."""
    listed = list(events)
    failed = [event.asset_check_evaluation_data for event in listed if event.event_type_value == "ASSET_CHECK_EVALUATION"]
    stopped = [check for check in failed if not check.passed and check.blocking]
    if stopped:
        observed = (f"{check.check_name} (observed {check.metadata['observed'].value})" for check in stopped)
        what = f"checks of {stopped[0].asset_key.to_user_string()} failed: {', '.join(observed)}"
        return f"{what}; nothing was published, and every pass looks again until the cause is gone"
    for event in listed:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.user_failure_data is not None and failure.user_failure_data.description:
                return f"step {event.step_key} failed: {failure.user_failure_data.description}"
            return f"step {event.step_key} failed: {_last_line(failure.error)}"
    for event in listed:
        if event.event_type_value == "PIPELINE_FAILURE":
            return f"the run failed before its first step: {_last_line(event.job_failure_data.error)}"
    return "the run failed before its first step"


def _owner() -> dict[str, str]:
    """The tag of our installation: before the run takes the lock, it would not say itself whose it is."""
    try:
        return installation_tag(DatabaseResource(url=os.environ["FEEDBACK_DATABASE_URL"]).open())
    except FeedbackError:
        return {}  # what is the matter with the database fails the run as well, which says so


def _last_line(error: "SerializableErrorInfo | None") -> str:
    """What the innermost error says, in one line."""
    while error is not None and error.cause is not None:
        error = error.cause
    lines = error.message.strip().splitlines() if error is not None else []
    return (
        lines[0].removeprefix(f"{FeedbackError.__module__}.{error.cls_name}: ")
        if error is not None and lines
        else "no reason was recorded"
    )
