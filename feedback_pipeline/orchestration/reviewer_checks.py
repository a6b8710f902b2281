"""Asset checks of preference_models: whether reviewers agree, can be compared, stay the same, and could be estimated.

All of them warn: what is learned from reviewers who disagree says so itself, and is published with its reasons.
Belongs here: names and descriptions. Does not belong here: how a value is observed (reviewer_evidence).
"""

from collections.abc import Iterator

import dagster as dg

from feedback_pipeline.orchestration.assets.insights import PREFERENCE_MODELS
from feedback_pipeline.orchestration.checks import check_result, latest_result
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, LearningLock

_DESCRIPTIONS = {
    "reviewers_agree": "In every aspect, and in their decisions, the reviewers agree better than chance: the interval of "
    "Krippendorff's alpha over all agents lies above 0. What cannot be measured is named and does not fail.",
    "reviewers_connected": "All reviewers can be compared: outputs reviewed by several people connect them, directly or through "
    "others. Where they do not, nobody can tell a strict group from one that got worse outputs.",
    "severity_steady": "No reviewer becomes stricter or more generous from month to month beyond chance.",
    "severity_estimated": "The severity of every aspect and every preference model could be estimated; a severity that could not "
    "falls back to the means of the agents.",
}


@dg.multi_asset_check(
    name="reviewers_checks",
    specs=[
        dg.AssetCheckSpec(name, asset=PREFERENCE_MODELS, description=text, blocking=False) for name, text in _DESCRIPTIONS.items()
    ],
)
def reviewers_checks(
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
) -> Iterator[dg.AssetCheckResult]:
    """Looks at the reviewers of the latest learning run."""
    from feedback_pipeline.orchestration.reviewer_evidence import disagreement, failed_models, separation, unsteadiness
    from feedback_pipeline.orchestration.reviewer_frames import numbered

    with in_own_words():
        frames, facts = latest_result(feature_store.open(database.open()), PREFERENCE_MODELS)
    shown = numbered(frames)
    found = {
        "reviewers_agree": disagreement(shown["agreement"]),
        "reviewers_connected": separation(shown["components"], shown["bridges"]),
        "severity_steady": unsteadiness(shown["models"]),
        "severity_estimated": failed_models(facts),
    }
    yield from (check_result(PREFERENCE_MODELS, name, evidence, warning=True) for name, evidence in found.items())
