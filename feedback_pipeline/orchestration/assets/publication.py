"""The end of the lineage: what agents may read, published in one transaction."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.insights import (
    CONTENT_STRATEGY,
    DECISION_PATTERNS,
    PREFERENCE_MODELS,
    QUALITY_CORRELATIONS,
)
from feedback_pipeline.orchestration.failures import in_own_words, only_stores_are_retried
from feedback_pipeline.orchestration.late_pictures import LatePictures
from feedback_pipeline.orchestration.learned_columns import PUBLISHED
from feedback_pipeline.orchestration.ownership import OWNERS
from feedback_pipeline.orchestration.partitions import add_agents
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, LearningLock
from feedback_pipeline.settings import Settings

LEARNED_IMPROVEMENTS: Final = dg.AssetKey("learned_improvements")
RECOMMENDATIONS_VALID: Final = "recommendations_valid"


@dg.asset(
    key=LEARNED_IMPROVEMENTS,
    deps=[PREFERENCE_MODELS, QUALITY_CORRELATIONS, DECISION_PATTERNS, CONTENT_STRATEGY],
    group_name="published",
    kinds={"postgres", "python"},
    owners=OWNERS,
    code_version="2",
    description="What one learning run found, in Postgres where agents read it: findings, patterns of every kind, segments with "
    "the next allocation, and a short list of recommendations for each agent; published whole or not at all, with the state of "
    "every agent and the changes that were learned from.",
    metadata={"dagster/column_schema": PUBLISHED, "dagster/table_name": "public.feedback_quality_correlations"},
    check_specs=[
        dg.AssetCheckSpec(
            RECOMMENDATIONS_VALID,
            asset=LEARNED_IMPROVEMENTS,
            description="An agent has at most ten recommendations, in order, each once, with q <= .05, evidence, a text and an "
            "action.",
        )
    ],
)
def learned_improvements(
    context: dg.AssetExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
    late_pictures: LatePictures,
) -> Iterator[dg.MaterializeResult[None]]:
    """Publishes the latest learning run in one transaction, and gives every new agent its partition of agent_report.

    Then the pictures of the run are drawn: what agents read has not waited for them.
    """
    from feedback_pipeline.learning_pass.publication import publish
    from feedback_pipeline.orchestration.checks import check_result
    from feedback_pipeline.orchestration.pattern_evidence import unusable_recommendations
    from feedback_pipeline.orchestration.pattern_report import describe_publication
    from feedback_pipeline.storage.reading import read_status

    plain = database.open()
    with only_stores_are_retried():
        store = feature_store.open(plain)
        outcome = publish(plain, store, Settings(), dagster_run_id=context.run.run_id, now=datetime.now(UTC))
        learned = [agent["agent_name"] for agent in read_status(plain)["agents"] if agent["learning_run_id"] is not None]
        new = add_agents(context.instance, learned)
    context.log.info("%s agents are new and have a report from now on", len(new))
    check = check_result(LEARNED_IMPROVEMENTS, RECOMMENDATIONS_VALID, unusable_recommendations(outcome.recommendations))
    yield dg.MaterializeResult(metadata=describe_publication(outcome), check_results=[check])
    with in_own_words():
        for picture in late_pictures.drawn():
            context.log_event(picture)


assets = [learned_improvements]
