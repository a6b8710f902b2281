"""How well a reviewer's decisions are foreseen: models of the earlier reviews, held against the later ones."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.approval import averaged_logistic, fit_approval
from feedback_pipeline.learning.approval_direct import fit_direct_approval
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Ints, Panel
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import ScoredRows, fit_score_model

_HELD_OUT = 0.2
_FEWEST_TESTS = 20
_CERTAIN = 1e-6

BY_SCORE = "expected score"
BY_FEATURES = "features"


@dataclass(frozen=True)
class HeldOut:
    """Decisions that were foreseen before they were made.

    Attributes:
        accuracy: Share foreseen of each reviewer (R,), NaN without a held-out decision.
        baseline: Share that the reviewer's own earlier majority foresees (R,).
        n_test: Held-out decisions of each reviewer (R,).
        overall_accuracy: Share of all held-out decisions foreseen; overall_baseline: by the reviewers' own majorities.
        log_loss: Mean log loss of the probabilities.
        route: How: by the expected score, by features alone where there are no scores, or None.
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


def decisions_of(panel: Panel) -> Floats:
    """1 where a review approves, 0 where it does not, NaN without a decision (M,)."""
    decision = panel.reviews["decision"]
    approves = (decision == "approve").to_numpy(dtype=bool, na_value=False)
    return np.where(decision.notna().to_numpy(), approves.astype(np.float64), np.nan)


def held_out(panel: Panel, score: Floats, encoding: Encoding, columns: npt.NDArray[np.floating]) -> HeldOut:
    """Learn from the earlier four fifths of the decided reviews and foresee the last fifth from what is known before a review.

    Args:
        panel: Deduplicated reviews; those of unknown reviewers are left out.
        score: Score of each review (M,), NaN where it has none.
        encoding: What the columns mean.
        columns: Encoded outputs of the panel (N, P).

    Raises:
        LearningError: a model did not converge.
    """
    approved = decisions_of(panel)
    known = panel.review_reviewer != UNKNOWN_REVIEWER
    decided = known & ~np.isnan(approved)
    moment = panel.reviews["reviewed_at"].astype(np.int64).to_numpy(dtype=np.int64)
    n_reviewers = len(panel.reviewers)
    if not decided.any():
        return _nothing(n_reviewers, "no decision of a known reviewer")
    cut = np.quantile(moment[decided], 1.0 - _HELD_OUT, method="lower")
    before, test = known & (moment <= cut), decided & (moment > cut)
    if test.sum() < _FEWEST_TESTS:
        return _nothing(n_reviewers, f"fewer than {_FEWEST_TESTS} decisions in the last fifth of the time")
    scored = before & decided & ~np.isnan(score)
    if scored.any():
        p = _by_score(panel, score, approved, encoding, columns, before, test)
    else:
        p = _by_features(panel, approved, encoding, columns, before & decided, test)
    route = BY_SCORE if scored.any() else BY_FEATURES
    majority = _majority(panel.review_reviewer, approved, before & decided, n_reviewers)
    return _summary(panel.review_reviewer[test], approved[test], p, majority, route)


def _nothing(n_reviewers: int, reason: str) -> HeldOut:
    none = np.full(n_reviewers, np.nan)
    return HeldOut(none, none, np.zeros(n_reviewers, dtype=np.intp), np.nan, np.nan, np.nan, None, reason)


def _by_score(
    panel: Panel,
    score: Floats,
    approved: Floats,
    encoding: Encoding,
    columns: npt.NDArray[np.floating],
    before: npt.NDArray[np.bool_],
    test: npt.NDArray[np.bool_],
) -> Floats:
    rows = ScoredRows.of(panel, encoding, columns, np.where(before, score, np.nan))
    scores = fit_score_model(encoding, rows)
    both = before & ~np.isnan(score) & ~np.isnan(approved)
    approval = fit_approval(score[both], approved[both], panel.review_reviewer[both], len(panel.reviewers))
    reviewer = panel.review_reviewer[test]
    mean, variance = scores.predict(columns, panel.review_output[test], panel.review_agent[test], reviewer)
    return approval.probability(mean, variance + scores.model.variances.noise, reviewer)


def _by_features(
    panel: Panel,
    approved: Floats,
    encoding: Encoding,
    columns: npt.NDArray[np.floating],
    before: npt.NDArray[np.bool_],
    test: npt.NDArray[np.bool_],
) -> Floats:
    fit = fit_direct_approval(
        encoding,
        columns,
        panel.review_output[before],
        panel.review_agent[before],
        panel.review_reviewer[before],
        approved[before],
        n_agents=len(panel.agents),
        n_reviewers=len(panel.reviewers),
    )
    mean, variance = fit.predict(columns, panel.review_output[test], panel.review_agent[test], panel.review_reviewer[test])
    return averaged_logistic(mean, variance)


def _majority(reviewer: Ints, approved: Floats, rows: npt.NDArray[np.bool_], n_reviewers: int) -> Floats:
    """What each reviewer decided more often (R,); the population's majority on a tie or without a decision."""
    votes = np.bincount(reviewer[rows], weights=2.0 * approved[rows] - 1.0, minlength=n_reviewers)
    common = float(approved[rows].mean() > 0.5)
    return np.where(votes > 0, 1.0, np.where(votes < 0, 0.0, common))


def _summary(reviewer: Ints, approved: Floats, p: Floats, majority: Floats, route: str) -> HeldOut:
    n_reviewers = len(majority)
    n_test = np.bincount(reviewer, minlength=n_reviewers).astype(np.intp)
    foreseen = ((p > 0.5) == (approved > 0.5)).astype(np.float64)
    plain = (majority[reviewer] == approved).astype(np.float64)
    sure = np.clip(p, _CERTAIN, 1.0 - _CERTAIN)
    loss = -np.where(approved > 0.5, np.log(sure), np.log(1.0 - sure))
    shares = [
        np.divide(
            np.bincount(reviewer, weights=hit, minlength=n_reviewers), n_test, out=np.full(n_reviewers, np.nan), where=n_test > 0
        )
        for hit in (foreseen, plain)
    ]
    return HeldOut(shares[0], shares[1], n_test, float(foreseen.mean()), float(plain.mean()), float(loss.mean()), route, None)
