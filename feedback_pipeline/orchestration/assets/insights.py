"""The reduce: one pass over all agents of the window. Each asset writes one artifact of the learning run."""

from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.assets.days import FEATURE_TABLE, HUMAN_FEEDBACK
from feedback_pipeline.orchestration.failures import only_stores_are_retried
from feedback_pipeline.orchestration.late_pictures import LatePictures
from feedback_pipeline.orchestration.learned_columns import CORRELATIONS, PATTERNS, SEGMENTS, SEVERITIES
from feedback_pipeline.orchestration.ownership import OWNERS
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, LearningLock
from feedback_pipeline.settings import Settings

PREFERENCE_MODELS: Final = dg.AssetKey("preference_models")
QUALITY_CORRELATIONS: Final = dg.AssetKey("quality_correlations")
DECISION_PATTERNS: Final = dg.AssetKey("decision_patterns")
CONTENT_STRATEGY: Final = dg.AssetKey("content_strategy")


@dg.asset(
    key=PREFERENCE_MODELS,
    deps=[HUMAN_FEEDBACK, FEATURE_TABLE],
    group_name="insights",
    kinds={"python", "numpy"},
    owners=OWNERS,
    code_version="2",
    description="How strict each reviewer is, on each aspect, and every score with that strictness taken out, estimated from "
    "outputs that several people reviewed wherever there are enough of them; what each reviewer wants and how well that "
    "foresees their decisions; how far the reviewers agree, who can be compared with whom, and whose severity changes.",
    metadata={"dagster/column_schema": SEVERITIES},
)
def preference_models(
    context: dg.AssetExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,
    late_pictures: LatePictures,
) -> dg.MaterializeResult[None]:
    """Starts a learning run: takes the window, estimates severities, keeps the adjusted scores, learns what reviewers want."""
    from feedback_pipeline.learning_pass.reviewers import learn_preference_models
    from feedback_pipeline.orchestration.insight_report import describe_preferences, picture_preferences
    from feedback_pipeline.orchestration.reviewer_frames import SHOWN

    plain = database.open()
    with only_stores_are_retried():
        store = feature_store.open(plain)
        # The pass began when the run took the lock: before the days were read.
        outcome = learn_preference_models(plain, store, Settings(), now=learning_lock.taken_at)
        # Without the adjusted scores, of which there may be millions.
        kept = {name: outcome.frames[name] for name in SHOWN}
        pictures = late_pictures.now_or_later(context, PREFERENCE_MODELS, lambda: picture_preferences(kept))
        return dg.MaterializeResult(metadata=describe_preferences(outcome) | pictures)


@dg.asset(
    key=QUALITY_CORRELATIONS,
    deps=[PREFERENCE_MODELS, FEATURE_TABLE],
    group_name="insights",
    kinds={"python", "numpy"},
    owners=OWNERS,
    code_version="1",
    description="Which properties of an agent's outputs go with better or worse scores: rank correlations of adjusted scores, "
    "with intervals robust to the reviewers, false discovery rate and shrinkage over the agents; every tested pair, with the "
    "reason where it is not published.",
    metadata={"dagster/column_schema": CORRELATIONS},
)
def quality_correlations(
    context: dg.AssetExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
    late_pictures: LatePictures,
) -> dg.MaterializeResult[None]:
    """Correlates every feature with every aspect, for all agents at once."""
    from feedback_pipeline.learning_pass.correlations import learn_correlations
    from feedback_pipeline.orchestration.insight_report import describe_correlations, picture_correlations

    with only_stores_are_retried():
        store = feature_store.open(database.open())
        outcome = learn_correlations(store, Settings())
        pictures = late_pictures.now_or_later(context, QUALITY_CORRELATIONS, lambda: picture_correlations(outcome))
        return dg.MaterializeResult(metadata=describe_correlations(outcome) | pictures)


@dg.asset(
    key=DECISION_PATTERNS,
    deps=[PREFERENCE_MODELS, QUALITY_CORRELATIONS, FEATURE_TABLE],
    group_name="insights",
    kinds={"python", "numpy"},
    owners=OWNERS,
    code_version="1",
    description="What approved outputs have in common and others do not: differences with intervals, thresholds with what "
    "crossing them is worth, simple rules, and words of the reasoning, the comments and the named issues that go with better or "
    "worse judgements; for each decision point and for all. Every candidate is tested, and says why where it is not published. "
    "Texts are read in Postgres and stay there; only tested single words come out.",
    metadata={"dagster/column_schema": PATTERNS},
)
def decision_patterns(
    context: dg.AssetExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
    late_pictures: LatePictures,
) -> dg.MaterializeResult[None]:
    """Looks for patterns of every kind, for all agents at once."""
    from feedback_pipeline.learning_pass.patterns import learn_patterns
    from feedback_pipeline.orchestration.pattern_report import describe_patterns, picture_patterns

    plain = database.open()
    with only_stores_are_retried():
        outcome = learn_patterns(plain, feature_store.open(plain), Settings())
        pictures = late_pictures.now_or_later(context, DECISION_PATTERNS, lambda: picture_patterns(outcome))
        return dg.MaterializeResult(metadata=describe_patterns(outcome) | pictures)


@dg.asset(
    key=CONTENT_STRATEGY,
    deps=[PREFERENCE_MODELS, FEATURE_TABLE],
    group_name="insights",
    kinds={"python", "numpy"},
    owners=OWNERS,
    code_version="1",
    description="Where an agent does well: approval and adjusted score by content type, tone, channel, structure and length, and "
    "by pairs of them, shrunken so that no lucky handful looks like a lead; and how the next outputs should be spread, drawn "
    "by Thompson sampling with the chance of every choice.",
    metadata={"dagster/column_schema": SEGMENTS},
)
def content_strategy(
    context: dg.AssetExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
    late_pictures: LatePictures,
) -> dg.MaterializeResult[None]:
    """Estimates every segment of every agent and draws the next allocation."""
    from feedback_pipeline.learning_pass.strategy import learn_strategy
    from feedback_pipeline.orchestration.pattern_report import describe_strategy, picture_strategy

    with only_stores_are_retried():
        outcome = learn_strategy(feature_store.open(database.open()), Settings())
        pictures = late_pictures.now_or_later(context, CONTENT_STRATEGY, lambda: picture_strategy(outcome))
        return dg.MaterializeResult(metadata=describe_strategy(outcome) | pictures)


assets = [preference_models, quality_correlations, decision_patterns, content_strategy]
