import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Panel, build_panel, output_means, output_outcomes, overall_scores

NAN = float("nan")


def reviews(*rows: tuple[str, str, str | None, str, str | None, str, str]) -> pd.DataFrame:
    """(agent, execution, reviewer, stage, decision, day of June, feedback id)."""
    names = ["agent_name", "execution_id", "reviewer_id", "stage", "decision", "reviewed_at", "feedback_id"]
    frame = pd.DataFrame(rows, columns=names).astype({"reviewer_id": "str", "decision": "str"})
    frame["reviewed_at"] = pd.to_datetime("2026-06-" + frame["reviewed_at"], utc=True)
    return frame.assign(content_id=frame["execution_id"], is_training_data=True)


def features(*keys: tuple[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(keys, columns=["agent_name", "execution_id"])
    return frame.assign(content_id=frame["execution_id"], agent_type="writer", word_count=np.arange(len(frame), dtype=float))


def panel(frame: pd.DataFrame, scores: list[float]) -> Panel:
    keys = sorted(set(zip(frame["agent_name"], frame["execution_id"], strict=True)))
    return build_panel(frame, np.array(scores, dtype=float)[:, None], ("quality",), features(*keys))


def test_the_latest_review_of_a_reviewer_and_stage_counts() -> None:
    frame = reviews(
        ("a", "x", "ann", "edit", "reject", "02", "2"),
        ("a", "x", "ann", "edit", "approve", "03", "3"),
        ("a", "x", "ann", "edit", "reject", "01", "1"),
        ("a", "x", "ann", "seo", "reject", "01", "4"),
        ("b", "x", "ann", "edit", "reject", "01", "5"),
    )
    found = panel(frame, [1, 2, 3, 4, 5])
    assert found.reviews["feedback_id"].tolist() == ["3", "4", "5"]
    assert found.scores[:, 0].tolist() == [2, 4, 5]
    assert found.agents.tolist() == ["a", "b"]
    assert found.output_agent.tolist() == [0, 1]


def test_at_the_same_moment_the_larger_id_counts_whatever_the_row_order() -> None:
    rows = [("a", "x", "ann", "edit", "reject", "02", "8"), ("a", "x", "ann", "edit", "approve", "02", "9")]
    for order in (rows, rows[::-1]):
        assert panel(reviews(*order), [1.0, 1.0]).reviews["feedback_id"].tolist() == ["9"]


def test_reviews_of_unknown_reviewers_are_never_merged() -> None:
    frame = reviews(("a", "x", None, "edit", "reject", "02", "1"), ("a", "x", None, "edit", "reject", "02", "2"))
    found = panel(frame, [3, 4])
    assert len(found.reviews) == 2
    assert found.review_reviewer.tolist() == [-1, -1]


def test_untrainable_reviews_are_left_out() -> None:
    frame = reviews(("a", "x", "ann", "edit", "reject", "02", "1"), ("a", "y", "bob", "edit", "reject", "02", "2"))
    frame["is_training_data"] = [True, False]
    found = panel(frame, [3, 4])
    assert found.reviewers.tolist() == ["ann"]
    assert found.outputs["execution_id"].tolist() == ["x"]


def test_order_of_the_input_rows_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    rows = [
        (
            f"agent{rng.integers(3)}",
            f"run{rng.integers(8)}",
            f"r{rng.integers(4)}",
            "edit",
            "approve",
            f"{rng.integers(1, 9):02d}",
            str(i),
        )
        for i in range(80)
    ]
    frame, scores = reviews(*rows), rng.normal(size=80)
    first, order = panel(frame, scores.tolist()), rng.permutation(80)
    second = panel(frame.iloc[order].reset_index(drop=True), scores[order].tolist())
    pd.testing.assert_frame_equal(first.reviews, second.reviews)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.review_output, second.review_output)


def test_the_newest_feature_row_of_an_output_counts() -> None:
    frame = reviews(("a", "x", "ann", "edit", "reject", "02", "1"))
    table = features(("a", "x"), ("b", "x"), ("a", "x"))
    found = build_panel(frame, np.array([[1.0]]), ("quality",), table)
    assert found.outputs["word_count"].tolist() == [2.0]


def test_a_reviewed_output_without_features_is_an_error_that_names_the_remedy() -> None:
    frame = reviews(("a", "x", "ann", "edit", "reject", "02", "1"))
    with pytest.raises(LearningError, match="materialize human_feedback and feature_table again"):
        build_panel(frame, np.array([[1.0]]), ("quality",), features(("a", "y")))


def test_no_reviews() -> None:
    found = build_panel(reviews().iloc[:0], np.empty((0, 0)), (), features())
    assert len(found.outputs) == len(found.reviews) == len(found.agents) == 0
    assert output_outcomes(found).shape == (0,)


def test_overall_is_the_mean_of_the_aspects_present() -> None:
    scores = np.array([[2.0, 4.0], [NAN, 6.0], [NAN, NAN]])
    np.testing.assert_array_equal(overall_scores(scores, ("a", "b"), {"*": (0.0, 10.0)}), [3.0, 6.0, NAN])


def test_overall_scales_aspects_with_different_bounds_first() -> None:
    scores = np.array([[0.5, -5.0]])
    found = overall_scores(scores, ("a", "b"), {"*": (0.0, 1.0), "b": (-25.0, 0.0)})
    np.testing.assert_allclose(found, [(5.0 + 8.0) / 2])


def test_output_means_leave_missing_scores_out() -> None:
    values = np.array([[1.0, NAN], [3.0, NAN], [5.0, 2.0]])
    np.testing.assert_array_equal(output_means(values, np.array([0, 0, 2]), 3), [[2.0, NAN], [NAN, NAN], [5.0, 2.0]])


@pytest.mark.parametrize(
    ("decisions", "outcome"),
    [
        (["approve"], 1.0),
        (["approve", "approve", "reject"], 1.0),
        (["approve", "request_changes"], 0.0),
        (["approve", None], 1.0),
        (["reject", None], 0.0),
        ([None, None], NAN),
    ],
)
def test_outcome_is_a_majority_of_the_given_decisions(decisions: list[str | None], outcome: float) -> None:
    rows = [("a", "x", f"r{i}", "edit", decision, "02", str(i)) for i, decision in enumerate(decisions)]
    np.testing.assert_array_equal(output_outcomes(panel(reviews(*rows), [1.0] * len(rows))), [outcome])
