from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.inspection import permutation_importance as oracle

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.permutation_importance import (
    IMPORTANCE_COLUMNS,
    REPEATS,
    forward_importance,
    permutation_importance,
)
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models_base import QualityModel, TrainingRows
from feedback_pipeline.learning.quality_validation import forward_chain
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import quality_world

NUMBERS = ("told", "noise_a", "noise_b", "noise_c", "noise_d", "unused")
FEATURES = FeatureList(NUMBERS, ("tone",))
WEIGHTS = np.array([1.0, 0.2, 0.2, 0.2, 0.2, 0.0])


class Line(QualityModel):
    """A fixed line through the numbers; it counts what it is asked."""

    def _learn(self, rows: TrainingRows) -> None:
        self.learned_from_ = rows.y
        self.asked_: list[int] = []

    def _points(self, X: pd.DataFrame, agent: Ints, reviewer: Ints) -> Floats:
        self.asked_.append(len(X))
        return np.asarray(X[list(NUMBERS)].to_numpy(dtype=np.float64) @ WEIGHTS, dtype=np.float64)


def later_reviews(seed: int, n_contents: int = 200) -> tuple[pd.DataFrame, Floats, Ints]:
    """Three reviews of each content, which share the error of the content; only `told` tells anything."""
    stream = np.random.default_rng(seed)
    content = np.repeat(np.arange(n_contents), 3)
    X = pd.DataFrame(stream.normal(size=(n_contents, len(NUMBERS)))[content], columns=list(NUMBERS))
    X = X.assign(tone=None, agent_name="writer", reviewer_id=stream.choice(np.array(["ann", "bob", None], dtype=object), len(X)))
    return X, X["told"].to_numpy() + stream.normal(size=n_contents)[content] + stream.normal(size=len(X)), content


def line(X: pd.DataFrame, y: npt.ArrayLike) -> Line:
    return Line(FEATURES, (-99.0, 99.0)).fit(X, y)


def measured(seed: int = 0, *, n_contents: int = 200, repeats: int = REPEATS) -> pd.DataFrame:
    X, y, content = later_reviews(seed, n_contents)
    return permutation_importance(line(X, y), X, y, content, seed, repeats=repeats)


def test_the_column_that_tells_something_comes_first_with_what_it_is_worth() -> None:
    found = measured(n_contents=4000, repeats=2)
    assert tuple(found.columns) == IMPORTANCE_COLUMNS
    assert set(found["feature"]) == set(FEATURES.columns)
    first = found.iloc[0]
    # Another content's value is off by twice the variance, and the weight is 1.
    assert first["feature"] == "told"
    assert first["low"] < 2.0 < first["high"]
    assert first["high"] - first["low"] < 0.4
    assert (found["increase"].diff().dropna() <= 0).all()


def test_intervals_of_noise_hold_zero_as_often_as_they_say() -> None:
    noise = pd.concat([measured(seed).query("feature.str.startswith('noise')", engine="python") for seed in range(40)])
    outside = ((noise["low"] > 0) | (noise["high"] < 0)).mean()
    assert 0.005 < outside < 0.11
    assert (noise["low"] < noise["increase"]).all()


def test_a_column_that_changes_no_forecast_is_worth_exactly_nothing() -> None:
    found = measured().set_index("feature")
    assert (found.loc[["unused", "tone", "agent_name", "reviewer_id"], ["increase", "low", "high"]] == 0.0).all(axis=None)


def test_neither_the_order_of_columns_nor_of_rows_nor_their_labels_change_a_bit() -> None:
    X, y, content = later_reviews(1)
    model = line(X, y)
    expected = permutation_importance(model, X, y, content, 5, most_rows=400)
    order = np.random.default_rng(2).permutation(len(y))
    turned = X[X.columns[::-1]].iloc[order]
    pd.testing.assert_frame_equal(permutation_importance(model, turned, y[order], content[order], 5, most_rows=400), expected)
    other = permutation_importance(model, X, y, content, 6, most_rows=400)
    assert not np.allclose(other["increase"], expected["increase"])


def test_a_column_has_the_same_shuffles_whatever_other_columns_there_are() -> None:
    X, y, content = later_reviews(3)
    fewer = Line(FeatureList(NUMBERS, ()), (-99.0, 99.0)).fit(X, y)
    more = permutation_importance(line(X, y), X, y, content, 0).query("feature != 'tone'").reset_index(drop=True)
    pd.testing.assert_frame_equal(permutation_importance(fewer, X, y, content, 0), more)


