"""The step that publishes a learning run in one transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.reviewer_results import REVIEWER_FRAMES
from feedback_pipeline.learning_pass.inputs import PREFERENCE_MODELS, QUALITY_CORRELATIONS, latest_run
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import AgentState, Publication

# Raised whenever the numbers of the same input change.
CODE_VERSION: Final = "1"


@dataclass(frozen=True)
class PublishedRun:
    """Result of `publish`."""

    learning_run_id: str
    facts: dict[str, Any]


def publish(
    database: Database, store: FeatureStore, settings: Settings, *, dagster_run_id: str | None, now: datetime
) -> PublishedRun:
    """Publish the latest learning run in one transaction, then forget the changes it consumed.

    Raises:
        StoreError: results are missing, or belong to different learning runs.
    """
    learning_run_id = latest_run(store, PREFERENCE_MODELS)
    other = latest_run(store, QUALITY_CORRELATIONS)
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
