"""What each reviewer wants, all reviewers in one pass: content, style, standards, and how well it foresees their decisions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.approval import ALL_APPROVED, NONE_APPROVED, ApprovalModel, fit_approval
from feedback_pipeline.learning.approval_direct import fit_direct_approval
from feedback_pipeline.learning.features import OVERALL, numeric_columns
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Panel, overall_scores
from feedback_pipeline.learning.preferences_accuracy import BY_FEATURES, BY_SCORE, HeldOut, decisions_of, held_out
from feedback_pipeline.learning.preferences_tastes import (
    Choice,
    LengthRange,
    StyleSlope,
    choices,
    length_ranges,
    style_slopes,
)
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import PersonalModel, ScoredRows, fit_score_model

_LOGIT_WIDTH = 10.0  # a fortieth of it is a quarter of a logit
_NO_DECISION = "no decision with a score in this aspect"


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
class Preferences:
    """All reviewers of a panel, and the models behind them.

    Attributes:
        reviewers: In the order of the panel's reviewers (R,).
        encoding: What the columns of the models mean.
        personal: Model of the overall score in points, or of approval in logits where there are no scores; None without both.
        route: BY_SCORE or BY_FEATURES, None where there is no model.
        approvals: Approval model of each aspect and of `overall` that has decisions with scores.
        failures: Why an aspect's approval model failed.
        held_out: Forward accuracy.
    """

    reviewers: tuple[ReviewerPreferences, ...]
    encoding: Encoding
    personal: PersonalModel | None
    route: str | None
    approvals: Mapping[str, ApprovalModel]
    failures: Mapping[str, str]
    held_out: HeldOut


def learn_preferences(panel: Panel, bounds: dict[str, tuple[float, float]], seed: int) -> Preferences:
    """Learn the preferences of every known reviewer; reviews of unknown ones are left out.

    Args:
        panel: Deduplicated reviews.
        bounds: (low, high) by aspect, "*" for the rest.
        seed: Of the draws behind probabilities.

    Raises:
        LearningError: the personal model did not converge; a single aspect's approval model that fails is in `failures`.
    """
    overall = overall_scores(panel.scores, panel.aspects, bounds)
    low, high = overall_bounds(panel.aspects, bounds)
    encoding = Encoding.of(panel.outputs, numeric_columns(panel.outputs.select_dtypes("number").columns))
    columns = encoding.encode(panel.outputs)
    personal, route = _personal_model(panel, overall, encoding, columns)
    approvals, failures = _approval_models(panel, overall)
    forward = held_out(panel, overall, encoding, columns)
    return Preferences(
        _rows(panel, personal, route, approvals, failures, forward, (low, high), seed),
        encoding,
        personal,
        route,
        approvals,
        failures,
        forward,
    )


def overall_bounds(aspects: tuple[str, ...], bounds: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """Bounds of the overall score: the aspects' own where they agree, else 0..10."""
    limits = {bounds.get(aspect, bounds["*"]) for aspect in aspects} or {bounds["*"]}
    return limits.pop() if len(limits) == 1 else (0.0, 10.0)


def _personal_model(
    panel: Panel, overall: Floats, encoding: Encoding, columns: npt.NDArray[np.floating]
) -> tuple[PersonalModel | None, str | None]:
    rows = ScoredRows.of(panel, encoding, columns, overall)
    if len(rows.score):
        return fit_score_model(encoding, rows), BY_SCORE
    approved = decisions_of(panel)
    decided = ~np.isnan(approved) & (panel.review_reviewer != UNKNOWN_REVIEWER)
    if not decided.any():
        return None, None
    model = fit_direct_approval(
        encoding,
        columns,
        panel.review_output[decided],
        panel.review_agent[decided],
        panel.review_reviewer[decided],
        approved[decided],
        n_agents=len(panel.agents),
        n_reviewers=len(panel.reviewers),
    )
    return model, BY_FEATURES


def _approval_models(panel: Panel, overall: Floats) -> tuple[dict[str, ApprovalModel], dict[str, str]]:
    approved = decisions_of(panel)
    known = ~np.isnan(approved) & (panel.review_reviewer != UNKNOWN_REVIEWER)
    models: dict[str, ApprovalModel] = {}
    failures: dict[str, str] = {}
    scores = np.column_stack([panel.scores, overall])
    for k, aspect in enumerate((*panel.aspects, OVERALL)):
        rows = known & ~np.isnan(scores[:, k])
        if not rows.any():
            continue
        try:
            models[aspect] = fit_approval(scores[rows, k], approved[rows], panel.review_reviewer[rows], len(panel.reviewers))
        except LearningError as error:
            failures[aspect] = str(error)
    return models, failures


def _rows(
    panel: Panel,
    personal: PersonalModel | None,
    route: str | None,
    approvals: dict[str, ApprovalModel],
    failures: dict[str, str],
    forward: HeldOut,
    bounds: tuple[float, float],
    seed: int,
) -> tuple[ReviewerPreferences, ...]:
    n = len(panel.reviewers)
    reason = "no score and no decision of a known reviewer"
    tones = structures = [Choice(None, np.nan, reason)] * n
    lengths: list[LengthRange] = [LengthRange(None, None, None, None, reason)] * n
    styles: list[tuple[StyleSlope, ...]] = [()] * n
    samples = np.zeros(n)
    if personal is not None:
        tones, structures = choices(personal, "tone", seed), choices(personal, "structure", seed)
        lengths = length_ranges(personal, bounds[1] - bounds[0] if route == BY_SCORE else _LOGIT_WIDTH, seed)
        styles, samples = style_slopes(personal), personal.model.rows
    rows = []
    for r, reviewer_id in enumerate(panel.reviewers):
        standards = {aspect: _standard(approvals.get(aspect), failures.get(aspect), r) for aspect in (*panel.aspects, OVERALL)}
        whole = standards[OVERALL]
        threshold = None if whole.s80 is None else min(max((whole.s80 - bounds[0]) / (bounds[1] - bounds[0]), 0.0), 1.0)
        tested = int(forward.n_test[r])
        rows.append(
            ReviewerPreferences(
                str(reviewer_id),
                int(samples[r]),
                tones[r],
                structures[r],
                lengths[r],
                threshold,
                whole.reason,
                styles[r],
                standards,
                float(forward.accuracy[r]) if tested else None,
                float(forward.baseline[r]) if tested else None,
                tested,
            )
        )
    return tuple(rows)


def _standard(model: ApprovalModel | None, failure: str | None, reviewer: int) -> Standard:
    if model is None:
        return Standard(None, None, None, 0, None, failure or _NO_DECISION)
    n = int(model.n[reviewer])
    censored = {ALL_APPROVED: "all approved", NONE_APPROVED: "none approved"}.get(int(model.censored[reviewer]))
    if model.reason is not None or n == 0:
        return Standard(None, None, None, n, censored, model.reason or _NO_DECISION)
    return Standard(float(model.s50[reviewer]), float(model.s80[reviewer]), float(model.se[reviewer]), n, censored, None)
