"""What a trained forecast says of rows it has never seen, and when it would rather not."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.approval import fit_approval
from feedback_pipeline.learning.calibration import Platt
from feedback_pipeline.learning.conformal import Conformal
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models_base import Names
from feedback_pipeline.learning.quality_predictor import PREDICTION_COLUMNS, ApprovalRoute, QualityPredictor, SeenRanges
from feedback_pipeline.learning.quality_validation import forward_forecasts, grouped_folds
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import RANGE, QualityWorld, quality_world

COLUMNS = [*PREDICTION_COLUMNS, "abstain", "reason"]
TOO_FEW = Conformal.of(np.arange(49.0), np.arange(49))


@pytest.fixture(scope="module")
def world() -> QualityWorld:
    return quality_world(WorldSpec(agents=3, executions=60, reviewers=6, seed=5))


@pytest.fixture(scope="module")
def route(world: QualityWorld) -> ApprovalRoute:
    rows = world.rows
    reviewers = Names.of(rows.X["reviewer_id"])
    model = fit_approval(rows.y, rows.approved, reviewers.codes(rows.X["reviewer_id"]), len(reviewers))
    return ApprovalRoute(model, reviewers, 1.1, Platt(0.2, 0.9, 500, None))


@pytest.fixture(scope="module")
def predictor(world: QualityWorld, route: ApprovalRoute) -> QualityPredictor:
    rows = world.rows
    folds = grouped_folds(rows.content, 3, seed=0)
    forecasts = forward_forecasts(partial(world.model, "ridge"), rows.X, rows.y, rows.content, folds)
    by_name, by_anybody = (Conformal.of(rows.y - forecast, rows.moment) for forecast in forecasts)
    model = world.model("eb_mixed").fit(rows.X, rows.y, content=rows.content)
    seen = SeenRanges.of(rows.X, rows.features)
    return QualityPredictor("eb_mixed", model, RANGE, by_name, by_anybody, route, seen)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_forecast_is_a_score_within_its_interval(world: QualityWorld, predictor: QualityPredictor) -> None:
    found = predictor.forecast(world.rows.X)
    assert list(found) == COLUMNS
    assert len(found) == len(world.rows.y)
    expected = predictor.conformal.expected(predictor.model.predict(world.rows.X), RANGE)
    np.testing.assert_array_equal(found["score"], expected)
    assert ((found["low"] <= expected) & (expected <= found["high"])).all()
    assert (found["low"] < found["high"]).all()
    assert found["low"].min() >= RANGE[0]
    assert found["high"].max() <= RANGE[1]
    inside = (found["low"] <= world.rows.y) & (world.rows.y <= found["high"])
    assert inside.mean() > 0.85
    assert found["p_approve"].between(0, 1).all()
    assert np.corrcoef(found["p_approve"], world.rows.approved)[0, 1] > 0.4
    assert not found["abstain"].any()
    assert found["reason"].tolist() == [None] * len(found)


def test_intervals_end_where_the_scale_ends(world: QualityWorld, predictor: QualityPredictor) -> None:
    wide = replace(predictor, conformal=replace(predictor.conformal, width=99.0)).forecast(world.rows.X[:9])
    assert (wide["low"].tolist(), wide["high"].tolist()) == ([RANGE[0]] * 9, [RANGE[1]] * 9)


def test_predict_is_the_numbers_of_the_forecast(world: QualityWorld, predictor: QualityPredictor) -> None:
    found = predictor.predict(world.rows.X)
    assert list(found) == ["score", "low", "high", "p_approve"]
    assert [str(dtype) for dtype in found.dtypes] == ["float64"] * 4
    same(found, predictor.forecast(world.rows.X)[list(PREDICTION_COLUMNS)])
    assert predictor.get_raw_model() is predictor


def test_columns_and_rows_in_another_order_give_the_same_numbers(world: QualityWorld, predictor: QualityPredictor) -> None:
    X = world.rows.X
    expected = predictor.forecast(X)
    mixed = X[sorted(X.columns, reverse=True)].assign(unheard_of="x")
    same(predictor.forecast(mixed), expected)
    order = np.random.default_rng(0).permutation(len(X))
    # Rows are known by their place, whatever the index says.
    found = predictor.forecast(X.iloc[order])
    np.testing.assert_allclose(found[list(PREDICTION_COLUMNS)], expected[list(PREDICTION_COLUMNS)].iloc[order], rtol=1e-12)
    assert found.index.tolist() == list(range(len(X)))


def test_every_missing_column_is_named(world: QualityWorld, predictor: QualityPredictor) -> None:
    for missing in (["word_count"], ["tone"], ["agent_name"], ["reviewer_id"], ["cost", "channel", "reviewer_id"]):
        with pytest.raises(LearningError, match=rf"needs the column\(s\) {', '.join(missing)};"):
            predictor.forecast(world.rows.X.drop(columns=missing))


def test_the_unknown_are_the_population(world: QualityWorld, predictor: QualityPredictor) -> None:
    X = world.rows.X
    average = predictor.forecast(X.assign(reviewer_id=None))
    same(predictor.forecast(X.assign(reviewer_id="nobody knows")), average)
    new = predictor.forecast(X.assign(agent_name="new", reviewer_id="new"))
    assert np.isfinite(new[list(PREDICTION_COLUMNS)]).all(axis=None)
    assert not new["abstain"].any()
    same(predictor.forecast(X.assign(agent_name="newer", reviewer_id=None)), new)
    # The average reviewer gives what all of them give on average, and approves neither all nor nothing.
    names = sorted(X["reviewer_id"].unique())
    each = [predictor.forecast(X.assign(reviewer_id=name)) for name in names]
    means = np.array([one[["score", "p_approve"]].mean() for one in each])
    assert np.ptp(means[:, 0]) > 0.5
    np.testing.assert_allclose(average["score"].mean(), means[:, 0].mean(), atol=0.15)
    assert means[:, 1].min() < average["p_approve"].mean() < means[:, 1].max()


@pytest.mark.parametrize("value", [1e9, -1e9, np.inf, -np.inf])
def test_a_feature_far_outside_makes_it_abstain(value: float, world: QualityWorld, predictor: QualityPredictor) -> None:
    X = world.rows.X[:6].copy()
    X.loc[2, "readability"] = value
    found = predictor.forecast(X)
    assert found["abstain"].tolist() == [row == 2 for row in range(6)]
    assert found["reason"].dropna().to_dict() == {2: "readability lies outside what the model has seen"}
    assert np.isfinite(found[list(PREDICTION_COLUMNS)]).all(axis=None)


def test_what_is_missing_is_no_stranger(world: QualityWorld, predictor: QualityPredictor) -> None:
    features = world.rows.features
    missing = dict.fromkeys(features.numeric, np.nan) | dict.fromkeys(features.categories)
    found = predictor.forecast(world.rows.X[:20].assign(**missing))
    assert not found["abstain"].any()
    assert np.isfinite(found[list(PREDICTION_COLUMNS)]).all(axis=None)


def test_too_few_past_forecasts_make_it_abstain(world: QualityWorld, predictor: QualityPredictor) -> None:
    X = world.rows.X[:3].copy()
    X.loc[1, "cost"] = 1e9
    found = replace(predictor, conformal=TOO_FEW, consensus=TOO_FEW).forecast(X)
    np.testing.assert_array_equal(found["score"], predictor.model.predict(X))
    assert found[["low", "high"]].isna().all(axis=None)
    assert np.isfinite(found[["score", "p_approve"]]).all(axis=None)
    assert found["abstain"].tolist() == [True] * 3
    few = "49 reviews of earlier forecasts; an interval needs 50"
    assert found["reason"].tolist() == [few, "cost lies outside what the model has seen", few]


def test_without_a_route_there_is_no_probability(world: QualityWorld, predictor: QualityPredictor) -> None:
    found = replace(predictor, approval=None).forecast(world.rows.X)
    assert found["p_approve"].isna().all()
    same(found.drop(columns="p_approve"), predictor.forecast(world.rows.X).drop(columns="p_approve"))


def test_pickled_and_loaded_it_says_the_same(world: QualityWorld, predictor: QualityPredictor) -> None:
    loaded = pickle.loads(pickle.dumps(predictor))  # noqa: S301
    same(loaded.forecast(world.rows.X), predictor.forecast(world.rows.X))


def test_no_rows_give_no_rows(world: QualityWorld, predictor: QualityPredictor) -> None:
    for each in (predictor, replace(predictor, conformal=TOO_FEW, consensus=TOO_FEW, approval=None)):
        found = each.forecast(world.rows.X[:0])
        assert len(found) == 0
        assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {
            **dict.fromkeys(PREDICTION_COLUMNS, "float64"),
            "abstain": "bool",
            "reason": "object",
        }
        same(found, each.forecast(world.rows.X[:2]).iloc[:0])


def test_a_stranger_lies_more_than_half_the_range_beyond_it() -> None:
    known = pd.DataFrame({"a": [0.0, 10.0, np.nan, np.inf], "nothing": np.nan, "b": [2.0, 2.0, 2.0, 2.0]})
    seen = SeenRanges.of(known, FeatureList(("a", "nothing", "b"), ()))
    np.testing.assert_array_equal(seen.low, [-5.0, np.nan, 2.0])
    np.testing.assert_array_equal(seen.high, [15.0, np.nan, 2.0])
    rows = pd.DataFrame(
        {"b": 2.0, "a": [-5.0, 15.0, -5.1, 15.1, np.nan, 3.0], "nothing": [0.0, np.nan, 1e9, np.inf, 0.0, -np.inf]}
    )
    assert seen.strangers(rows).tolist() == [None, None, "a", "a", None, None]
    # The first of several, in the order of the features.
    assert seen.strangers(pd.DataFrame({"b": [9.0, 9.0], "nothing": 0.0, "a": [99.0, 0.0]})).tolist() == ["a", "b"]


def test_no_features_and_no_rows_have_no_strangers() -> None:
    known = pd.DataFrame({"a": [0.0, 1.0]})
    assert SeenRanges.of(known, FeatureList((), ())).strangers(known).tolist() == [None, None]
    nothing = SeenRanges.of(known[:0], FeatureList(("a",), ()))
    assert np.isnan([*nothing.low, *nothing.high]).all()
    assert nothing.strangers(known).tolist() == [None, None]
    assert SeenRanges.of(known, FeatureList(("a",), ())).strangers(known[:0]).tolist() == []


def test_the_route_is_the_standard_of_the_reviewer_averaged_over_scores_then_calibrated(route: ApprovalRoute) -> None:
    score = np.linspace(1.0, 9.0, 7)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    model, uncertain = route.model, replace(route, score_sd=2.0)
    cases = [(name, model.intercept[i], model.intercept_variance[i]) for i, name in enumerate(route.reviewers.values)]
    cases += [(None, model.population_intercept, model.population_variance)]
    for reviewer, intercept, variance in cases:
        sd = np.sqrt(variance + (model.slope * 2.0) ** 2)
        exact = expit((intercept + model.slope * score)[:, None] + sd * nodes) @ weights / weights.sum()
        found = uncertain.probability(score, pd.Series([reviewer] * 7, dtype=object))
        uncalibrated = expit((logit(found) - 0.2) / 0.9)
        np.testing.assert_allclose(uncalibrated, exact, atol=0.021)  # the probit approximation is within .02
        assert (np.diff(found) > 0).all()


def test_whoever_is_not_known_gets_the_interval_of_anybody(world: QualityWorld, predictor: QualityPredictor) -> None:
    rows = world.rows.X[:40]
    nobody, stranger = (rows.assign(reviewer_id=pd.Series([who] * 40, index=rows.index, dtype=object)) for who in (None, "new"))
    known, by_anybody = predictor.forecast(rows), predictor.forecast(nobody)
    same(predictor.forecast(stranger), by_anybody)
    # Who reviews is most of what scores differ by here, so not knowing it costs width.
    assert predictor.consensus.width > 1.05 * predictor.conformal.width
    inside = (known["low"] > 0) & (known["high"] < 10) & (by_anybody["low"] > 0) & (by_anybody["high"] < 10)
    widths = [(each["high"] - each["low"])[inside] for each in (known, by_anybody)]
    assert inside.sum() > 5
    assert (widths[1] > widths[0]).all()


def test_intervals_for_anybody_follow_what_has_come_in_lately(world: QualityWorld, predictor: QualityPredictor) -> None:
    rows = world.rows.X[:40]
    mixed = rows.assign(reviewer_id=rows["reviewer_id"].where(np.arange(40) % 2 == 0, None))
    before, after = predictor.forecast(mixed), predictor.forecast(mixed, Conformal(-1.0, 0.5, 0.1, 0.1, 80, None))
    np.testing.assert_array_equal(after["score"], before["score"])
    by_name = mixed["reviewer_id"].notna().to_numpy()
    np.testing.assert_array_equal(after["low"][by_name], before["low"][by_name])
    np.testing.assert_allclose(after["high"][~by_name], np.clip(before["score"][~by_name] - 0.5, *RANGE))
    same(predictor.forecast(mixed, TOO_FEW), before)
