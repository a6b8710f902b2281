"""Asset checks: what must hold of the extracted days and of the findings, each with what it observed and what it allows.

Blocking checks stop the learning run before anything is published; the days that fail them are taken out of the feature store,
so that the next pass reads and checks them again. Warnings say that data gets thinner or dirtier.
Belongs here: names, thresholds, severities. Does not belong here: how a value is observed (day_evidence, finding_evidence), and
the warnings about reviewers (reviewer_checks).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.errors import StoreError
from feedback_pipeline.orchestration.assets.days import FEATURE_TABLE, HUMAN_FEEDBACK
from feedback_pipeline.orchestration.assets.insights import QUALITY_CORRELATIONS
from feedback_pipeline.orchestration.day_evidence import (
    Evidence,
    duplicate_reviews,
    missing_values,
    unpaired_outputs,
    unusable_features,
    unusable_reviews,
)
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from feedback_pipeline.orchestration.resources import DatabaseResource, FeatureStoreResource, LearningLock
from feedback_pipeline.orchestration.withdrawal import bad_days, withdraw, withdrawn_unless_done
from feedback_pipeline.settings import ScoreBounds, Settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from feedback_pipeline.storage.feature_store import FeatureStore

MISSING_SHARE: Final = 0.3
REFUSED_SHARE: Final = 0.05
DAYS_WITHOUT_RANGE: Final = 7
DAYS_NAMED: Final = 10
PARTITION_TAG: Final = "dagster/partition"


_OUT: Final = "days taken out of the feature store"


def _spec(
    name: str, asset: dg.AssetKey, description: str, *, blocking: bool = True, other: dg.AssetKey | None = None
) -> dg.AssetCheckSpec:
    if blocking:
        description += " A day that fails is taken out of the feature store; every pass reads it again until it is good."
    return dg.AssetCheckSpec(
        name, asset=asset, description=description, blocking=blocking, additional_deps=[other] if other else None
    )


_DAY_SPECS = [
    _spec("review_keys_unique", HUMAN_FEEDBACK, "A review counts once for an output."),
    _spec("review_values_valid", HUMAN_FEEDBACK, "Keys present, decisions known, scores within bounds, days as read."),
    _spec("few_reviews_refused", HUMAN_FEEDBACK, "Few reviews stand in the ledger of refused input.", blocking=False),
    _spec("output_keys_unique", FEATURE_TABLE, "An output has one row for a day.", other=HUMAN_FEEDBACK),
    _spec("no_reviewed_output_lost", FEATURE_TABLE, "Every output reviewed on a day has its row.", other=HUMAN_FEEDBACK),
    _spec("feature_values_valid", FEATURE_TABLE, "Features are finite numbers within what they can be."),
    _spec(
        "few_values_missing", FEATURE_TABLE, "Few values are missing among the features that are recorded at all.", blocking=False
    ),
]


@dg.multi_asset_check(name="reviewed_days_checks", specs=_DAY_SPECS)
def reviewed_days_checks(
    context: dg.AssetCheckExecutionContext,
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
) -> Iterator[dg.AssetCheckResult]:
    """Looks at the days of this run, once for all checks; takes out what must not be learned from."""
    first, last = days_of(context.run.tags, datetime.now(UTC).date())
    # Without retries: a second look would find the days taken out, and nothing wrong with what is left.
    with in_own_words():
        store = feature_store.open(database.open())
        stored = [day for day in store.days() if first <= day <= last]
        with withdrawn_unless_done(store, stored):
            results = _look(database, store, stored, (first, last))
    yield from results


def _look(
    database: DatabaseResource, store: "FeatureStore", stored: Sequence[date], span: tuple[date, date]
) -> list[dg.AssetCheckResult]:
    bounds = Settings().score_bounds
    reviews, outputs = store.read_tables(*span)
    blocking = _blocking_evidence(reviews, outputs, span, bounds)
    out: list[date] = []
    if not _passes(blocking):
        out = bad_days(stored, lambda *part: _passes(_blocking_evidence(*store.read_tables(*part), part, bounds)))
        withdraw(store, out)
    results = [check_result(asset, name, evidence, out=out) for (asset, name), evidence in blocking.items()]
    return [
        *results,
        check_result(HUMAN_FEEDBACK, "few_reviews_refused", _refused(database), warning=True),
        check_result(FEATURE_TABLE, "few_values_missing", missing_values(outputs, MISSING_SHARE), warning=True),
    ]


def _blocking_evidence(
    reviews: "pa.Table", outputs: "pa.Table", span: tuple[date, date], bounds: ScoreBounds
) -> dict[tuple[dg.AssetKey, str], Evidence]:
    lost, surplus = unpaired_outputs(reviews, outputs)
    return {
        (HUMAN_FEEDBACK, "review_keys_unique"): duplicate_reviews(reviews),
        (HUMAN_FEEDBACK, "review_values_valid"): unusable_reviews(reviews, span, bounds),
        (FEATURE_TABLE, "output_keys_unique"): surplus,
        (FEATURE_TABLE, "no_reviewed_output_lost"): lost,
        (FEATURE_TABLE, "feature_values_valid"): unusable_features(outputs),
    }


def _passes(evidence: Mapping[tuple[dg.AssetKey, str], Evidence]) -> bool:
    return all(found.passed for found in evidence.values())


@dg.asset_check(
    asset=QUALITY_CORRELATIONS,
    name="findings_valid",
    blocking=True,
    description="A pair is tested once for an agent; correlations, probabilities and intervals are within what they can be.",
)
def findings_valid(
    database: DatabaseResource,
    feature_store: FeatureStoreResource,
    learning_lock: LearningLock,  # held, not called
) -> dg.AssetCheckResult:
    """Looks at the findings of the latest learning run before they are published."""
    from feedback_pipeline.orchestration.finding_evidence import unusable_findings

    with in_own_words():
        frames, _ = latest_result(feature_store.open(database.open()), QUALITY_CORRELATIONS)
        return check_result(QUALITY_CORRELATIONS, "findings_valid", unusable_findings(frames["findings"]))


checks = [reviewed_days_checks, findings_valid]


def latest_result(store: "FeatureStore", asset: dg.AssetKey) -> "tuple[dict[str, pd.DataFrame], dict[str, Any]]":
    """Frames and facts of the latest learning run that has a result of this asset.

    Raises:
        StoreError: there is none.
    """
    name = asset.path[-1]
    learning_run_id = store.latest(name)
    if learning_run_id is None:
        raise StoreError(f"there is no result of {name}; materialize {name}")
    return store.read_result(learning_run_id, name)


def days_of(tags: Mapping[str, str], today: date) -> tuple[date, date]:
    """First and last day of a run: its range, its one day, or, run without a day, the last week."""
    if RANGE_START_TAG in tags:
        return date.fromisoformat(tags[RANGE_START_TAG]), date.fromisoformat(tags[RANGE_END_TAG])
    if PARTITION_TAG in tags:
        day = date.fromisoformat(tags[PARTITION_TAG])
        return day, day
    return today - timedelta(days=DAYS_WITHOUT_RANGE - 1), today


def _refused(database: DatabaseResource) -> Evidence:
    from feedback_pipeline.storage.source_counts import refused_reviews, source_row_counts

    plain = database.open()
    refused, (reviews, _) = refused_reviews(plain), source_row_counts(plain)["review_feedback"]
    return Evidence(refused / (refused + reviews) if refused else 0.0, REFUSED_SHARE, {"refused": refused, "reviews": reviews})


def check_result(
    asset: dg.AssetKey, name: str, evidence: Evidence, *, warning: bool = False, out: Sequence[date] = ()
) -> dg.AssetCheckResult:
    """What the check found, with what it observed and what it allows; `out` are the days withdrawn if it failed."""
    withdrawn = {_OUT: _days(out)} if out and not evidence.passed else {}
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=evidence.passed,
        severity=dg.AssetCheckSeverity.WARN if warning else dg.AssetCheckSeverity.ERROR,
        metadata={"observed": evidence.observed, "threshold": evidence.threshold, **evidence.details, **withdrawn},
    )


def _days(days: Sequence[date]) -> str:
    if len(days) > DAYS_NAMED:
        return f"{len(days)} days between {days[0]} and {days[-1]}"
    return ", ".join(day.isoformat() for day in days)
