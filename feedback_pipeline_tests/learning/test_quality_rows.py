from typing import Literal

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import build_panel
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_rows import nanoseconds, output_rows, review_rows
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import planted_level, quality_world

FEATURES = pd.DataFrame(
    {
        "agent_name": ["ann", "ann", "bob"],
        "execution_id": ["1", "2", "1"],
        "content_id": ["c1", "c2", "c1"],
        "word_count": [100.0, np.nan, 300.0],
        "clicks": [1, 2, 3],
        "tone": ["warm", None, "cold"],
        "retry_count": [0, 0, 1],
    }
)
REVIEWS = pd.DataFrame(
    {
        "feedback_id": list("abcde"),
        "agent_name": ["bob", "ann", "ann", "ann", "ann"],
        "execution_id": ["1", "1", "1", "2", "2"],
        "reviewer_id": ["r2", "r1", None, "r1", "r2"],
        "stage": ["s"] * 5,
        "decision": ["approve", "reject", None, "approve", "approve"],
        "reviewed_at": pd.to_datetime(["2026-01-05", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-06"], utc=True),
        "is_training_data": True,
    }
)
SCORES = np.array([[8.0, 6.0], [2.0, np.nan], [4.0, 4.0], [np.nan, np.nan], [5.0, 7.0]])


def test_one_row_per_review_with_a_score() -> None:
    panel = build_panel(REVIEWS, SCORES, ("x", "y"), FEATURES)
    rows = review_rows(panel, {"*": (0.0, 10.0)})
    assert rows.features == FeatureList(("word_count", "clicks"), ("tone",))
    assert rows.X.columns.tolist() == ["word_count", "clicks", "tone", "agent_name", "reviewer_id"]
    found = rows.X.assign(y=rows.y, approved=rows.approved, content=rows.content, output=rows.output)
    ordered = found.sort_values("y", ignore_index=True)
    assert ordered["y"].tolist() == [2.0, 4.0, 6.0, 7.0]
    assert ordered["agent_name"].tolist() == ["ann", "ann", "ann", "bob"]
    assert ordered["reviewer_id"].tolist() == ["r1", None, "r2", "r2"]
    assert ordered["tone"].tolist() == ["warm", "warm", None, "cold"]
    np.testing.assert_array_equal(ordered["word_count"], [100.0, 100.0, np.nan, 300.0])
    np.testing.assert_array_equal(ordered["approved"], [0.0, np.nan, 1.0, 1.0])
    content = ordered["content"]
    assert content[0] == content[1] == content[3] != content[2]
    assert ordered["output"].nunique() == rows.n_outputs == 3
    day = 86_400 * 10**9
    assert sorted((rows.moment - rows.moment.min()) // day) == [0, 1, 3, 4]
    some = rows.take(rows.y > 3)
    assert some.y.tolist() == [y for y in rows.y.tolist() if y > 3]
    assert some.X["reviewer_id"].tolist() == rows.X["reviewer_id"][rows.y > 3].tolist()


def test_no_feature_is_computed_from_a_review() -> None:
    told = review_rows(build_panel(REVIEWS, SCORES, ("x", "y"), FEATURES), {"*": (0.0, 10.0)})
    others = REVIEWS.assign(decision=["reject", "approve", "approve", "reject", "reject"], stage="t")
    found = review_rows(build_panel(others, 10.0 - SCORES, ("x", "y"), FEATURES), {"*": (0.0, 10.0)})
    assert found.y.tolist() == [10.0 - y for y in told.y.tolist()]
    pd.testing.assert_frame_equal(found.X, told.X)


def test_the_unit_of_moments_is_nanoseconds_whatever_they_are_kept_in() -> None:
    moments = pd.DatetimeIndex(["2026-01-05 00:00:01"], tz="UTC")
    units: tuple[Literal["s", "ms", "us", "ns"], ...] = ("s", "ms", "us", "ns")
    for unit in units:
        assert nanoseconds(pd.Series(moments.as_unit(unit))).tolist() == [1_767_571_201 * 10**9]


def test_outputs_without_a_review() -> None:
    features = FeatureList(("word_count", "unheard_of"), ("tone", "channel"))
    rows = output_rows(FEATURES, features)
    assert rows.columns.tolist() == list(features.columns)
    assert rows["unheard_of"].isna().all()
    assert rows["channel"].tolist() == rows["reviewer_id"].tolist() == [None] * 3
    assert output_rows(FEATURES, features, ["r1", None, "r9"])["reviewer_id"].tolist() == ["r1", None, "r9"]
    with pytest.raises(LearningError, match="3 outputs and 1 reviewers"):
        output_rows(FEATURES, features, ["r1"])


def test_the_oracle_of_the_simulated_world_knows_all_but_hidden_quality_and_noise() -> None:
    found = quality_world(WorldSpec(agents=10, executions=200, reviewers=10, seed=1))
    hidden = found.world.outputs.level.mean(axis=1) - planted_level(found.world)
    assert hidden.mean() == pytest.approx(0.0, abs=3 * 0.7 / np.sqrt(2000))
    assert hidden.std() == pytest.approx(0.7, abs=0.04)
    error = found.rows.y - found.oracle
    # hidden quality, halo, a quarter of the aspects' noise and rounding; clipping at 1 and 10 comes on top
    assert error.std() == pytest.approx(np.sqrt(0.49 + 0.25 + (0.49 + 1 / 12) / 4), abs=0.05)
