"""Weeks are counted by hand on a handful of reviews that differ in everything that matters."""

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.feedback_weeks import feedback_weeks
from feedback_pipeline.learning.panel import build_panel

BOUNDS = {"*": (0.0, 10.0)}
# agent, execution, reviewer, decision, moment, score of tone, score of seo; 2026-06-01 is a Monday.
REVIEWS = [
    ("a", "1", "r", "approve", "2026-05-31T23:59:59Z", 4.0, np.nan),
    ("a", "1", "s", "reject", "2026-06-01T00:00:00Z", 6.0, 8.0),
    ("a", "2", "r", "approve", "2026-06-07T23:59:59Z", 9.0, np.nan),
    ("a", "2", None, None, "2026-06-03T12:00:00Z", np.nan, np.nan),
    ("a", "3", "s", None, "2026-06-02T12:00:00Z", np.nan, 2.0),
    ("b", "1", "r", "approve", "2026-05-31T23:59:59Z", np.nan, np.nan),
]


def _panel(reviews: pd.DataFrame) -> "tuple[pd.DataFrame, np.ndarray[tuple[int, int], np.dtype[np.float64]]]":
    return reviews.drop(columns=["tone", "seo"]), reviews[["tone", "seo"]].to_numpy(dtype=np.float64)


@pytest.mark.parametrize("order", [1, -1])
def test_a_review_counts_in_its_week_and_an_output_in_that_of_its_first_review(order: int) -> None:
    names = ["agent_name", "execution_id", "reviewer_id", "decision", "reviewed_at", "tone", "seo"]
    reviews = pd.DataFrame(REVIEWS, columns=names).iloc[::order].reset_index(drop=True)
    reviews = reviews.assign(
        reviewed_at=pd.to_datetime(reviews["reviewed_at"]),
        content_id=reviews["execution_id"],
        feedback_id=[f"f{k}" for k in range(len(reviews))],
        stage=None,
        is_training_data=True,
    )
    outputs = reviews[["agent_name", "execution_id", "content_id"]].drop_duplicates()
    rows, scores = _panel(reviews)
    weeks = feedback_weeks(build_panel(rows, scores, ("tone", "seo"), outputs), BOUNDS)
    assert [(week["agent_name"], week["week"]) for week in weeks] == [
        ("a", "2026-05-25"),
        ("a", "2026-06-01"),
        ("b", "2026-05-25"),
    ]
    first, second, other = ({key: week[key] for key in week if key not in ("agent_name", "week")} for week in weeks)
    # One of two approves: a tie is no approval.
    assert first == {
        **{"reviews": 1, "reviewers": 1, "outputs": 1, "decided": 1, "approved": 0, "approval_rate": 0.0},
        "scores": {"tone": 5.0, "seo": 8.0, "overall": 5.5},
    }
    assert second == {
        **{"reviews": 4, "reviewers": 2, "outputs": 2, "decided": 1, "approved": 1, "approval_rate": 1.0},
        "scores": {"tone": 9.0, "seo": 2.0, "overall": 5.5},
    }
    assert other == {
        **{"reviews": 1, "reviewers": 1, "outputs": 1, "decided": 1, "approved": 1, "approval_rate": 1.0},
        "scores": {},
    }


def test_a_week_in_which_nobody_decides_has_no_rate() -> None:
    reviews = pd.DataFrame(
        {
            "agent_name": ["a"],
            "execution_id": ["1"],
            "content_id": ["1"],
            "feedback_id": ["f"],
            "reviewer_id": ["r"],
            "stage": [None],
            "decision": [None],
            "reviewed_at": pd.to_datetime(["2026-06-01T00:00:00Z"]),
            "is_training_data": [True],
        }
    )
    (week,) = feedback_weeks(build_panel(reviews, np.empty((1, 0)), (), reviews), BOUNDS)
    assert (week["decided"], week["approval_rate"], week["scores"]) == (0, None, {})
