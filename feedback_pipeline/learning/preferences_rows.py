"""One row per reviewer: what they want, as far as the data show it, and why where they do not."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from feedback_pipeline.learning.approval import ALL_APPROVED, NONE_APPROVED, ApprovalModel
from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.preferences_accuracy import HeldOut
from feedback_pipeline.learning.preferences_foresight import BY_SCORE, Foresight
from feedback_pipeline.learning.preferences_tastes import (
    Choice,
    LengthRange,
    StyleSlope,
    choices,
    length_ranges,
    style_slopes,
)

_LOGIT_WIDTH = 10.0  # a fortieth of it is a quarter of a logit
_NO_DECISION = "no decision with a score in this aspect"
_NOTHING = "no score and no decision of a known reviewer"
_CENSORED = {ALL_APPROVED: "all approved", NONE_APPROVED: "none approved"}


@dataclass(frozen=True)
class Standard:
    """How high an aspect must score for a reviewer to approve.

    Attributes:
        s50: Score at which half of the outputs are approved, points; None where undefined.
        s80: Score at which four of five are.
        se: Standard error of both.
        n: Decisions with a score it rests on.
        censored: "all approved" (the standard is at most s50), "none approved" (at least), or None.
        reason: Why it is undefined.
    """

    s50: float | None
    s80: float | None
    se: float | None
    n: int
    censored: str | None
    reason: str | None


@dataclass(frozen=True)
class ReviewerPreferences:
    """What one reviewer wants.

    Attributes:
        reviewer_id: Who.
        training_samples: Reviews the tastes rest on.
        preferred_tone: Tone liked best; structure_preference: structure liked best; content_length: lengths liked.
        example_quality_threshold: s80 of the overall score as a share of its scale, within 0..1; None without a standard.
        threshold_reason: Why there is none.
        style: Style features that move this reviewer differently.
        quality_standards: By aspect, and `overall`.
        accuracy: Share of the last fifth of this reviewer's decisions foreseen; baseline: by their own majority before;
            None without such a decision.
        n_test: Those decisions.
    """

    reviewer_id: str
    training_samples: int
    preferred_tone: Choice
    structure_preference: Choice
    content_length: LengthRange
    example_quality_threshold: float | None
    threshold_reason: str | None
    style: tuple[StyleSlope, ...]
    quality_standards: Mapping[str, Standard]
    accuracy: float | None
    baseline: float | None
    n_test: int


@dataclass(frozen=True)
class Tastes:
    """What the personal model shows of every reviewer, each a list in the order of the reviewers (R)."""

    rows: Floats
    tones: list[Choice]
    structures: list[Choice]
    lengths: list[LengthRange]
    styles: list[tuple[StyleSlope, ...]]

    @classmethod
    def of(cls, foresight: Foresight | None, n_reviewers: int, width: float, seed: int) -> "Tastes":
        """Read the tastes off the model; `width` is the range of the overall score."""
        if foresight is None:
            unknown = [Choice(None, np.nan, _NOTHING)] * n_reviewers
            lengths = [LengthRange(None, None, None, None, _NOTHING)] * n_reviewers
            return cls(np.zeros(n_reviewers), unknown, unknown, lengths, [()] * n_reviewers)
        personal = foresight.personal
        return cls(
            personal.model.rows,
            choices(personal, "tone", seed),
            choices(personal, "structure", seed),
            length_ranges(personal, width if foresight.route == BY_SCORE else _LOGIT_WIDTH, seed),
            style_slopes(personal),
        )


def standards_of(model: ApprovalModel | None, failure: str | None, n_reviewers: int) -> list[Standard]:
    """The standard of every reviewer (R) in one aspect; `failure` says why there is no model, if it failed."""
    if model is None:
        return [Standard(None, None, None, 0, None, failure or _NO_DECISION)] * n_reviewers
    columns = (model.s50, model.s80, model.se, model.n, model.censored)
    found = []
    for s50, s80, se, n, censored in zip(*(column.tolist() for column in columns), strict=True):
        reason = model.reason or (None if n else _NO_DECISION)
        censoring = _CENSORED.get(censored)
        found.append(
            Standard(s50, s80, se, n, censoring, None) if reason is None else Standard(None, None, None, n, censoring, reason)
        )
    return found


def reviewer_rows(
    reviewers: list[str],
    tastes: Tastes,
    standards: Mapping[str, list[Standard]],
    overall: str,
    bounds: tuple[float, float],
    held_out: HeldOut,
) -> tuple[ReviewerPreferences, ...]:
    """Put the rows together.

    Args:
        reviewers: Who (R).
        tastes: Of all of them.
        standards: Of all of them, by aspect.
        overall: The aspect that is the mean of the others.
        bounds: Of the overall score.
        held_out: How well their decisions are foreseen.
    """
    low, high = bounds
    rows = []
    for r, reviewer_id in enumerate(reviewers):
        own = {aspect: every[r] for aspect, every in standards.items()}
        s80, tested = own[overall].s80, int(held_out.n_test[r])
        rows.append(
            ReviewerPreferences(
                reviewer_id=reviewer_id,
                training_samples=int(tastes.rows[r]),
                preferred_tone=tastes.tones[r],
                structure_preference=tastes.structures[r],
                content_length=tastes.lengths[r],
                example_quality_threshold=None if s80 is None else min(max((s80 - low) / (high - low), 0.0), 1.0),
                threshold_reason=own[overall].reason,
                style=tastes.styles[r],
                quality_standards=own,
                accuracy=float(held_out.accuracy[r]) if tested else None,
                baseline=float(held_out.baseline[r]) if tested else None,
                n_test=tested,
            )
        )
    return tuple(rows)
