"""The job and the schedule of the safety net: once a day the feature store is held against the database."""

from datetime import UTC, datetime

import dagster as dg

from feedback_pipeline.orchestration.failures import only_stores_are_retried
from feedback_pipeline.orchestration.resources import PASS_TAG, DatabaseResource, FeatureStoreResource, LearningLock
from feedback_pipeline.settings import Settings


@dg.op(
    description="Compares every day of the window with the database. Days that differ are read again by the next pass, for which "
    "the sensor asks."
)
def compare_days(
    context: dg.OpExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
) -> None:
    """Warns where a day differs, since none should."""
    from feedback_pipeline.learning_pass.daily_check import check_days

    plain = database.open()
    with only_stores_are_retried():
        check = check_days(plain, feature_store.open(plain), Settings(), now=datetime.now(UTC))
    if check.warning is not None:
        context.log.warning(check.warning)
    context.log.info("%s days compared, %s differ, %s are due", check.compared, len(check.differing), len(check.due))
    context.add_output_metadata(
        {
            "days compared": check.compared,
            "days that differ": len(check.differing),
            "days that are due": len(check.due),
            "differences": {day.isoformat(): what for day, what in check.differing.items()},
        }
    )


@dg.job(
    name="daily_check",
    executor_def=dg.in_process_executor,
    tags=PASS_TAG,
    description="The safety net: compares every day of the window with the database, and has days that differ read again.",
)
def daily_check() -> None:
    """One step."""
    compare_days()


daily_schedule = dg.ScheduleDefinition(
    name="daily_check_schedule",
    job=daily_check,
    cron_schedule=f"0 {Settings().daily_hour} * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Once a day, at the hour (UTC) that FEEDBACK_DAILY_HOUR names.",
)

schedules = [daily_schedule]
