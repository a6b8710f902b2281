import numpy as np

from feedback_pipeline.learning.ratings import Ratings
from feedback_pipeline_tests.learning.test_agreement import panel_from


def test_last_review_of_a_rating_is_the_latest_stage() -> None:
    panel = panel_from(
        np.array([0, 0, 0]), np.array([0, 0, 1]), np.ones(3), stage=np.array(["a", "b", "a"]), day=np.array([9, 1, 5])
    )
    ratings = Ratings.of(panel)
    assert panel.reviews["stage"].iloc[ratings.last_review].tolist() == ["a", "a"]
    assert ratings.reviewer.tolist() == [0, 1]


def test_mean_and_last_of_the_stages_skip_what_is_missing() -> None:
    #                    output 0: reviewer 0 in three stages, 1 | output 1: reviewer 0 without any value, an unknown one
    output, reviewer = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 0, -1])
    stage, day = np.array(["a", "b", "c", "a", "a", "a"]), np.array([3, 2, 1, 9, 9, 9])
    panel = panel_from(output, reviewer, np.array([np.nan, 4.0, 1.0, 7.0, np.nan, 5.0]), stage=stage, day=day)
    ratings = Ratings.of(panel)
    assert ratings.output.tolist() == [0, 0, 1]
    assert ratings.reviewer.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(ratings.mean(panel.scores[:, 0]), [2.5, 7.0, np.nan])
    np.testing.assert_array_equal(ratings.last(panel.scores[:, 0]), [4.0, 7.0, np.nan])


def test_no_reviews_and_nobody_known() -> None:
    nothing = Ratings.of(panel_from(np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty((0, 1))))
    assert nothing.mean(np.empty(0)).shape == nothing.last(np.empty(0)).shape == nothing.last_review.shape == (0,)
    unknown = panel_from(np.arange(3), np.full(3, -1), np.ones(3))
    assert len(Ratings.of(unknown).output) == 0
