"""What a training writes to MLflow: parameters, metrics, tables and tags of the whole and of every candidate."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from feedback_pipeline.learning.calibration import ece
from feedback_pipeline.learning.promotion import Promotion
from feedback_pipeline.learning.quality import Candidate, Training
from feedback_pipeline.learning.quality_features import REVIEWER
from feedback_pipeline.learning.quality_models import COMPARISON
from feedback_pipeline.learning.quality_models_forest import MOST_ROWS
from feedback_pipeline.storage import tracking_models as logged

Shared = Mapping[str, object]
"""Of all runs of a training: learning_run_id, window_first, window_last, seed."""


def comparison(training: Training) -> pd.DataFrame:
    """One row per candidate, from the simplest, with its forward metrics and how long it took."""
    return pd.DataFrame(
        [
            {
                "candidate": one.name,
                "chosen": one.name == training.choice.name,
                "r2": one.metrics.r2.value,
                "r2_low": one.metrics.r2.low,
                "r2_high": one.metrics.r2.high,
                "rmse": one.metrics.rmse.value,
                "mae": one.metrics.mae.value,
                "spearman": one.metrics.spearman.value,
                "share_of_ceiling": one.share_of_ceiling,
                "n": one.metrics.n,
                "fit_seconds": one.seconds,
            }
            for one in training.candidates.values()
        ]
    )


def parent_record(
    training: Training, tables: Mapping[str, pd.DataFrame], shared: Shared, due: str, figures: Mapping[str, bytes]
) -> logged.Record:
    """Of the parent run: why it trained, what was chosen by which tests, how much can be explained at all."""
    ceiling = training.ceiling
    return logged.Record(
        params={**shared, **_shape(training)},
        metrics={
            "noise_ceiling": np.nan if ceiling.share is None else ceiling.share,
            "coverage": training.coverage.overall,
            "consensus_coverage": training.consensus_coverage.overall,
            "ece": ece(training.p_approve, training.rows.approved),
            **{f"coverage_quartile_{place}": value for place, value in enumerate(training.coverage.quartiles.tolist(), 1)},
            **{f"coverage_quartile_{place}_n": n for place, n in enumerate(training.coverage.n_quartiles.tolist(), 1)},
        },
        tags={
            "why": due,
            "chosen": training.choice.name,
            "little_to_predict": training.choice.little_to_predict,
            "noise_ceiling_reason": ceiling.reason or "",
            "refused_features": ", ".join(training.refused),
            "too_little": training.reason or "",
            **{f"test {name}": _told(test) for name, test in training.choice.tests},
        },
        figures=figures,
        tables={"candidates": comparison(training), **tables},
        data=_data(training, shared),
    )


def candidate_record(one: Candidate, training: Training, shared: Shared) -> logged.Record:
    """Of the run of one candidate."""
    fitted_on = {"fitted_on_at_most": MOST_ROWS} if one.name == COMPARISON else {}
    numbers = {name: value for name, value in one.metrics.document().items() if isinstance(value, int | float)}
    return logged.Record(
        params={**shared, **_shape(training), "candidate": one.name},
        metrics={
            **numbers,
            "share_of_ceiling": one.share_of_ceiling,
            "baseline_r2": 0.0,
            "consensus_r2": one.consensus_metrics.r2.value,
            "consensus_rmse": one.consensus_metrics.rmse.value,
        },
        tags={"chosen": one.name == training.choice.name, "reason": one.metrics.reason or ""} | fitted_on,
        tables={"by_agent": one.by_agent},
        data=_data(training, shared),
    )


def _shape(training: Training) -> dict[str, object]:
    rows = training.rows
    return {
        "features": ", ".join(rows.features.numeric + rows.features.categories),
        "n_reviews": len(rows.y),
        "n_outputs": rows.n_outputs,
        "validation": "forward chaining, 4 windows, grouped by content",
    }


def _data(training: Training, shared: Shared) -> logged.TrainingData:
    rows = training.rows
    digest = hashlib.sha256(pd.util.hash_pandas_object(rows.X, index=False).to_numpy().tobytes() + rows.y.tobytes()).hexdigest()
    columns = dict.fromkeys(rows.features.numeric, "double") | dict.fromkeys(rows.features.categories, "string")
    profile = {"rows": len(rows.y), "outputs": rows.n_outputs, "reviewers": int(rows.X[REVIEWER].nunique())}
    return logged.TrainingData("reviews", digest[:36], shared, columns, profile)


def version_tags(training: Training, against: Promotion | None, reason: str, shared: Shared, due: str) -> dict[str, object]:
    """Of the registered version: why it was trained, and the test that did or did not make it champion."""
    tags: dict[str, object] = {
        "candidate": training.choice.name,
        "why_trained": due,
        "verdict": reason,
        "little_to_predict": training.choice.little_to_predict,
        **shared,
    }
    if against is not None:
        tags |= {"gain": against.gain, "gain_lower_bound": against.lower, "contents_compared": against.n_contents}
    return tags


def _told(test: Promotion) -> str:
    return f"better by {test.gain:.1%}, at least {test.lower:.1%}" if test.promoted else f"not better: {test.reason}"
