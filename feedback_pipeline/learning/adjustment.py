"""Severity of every aspect of a panel, and the scores with it taken out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.linalg import LinAlgError
from threadpoolctl import threadpool_limits

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.mixed_model import ReviewDesign
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Panel, overall_scores
from feedback_pipeline.learning.severity import Severity, fallback_severity, severity_of


@dataclass(frozen=True)
class Adjustment:
    """Severity-adjusted scores of a panel.

    Attributes:
        aspects: The panel's aspects and, last, `overall` (K + 1,).
        raw: Scores (M, K + 1); adjusted: raw minus the reviewer's severity, nothing else.
        severities: One estimate per aspect.
        failures: Why the joint model of an aspect failed, by aspect; agent means stand in there.
    """

    aspects: tuple[str, ...]
    raw: Floats
    adjusted: Floats
    severities: tuple[Severity, ...]
    failures: Mapping[str, str] = field(default_factory=dict)


def adjust(panel: Panel, bounds: dict[str, tuple[float, float]]) -> Adjustment:
    """Estimate the severity of every reviewer in every aspect and take it out of the scores.

    Reviews of unknown reviewers keep their score and stay out of the estimate.

    Args:
        panel: Deduplicated reviews.
        bounds: (low, high) by aspect, "*" for the rest.
    """
    overall = overall_scores(panel.scores, panel.aspects, bounds)
    raw = np.column_stack([panel.scores, overall])
    adjusted = raw.copy()
    known = panel.review_reviewer != UNKNOWN_REVIEWER
    aspects = (*panel.aspects, OVERALL)
    severities, failures = [], {}
    rows, design = known, None
    # On a busy machine the threads of a small matrix inverse wait for each other far longer than one thread works.
    with threadpool_limits(limits=1, user_api="blas"):
        for k, aspect in enumerate(aspects):
            scored = known & ~np.isnan(raw[:, k])
            if design is None or not np.array_equal(scored, rows):
                # Aspects that the same reviews score share their design.
                rows, design = scored, _design(panel, scored)
            try:
                severity = severity_of(design, raw[rows, k])
            except (LearningError, LinAlgError) as error:
                # One aspect in trouble keeps its reason and leaves the others as they are.
                failures[aspect] = str(error)
                severity = fallback_severity(design, raw[rows, k], reason=str(error))
            adjusted[rows, k] -= severity.value[panel.review_reviewer[rows]]
            severities.append(severity)
    return Adjustment(aspects, raw, adjusted, tuple(severities), failures)


def _design(panel: Panel, rows: npt.NDArray[np.bool_]) -> ReviewDesign:
    return ReviewDesign.of(panel.review_agent[rows], panel.review_output[rows], panel.review_reviewer[rows], len(panel.reviewers))


def severity_frame(panel: Panel, adjustment: Adjustment) -> pd.DataFrame:
    """One row per reviewer and aspect with a score: severity in raw points, positive = gives more than average."""
    frames = []
    for aspect, severity in zip(adjustment.aspects, adjustment.severities, strict=True):
        frame = pd.DataFrame(
            {
                "reviewer_id": panel.reviewers,
                "aspect": aspect,
                "severity": severity.value,
                "se": severity.se,
                "n_reviews": severity.n_reviews,
                "component": severity.component,
                "comparable": severity.comparable,
                "method": severity.method,
                "reason": severity.reason,
            }
        )
        frames.append(frame[frame["n_reviews"] > 0])
    return pd.concat(frames, ignore_index=True)
