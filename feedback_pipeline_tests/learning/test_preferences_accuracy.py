from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.panel import overall_scores
from feedback_pipeline.learning.preferences_accuracy import held_out
from feedback_pipeline.learning.preferences_foresight import (
    BY_FEATURES,
    BY_SCORE,
    Reviews,
    fit_aspect,
    learn_foresight,
    start_of_latest,
)
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline_tests.worlds import BOUNDS, panel_of


def reviews_of(spec: WorldSpec) -> Reviews:
    panel = panel_of(simulate(spec))
    return Reviews.of(panel, overall_scores(panel.scores, panel.aspects, BOUNDS))


@pytest.fixture(scope="module")
def reviews() -> Reviews:
    return reviews_of(WorldSpec(agents=8, executions=100, reviewers=20, seed=3))


@pytest.mark.parametrize(
    ("moments", "start"),
    [
        (list(range(10)), 8),
        ([1, 1, 1, 2, 2, 2, 3, 3, 3], 3),  # three days: the last one, though it is a third
        ([1, 2, 2, 2, 2], None),  # nearly all on the last day
        ([1, 1, 2, 2], 2),
        ([7, 7, 7], None),
        ([7], None),
        ([], None),
        ([1] * 99 + [2], 2),
    ],
)
def test_the_latest_fifth_begins_between_two_moments(moments: list[int], start: int | None) -> None:
    assert start_of_latest(np.array(moments, dtype=np.int64)) == start


def test_reviews_of_the_same_time_cannot_be_held_out(reviews: Reviews) -> None:
    found = held_out(replace(reviews, moment=np.zeros_like(reviews.moment)))
    assert found.reason is not None
    assert "the same time" in found.reason
    assert np.isnan(found.accuracy).all()
    assert (found.n_test == 0).all()


def test_whole_days_are_held_out_whole(reviews: Reviews) -> None:
    day = np.arange(len(reviews.moment)) % 3
    found = held_out(replace(reviews, moment=day))
    assert found.reason is None
    assert found.n_test.sum() == (reviews.decided & (day == 2)).sum()


def test_the_baseline_is_the_own_earlier_majority(reviews: Reviews) -> None:
    found = held_out(reviews)
    start = start_of_latest(reviews.moment[reviews.decided])
    assert start is not None
    frame = pd.DataFrame({"who": reviews.reviewer, "approved": reviews.approved, "late": reviews.moment >= start})
    frame = frame[reviews.decided]
    for who in np.unique(frame["who"]):
        own = frame[frame["who"] == who]
        before, after = own[~own["late"]], own[own["late"]]
        majority = float(before["approved"].mean() > 0.5)
        if len(after) and before["approved"].mean() != 0.5:
            assert found.baseline[who] == pytest.approx((after["approved"] == majority).mean())


def test_a_reviewer_who_is_new_in_the_latest_part_is_foreseen_by_the_others(reviews: Reviews) -> None:
    fixed = reviews.only(reviews.decided)
    start = start_of_latest(fixed.moment)
    assert start is not None
    # The first reviewer's earlier reviews become those of the second.
    renamed = np.where((fixed.reviewer == 0) & (fixed.moment < start), 1, fixed.reviewer)
    new = replace(fixed, reviewer=renamed)
    found = held_out(new)
    own, before = new.only(renamed == 0), new.only(new.moment < start)
    assert found.n_test[0] == len(own.approved) > 0
    assert found.baseline[0] == pytest.approx((own.approved == float(before.approved.mean() > 0.5)).mean())
    assert 0 <= found.accuracy[0] <= 1


def test_later_scores_and_decisions_teach_nothing(reviews: Reviews) -> None:
    start = start_of_latest(reviews.moment[reviews.decided])
    assert start is not None
    late = reviews.moment >= start
    found = held_out(reviews)
    scores = held_out(replace(reviews, score=np.where(late, 1.0, reviews.score)))
    assert scores.overall_accuracy == found.overall_accuracy
    assert scores.log_loss == found.log_loss
    turned = held_out(replace(reviews, approved=np.where(late, 1.0 - reviews.approved, reviews.approved)))
    assert turned.overall_accuracy == pytest.approx(1.0 - found.overall_accuracy)


def test_decisions_without_scores_go_by_features(reviews: Reviews) -> None:
    few = np.zeros(len(reviews.score), dtype=bool)
    few[:20] = True
    found = held_out(replace(reviews, score=np.where(few, reviews.score, np.nan)))
    assert found.route == BY_FEATURES
    assert held_out(reviews).route == BY_SCORE


def test_scores_and_decisions_on_different_reviews_go_by_features(reviews: Reviews) -> None:
    even = np.arange(len(reviews.score)) % 2 == 0
    apart = replace(reviews, score=np.where(even, reviews.score, np.nan), approved=np.where(even, np.nan, reviews.approved))
    assert fit_aspect(apart, apart.score) is None
    assert held_out(apart).route == BY_FEATURES


def test_no_decision_is_a_reason(reviews: Reviews) -> None:
    none = np.full(len(reviews.approved), np.nan)
    assert held_out(replace(reviews, approved=none)).reason == "no decision of a known reviewer"
    late = reviews.moment > np.median(reviews.moment)
    assert held_out(replace(reviews, approved=np.where(late, reviews.approved, np.nan))).route == BY_SCORE
    assert held_out(reviews.only(np.zeros(len(none), dtype=bool))).reason == "no decision of a known reviewer"


def test_a_drift_of_the_scores_is_followed() -> None:
    drifting = reviews_of(WorldSpec(agents=10, executions=200, reviewers=20, seed=4, drift=3.0))
    start = start_of_latest(drifting.moment[drifting.decided])
    assert start is not None
    late = drifting.moment >= start
    earlier, later = drifting.only(~late), drifting.only(late & drifting.decided)
    foresight = learn_foresight(earlier, fit_aspect(earlier, earlier.score))
    assert foresight is not None
    assert foresight.drift > 0.3
    with_drift, without = foresight.probability(later), replace(foresight, drift=0.0).probability(later)
    assert with_drift is not None
    assert without is not None

    def loss(p: np.ndarray) -> float:
        return float(-np.log(np.where(later.approved > 0.5, p, 1 - p)).mean())

    assert loss(with_drift) < loss(without) - 0.02


def test_without_drift_hardly_any_is_found(reviews: Reviews) -> None:
    foresight = learn_foresight(reviews, fit_aspect(reviews, reviews.score))
    assert foresight is not None
    latest = int(0.2 * reviews.decided.sum())
    assert abs(foresight.drift) < 3 * np.sqrt(5 / latest)
