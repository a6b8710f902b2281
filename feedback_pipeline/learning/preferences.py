"""What each reviewer wants, all reviewers in one pass: content, style, standards, and how well it foresees their decisions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.approval import ApprovalModel
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.panel import Panel, overall_scores
from feedback_pipeline.learning.preferences_accuracy import HeldOut, held_out
from feedback_pipeline.learning.preferences_foresight import Foresight, Reviews, fit_aspect, learn_foresight
from feedback_pipeline.learning.preferences_rows import ReviewerPreferences, Tastes, reviewer_rows, standards_of
from feedback_pipeline.learning.reviewers_score import PersonalModel


@dataclass(frozen=True)
class Preferences:
    """All reviewers of a panel, and the models behind them.

    Attributes:
        reviewers: In the order of the panel's reviewers (R,).
        foresight: What to expect of a review; None without any score or decision.
        approvals: Approval model of each aspect and of `overall` that has decisions with scores.
        failures: Why an aspect's approval model failed.
        held_out: Forward accuracy.
    """

    reviewers: tuple[ReviewerPreferences, ...]
    foresight: Foresight | None
    approvals: Mapping[str, ApprovalModel]
    failures: Mapping[str, str]
    held_out: HeldOut

    @property
    def personal(self) -> PersonalModel | None:
        """Effects of features on everybody and on each reviewer, in points or logits."""
        return None if self.foresight is None else self.foresight.personal

    @property
    def route(self) -> str | None:
        """Whether the personal model is one of scores or of decisions."""
        return None if self.foresight is None else self.foresight.route


def learn_preferences(panel: Panel, bounds: dict[str, tuple[float, float]], seed: int) -> Preferences:
    """Learn the preferences of every known reviewer; reviews of unknown ones are left out.

    Args:
        panel: Deduplicated reviews.
        bounds: (low, high) by aspect, "*" for the rest.
        seed: Of the draws behind probabilities.

    Raises:
        LearningError: the personal model did not converge; a single aspect's approval model that fails is in `failures`.
    """
    low, high = overall_bounds(panel.aspects, bounds)
    reviews = Reviews.of(panel, overall_scores(panel.scores, panel.aspects, bounds))
    approvals, failures = _approval_models(reviews, panel.aspects)
    foresight = learn_foresight(reviews, approvals.get(OVERALL))
    forward = held_out(reviews)
    n = len(panel.reviewers)
    standards = {aspect: standards_of(approvals.get(aspect), failures.get(aspect), n) for aspect in (*panel.aspects, OVERALL)}
    names = [str(reviewer) for reviewer in panel.reviewers]
    tastes = Tastes.of(foresight, n, high - low, seed)
    rows = reviewer_rows(names, tastes, standards, OVERALL, (low, high), forward)
    return Preferences(rows, foresight, approvals, failures, forward)


def overall_bounds(aspects: tuple[str, ...], bounds: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """Bounds of the overall score: the aspects' own where they agree, else 0..10."""
    limits = {bounds.get(aspect, bounds["*"]) for aspect in aspects} or {bounds["*"]}
    return limits.pop() if len(limits) == 1 else (0.0, 10.0)


def _approval_models(reviews: Reviews, aspects: tuple[str, ...]) -> tuple[dict[str, ApprovalModel], dict[str, str]]:
    models: dict[str, ApprovalModel] = {}
    failures: dict[str, str] = {}
    scores = np.column_stack([reviews.aspects, reviews.score])
    for k, aspect in enumerate((*aspects, OVERALL)):
        try:
            model = fit_aspect(reviews, scores[:, k])
        except LearningError as error:
            failures[aspect] = str(error)
            continue
        if model is not None:
            models[aspect] = model
    return models, failures
