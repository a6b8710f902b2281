"""The sensor that asks for a new model when the errors of the champion drift."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import dagster as dg

from feedback_pipeline.learning.moments import told
from feedback_pipeline.learning.trigger import Run, after_failures
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.jobs import FORECAST_ASSETS, learn
from feedback_pipeline.orchestration.looks import looks_every
from feedback_pipeline.orchestration.new_feedback import policy_of
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag
from feedback_pipeline.orchestration.run_states import ATTEMPT_TAG, BATCH_TAG, Ours, ours_of, run_in_flight, trainings_of
from feedback_pipeline.settings import Settings

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Database

EVERY_S: Final = 900


@dg.sensor(
    name="drift_sensor",
    job=learn,
    minimum_interval_seconds=looks_every(EVERY_S),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run that trains the quality predictor when reviews come out otherwise than the champion forecast: "
    "once for each alarm, and again where that run fails.",
)
def drift_sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.RunRequest | dg.SkipReason:
    """Asks for a training while the alarm is on; a pass that is under way trains by itself."""
    from feedback_pipeline.learning_pass.champion_watch import drift_of
    from feedback_pipeline.storage.reading_models import read_champion

    plain, now = database.open(), datetime.now(UTC)
    with in_own_words():
        ours = ours_of(context, installation_tag(plain))
        if run_in_flight(context.instance, ours) is not None:
            return dg.SkipReason("a run learns at the moment, and trains where there is a reason to")
        with plain.snapshot() as connection:
            champion = read_champion(connection)
            alarm = drift_of(connection, Settings(), champion, now)
        if champion is None or alarm is None:
            return dg.SkipReason("there is no champion" if champion is None else "no alarm on the errors of the champion")
        return ask_for_training(context.instance, plain, f"model {champion.model_version}: {alarm}", ours, Settings(), now)


def ask_for_training(
    instance: dg.DagsterInstance, database: "Database", alarm: str, ours: Ours, settings: Settings, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """One run for the alarm; where it fails, another one after a pause, as for reviews that wait to be learned.

    Args:
        instance: Where the run records are.
        database: Where the book of decisions is.
        alarm: What it says, always the same for one alarm.
        ours: Whose runs count.
        settings: The first pause.
        now: The time.
    """
    from feedback_pipeline.storage.trigger_book import Entry, claim_start

    batch_id = f"retrain {alarm}"
    runs, trained = trainings_of(instance, ours, batch_id)
    if trained:
        return dg.SkipReason(f"{alarm}; a run has trained because of it")
    decision = after_failures(batch_id, alarm, runs, policy_of(settings), now)
    reason = told(decision.reason, now)
    if not isinstance(decision, Run):
        return dg.SkipReason(reason)
    tags = {**ours.tag, BATCH_TAG: batch_id, ATTEMPT_TAG: str(decision.attempt)}
    request = dg.RunRequest(run_key=decision.run_key, tags=tags, asset_selection=list(FORECAST_ASSETS))
    with database.connect(autocommit=True) as connection:
        asked = claim_start(connection, Entry("retrain", reason, batch_id), decision.attempt)
    return request if asked else dg.SkipReason(f"{reason}; a run for it was asked for a moment ago")
