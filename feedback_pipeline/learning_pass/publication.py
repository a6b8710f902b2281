"""The step that makes recommendations of what was found and publishes the learning run in one transaction."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.recommendation_supports import Learned
from feedback_pipeline.learning.recommendations import recommend
from feedback_pipeline.learning.reviewer_results import REVIEWER_FRAMES
from feedback_pipeline.learning_pass.inputs import (
    CONTENT_STRATEGY,
    DECISION_PATTERNS,
    PREFERENCE_MODELS,
    QUALITY_CORRELATIONS,
    latest_run,
    read_of_run,
)
from feedback_pipeline.learning_pass.trials import settle_recommendations
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import AgentState, Publication

# Raised whenever the numbers of the same input change.
CODE_VERSION: Final = "2"

Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class PublishedRun:
    """Result of `publish`; `recommendations` as `learning.recommendations.recommend` returns them, those that are published."""

    learning_run_id: str
    facts: dict[str, Any]
    recommendations: pd.DataFrame = field(repr=False)


def publish(
    database: Database, store: FeatureStore, settings: Settings, *, dagster_run_id: str | None, now: datetime
) -> PublishedRun:
    """Publish the latest learning run in one transaction, then forget the changes it consumed.

    Raises:
        StoreError: results are missing, or belong to different learning runs.
    """
    learning_run_id = latest_run(store, PREFERENCE_MODELS)
    inputs, facts = store.read_result(learning_run_id, PREFERENCE_MODELS)
    results, outcome = read_of_run(store, learning_run_id, QUALITY_CORRELATIONS)
    patterns, _ = read_of_run(store, learning_run_id, DECISION_PATTERNS)
    strategy, _ = read_of_run(store, learning_run_id, CONTENT_STRATEGY)
    found, states = recommend(_learned(inputs, results, patterns, strategy))
    settled, states = settle_recommendations(database, found, states, inputs["reviews"])
    parts = _parts_by_agent(patterns["parts"], strategy["states"], states)
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
        agents=[AgentState.of(row, parts.get(row["agent_name"], {})) for row in results["agents"].to_dict("records")],
        findings=results["findings"],
        evidence=results["evidence"],
        reviewers={name: inputs[name] for name in REVIEWER_FRAMES},
        consumed=inputs["consumed"]["id"].to_numpy(dtype=np.int64),
        patterns=patterns["patterns"],
        recommendations=settled.recommendations,
        trials=settled.trials,
        closed_trials=settled.closed,
        segments=strategy["segments"],
        allocation=strategy["allocation"],
        fleet_parts={"correlations": outcome["fleet"]} | parts.get(FLEET, {}),
    )
    counts = publish_run(database, publication)
    store.drop_consumed(facts["consumed_tokens"])
    done = counts | {"window_last": facts["window_last"], "n_published": outcome["n_published"]}
    return PublishedRun(learning_run_id, done, settled.recommendations)


def _learned(inputs: Frames, results: Frames, patterns: Frames, strategy: Frames) -> Learned:
    return Learned(
        agents=results["agents"]["agent_name"].tolist(),
        findings=results["findings"],
        spreads=results["spreads"],
        patterns=patterns["patterns"],
        term_tests=patterns["term_tests"],
        segments=strategy["segments"],
        segment_tests=strategy["tests"],
        pairs=patterns["pairs"],
        shares=patterns["shares"],
        models=inputs["models"],
    )


def _parts_by_agent(
    documents: pd.DataFrame, strategy: pd.DataFrame, recommendations: pd.DataFrame
) -> dict[str, dict[str, dict[str, Any]]]:
    """What came of decisions, terms, strategy and recommendations, by agent and part."""
    parts: dict[str, dict[str, dict[str, Any]]] = {}
    for row in documents.to_dict("records"):
        parts.setdefault(row["agent_name"], {})[row["part"]] = json.loads(row["document"])
    for row in strategy.to_dict("records"):
        parts.setdefault(row["agent_name"], {})["strategy"] = {"status": row["status"], "reason": _null(row["reason"])}
    for row in recommendations.to_dict("records"):
        counts = {"published": row["published"], "candidates": row["candidates"]}
        counts |= {"held_back": row["held_back"]} if row["held_back"] else {}
        document = {"status": row["status"], "reason": _null(row["reason"])} | counts
        parts.setdefault(row["agent_name"], {})["recommendations"] = document
    return parts


def _null(value: object) -> object:
    """A missing text as None: a column of texts holds NaN there."""
    return value if isinstance(value, str) else None
