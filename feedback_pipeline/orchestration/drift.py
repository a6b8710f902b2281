"""The sensor that asks for a new model when the errors of the champion drift."""

from datetime import UTC, datetime
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.jobs import FORECAST_ASSETS, learn
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag
from feedback_pipeline.orchestration.run_states import run_in_flight
from feedback_pipeline.settings import Settings

EVERY_S: Final = 900


@dg.sensor(
    name="drift_sensor",
    job=learn,
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks, once for each alarm, for a run that trains the quality predictor when reviews come out otherwise than "
    "the champion forecast.",
)
def drift_sensor(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.RunRequest | dg.SkipReason:
    """Asks for a training while the alarm is on; a pass that is under way trains by itself."""
    from feedback_pipeline.learning_pass.champion_watch import drift_of
    from feedback_pipeline.storage.reading_models import read_champion
    from feedback_pipeline.storage.trigger_book import Entry, was_asked, write_entry

    plain = database.open()
    with in_own_words():
        installation = installation_tag(plain)
        if run_in_flight(context.instance, installation) is not None:
            return dg.SkipReason("a run learns at the moment, and trains where there is a reason to")
        with plain.snapshot() as connection:
            champion = read_champion(connection)
            alarm = drift_of(connection, Settings(), champion, datetime.now(UTC))
        if champion is None or alarm is None:
            return dg.SkipReason("there is no champion" if champion is None else "no alarm on the errors of the champion")
        reason = f"model {champion.model_version}: {alarm}"
        with plain.connect() as connection:
            if not was_asked(connection, "retrain", reason):
                write_entry(connection, Entry("retrain", reason))
    # Dagster starts one run for a key, however often it is asked.
    return dg.RunRequest(run_key=f"retrain {reason}", tags=installation, asset_selection=list(FORECAST_ASSETS))
