"""Asset checks of decision_patterns and content_strategy: what must hold before anything of them is published.

Belongs here: names and descriptions. Does not belong here: how a value is observed (pattern_evidence).
"""

import dagster as dg

from feedback_pipeline.orchestration.assets.insights import CONTENT_STRATEGY, DECISION_PATTERNS
from feedback_pipeline.orchestration.checks import check_result, latest_result
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, LearningLock


@dg.asset_check(
    asset=DECISION_PATTERNS,
    name="patterns_valid",
    blocking=True,
    description="A pattern is tested once for an agent; probabilities and intervals are within what they can be; what is "
    "published is complete, what is not has a reason; a term is one word of letters, so that no text of a person gets out.",
)
def patterns_valid(
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
) -> dg.AssetCheckResult:
    """Looks at the patterns of the latest learning run before they are published."""
    from feedback_pipeline.orchestration.pattern_evidence import unusable_patterns

    with in_own_words():
        frames, _ = latest_result(feature_store.open(database.open()), DECISION_PATTERNS)
        return check_result(DECISION_PATTERNS, "patterns_valid", unusable_patterns(frames["patterns"]))


@dg.asset_check(
    asset=CONTENT_STRATEGY,
    name="strategy_valid",
    blocking=True,
    description="A segment stands once for an agent, its rates are rates and lie in their intervals; the chances of the next "
    "allocation add up to 1.",
)
def strategy_valid(
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
) -> dg.AssetCheckResult:
    """Looks at the segments of the latest learning run before they are published."""
    from feedback_pipeline.orchestration.pattern_evidence import unusable_segments

    with in_own_words():
        frames, _ = latest_result(feature_store.open(database.open()), CONTENT_STRATEGY)
        evidence = unusable_segments(frames["segments"], frames["allocation"])
        return check_result(CONTENT_STRATEGY, "strategy_valid", evidence)


checks = [patterns_valid, strategy_valid]
