"""The steps of a learning pass after extraction: adjust scores, correlate, publish. The assets are glue around these."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.adjustment import adjust, severity_frame
from feedback_pipeline.learning.agents import agent_states, review_sample, severity_parts
from feedback_pipeline.learning.features import numeric_columns
from feedback_pipeline.learning.findings import find_what_can_be_found
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.preference_documents import MODEL_DOCUMENTS
from feedback_pipeline.learning.reviewer_results import REVIEWER_FRAMES, learn_reviewers
from feedback_pipeline.learning.subject import Subject
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.day_tables import score_matrix
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import AgentState, Publication

PREFERENCE_MODELS = "preference_models"
QUALITY_CORRELATIONS = "quality_correlations"
# Raised whenever the numbers of the same input change.
CODE_VERSION = "1"
_REVIEW_COLUMNS = [
    "agent_name",
    "execution_id",
    "content_id",
    "feedback_id",
    "reviewer_id",
    "stage",
    "decision",
    "reviewed_at",
    "is_training_data",
]


@dataclass(frozen=True)
class Window:
    """Days a pass learns from, both included; first None = from the beginning, last None = there is no trainable review."""

    first: date | None
    last: date | None
    lookback_days: int | None


@dataclass(frozen=True)
class PreferenceOutcome:
    """Result of `learn_preference_models`: the artifact's frames by name."""

    learning_run_id: str
    facts: dict[str, Any]
    frames: dict[str, pd.DataFrame] = field(repr=False)


@dataclass(frozen=True)
class CorrelationOutcome:
    """Result of `correlate`: every tested pair in `findings`."""

    learning_run_id: str
    facts: dict[str, Any]
    findings: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class PublishedRun:
    """Result of `publish`."""

    learning_run_id: str
    facts: dict[str, Any]


def open_store(database: Database, settings: Settings) -> FeatureStore:
    """The feature store of this database.

    Raises:
        StoreError: the database is not migrated.
    """
    with database.connect() as connection:
        return FeatureStore(settings.store, read_installation(connection).id)


def learning_window(store: FeatureStore, lookback_days: int | None, today: date) -> Window:
    """The window that ends at the newest day, not in the future, with a trainable review in the whole feature store."""
    trainable = [day for day, manifest in store.days().items() if manifest["trainable_rows"] and day <= today]
    if not trainable:
        return Window(None, None, lookback_days)
    last = max(trainable)
    return Window(None if lookback_days is None else last - timedelta(days=lookback_days - 1), last, lookback_days)


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
    reviews = pd.concat([panel.reviews[_REVIEW_COLUMNS], pd.DataFrame(scores | adjusted)], axis=1)

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
        "days_digest": _days_digest(store, window),
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
    frames["models"] = _documents_as_text(frames["models"], MODEL_DOCUMENTS)
    store.write_result(learning_run_id, PREFERENCE_MODELS, frames, facts)
    return PreferenceOutcome(learning_run_id, facts, frames)


def _days_digest(store: FeatureStore, window: Window) -> str:
    """Changes whenever a day of the window does: its files are named by their content."""
    days = {
        str(day): [manifest[name]["file"] for name in ("human_feedback", "feature_table", "decision_points") if name in manifest]
        for day, manifest in store.days().items()
        if window.last is not None and day <= window.last and (window.first is None or day >= window.first)
    }
    return hashlib.sha256(json.dumps(days, sort_keys=True).encode()).hexdigest()


def _read_panel(store: FeatureStore, window: Window) -> Panel:
    first, last = (window.first, window.last) if window.last is not None else (date.max, date.min)
    # The panel sorts by its own keys.
    feedback, features = store.read_tables(first, last, ordered=False)
    scores, aspects = score_matrix(feedback["aspects"], feedback["scores"])
    return build_panel(feedback.drop_columns(["aspects", "scores"]).to_pandas(), scores, aspects, features.to_pandas())


