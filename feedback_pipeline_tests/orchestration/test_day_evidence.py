from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from feedback_pipeline.orchestration.day_evidence import (
    duplicate_reviews,
    missing_values,
    unpaired_outputs,
    unusable_features,
    unusable_reviews,
)
from feedback_pipeline.storage.day_tables import FEATURE_TABLE, HUMAN_FEEDBACK

DAYS = (date(2026, 3, 1), date(2026, 3, 2))
BOUNDS = {"*": (0.0, 10.0), "tone": (1.0, 5.0)}


def _review(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "agent_name": "drafter",
        "execution_id": f"e{number // 2}",
        "content_id": f"c{number // 2}",
        "feedback_id": f"f{number}",
        "reviewer_id": "r1",
        "stage": "editorial",
        "decision": "approve",
        "reviewed_at": datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC),
        "is_training_data": True,
        "feedback_confidence": 0.5,
        "aspects": ["content_quality", "tone"],
        "scores": [10.0, 5.0],
    }
    return row | changes


def _reviews(*changes: dict[str, Any]) -> pa.Table:
    rows = [_review(number, **change) for number, change in enumerate(changes)]
    return pa.Table.from_pylist(rows, pa.schema([field.with_nullable(True) for field in HUMAN_FEEDBACK]))


def _outputs(*changes: dict[str, Any]) -> pa.Table:
    keys = {"agent_name": "drafter", "content_id": "c", "agent_type": None, "retry_count": 0, "cost": 0.5, "word_count": 300.0}
    rows = [keys | {"execution_id": f"e{number}"} | change for number, change in enumerate(changes)]
    return pa.Table.from_pylist(rows, pa.schema([field.with_nullable(True) for field in FEATURE_TABLE]))


def test_good_days_pass() -> None:
    reviews, outputs = _reviews({}, {}, {}), _outputs({}, {})
    lost, surplus = unpaired_outputs(reviews, outputs)
    results = [duplicate_reviews(reviews), unusable_reviews(reviews, DAYS, BOUNDS), lost, surplus, unusable_features(outputs)]
    assert [result.observed for result in results] == [0, 0, 0, 0, 0]
    assert all(result.passed for result in results)


def test_empty_days_pass() -> None:
    reviews, outputs = _reviews(), _outputs()
    lost, surplus = unpaired_outputs(reviews, outputs)
    everything = [duplicate_reviews(reviews), unusable_reviews(reviews, DAYS, BOUNDS), lost, surplus]
    everything += [unusable_features(outputs), missing_values(outputs, 0.3)]
    assert all(result.passed and result.observed == 0 for result in everything)


def test_a_planted_duplicate_is_counted() -> None:
    result = duplicate_reviews(_reviews({}, {"feedback_id": "f0", "execution_id": "e0"}, {}))
    assert (result.observed, result.passed) == (1, False)
    assert duplicate_reviews(_reviews({}, {"feedback_id": "f0", "agent_name": "editor"})).passed


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"content_id": None}, "content_id"),
        ({"agent_name": None}, "agent_name"),
        ({"decision": "maybe"}, "decision"),
        ({"feedback_confidence": 1.01}, "feedback_confidence"),
        ({"feedback_confidence": -0.1}, "feedback_confidence"),
        ({"reviewed_at": datetime(2026, 3, 3, tzinfo=UTC)}, "reviewed_at outside the days read"),
        ({"reviewed_at": datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)}, "reviewed_at outside the days read"),
        ({"scores": [10.0]}, "aspects without a score"),
        ({"scores": [10.1, 5.0]}, "scores out of bounds"),
        ({"scores": [10.0, 0.9]}, "scores out of bounds"),
    ],
)
def test_an_unusable_review_is_counted_under_its_column(change: dict[str, Any], where: str) -> None:
    result = unusable_reviews(_reviews({}, change, {}), DAYS, BOUNDS)
    assert result.details == {where: 1}
    assert not result.passed


def test_a_comment_without_decision_or_scores_is_fine() -> None:
    assert unusable_reviews(
        _reviews({"decision": None, "feedback_confidence": None, "aspects": [], "scores": []}), DAYS, BOUNDS
    ).passed


def test_lost_and_surplus_outputs_are_counted_by_day() -> None:
    second = datetime(2026, 3, 2, 8, tzinfo=UTC)
    reviews = _reviews({"execution_id": "e0"}, {"execution_id": "e0", "reviewed_at": second}, {"execution_id": "e1"})
    lost, surplus = unpaired_outputs(reviews, _outputs({"execution_id": "e0"}, {"execution_id": "e9"}))
    assert (lost.observed, surplus.observed) == (2, 1)
    lost, surplus = unpaired_outputs(reviews, _outputs({"execution_id": "e0"}, {"execution_id": "e0"}, {"execution_id": "e1"}))
    assert (lost.observed, surplus.observed) == (0, 0)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"cost": -1.0}, "cost"),
        ({"cost": float("inf")}, "cost"),
        ({"cost": float("nan")}, "cost"),
        ({"confidence_score": 1.2}, "confidence_score"),
        ({"keyword_density": 1.5}, "keyword_density"),
        ({"retry_count": -1}, "retry_count"),
        ({"content_id": None}, "content_id"),
    ],
)
def test_an_unusable_feature_is_counted_under_its_column(change: dict[str, Any], where: str) -> None:
    result = unusable_features(_outputs({}, change, {}))
    assert result.details == {where: 1}
    assert not result.passed


def test_a_hard_text_may_have_a_negative_grade_and_a_custom_feature_any_finite_value() -> None:
    assert unusable_features(_outputs({"readability": -3.0})).passed
    custom = _outputs({}, {}).append_column("own_measure", pa.array([-5.0, float("-inf")]))
    assert unusable_features(custom).details == {"own_measure": 1}


def test_a_feature_that_is_text_is_refused() -> None:
    outputs = _outputs({}, {})
    position = outputs.column_names.index("cost")
    assert unusable_features(outputs.set_column(position, "cost", pa.array(["1", "2"]))).details == {"cost": 2}


def test_missing_share_leaves_out_what_is_never_recorded() -> None:
    result = missing_values(_outputs({}, {"cost": None}, {"cost": None}, {}), 0.2)
    assert result.observed == 2 / 8  # of cost and word_count
    assert not result.passed
    assert result.details["missing: cost"] == 0.5
    assert "duration_ms" in str(result.details["no data at all"])
    assert missing_values(_outputs({}, {}), 0.0).passed
