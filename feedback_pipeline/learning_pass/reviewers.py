"""The step that starts a learning run: severities, adjusted scores, and what is known of every reviewer."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from feedback_pipeline.learning.adjustment import adjust, severity_frame
from feedback_pipeline.learning.agents import severity_parts
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.preference_documents import MODEL_DOCUMENTS
from feedback_pipeline.learning.reviewer_results import learn_reviewers
from feedback_pipeline.learning_pass.inputs import (
    PREFERENCE_MODELS,
    REVIEW_COLUMNS,
    Window,
    days_digest,
    documents_as_text,
    learning_window,
)
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.day_tables import score_matrix
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation


@dataclass(frozen=True)
class PreferenceOutcome:
    """Result of `learn_preference_models`: the artifact's frames by name."""

    learning_run_id: str
    facts: dict[str, Any]
    frames: dict[str, pd.DataFrame] = field(repr=False)


def learn_preference_models(database: Database, store: FeatureStore, settings: Settings, *, now: datetime) -> PreferenceOutcome:
    """Mint a learning run: severities over the window, adjusted scores, and what is known of every reviewer.

    Writes the artifact `preference_models`: frame `reviews` (deduplicated, with columns score:<aspect> and adjusted:<aspect>, one
    row per output, reviewer and stage), frame `severities`, and the frames of `reviewer_results.ReviewerResults`.

    Raises:
        LearningError: a reviewed output has no features.
    """
    with database.connect() as connection:
        lookback = read_installation(connection).lookback_days
    # Before the days are read: a change consumed after this line belongs to the next run.
    consumed, tokens = store.read_consumed()
    window = learning_window(store, lookback, now.astimezone(UTC).date())
    panel = _read_panel(store, window)
    adjustment = adjust(panel, settings.score_bounds)
    learned = learn_reviewers(panel, adjustment, settings.score_bounds, settings.seed)
    scores = {f"score:{name}": adjustment.raw[:, k] for k, name in enumerate(adjustment.aspects)}
    adjusted = {f"adjusted:{name}": adjustment.adjusted[:, k] for k, name in enumerate(adjustment.aspects)}
    reviews = pd.concat([panel.reviews[REVIEW_COLUMNS], pd.DataFrame(scores | adjusted)], axis=1)

    learning_run_id = str(uuid.uuid4())
    facts: dict[str, Any] = {
        "started_at": now.isoformat(),
        "window_first": window.first and window.first.isoformat(),
        "window_last": window.last and window.last.isoformat(),
        "lookback_days": window.lookback_days,
        "n_reviews": len(reviews),
        "n_contents": len(panel.outputs),
        "n_agents": len(panel.agents),
        "n_reviewers": len(panel.reviewers),
        "aspects": list(panel.aspects),
        "days_digest": days_digest(store, window),
        "severity_parts": severity_parts(panel, adjustment),
        "methods": {
            name: {"method": severity.method, "reason": severity.reason}
            for name, severity in zip(adjustment.aspects, adjustment.severities, strict=True)
        },
        "severity_failures": dict(adjustment.failures),
        "preference_failures": learned.failures,
        "accuracy": learned.accuracy,
        "baseline": learned.baseline,
        "n_test": learned.n_test,
        "consumed_tokens": tokens,
    }
    frames = {
        "reviews": reviews,
        "severities": severity_frame(panel, adjustment),
        "consumed": pd.DataFrame({"id": consumed}),
        **learned.results.frames(),
    }
    frames["models"] = documents_as_text(frames["models"], MODEL_DOCUMENTS)
    store.write_result(learning_run_id, PREFERENCE_MODELS, frames, facts)
    return PreferenceOutcome(learning_run_id, facts, frames)


def _read_panel(store: FeatureStore, window: Window) -> Panel:
    # The panel sorts by its own keys.
    feedback, features = store.read_tables(*window.days, ordered=False)
    scores, aspects = score_matrix(feedback["aspects"], feedback["scores"])
    return build_panel(feedback.drop_columns(["aspects", "scores"]).to_pandas(), scores, aspects, features.to_pandas())
