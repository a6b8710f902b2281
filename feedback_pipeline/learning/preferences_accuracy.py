"""How well a reviewer's decisions are foreseen: models of the earlier reviews, held against the later ones."""

from dataclasses import dataclass

import numpy as np

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.preferences_foresight import Reviews, fit_aspect, learn_foresight, start_of_latest

_FEWEST_TESTS = 20
_CERTAIN = 1e-6


@dataclass(frozen=True)
class HeldOut:
    """Decisions that were foreseen before they were made.

    Attributes:
        accuracy: Share foreseen of each reviewer (R,), NaN without a held-out decision.
        baseline: Share that the reviewer's own earlier majority foresees (R,); everybody's for one without earlier decisions.
        n_test: Held-out decisions of each reviewer (R,).
        overall_accuracy: Share of all held-out decisions foreseen; overall_baseline: by the reviewers' own majorities.
        log_loss: Mean log loss of the probabilities.
        route: How: by the expected score, by features alone where there are few scores, or None.
        reason: Why nothing was held out, or None.
    """

    accuracy: Floats
    baseline: Floats
    n_test: Ints
    overall_accuracy: float
    overall_baseline: float
    log_loss: float
    route: str | None
    reason: str | None


def held_out(reviews: Reviews) -> HeldOut:
    """Learn from the earlier reviews and foresee the later decisions, about a fifth, from what is known before a review.

    All that is learned from scores or decisions, the agents' levels included, is learned from the earlier reviews; only the
    scales of the features are those of all outputs. What cannot be tested comes with the reason.
    """
    decided = reviews.decided
    if not decided.any():
        return _nothing(reviews, "no decision of a known reviewer")
    if decided.sum() < _FEWEST_TESTS:
        return _nothing(reviews, f"fewer than {_FEWEST_TESTS} decisions of known reviewers")
    start = start_of_latest(reviews.moment[decided])
    if start is None:
        return _nothing(reviews, "the decisions cannot be parted in earlier and later ones: too many have the same time")
    late = reviews.moment >= start
    earlier, later = reviews.only(~late), reviews.only(late & decided)
    if len(later.output) < _FEWEST_TESTS:
        return _nothing(reviews, f"fewer than {_FEWEST_TESTS} decisions in the last fifth of the time")
    try:
        foresight = learn_foresight(earlier, fit_aspect(earlier, earlier.score))
    except LearningError as error:
        return _nothing(reviews, str(error))
    p = foresight.probability(later) if foresight is not None else None
    if foresight is None or p is None:
        return _nothing(reviews, "the earlier reviews hold no decision to learn from")
    return _summary(later, p, _majority(earlier), foresight.route)


def _nothing(reviews: Reviews, reason: str) -> HeldOut:
    none = np.full(reviews.n_reviewers, np.nan)
    return HeldOut(none, none, np.zeros(reviews.n_reviewers, dtype=np.intp), np.nan, np.nan, np.nan, None, reason)


def _majority(reviews: Reviews) -> Floats:
    """What each reviewer decided more often (R,); the majority of all on a tie or without a decision."""
    rows = reviews.only(reviews.decided)
    votes = group_sums(rows.reviewer, 2.0 * rows.approved - 1.0, rows.n_reviewers)
    common = float(rows.approved.mean() > 0.5)
    return np.where(votes > 0, 1.0, np.where(votes < 0, 0.0, common))


def _summary(later: Reviews, p: Floats, majority: Floats, route: str) -> HeldOut:
    reviewer, approved = later.reviewer, later.approved > 0.5
    n_test = np.bincount(reviewer, minlength=later.n_reviewers).astype(np.intp)
    foreseen = ((p > 0.5) == approved).astype(np.float64)
    plain = ((majority[reviewer] > 0.5) == approved).astype(np.float64)
    sure = np.clip(p, _CERTAIN, 1.0 - _CERTAIN)
    loss = -np.log(np.where(approved, sure, 1.0 - sure))
    with np.errstate(invalid="ignore"):
        accuracy, baseline = (group_sums(reviewer, hit, later.n_reviewers) / n_test for hit in (foreseen, plain))
    return HeldOut(accuracy, baseline, n_test, float(foreseen.mean()), float(plain.mean()), float(loss.mean()), route, None)