def test_one_forecast_of_all_repeats_per_column_and_not_more_rows_than_allowed() -> None:
    X, y, content = later_reviews(4)
    model = line(X, y)
    permutation_importance(model, X, y, content, 0, repeats=3, most_rows=100)
    assert model.asked_ == [300] * (1 + len(FEATURES.columns))
    before = X.copy()
    permutation_importance(model, X, y, content, 0)
    pd.testing.assert_frame_equal(X, before)


def test_it_is_the_importance_of_scikit_learn() -> None:
    world = quality_world(WorldSpec(agents=3, executions=80, reviewers=5, seed=2))
    rows = world.rows
    train, test = forward_chain(rows.moment, rows.content)[0]
    model = world.model("ridge").fit(rows.X.iloc[train], rows.y[train], content=rows.content[train])
    X, y = rows.features.select(rows.X.iloc[test]), rows.y[test]
    found = permutation_importance(model, X, y, rows.content[test], 0, repeats=12).set_index("feature")["increase"]
    theirs = oracle(model, X, y, scoring="neg_mean_squared_error", n_repeats=12, random_state=0)
    error = theirs["importances_std"] * np.sqrt(2 / 12)
    np.testing.assert_array_less(np.abs(found[X.columns].to_numpy() - theirs["importances_mean"]), 6 * error + 1e-9)
    assert found.index[0] == X.columns[int(np.argmax(theirs["importances_mean"]))] == "reviewer_id"


def test_the_model_is_fitted_before_the_window_it_is_measured_on() -> None:
    world = quality_world(WorldSpec(agents=3, executions=80, reviewers=4, seed=5))
    rows = world.rows
    train, test = forward_chain(rows.moment, rows.content)[-1]
    found = forward_importance(partial(world.model, "ridge"), rows, 3)
    model = world.model("ridge").fit(rows.X.iloc[train], rows.y[train], content=rows.content[train])
    expected = permutation_importance(model, rows.X.iloc[test], rows.y[test], rows.content[test], 3)
    pd.testing.assert_frame_equal(found, expected)
    assert np.isfinite(found[["increase", "low", "high"]]).all(axis=None)
    # One model, fitted on the earlier reviews alone and asked about the later ones alone.
    X = rows.X.assign(**dict.fromkeys(NUMBERS, 0.0))
    model_of_lines = Line(FEATURES, (0.0, 10.0))
    forward_importance(lambda: model_of_lines, replace(rows, features=FEATURES, X=X), 3)
    np.testing.assert_array_equal(model_of_lines.learned_from_, rows.y[train])
    assert set(model_of_lines.asked_) == {REPEATS * len(test)}


def test_where_nothing_is_before_anything_nothing_is_measured() -> None:
    rows = quality_world(WorldSpec(agents=1, executions=20, reviewers=2, seed=5)).rows
    at_once = replace(rows, moment=np.zeros_like(rows.moment))
    found = forward_importance(lambda: pytest.fail("nothing to fit"), at_once, 0)
    assert found["feature"].tolist() == sorted(rows.features.columns)
    assert found[["increase", "low", "high"]].isna().all(axis=None)


def test_degenerate_rows() -> None:
    X, y, content = later_reviews(6)
    model = line(X, y)
    none = permutation_importance(model, X[:0], y[:0], content[:0], 0)
    assert len(none) == len(FEATURES.columns)
    assert none[["increase", "low", "high"]].isna().all(axis=None)
    one = permutation_importance(model, X[:1], y[:1], content[:1], 0)
    assert (one["increase"] == 0.0).all()
    assert one[["low", "high"]].isna().all(axis=None)
    # A review without a score is as if it were not there.
    unscored = np.append(y, np.nan)
    with_it = permutation_importance(model, pd.concat([X, X[:1]]), unscored, np.append(content, 0), 0)
    pd.testing.assert_frame_equal(with_it, permutation_importance(model, X, y, content, 0))
    with pytest.raises(LearningError, match="noise_a"):
        permutation_importance(model, X.drop(columns="noise_a"), y, content, 0)


def test_missing_values_are_shuffled_with_the_others() -> None:
    world = quality_world(WorldSpec(agents=3, executions=60, reviewers=4, seed=7))
    rows = world.rows
    holes = np.random.default_rng(0).random(len(rows.y)) < 0.5
    X = rows.X.assign(
        word_count=rows.X["word_count"].mask(holes),
        tone=rows.X["tone"].mask(holes, None),
        reviewer_id=rows.X["reviewer_id"].mask(holes, None),
    )
    model = world.model("ridge").fit(X, rows.y, content=rows.content)
    order = np.random.default_rng(1).permutation(len(X))
    found = permutation_importance(model, X, rows.y, rows.content, 0)
    assert np.isfinite(found[["increase", "low", "high"]]).all(axis=None)
    pd.testing.assert_frame_equal(found, permutation_importance(model, X.iloc[order], rows.y[order], rows.content[order], 0))
