"""The step that says how outputs will be judged that nobody has reviewed yet, by the champion of the quality predictor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.errors import NothingLearned, UserError
from feedback_pipeline.learning.conformal import Conformal
from feedback_pipeline.learning.quality_features import AGENT, REVIEWER, FeatureList
from feedback_pipeline.learning.quality_rows import output_rows
from feedback_pipeline.learning_pass.champion import load_champion
from feedback_pipeline.learning_pass.champion_watch import own_errors
from feedback_pipeline.learning_pass.inputs import PREFERENCE_MODELS, Window, learning_window
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.bulk import nullable
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.published_forecasts import write_forecasts
from feedback_pipeline.storage.reading_forecasts import NO_CHAMPION
from feedback_pipeline.storage.reading_models import KnownModel, read_champion
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import LoadedModel
from feedback_pipeline.storage.unreviewed import count_unreviewed, read_outputs_of, read_unreviewed

_KEYS: Final = ["agent_name", "execution_id"]
_LARGEST: Final = 1e300
_FORECAST: Final = ("score", "low", "high", "p_approve", "abstain", "reason")

Load = Callable[[Tracking, KnownModel], LoadedModel]
"""Gets a champion ready to score."""


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
        # Intervals follow the reviews of what the champion has said so far.
        lately = Conformal.of(*own_errors(connection, settings, champion))
    facts |= {"model_version": champion.model_version, "unreviewed": len(outputs)}
    if outputs.empty:
        return ForecastOutcome(facts | {"forecasts": 0, "reason": "no output without a forecast waits for a review"}, outputs)
    frame = _forecast(load_champion(tracking, champion), outputs, lately=lately)
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
    database: Database,
    tracking: Tracking,
    wanted: Mapping[tuple[str, str], Sequence[str]],
    *,
    now: datetime,
    load: Load = load_champion,
) -> int:
    """Forecast what given people will say of some outputs, and keep that; the number of forecasts that are new.

    Args:
        database: A migrated database.
        tracking: Where the champion is.
        wanted: Reviewers by output (agent_name, execution_id); an output that does not exist is left out.
        now: The time.
        load: For those who keep the champion.

    Raises:
        NothingLearned: there is no champion.
        StoreUnavailable: Postgres or MLflow is away.
    """
    with database.snapshot() as connection:
        champion = read_champion(connection)
        if champion is None:
            raise NothingLearned(NO_CHAMPION)
        outputs = {output: read_outputs_of(connection, *output).to_pandas() for output, people in wanted.items() if people}
    found = {output: frame for output, frame in outputs.items() if len(frame)}
    if not found:
        return 0
    people = [person for output in found for person in wanted[output]]
    rows = pd.concat([frame.loc[[0] * len(wanted[output])] for output, frame in found.items()], ignore_index=True)
    return _write(database, _forecast(load(tracking, champion), rows, people), champion.model_version, None, now)


@dataclass(frozen=True)
class FeatureForecasts:
    """What the champion says of given features: one forecast for each reviewer; and the features it does not know."""

    forecasts: list[dict[str, Any]]
    ignored: list[str]


def forecast_features(
    model: LoadedModel, agent_name: str, features: Mapping[str, object], reviewers: Sequence[str]
) -> FeatureForecasts:
    """Forecast an output that need not exist.

    Args:
        model: The champion.
        agent_name: Who would make it.
        features: Numbers and categories by name; what is missing or null is taken as missing.
        reviewers: Who would review it, after the average reviewer.

    Raises:
        UserError: a number is no number, or a category no text.
    """
    known = _features(model)
    numbers = {name: _number(features.get(name)) for name in known.numeric}
    wrong = [name for name, value in numbers.items() if value is None]
    wrong += [name for name in known.categories if not isinstance(features.get(name), str | None)]
    if wrong:
        raise UserError(f"of another type than the model knows: {', '.join(wrong)}; send numbers, and texts for categories")
    given = numbers | {name: features.get(name) for name in known.categories}
    people = [None, *dict.fromkeys(reviewers)]
    outputs = pd.DataFrame({name: [value] * len(people) for name, value in ({AGENT: agent_name} | given).items()})
    X = output_rows(outputs, known, people)
    said = model.logged.forecast(X)
    rows = zip(*(nullable(said[name]) for name in _FORECAST), strict=True)
    forecasts = [
        {"agent_name": agent_name, "reviewer_id": person} | dict(zip(_FORECAST, row, strict=True))
        for person, row in zip(people, rows, strict=True)
    ]
    return FeatureForecasts(forecasts, sorted(set(features) - {*known.numeric, *known.categories}))


def _window(store: FeatureStore, lookback_days: int | None, now: datetime) -> Window:
    return learning_window(store, lookback_days, now.astimezone(UTC).date())


def _forecast(
    model: LoadedModel,
    outputs: pd.DataFrame,
    reviewers: Sequence[str | None] | None = None,
    lately: Conformal | None = None,
) -> pd.DataFrame:
    X = output_rows(outputs, _features(model), reviewers)
    said: pd.DataFrame = model.logged.forecast(X, lately)
    return pd.concat([outputs[_KEYS].reset_index(drop=True), X[[REVIEWER]], said], axis=1)


def _number(value: object) -> float | None:
    """A number, NaN where it is missing, None where it is none."""
    if value is None:
        return np.nan
    return float(value) if isinstance(value, int | float) and abs(value) <= _LARGEST else None


def _features(model: LoadedModel) -> FeatureList:
    return FeatureList.of(name for name in model.columns if name not in (AGENT, REVIEWER))


def _write(database: Database, frame: pd.DataFrame, version: int, learning_run_id: str | None, now: datetime) -> int:
    with database.connect() as connection:
        return write_forecasts(connection, frame, model_version=version, learning_run_id=learning_run_id, made_at=now)
