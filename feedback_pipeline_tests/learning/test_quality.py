"""Candidates compete forward in time, the winner gets honest error bars, and little or odd data is answered with a reason."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.special import expit

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning import quality
from feedback_pipeline.learning.calibration import Platt
from feedback_pipeline.learning.conformal import Conformal
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality import Clock, Training, train
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models import CANDIDATES, COMPARISON, MEAN
from feedback_pipeline.learning.quality_rows import QualityRows
from feedback_pipeline.learning.quality_validation import forward_chain
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import RANGE, quality_world

COMPETING = ["mean", "ridge", "eb_mixed", "hist_gradient_boosting", COMPARISON]


def ticking(step: float = 1.0) -> Clock:
    ticks: Iterator[float] = count(0.0, step)
    return lambda: next(ticks)


def trained(rows: QualityRows, seed: int = 1) -> Training:
    return train(rows, RANGE, seed, ticking())


@pytest.fixture(scope="module")
def rows() -> QualityRows:
    return quality_world(WorldSpec(agents=4, executions=110, reviewers=8, seed=3, reviews_per_content=0.3)).rows


@pytest.fixture(scope="module")
def training(rows: QualityRows) -> Training:
    return trained(rows)


@pytest.fixture(scope="module")
def few() -> QualityRows:
    """60 outputs, two or so reviews each."""
    return quality_world(WorldSpec(agents=3, executions=20, reviewers=5, seed=3)).rows


@pytest.fixture
def only_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "eligible", lambda n_outputs: (MEAN,))


def windows(rows: QualityRows) -> list[Ints]:
    return [later for _, later in forward_chain(rows.moment, rows.content)]


def first_outputs(rows: QualityRows, n: int) -> QualityRows:
    return rows.take(np.isin(rows.output, np.unique(rows.output)[:n]))


def test_the_same_rows_and_seed_give_the_same_bits(rows: QualityRows, training: Training) -> None:
    again = train(rows, RANGE, 1, ticking(7.0))
    assert list(again.candidates) == list(training.candidates) == COMPETING
    for name, candidate in training.candidates.items():
        np.testing.assert_array_equal(again.candidates[name].prediction, candidate.prediction)
        assert again.candidates[name].metrics == candidate.metrics
        pd.testing.assert_frame_equal(again.candidates[name].by_agent, candidate.by_agent, check_exact=True)
        # The clock is a tag and nothing else.
        assert (candidate.seconds, again.candidates[name].seconds) == (1.0, 7.0)
    assert again.choice == training.choice
    np.testing.assert_array_equal(again.p_approve, training.p_approve)
    assert again.coverage.overall == training.coverage.overall
    np.testing.assert_array_equal(again.coverage.quartiles, training.coverage.quartiles)
    found, expected = again.predictor.forecast(rows.X), training.predictor.forecast(rows.X)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_the_order_of_the_rows_changes_rounding_at_most(rows: QualityRows, training: Training) -> None:
    order = np.random.default_rng(0).permutation(len(rows.y))
    shuffled = trained(rows.take(order))
    for name in COMPETING:
        found, expected = shuffled.candidates[name].prediction, training.candidates[name].prediction[order]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert shuffled.candidates[name].metrics.r2.value == pytest.approx(training.candidates[name].metrics.r2.value, abs=1e-5)
    assert shuffled.choice.name == training.choice.name
    np.testing.assert_allclose(shuffled.p_approve, training.p_approve[order], atol=1e-5)
    assert shuffled.coverage.overall == pytest.approx(training.coverage.overall)
    np.testing.assert_allclose(shuffled.predictor.predict(rows.X), training.predictor.predict(rows.X), atol=1e-5)


def test_the_choice_is_the_simplest_that_none_beats_with_every_test_shown(rows: QualityRows, training: Training) -> None:
    choice = training.choice
    assert (choice.name, choice.little_to_predict) == ("eb_mixed", False)
    assert training.chosen is training.candidates["eb_mixed"]
    assert (training.predictor.candidate, training.predictor.model.__class__) == ("eb_mixed", CANDIDATES["eb_mixed"])
    mean, ridge, mixed, boosting = COMPETING[:-1]
    tests, loss = dict(choice.tests), dict(zip(COMPETING, np.nansum(training.losses(), axis=0), strict=True))
    assert list(tests)[:3] == [f"{later} v {mean}" for later in (ridge, mixed, boosting)]
    assert {name for name, test in tests.items() if test.promoted} >= {f"{mixed} v {mean}", f"{mixed} v {ridge}"}
    assert not tests[f"{boosting} v {mixed}"].promoted
    assert tests[f"{mixed} v {mean}"].gain == pytest.approx(1 - loss[mixed] / loss[mean])
    assert tests[f"{boosting} v {mixed}"].gain == pytest.approx(1 - loss[boosting] / loss[mixed])
    assert training.reason == "440 outputs with a score: too few for stack"
    assert training.refused == ()
    np.testing.assert_array_equal(training.residual, rows.y - training.chosen.prediction)


def test_error_bars_and_probabilities_rest_on_forward_forecasts(rows: QualityRows, training: Training) -> None:
    forecast = np.sort(np.concatenate(windows(rows)))
    for candidate in training.candidates.values():
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(candidate.prediction)), forecast)
    # How far scores may be off is known once forecasts have met their reviews: not in the first window.
    probable = np.sort(np.concatenate(windows(rows)[1:]))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(training.p_approve)), probable)
    assert training.predictor.conformal == Conformal.of(rows.y - training.chosen.prediction, rows.moment)
    assert 0.85 <= training.coverage.overall <= 0.95
    assert 100 < training.coverage.n < len(forecast)
    # Errors on rows it was fitted on would be smaller.
    fitted = rows.y - training.predictor.model.predict(rows.X)
    assert training.chosen.metrics.rmse.value > 1.2 * np.sqrt((fitted**2).mean())
    assert training.predictor.approval is not None
    assert training.predictor.approval.score_sd == pytest.approx(np.nanstd(training.residual))
    p, approved = training.p_approve[probable], rows.approved[probable]
    assert ((p - approved) ** 2).mean() < 0.75 * approved.var()


def test_a_forest_that_forecasts_best_is_still_not_chosen(rows: QualityRows, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins = {MEAN: CANDIDATES[MEAN], COMPARISON: CANDIDATES["ridge"]}
    monkeypatch.setattr(quality, "eligible", lambda n_outputs: tuple(stand_ins))
    monkeypatch.setattr(quality, "CANDIDATES", stand_ins)
    hint = rows.y + np.random.default_rng(0).normal(0, 0.3, len(rows.y))
    told = replace(rows, features=FeatureList(("hint",), ()), X=rows.X.assign(hint=hint))
    found = trained(told)
    assert found.refused == ()
    r2 = {name: each.metrics.r2 for name, each in found.candidates.items()}
    assert r2[COMPARISON].low > r2[MEAN].high + 0.3
    assert (found.choice.name, found.choice.tests) == (MEAN, ())


def test_where_nothing_can_be_forecast_the_mean_is_chosen(rows: QualityRows) -> None:
    shuffled = np.random.default_rng(0).permutation(rows.y)
    found = trained(replace(rows, y=shuffled))
    assert (found.choice.name, found.choice.little_to_predict) == (MEAN, True)
    assert [test.n_contents >= 200 for _, test in found.choice.tests] == [True, True, True]
    assert list(found.candidates) == COMPETING
    for candidate in found.candidates.values():
        assert candidate.metrics.r2.low <= 0.0


def test_share_of_the_ceiling(training: Training, few: QualityRows) -> None:
    share = training.residual_ceiling.share
    assert share is not None
    assert training.ceiling.share is not None
    assert 0 < training.ceiling.share < share < 1
    for candidate in training.candidates.values():
        assert candidate.share_of_ceiling == candidate.metrics.r2.value / share
    unknown = trained(first_outputs(few, 49))
    assert unknown.residual_ceiling.share is None
    assert unknown.residual_ceiling.reason is not None
    assert np.isfinite(unknown.chosen.metrics.r2.value)
    assert np.isnan(unknown.chosen.share_of_ceiling)


def test_fewer_than_ten_outputs_are_refused_with_their_number(few: QualityRows) -> None:
    nine = first_outputs(few, 9)
    assert len(nine.y) > 10  # it is outputs that count, not reviews
    with pytest.raises(LearningError, match=r"^9 outputs with a score; the quality predictor needs 10$"):
        trained(nine)
    with pytest.raises(LearningError, match=r"^0 outputs"):
        trained(nine.take(np.zeros(len(nine.y), dtype=bool)))


@pytest.mark.parametrize("n", [10, 49])
def test_below_fifty_outputs_the_mean_is_all_there_is(n: int, few: QualityRows) -> None:
    found = trained(first_outputs(few, n))
    assert (list(found.candidates), found.choice.name) == ([MEAN], MEAN)
    absent = ", ".join(name for name in CANDIDATES if name != MEAN)
    assert found.reason == f"{n} outputs with a score: too few for {absent}"
    forecast = found.predictor.forecast(few.X)
    assert np.isfinite(forecast["score"]).all()
    if n == 10:
        assert found.predictor.approval is None
        assert np.isnan(found.p_approve).all()
        assert forecast["abstain"].all()


@pytest.mark.parametrize("score", [7.25, 7.3])
def test_one_constant_score_is_forecast_and_nothing_is_explained(score: float, rows: QualityRows) -> None:
    found = trained(replace(rows, y=np.full(len(rows.y), score)))
    assert (found.choice.name, found.choice.little_to_predict) == (MEAN, True)
    # 7.3 has no exact mean; what rounding leaves is no variance to explain.
    assert [np.isnan(each.metrics.r2.value) for each in found.candidates.values()] == [True] * 5
    assert [np.isnan(each.share_of_ceiling) for each in found.candidates.values()] == [True] * 5
    assert found.chosen.metrics.rmse.value == pytest.approx(0.0, abs=1e-12)
    forecast = found.predictor.forecast(rows.X)
    for name in ("score", "low", "high"):
        np.testing.assert_allclose(forecast[name], score, atol=1e-9)
    assert not forecast["abstain"].any()


@pytest.mark.usefixtures("only_the_mean")
@pytest.mark.parametrize("approved", [np.nan, 1.0, 0.0])
def test_without_decisions_that_differ_there_is_no_probability(approved: float, few: QualityRows) -> None:
    found = trained(replace(few, approved=np.full(len(few.y), approved)))
    assert found.predictor.approval is None
    assert np.isnan(found.p_approve).all()
    forecast = found.predictor.forecast(few.X)
    assert forecast["p_approve"].isna().all()
    assert np.isfinite(forecast[["score", "low", "high"]]).all(axis=None)


@pytest.mark.parametrize("reviewer", [None, "only"])
def test_without_reviewers_to_tell_apart(reviewer: str | None, few: QualityRows) -> None:
    found = trained(replace(few, X=few.X.assign(reviewer_id=reviewer)))
    assert list(found.candidates) == ["mean", "ridge", "eb_mixed", COMPARISON]
    assert found.ceiling.share is found.residual_ceiling.share is None
    assert found.chosen.metrics.r2.value == 0.0  # no severity is left, so the mean is the training mean
    assert (found.predictor.approval is None) == (reviewer is None)
    assert np.isnan(found.p_approve).all() == (reviewer is None)
    assert np.isfinite(found.predictor.forecast(few.X)[["score", "low", "high"]]).all(axis=None)


def test_one_agent(few: QualityRows) -> None:
    found = trained(replace(few, X=few.X.assign(agent_name="alone")))
    for candidate in found.candidates.values():
        assert candidate.by_agent["agent_name"].tolist() == ["alone"]
        assert candidate.by_agent["r2"].item() == pytest.approx(candidate.metrics.r2.value)
    assert np.isfinite(found.predictor.predict(few.X)).all(axis=None)


def test_reviews_of_one_moment_leave_nothing_to_forecast(few: QualityRows) -> None:
    found = trained(replace(few, moment=np.full(len(few.y), 5)))
    for candidate in found.candidates.values():
        assert np.isnan(candidate.prediction).all()
        assert candidate.metrics.n == 0
        assert candidate.metrics.reason == "no forecast has met its review yet"
        assert np.isnan(candidate.share_of_ceiling)
        assert candidate.by_agent.empty
    assert found.choice.name == MEAN
    assert [test.reason for _, test in found.choice.tests] == ["0 contents compared; a promotion needs 200"] * 2
    assert np.isnan(found.p_approve).all()
    assert (found.coverage.n, np.isnan(found.coverage.overall)) == (0, True)
    assert found.residual_ceiling.share is None
    forecast = found.predictor.forecast(few.X)
    assert np.isfinite(forecast["score"]).all()
    assert forecast[["low", "high", "p_approve"]].isna().all(axis=None)
    assert forecast["abstain"].all()
    assert set(forecast["reason"]) == {"0 reviews of earlier forecasts; an interval needs 50"}


def content_means(rows: QualityRows) -> Floats:
    mean: Floats = (np.bincount(rows.content, rows.y) / np.maximum(np.bincount(rows.content), 1))[rows.content]
    return mean


def test_a_feature_that_repeats_the_score_is_left_out(few: QualityRows) -> None:
    never = trained(few)
    verdicts = {"verdict": content_means(few), "echo": 100.0 - 3.0 * few.y}
    numeric = few.features.numeric
    features = FeatureList((numeric[0], "verdict", *numeric[1:], "echo"), few.features.categories)
    told = trained(replace(few, features=features, X=few.X.assign(**verdicts)))
    assert never.refused == ()
    assert sorted(told.refused) == ["echo", "verdict"]
    assert told.rows.features == told.predictor.model.features == few.features
    assert told.predictor.seen.names == numeric
    assert not set(verdicts) & set(told.rows.X)
    for name, candidate in never.candidates.items():
        np.testing.assert_array_equal(told.candidates[name].prediction, candidate.prediction)
        assert told.candidates[name].metrics == candidate.metrics
    pd.testing.assert_frame_equal(told.predictor.forecast(few.X), never.predictor.forecast(few.X), check_exact=True)


@pytest.mark.usefixtures("only_the_mean")
def test_a_window_is_calibrated_on_the_decisions_before_it(rows: QualityRows) -> None:
    first, second, *_, last = windows(rows)
    plain = trained(rows)

    def with_opposite(some: Ints) -> Training:
        approved = rows.approved.copy()
        approved[some] = 1.0 - approved[some]
        return trained(replace(rows, approved=approved))

    # Decisions of the last window reach what is forecast from now on, nothing that was forecast.
    late = with_opposite(last)
    np.testing.assert_array_equal(late.p_approve, plain.p_approve)
    routes = [each.predictor.approval for each in (late, plain)]
    assert routes[0] is not None
    assert routes[1] is not None
    assert routes[0].platt != routes[1].platt
    early = with_opposite(first)
    assert np.isnan(early.p_approve[first]).all()
    for later in (second, last):
        assert (early.p_approve[later] != plain.p_approve[later]).all()


@pytest.mark.usefixtures("only_the_mean")
def test_the_calibration_of_a_window_has_seen_all_forecasts_before_it(rows: QualityRows, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(Platt):
        """Gives every forecast a probability that says how many it was fitted on."""

        @classmethod
        def fit(cls, p: Floats, approved: Floats, moment: npt.NDArray[np.int64] | None = None) -> "Counting":
            seen = int(np.isfinite(p).sum())
            return cls(seen / len(p), 0.0, seen, None)

    monkeypatch.setattr(quality, "Platt", Counting)
    found, seen = trained(rows), 0
    first, *others = windows(rows)
    assert np.isnan(found.p_approve[first]).all()
    for later in others:
        np.testing.assert_array_equal(found.p_approve[later], expit(seen / len(rows.y)))
        seen += len(later)
    assert found.predictor.approval is not None
    assert found.predictor.approval.platt.n == seen


@pytest.mark.usefixtures("only_the_mean")
def test_how_far_scores_may_be_off_is_known_from_the_windows_before(rows: QualityRows) -> None:
    *_, before, last = windows(rows)
    plain = trained(rows)
    y = rows.y.copy()
    # Of the mean, the residuals of the last window are all that these scores change.
    y[last] = np.where(np.arange(len(last)) % 2, y[last] + 3.0, y[last] - 3.0)
    wild = trained(replace(rows, y=y))
    np.testing.assert_array_equal(wild.p_approve[before], plain.p_approve[before])
    # The first of the last window know of none of them; later ones of those before.
    first = last[np.argsort(rows.moment[last], kind="stable")][:10]
    np.testing.assert_array_equal(wild.p_approve[first], plain.p_approve[first])
    assert wild.predictor.approval is not None
    assert plain.predictor.approval is not None
    assert wild.predictor.approval.score_sd > plain.predictor.approval.score_sd
