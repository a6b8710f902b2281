"""The step that says how outputs will be judged that nobody has reviewed yet, by the champion of the quality predictor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pandas as pd

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.quality_features import AGENT, REVIEWER, FeatureList
from feedback_pipeline.learning.quality_rows import output_rows
from feedback_pipeline.learning_pass.champion import load_champion
from feedback_pipeline.learning_pass.inputs import PREFERENCE_MODELS, Window, learning_window
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.published_forecasts import write_forecasts
from feedback_pipeline.storage.reading_forecasts import NO_CHAMPION
from feedback_pipeline.storage.reading_models import read_champion
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import LoadedModel
from feedback_pipeline.storage.unreviewed import count_unreviewed, read_outputs_of, read_unreviewed

_KEYS: Final = ["agent_name", "execution_id"]


@dataclass(frozen=True)
class ForecastOutcome:
    """Result of `forecast_unreviewed`: counts with the reason where there is nothing, and the new forecasts."""

    facts: dict[str, Any]
    forecasts: pd.DataFrame = field(repr=False)


def forecast_unreviewed(
    database: Database, store: FeatureStore, settings: Settings, tracking: Tracking, *, now: datetime
) -> ForecastOutcome:
    """Forecast the outputs of the window that nobody has reviewed and of which the champion has said nothing yet.

    Raises:
        StoreUnavailable: Postgres or MLflow is away; nothing was written.
    """
    with database.snapshot() as connection:
        champion = read_champion(connection)
        window = _window(store, read_installation(connection).lookback_days, now)
        days = window.first, now.astimezone(UTC).date()
        facts: dict[str, Any] = {"window_first": days[0] and days[0].isoformat(), "window_last": days[1].isoformat()}
        if champion is None:
            return ForecastOutcome(
                facts | {"forecasts": 0, "reason": "the quality predictor has no champion yet"}, pd.DataFrame()
            )
        outputs = read_unreviewed(connection, settings, *days, new_to=champion.model_version).to_pandas()
    facts |= {"model_version": champion.model_version, "unreviewed": len(outputs)}
    if outputs.empty:
        return ForecastOutcome(facts | {"forecasts": 0, "reason": "no output without a forecast waits for a review"}, outputs)
    frame = _forecast(load_champion(tracking, champion), outputs)
    written = _write(database, frame, champion.model_version, store.latest(PREFERENCE_MODELS), now)
    return ForecastOutcome(facts | {"forecasts": written, "abstained": int(frame["abstain"].sum()), "reason": None}, frame)


def outputs_wait(database: Database, store: FeatureStore, settings: Settings, *, now: datetime) -> bool:
    """Whether there is a champion and an output of the window it has said nothing of."""
    with database.snapshot() as connection:
        champion = read_champion(connection)
        if champion is None:
            return False
        first = _window(store, read_installation(connection).lookback_days, now).first
        return count_unreviewed(connection, settings, first, now.astimezone(UTC).date(), new_to=champion.model_version) > 0


def forecast_for_reviewers(
    database: Database, tracking: Tracking, wanted: Mapping[tuple[str, str], Sequence[str]], *, now: datetime
) -> int:
    """Forecast what given people will say of some outputs, and keep that; the number of forecasts that are new.

    Args:
        database: A migrated database.
        tracking: Where the champion is.
        wanted: Reviewers by output (agent_name, execution_id); an output that does not exist is left out.
        now: The time.

    Raises:
        UserError: there is no champion.
        StoreUnavailable: Postgres or MLflow is away.
    """
    with database.snapshot() as connection:
        champion = read_champion(connection)
        if champion is None:
            raise UserError(NO_CHAMPION)
        outputs = {output: read_outputs_of(connection, *output).to_pandas() for output, people in wanted.items() if people}
    found = {output: frame for output, frame in outputs.items() if len(frame)}
    if not found:
        return 0
    people = [person for output in found for person in wanted[output]]
    rows = pd.concat([frame.loc[[0] * len(wanted[output])] for output, frame in found.items()], ignore_index=True)
    return _write(database, _forecast(load_champion(tracking, champion), rows, people), champion.model_version, None, now)


def _window(store: FeatureStore, lookback_days: int | None, now: datetime) -> Window:
    return learning_window(store, lookback_days, now.astimezone(UTC).date())


def _forecast(model: LoadedModel, outputs: pd.DataFrame, reviewers: Sequence[str | None] | None = None) -> pd.DataFrame:
    features = FeatureList.of(name for name in model.columns if name not in (AGENT, REVIEWER))
    X = output_rows(outputs, features, reviewers)
    said: pd.DataFrame = model.logged.forecast(X)
    return pd.concat([outputs[_KEYS].reset_index(drop=True), X[[REVIEWER]], said], axis=1)


def _write(database: Database, frame: pd.DataFrame, version: int, learning_run_id: str | None, now: datetime) -> int:
    with database.connect() as connection:
        return write_forecasts(connection, frame, model_version=version, learning_run_id=learning_run_id, made_at=now)
