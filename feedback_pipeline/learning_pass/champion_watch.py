"""The champion under watch: how its forecasts fare, how the outputs shift, and whether it is time to train another one."""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.population_stability import stability
from feedback_pipeline.learning.quality_drift import Drift, Reference, watch
from feedback_pipeline.learning.quality_rows import QualityRows
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.past_forecasts import Moments, PastForecasts, past_forecasts
from feedback_pipeline.storage.reading_models import KnownModel, read_newest

NEW_SHARE: Final = 0.1
OLDEST: Final = timedelta(days=7)


def shifts(rows: QualityRows, since_ns: int | None) -> pd.DataFrame:
    """How far outputs reviewed since the last training differ from those before, by feature: `population_stability.stability`.

    Args:
        rows: The reviews of the window.
        since_ns: Moment of the last review it was trained on; None = none, and the later half stands for the new ones.
    """
    by_output = pd.Series(rows.moment).groupby(rows.output).agg(["idxmin", "min"])
    since = by_output["min"].median() if since_ns is None else since_ns
    old, new = (rows.X.iloc[by_output.loc[side, "idxmin"]] for side in (by_output["min"] <= since, by_output["min"] > since))
    return stability(old, new, rows.features.numeric, rows.features.categories)


def reason_to_train(
    rows: QualityRows, newest: KnownModel | None, champion: KnownModel | None, alarm: str | None, now: datetime
) -> str | None:
    """Why a model is trained now, or None.

    Args:
        rows: The reviews of the window.
        newest: The model of the last training.
        champion: The champion.
        alarm: What the charts of the champion's errors say, or None; of a week after the last training.
        now: The time.
    """
    if champion is None or newest is None:
        return "there is no champion"
    if alarm is not None:
        return alarm
    first = pd.Series(rows.moment).groupby(rows.output).min().to_numpy()
    new = int((first > int(newest.metrics.get("last_review_ns") or 0)).sum())
    if new >= NEW_SHARE * max(int(newest.metrics.get("n_outputs") or 0), 1):
        return f"{new} outputs were reviewed since the last training"
    if now - newest.trained_at >= OLDEST:
        return f"the last training is {(now - newest.trained_at).days} days old"
    return None


def drift_of(connection: Connection, settings: Settings, champion: KnownModel | None, now: datetime) -> str | None:
    """What an alarm on the champion's errors says, of a week that ended after the last training; None without one."""
    return None if champion is None else alarm_in_words(watch_champion(connection, settings, champion, now))


def watch_champion(connection: Connection, settings: Settings, champion: KnownModel, now: datetime) -> Drift:
    """The charts of the champion's errors until now; an alarm is of a week that ended after the last training."""
    residual, reviewed_at = own_errors(connection, settings, champion)
    newest = read_newest(connection)
    since = None if newest is None else int(newest.trained_at.timestamp() * 1e9)
    return watch(_reference(champion), residual, reviewed_at, int(now.timestamp() * 1e9), since)


def alarm_in_words(drift: Drift) -> str | None:
    """Since when, and which way; None without an alarm."""
    if drift.alarm is None:
        return None
    alarm = drift.alarm
    return f"since the week of {alarm.week} reviews come out {alarm.direction} than forecast ({alarm.statistic})"


def past_of_its_time(connection: Connection, settings: Settings, champion: KnownModel | None) -> PastForecasts:
    """Forecasts whose reviews came since the champion is one: an earlier past would hide the present. Without one, all."""
    since = None if champion is None else champion.champion_since
    return past_forecasts(connection, settings.score_bounds, since and since.astimezone(UTC).date())


def own_errors(connection: Connection, settings: Settings, champion: KnownModel) -> tuple[Floats, Moments]:
    """Review less forecast of what the champion itself has said since it is one (N,), and when the review came (N,), ns."""
    past = past_of_its_time(connection, settings, champion)
    own = past.model_version == champion.model_version
    return (past.review_score - past.score)[own], past.reviewed_at[own]


def champion_coverage(past: PastForecasts) -> tuple[float | None, int]:
    """Share of reviews inside the interval they were forecast with, and how many; None without any."""
    counted = np.isfinite(past.low) & np.isfinite(past.review_score) & ~past.abstained
    inside = (past.review_score >= past.low) & (past.review_score <= past.high)
    return (float(inside[counted].mean()) if counted.any() else None), int(counted.sum())


def _reference(champion: KnownModel) -> Reference:
    kept = champion.metrics.get("reference") or {}
    number = {name: np.nan if kept.get(name) is None else float(kept[name]) for name in ("mean", "sd", "design_effect")}
    return Reference(**number, n=int(kept.get("n") or 0), reason=kept.get("reason"))
