"""Each reviewer as the documents others read: severity, content and style preferences, quality standards, accuracy.

What is undefined is None, and the reason stands beside it.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.adjustment import Adjustment
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Panel
from feedback_pipeline.learning.preferences import Preferences
from feedback_pipeline.learning.preferences_foresight import BY_FEATURES, BY_SCORE
from feedback_pipeline.learning.preferences_rows import ReviewerPreferences, Standard
from feedback_pipeline.learning.severity import NOT_ESTIMATED
from feedback_pipeline.learning.severity_drift import SeverityDrift

Document = dict[str, Any]

MODEL_DOCUMENTS: Final = ("severity", "content_preferences", "style_preferences", "quality_standards")
STYLE_UNITS: Final = {
    BY_SCORE: "points per standard deviation of the feature, on top of what it does to everybody",
    BY_FEATURES: "logits of approval per standard deviation of the feature, on top of what it does to everybody",
}
_NOT_SCORED: Final = "no score in this aspect"
_NO_STYLE: Final = "no feature of style moves this reviewer differently from the others with 95 % probability"
_NO_NUMBER: Final = "the decisions follow the score too little: the standard lies beyond every number"
_NEVER_TESTED: Final = "no decision of this reviewer was held out"


def preference_models(panel: Panel, adjustment: Adjustment, preferences: Preferences | str, drift: SeverityDrift) -> pd.DataFrame:
    """One row per known reviewer.

    Args:
        panel: Deduplicated reviews.
        adjustment: Severities of the same panel.
        preferences: What was learned, or the reason why nothing could be.
        drift: Severity over time.

    Returns:
        Columns reviewer_id, training_samples (own reviews), severity, content_preferences, style_preferences,
        quality_standards (documents), model_accuracy, baseline_accuracy (NaN where nothing was held out), n_test, reason (why
        the accuracy is undefined) and reviews_digest (changes when, and only when, the reviewer's own reviews do).
    """
    count = np.bincount(panel.review_reviewer[panel.review_reviewer != UNKNOWN_REVIEWER], minlength=len(panel.reviewers))
    rows: dict[str, list[Any]] = {
        "reviewer_id": panel.reviewers.tolist(),
        "training_samples": count.tolist(),
        "severity": severity_documents(adjustment, drift, panel.reviewers.tolist()),
    }
    learned = [None] * len(count) if isinstance(preferences, str) else preferences.reviewers
    failure = preferences if isinstance(preferences, str) else None
    rows["content_preferences"] = [_content(one, failure) for one in learned]
    unit = None if isinstance(preferences, str) else STYLE_UNITS.get(preferences.route or "")
    rows["style_preferences"] = [_style(one, unit, failure) for one in learned]
    rows["quality_standards"] = [_standards(one, adjustment.aspects, failure) for one in learned]
    forward = None if isinstance(preferences, str) else preferences.held_out
    rows["model_accuracy"] = [None if one is None else one.accuracy for one in learned]
    rows["baseline_accuracy"] = [None if one is None else one.baseline for one in learned]
    rows["n_test"] = [0 if one is None else one.n_test for one in learned]
    untested = failure or (forward and forward.reason) or _NEVER_TESTED
    rows["reason"] = [None if n else untested for n in rows["n_test"]]
    frame = pd.DataFrame({name: pd.Series(values, dtype=_DTYPES.get(name, object)) for name, values in rows.items()})
    return frame.assign(reviews_digest=reviews_digests(panel))


_DTYPES: Final[Mapping[str, type]] = {"training_samples": int, "model_accuracy": float, "baseline_accuracy": float, "n_test": int}


def severity_documents(adjustment: Adjustment, drift: SeverityDrift, reviewer_ids: list[str]) -> list[Document]:
    """{overall, aspects, se, comparable, reasons, drift} of each reviewer: points, positive = gives more than average."""
    changes = {row.pop("reviewer_id"): row for row in drift.reviewers.to_dict("records")}
    value, se = ({name: _column(adjustment, k, part) for k, name in enumerate(adjustment.aspects)} for part in ("value", "se"))
    documents = []
    for r, reviewer_id in enumerate(reviewer_ids):
        reasons = {
            name: severity.reason if severity.n_reviews[r] else _NOT_SCORED
            for name, severity in zip(adjustment.aspects, adjustment.severities, strict=True)
        }
        documents.append(
            {
                "overall": value[OVERALL][r],
                "aspects": {name: values[r] for name, values in value.items() if name != OVERALL},
                "se": {name: errors[r] for name, errors in se.items()},
                "comparable": bool(adjustment.severities[-1].comparable[r]),
                "reasons": {name: reason for name, reason in reasons.items() if reason},
                "drift": _drift(changes.get(reviewer_id)),
            }
        )
    return documents


def _column(adjustment: Adjustment, k: int, part: str) -> list[float | None]:
    severity = adjustment.severities[k]
    known = (severity.n_reviews > 0) & (severity.method != NOT_ESTIMATED)
    values = np.where(known, getattr(severity, part), np.nan)
    return [_number(value) for value in values.tolist()]


def _drift(change: Mapping[Any, Any] | None) -> Document:
    if change is None:
        return {"drifted": None, "q_value": None, "spread": None, "n_months": 0, "reason": "no score"}
    tested = change["reason"] is None
    return {
        "drifted": bool(change["drifted"]) if tested else None,
        "q_value": _number(change["q_value"]),
        "spread": _number(change["spread"]),
        "n_months": int(change["n_months"]),
        "reason": change["reason"],
    }


def _content(one: ReviewerPreferences | None, failure: str | None) -> Document:
    if one is None:
        nothing = ("preferred_tone", "content_length", "structure_preference", "example_quality_threshold")
        probabilities = {"preferred_tone_probability": None, "structure_preference_probability": None}
        return dict.fromkeys(nothing) | probabilities | {"reasons": dict.fromkeys(nothing, failure)}
    length = one.content_length
    known = length.best is not None
    reasons = {
        "preferred_tone": one.preferred_tone.reason,
        "content_length": length.reason,
        "structure_preference": one.structure_preference.reason,
        "example_quality_threshold": one.threshold_reason,
    }
    return {
        "preferred_tone": one.preferred_tone.value,
        "preferred_tone_probability": _number(one.preferred_tone.probability),
        "content_length": {name: getattr(length, name) for name in ("min", "max", "best", "sd")} if known else None,
        "structure_preference": one.structure_preference.value,
        "structure_preference_probability": _number(one.structure_preference.probability),
        "example_quality_threshold": one.example_quality_threshold,
        "reasons": {name: reason for name, reason in reasons.items() if reason},
    }


def _style(one: ReviewerPreferences | None, unit: str | None, failure: str | None) -> Document:
    slopes: Document = {}
    for slope in one.style if one is not None else ():
        slopes[slope.feature] = {name: getattr(slope, name) for name in ("difference", "se", "population", "probability")}
    return {"slopes": slopes, "unit": unit, "reason": None if slopes else failure or _NO_STYLE}


def _standards(one: ReviewerPreferences | None, aspects: tuple[str, ...], failure: str | None) -> Document:
    if one is None:
        nothing = {"s50": None, "s80": None, "se": None, "n": 0, "censored": None, "reason": failure}
        return {aspect: dict(nothing) for aspect in aspects}
    return {aspect: _of_standard(standard) for aspect, standard in one.quality_standards.items()}


def _of_standard(standard: Standard) -> Document:
    numbers = {name: _number(getattr(standard, name)) for name in ("s50", "s80", "se")}
    reason = standard.reason or (None if None not in numbers.values() else _NO_NUMBER)
    return numbers | {"n": standard.n, "censored": standard.censored, "reason": reason}


def reviews_digests(panel: Panel) -> list[str]:
    """A digest of each reviewer's own reviews (R,): the order of rows and aspects that others score do not matter."""
    reviews = panel.reviews
    keys = reviews[["feedback_id", "stage", "decision", "reviewed_at"]].astype({"stage": object, "decision": object})
    outputs = panel.outputs[["agent_name", "execution_id"]].iloc[panel.review_output].reset_index(drop=True)
    total = pd.util.hash_pandas_object(pd.concat([keys.reset_index(drop=True), outputs], axis=1), index=False).to_numpy(copy=True)
    for aspect, column in zip(panel.aspects, panel.scores.T, strict=True):
        given = ~np.isnan(column)
        marked = pd.DataFrame({"aspect": aspect, "score": column[given]})
        total[given] += pd.util.hash_pandas_object(marked, index=False).to_numpy()
    own = np.zeros(len(panel.reviewers), dtype=np.uint64)
    known = panel.review_reviewer != UNKNOWN_REVIEWER
    # Sums of hashes wrap around; that keeps them independent of the order.
    np.add.at(own, panel.review_reviewer[known], total[known])
    return [f"{value:016x}" for value in own.tolist()]


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
