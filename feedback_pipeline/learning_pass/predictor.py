"""The step that trains the quality predictor when there is a reason to, and lets a better model replace the champion.

It stands beside the publication: what agents read never waits for it. MLflow keeps the models and what was measured; Postgres
says which of them is the champion, and the alias in MLflow follows.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.errors import StoreError, StoreUnavailable, UserError
from feedback_pipeline.learning.calibration import ece
from feedback_pipeline.learning.permutation_importance import forward_importance
from feedback_pipeline.learning.population_stability import stability
from feedback_pipeline.learning.preferences import overall_bounds
from feedback_pipeline.learning.promotion import Promotion, promotes
from feedback_pipeline.learning.quality import MIN_OUTPUTS, Training, train
from feedback_pipeline.learning.quality_drift import Reference, watch
from feedback_pipeline.learning.quality_features import AGENT, REVIEWER, FeatureList
from feedback_pipeline.learning.quality_models import CANDIDATES
from feedback_pipeline.learning.quality_models_threads import fastest_threads
from feedback_pipeline.learning.quality_predictor import PREDICTION_COLUMNS
from feedback_pipeline.learning.quality_rows import QualityRows, review_rows
from feedback_pipeline.learning_pass.champion import load_champion, require_new_numbers
from feedback_pipeline.learning_pass.cores import usable_cores
from feedback_pipeline.learning_pass.inputs import raw_panel
from feedback_pipeline.learning_pass.training_records import candidate_record, comparison, parent_record, version_tags
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage import tracking_models as logged
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.past_forecasts import PastForecasts, past_forecasts
from feedback_pipeline.storage.published_forecasts import QualityModel, set_champion, write_model
from feedback_pipeline.storage.reading_models import KnownModel, read_champion, read_history, read_newest
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_registry import CHALLENGER, CHAMPION

NEW_SHARE: Final = 0.1
OLDEST: Final = timedelta(days=7)
_EXAMPLES: Final = 5
_WORTH_MEASURING: Final = 20_000

Draw = Callable[[Training, pd.DataFrame], Mapping[str, bytes]]
"""Pictures of a training and of its permutation importance, by file name."""


@dataclass(frozen=True)
class PredictorOutcome:
    """Result of `train_if_due`.

    Attributes:
        learning_run_id: The learning run it read.
        facts: Counts and reasons: why it trained or did not, which version is the champion and why.
        candidates: The comparison of a training, best known first; empty where none took place.
        history: Every version, newest first.
        runs: MLflow runs of the training, the parent first; those of the candidates follow.
        stability: How far the features of new outputs have shifted, one row each.
    """

    learning_run_id: str
    facts: dict[str, Any]
    candidates: pd.DataFrame = field(repr=False)
    history: pd.DataFrame = field(repr=False)
    runs: tuple[str, ...]
    stability: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)


def train_if_due(
    database: Database, store: FeatureStore, settings: Settings, tracking: Tracking, draw: Draw, *, now: datetime
) -> PredictorOutcome:
    """Train where there is no champion, reviews drift away from its forecasts, or it is behind; else leave it as it is.

    Raises:
        StoreUnavailable: Postgres or MLflow is away; nothing is half done that the next attempt does not do again.
        StoreError: there is no result of preference_models.
    """
    learning_run_id, panel, facts = raw_panel(store)
    rows = review_rows(panel, settings.score_bounds)
    with database.snapshot() as connection:
        champion, newest = read_champion(connection), read_newest(connection)
        due = reason_to_train(rows, newest, champion, drift_of(connection, settings, champion, now), now)
    shifted = shifts(rows, int(newest.metrics["last_review_ns"]) if newest and newest.metrics.get("last_review_ns") else None)
    if due is None and champion is not None and champion.model_version not in _kept_versions(tracking):
        due = f"MLflow has no model of version {champion.model_version} any more"
    counts = {"n_reviews": len(rows.y), "n_outputs": rows.n_outputs, "window_first": facts["window_first"]}
    counts |= {"window_last": facts["window_last"], "trained": due or "no", "reason": None}
    if rows.n_outputs < MIN_OUTPUTS:
        counts |= {"trained": "no", "reason": f"{rows.n_outputs} outputs with a score; a predictor needs {MIN_OUTPUTS}"}
        due = None
    if due is None:
        outcome = _outcome(database, tracking, learning_run_id, counts, pd.DataFrame(), ())
        return replace(outcome, stability=shifted)
    require_new_numbers(tracking, newest)
    threads = _threads(len(rows.y))
    training = train(rows, overall_bounds(panel.aspects, settings.score_bounds), settings.seed, time.perf_counter, threads)
    outcome = _record(database, tracking, training, champion, draw, learning_run_id, counts, due, settings, now, shifted)
    return replace(outcome, stability=shifted)


def _kept_versions(tracking: Tracking) -> set[int]:
    return {version.number for version in tracking.models.versions() if version.has_files}


def _threads(n_reviews: int) -> int:
    """As many as are fastest on this machine; below some size measuring that takes longer than it saves."""
    cores = usable_cores()
    return fastest_threads(time.perf_counter, (1, cores)) if cores > 1 and n_reviews >= _WORTH_MEASURING else 1


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
    if champion is None or champion.champion_since is None:
        return None
    past = past_forecasts(connection, settings.score_bounds, champion.champion_since.astimezone(UTC).date())
    own = past.model_version == champion.model_version
    residual = past.review_score - past.score
    newest = read_newest(connection)
    since = None if newest is None else int(newest.trained_at.timestamp() * 1e9)
    found = watch(_reference(champion), residual[own], past.reviewed_at[own], int(now.timestamp() * 1e9), since)
    if found.alarm is None:
        return None
    return (
        f"since the week of {found.alarm.week} reviews come out {found.alarm.direction} than forecast ({found.alarm.statistic})"
    )


def champion_coverage(past: PastForecasts) -> tuple[float | None, int]:
    """Share of reviews inside the interval they were forecast with, and how many; None without any."""
    counted = np.isfinite(past.low) & np.isfinite(past.review_score) & ~past.abstained
    inside = (past.review_score >= past.low) & (past.review_score <= past.high)
    return (float(inside[counted].mean()) if counted.any() else None), int(counted.sum())


def _reference(champion: KnownModel) -> Reference:
    kept = champion.metrics.get("reference") or {}
    number = {name: np.nan if kept.get(name) is None else float(kept[name]) for name in ("mean", "sd", "design_effect")}
    return Reference(**number, n=int(kept.get("n") or 0), reason=kept.get("reason"))


def _record(
    database: Database,
    tracking: Tracking,
    training: Training,
    champion: KnownModel | None,
    draw: Draw,
    learning_run_id: str,
    counts: dict[str, Any],
    due: str,
    settings: Settings,
    now: datetime,
    shifted: pd.DataFrame,
) -> PredictorOutcome:
    with database.connect() as connection:
        installation = read_installation(connection).id
    rows, chosen = training.rows, training.choice.name
    against, reason = _against_champion(tracking, training, champion)
    importance = forward_importance(
        partial(CANDIDATES[chosen], rows.features, training.predictor.bounds, settings.seed), rows, settings.seed
    )
    promoted = against is None or against.promoted
    tables = {"permutation_importance": importance, "population_stability": shifted}
    shared = {"learning_run_id": learning_run_id, "seed": settings.seed} | {
        name: counts[name] for name in ("window_first", "window_last")
    }
    parent = tracking.start_training(
        f"training {now:%Y-%m-%d %H:%M}",
        parent_record(
            training,
            tables,
            shared,
            due,
            draw(training, importance),
        ),
        installation,
    )
    try:
        runs = {
            name: tracking.log_candidate(parent, logged.Candidate(name, candidate_record(one, training, shared), one.seconds))
            for name, one in training.candidates.items()
        }
        numeric, text = rows.features.numeric, (*rows.features.categories, AGENT, REVIEWER)
        example = rows.X.head(_EXAMPLES).assign(**{REVIEWER: pd.Series([None] * min(_EXAMPLES, len(rows.X)), dtype=object)})
        model = tracking.log_model(runs[chosen], logged.Predictor(training.predictor, example, numeric, text, PREDICTION_COLUMNS))
        tags = version_tags(training, against, reason, shared, due)
        version = tracking.models.register(model, tags)
        _publish(database, training, version, runs[chosen], learning_run_id, counts, tags, promoted, reason, now)
    except BaseException:
        tracking.finish(parent, failed=True)
        raise
    tracking.finish(parent)
    tracking.models.set_alias(CHALLENGER, None if promoted else version)
    counts = counts | {"trained": due, "chosen": chosen, "promoted": promoted, "reason": reason}
    if training.refused:
        counts |= {
            "refused_features": f"{', '.join(training.refused)}: they repeat the score, so they are known only after the review"
        }
    outcome = _outcome(database, tracking, learning_run_id, counts, comparison(training), (parent, *runs.values()))
    tracking.models.remove_old_files()
    return outcome


def _outcome(
    database: Database,
    tracking: Tracking,
    learning_run_id: str,
    counts: dict[str, Any],
    candidates: pd.DataFrame,
    runs: tuple[str, ...],
) -> PredictorOutcome:
    """The result; the alias follows the champion in Postgres, also where an earlier attempt ended between the two."""
    with database.snapshot() as connection:
        champion, history = read_champion(connection), read_history(connection)
    if champion is not None:
        named = tracking.models.get_alias(CHAMPION)
        if named is None or named.number != champion.model_version:
            tracking.models.set_alias(CHAMPION, champion.model_version)
    counts = counts | {"champion": champion and champion.model_version, "champion_candidate": champion and champion.candidate}
    return PredictorOutcome(learning_run_id, counts, candidates, history, runs)


def _against_champion(tracking: Tracking, training: Training, champion: KnownModel | None) -> tuple[Promotion | None, str]:
    """The test against the champion on reviews that neither was fitted on, None without a champion, and what came of it."""
    little = "; there is little to predict" if training.choice.little_to_predict else ""
    if training.choice.too_few_to_tell:
        little = "; too few contents to tell the candidates apart"
    if champion is None:
        return None, f"the first champion is the simplest candidate that none beats: {training.choice.name}{little}"
    rows = training.rows
    try:
        known = load_champion(tracking, champion)
        features = FeatureList.of(name for name in known.columns if name not in (AGENT, REVIEWER))
        forecast = known.predict(with_columns(rows.X, features))["score"].to_numpy(dtype=np.float64)
    except StoreUnavailable:
        raise
    except (StoreError, UserError) as error:
        return (
            None,
            f"the champion {champion.model_version} cannot be used any more ({error}); {training.choice.name} takes its place",
        )
    later = ~np.isin(rows.content, rows.content[rows.moment <= int(champion.metrics["last_review_ns"])])
    compared = later & np.isfinite(training.chosen.prediction)
    losses = np.where(compared, (rows.y - forecast) ** 2, np.nan), np.where(compared, training.residual**2, np.nan)
    test = promotes(*losses, rows.content)
    gain = f"spares {test.gain:.1%} of the champion's squared error, at least {test.lower:.1%}".replace("%", " %")
    return test, f"{test.n_contents} contents: {gain}" if test.promoted else f"stays challenger: {test.reason}"


def with_columns(X: pd.DataFrame, features: FeatureList) -> pd.DataFrame:
    """X with every column of `features`: missing where X has none."""
    absent: dict[str, Any] = {name: np.nan for name in features.numeric if name not in X}
    absent |= {name: None for name in features.categories if name not in X}
    return features.select(X.assign(**absent))


def _publish(
    database: Database,
    training: Training,
    version: int,
    run_id: str,
    learning_run_id: str,
    counts: dict[str, Any],
    tags: Mapping[str, object],
    promoted: bool,
    reason: str,
    now: datetime,
) -> None:
    rows = training.rows
    model = QualityModel(
        model_version=version,
        candidate=training.choice.name,
        mlflow_run_id=run_id,
        learning_run_id=learning_run_id,
        trained_at=now,
        window_first=counts["window_first"],
        window_last=counts["window_last"],
        n_reviews=len(rows.y),
        n_contents=len(np.unique(rows.content)),
        metrics=training.chosen.metrics.document()
        | {
            "n_outputs": rows.n_outputs,
            "last_review_ns": int(rows.moment.max()),
            "share_of_ceiling": training.chosen.share_of_ceiling,
            "coverage": training.coverage.overall,
            "coverage_by_quartile": training.coverage.quartiles,
            "coverage_by_quartile_n": training.coverage.n_quartiles,
            "reference": vars(Reference.of(training.consensus_residual, rows.content)),
            "consensus": training.chosen.consensus_metrics.document(),
            "consensus_coverage": training.consensus_coverage.overall,
            "ece": ece(training.p_approve, rows.approved),
            "candidates": {name: one.metrics.document() for name, one in training.candidates.items()},
        },
        tags={name: str(value) for name, value in tags.items()},
        reason=reason,
    )
    with database.connect() as connection:
        write_model(connection, model)
        if promoted:
            set_champion(connection, version, now)