def correlate(store: FeatureStore, settings: Settings, *, only: Sequence[str] | None = None) -> CorrelationOutcome:
    """Correlate every feature with every aspect for every agent and the fleet, on the adjusted scores of the latest run.

    `only` names the features to learn from; None = all.

    Writes the artifact `quality_correlations`: frames `findings` and `agents` (one row per agent: counts, status, parts).

    Raises:
        StoreError: there is no result of preference_models, or days were extracted again since.
        LearningError: a reviewed output has no features in the store.
    """
    learning_run_id, panel, facts = adjusted_panel(store)
    features = tuple(only or numeric_columns(panel.outputs.columns))
    subject = Subject.of(panel, panel.scores, features, settings.score_bounds, settings.seed)
    findings, broken = find_what_can_be_found(subject)
    agents = agent_states(panel, findings, facts["severity_parts"], broken)
    evidence = review_sample(panel, settings.seed)
    outcome = {
        "n_pairs": len(findings),
        "n_published": int(findings["published"].sum()),
        "n_agents": len(panel.agents),
        "n_contents": len(panel.outputs),
        "features": list(subject.features),
        "aspects": list(panel.aspects),
    }
    findings_text = _documents_as_text(findings, ("feature_range", "feedback_impact"))
    frames = {"findings": findings_text, "agents": _documents_as_text(agents, ("parts",)), "evidence": evidence}
    store.write_result(learning_run_id, QUALITY_CORRELATIONS, frames, outcome)
    return CorrelationOutcome(learning_run_id, outcome, findings)


def read_subject(store: FeatureStore, settings: Settings, *, only: Sequence[str]) -> Subject:
    """The latest adjusted scores beside the features named in `only`: what `correlate` computes on."""
    panel = adjusted_panel(store)[1]
    return Subject.of(panel, panel.scores, only, settings.score_bounds, settings.seed)


def adjusted_panel(store: FeatureStore) -> tuple[str, Panel, dict[str, Any]]:
    """Learning run, panel with adjusted scores, and facts of the latest preference_models.

    Raises:
        StoreError: there is no such result, or days were extracted again since.
    """
    learning_run_id = _latest(store, PREFERENCE_MODELS)
    frames, facts = store.read_result(learning_run_id, PREFERENCE_MODELS)
    aspects, reviews = tuple(facts["aspects"]), frames["reviews"]
    adjusted = (
        reviews[[f"adjusted:{aspect}" for aspect in aspects]].to_numpy(dtype=np.float64).reshape(len(reviews), len(aspects))
    )
    first, last = (None if facts[key] is None else date.fromisoformat(facts[key]) for key in ("window_first", "window_last"))
    if facts["days_digest"] != _days_digest(store, Window(first, last, facts["lookback_days"])):
        raise StoreError("days of the window were extracted again since preference_models; materialize preference_models again")
    features = store.read_outputs(first, last or date.min)
    return learning_run_id, build_panel(reviews[_REVIEW_COLUMNS], adjusted, aspects, features.to_pandas()), facts


def _documents_as_text(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns of JSON documents as text: Parquet would give every row the keys of all."""
    text = {name: [None if value is None else json.dumps(value, sort_keys=True) for value in frame[name]] for name in names}
    return frame.assign(**{name: pd.Series(values, dtype="str") for name, values in text.items()})


def _latest(store: FeatureStore, asset: str) -> str:
    run = store.latest(asset)
    if run is None:
        raise StoreError(f"there is no result of {asset}; materialize {asset}")
    return run


def publish(
    database: Database, store: FeatureStore, settings: Settings, *, dagster_run_id: str | None, now: datetime
) -> PublishedRun:
    """Publish the latest learning run in one transaction, then forget the changes it consumed.

    Raises:
        StoreError: results are missing, or belong to different learning runs.
    """
    learning_run_id = _latest(store, PREFERENCE_MODELS)
    other = _latest(store, QUALITY_CORRELATIONS)
    if other != learning_run_id:
        raise StoreError(
            f"quality_correlations is of learning run {other}, preference_models of {learning_run_id}; "
            "materialize quality_correlations again"
        )
    inputs, facts = store.read_result(learning_run_id, PREFERENCE_MODELS)
    results, outcome = store.read_result(learning_run_id, QUALITY_CORRELATIONS)
    publication = Publication(
        learning_run_id=learning_run_id,
        dagster_run_id=dagster_run_id,
        started_at=datetime.fromisoformat(facts["started_at"]),
        published_at=now,
        window_start=facts["window_first"],
        window_end=facts["window_last"],
        lookback_days=facts["lookback_days"],
        n_reviews=facts["n_reviews"],
        n_contents=facts["n_contents"],
        n_agents=facts["n_agents"],
        n_reviewers=facts["n_reviewers"],
        code_version=CODE_VERSION,
        agents=[AgentState.of(row) for row in results["agents"].to_dict("records")],
        findings=results["findings"],
        evidence=results["evidence"],
        reviewers={name: inputs[name] for name in REVIEWER_FRAMES},
        consumed=inputs["consumed"]["id"].to_numpy(dtype=np.int64),
    )
    counts = publish_run(database, publication)
    store.drop_consumed(facts["consumed_tokens"])
    return PublishedRun(learning_run_id, counts | {"window_last": facts["window_last"], "n_published": outcome["n_published"]})
