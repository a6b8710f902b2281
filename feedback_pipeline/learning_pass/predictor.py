"""The step that trains the quality predictor when there is a reason to, and lets a better model replace the champion.

It stands beside the publication: what agents read never waits for it. MLflow keeps the models and what was measured; Postgres
says which of them is the champion, and the alias in MLflow follows.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.errors import StoreError, StoreUnavailable, UserError
from feedback_pipeline.learning.calibration import ece
from feedback_pipeline.learning.permutation_importance import forward_importance
from feedback_pipeline.learning.preferences import overall_bounds
from feedback_pipeline.learning.promotion import Promotion, promotes
from feedback_pipeline.learning.quality import MIN_OUTPUTS, Training, train
from feedback_pipeline.learning.quality_drift import Reference
from feedback_pipeline.learning.quality_features import AGENT, REVIEWER, FeatureList
from feedback_pipeline.learning.quality_models import CANDIDATES
from feedback_pipeline.learning.quality_models_threads import fastest_threads
from feedback_pipeline.learning.quality_predictor import PREDICTION_COLUMNS
from feedback_pipeline.learning.quality_rows import review_rows
from feedback_pipeline.learning_pass.champion import load_champion, require_new_numbers
from feedback_pipeline.learning_pass.champion_watch import drift_of, reason_to_train, shifts
from feedback_pipeline.learning_pass.cores import usable_cores
from feedback_pipeline.learning_pass.inputs import raw_panel
from feedback_pipeline.learning_pass.training_records import candidate_record, comparison, parent_record, version_tags
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage import tracking_models as logged
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.published_forecasts import QualityModel, set_champion, write_model
from feedback_pipeline.storage.reading_models import KnownModel, read_champion, read_history, read_newest
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_registry import CHALLENGER, CHAMPION

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
    stability: pd.DataFrame = field(repr=False)


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
        return _outcome(database, tracking, learning_run_id, counts, shifted, pd.DataFrame(), ())
    require_new_numbers(tracking, newest)
    threads = _threads(len(rows.y))
    training = train(rows, overall_bounds(panel.aspects, settings.score_bounds), settings.seed, time.perf_counter, threads)
    return _record(database, tracking, training, champion, draw, learning_run_id, counts, due, settings, now, shifted)


def _kept_versions(tracking: Tracking) -> set[int]:
    return {version.number for version in tracking.models.versions() if version.has_files}


def _threads(n_reviews: int) -> int:
    """As many as are fastest on this machine; below some size measuring that takes longer than it saves."""
    cores = usable_cores()
    return fastest_threads(time.perf_counter, (1, cores)) if cores > 1 and n_reviews >= _WORTH_MEASURING else 1


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
    # In a pass this proves that it still holds its lock: what is forgotten meanwhile must not come back.
    with database.connect() as connection:
        installation = read_installation(connection).id
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
        # In a pass this begins under its lock: one that has lost it registers nothing either.
        with database.connect() as connection:
            version = tracking.models.register(model, tags)
            _publish(connection, training, version, runs[chosen], learning_run_id, counts, tags, promoted, reason, now)
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
    outcome = _outcome(database, tracking, learning_run_id, counts, shifted, comparison(training), (parent, *runs.values()))
    tracking.models.remove_old_files()
    return outcome


def _outcome(
    database: Database,
    tracking: Tracking,
    learning_run_id: str,
    counts: dict[str, Any],
    shifted: pd.DataFrame,
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
    return PredictorOutcome(learning_run_id, counts, candidates, history, runs, shifted)


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
    connection: Connection,
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
    write_model(connection, model)
    if promoted:
        set_champion(connection, version, now)
