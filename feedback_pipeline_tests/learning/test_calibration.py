import math
import pickle

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from feedback_pipeline.learning.approval import fit_approval
from feedback_pipeline.learning.calibration import MIN_ROWS, Platt, approval_probability, ece, reliability


def forecast(seed: int, n: int, shift: float = 0.0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """P(approve), off by a shift and a slope of its logits, and the decisions."""
    rng = np.random.default_rng(seed)
    eta = rng.normal(0.3, 1.8, n)
    return expit(spread * eta + shift), (rng.random(n) < expit(eta)).astype(float)


def judged(seed: int, n: int, reviewers: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Expected score (residual sd 1), score given, decision, reviewer: standards of their own, sd .7."""
    rng = np.random.default_rng(seed)
    reviewer = rng.integers(0, reviewers, n)
    bar = rng.normal(6, 0.7, reviewers)
    expected = rng.normal(6.2, 1.1, n)
    score = expected + rng.normal(0, 1, n)
    return expected, score, (1.8 * (score - bar[reviewer]) + rng.logistic(size=n) > 0).astype(float), reviewer


@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (1.0, 0.5), (-0.7, 2.0)])
@pytest.mark.parametrize("n", [60, 2_000])
def test_the_fit_is_that_of_an_unpenalised_logistic_regression(n: int, shift: float, spread: float) -> None:
    p, approved = forecast(1, n, shift, spread)
    found = Platt.fit(p, approved)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(p)[:, None], approved)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], abs=1e-4)
    assert found.shift == pytest.approx(oracle.intercept_[0], abs=1e-4)
    np.testing.assert_allclose(found.probability(p), oracle.predict_proba(logit(p)[:, None])[:, 1], atol=1e-5)
    residual = approved - found.probability(p)
    np.testing.assert_allclose([residual.sum(), residual @ logit(p)], 0, atol=1e-7 * n)


@pytest.mark.parametrize(("shift", "spread"), [(0.8, 1.0), (0.0, 2.5), (-0.5, 0.5)])
def test_a_distorted_forecast_is_calibrated_for_later_decisions(shift: float, spread: float) -> None:
    errors = []
    for seed in range(8):
        p, approved = forecast(seed, 10_000, shift, spread)
        later = slice(5_000, None)
        assert ece(p[later], approved[later]) > 0.05
        errors.append(ece(Platt.fit(p[:5_000], approved[:5_000]).probability(p[later]), approved[later]))
    assert np.mean(errors) <= 0.03


def test_expected_scores_through_the_standards_are_calibrated() -> None:
    errors = []
    for seed in range(6):
        expected, score, approved, reviewer = judged(seed, 10_000)
        past, later = slice(0, 5_000), slice(5_000, None)
        model = fit_approval(score[past], approved[past], reviewer[past], 60)
        p = approval_probability(expected, 1.0, model.intercept[reviewer], model.slope, model.intercept_variance[reviewer])
        np.testing.assert_allclose(p, model.probability(expected, 1.0, reviewer))
        errors.append(ece(Platt.fit(p[past], approved[past]).probability(p[later]), approved[later]))
        nobody = approval_probability(expected, 1.0, model.population_intercept, model.slope, model.population_variance)
        assert ece(nobody[later], approved[later]) <= 0.06
    assert np.mean(errors) <= 0.03


def test_the_route_is_the_mean_over_the_scores_that_may_come() -> None:
    score, sd, slope, standard = np.linspace(2, 10, 9), 0.8, 1.5, 6.0
    exact = [np.mean(expit(slope * (s + sd * norm.ppf((np.arange(4000) + 0.5) / 4000) - standard))) for s in score]
    found = approval_probability(score, sd, -slope * standard, slope)
    np.testing.assert_allclose(found, exact, atol=0.02)
    np.testing.assert_allclose(found, expit(slope * (score - 6) / np.sqrt(1 + np.pi * (slope * sd) ** 2 / 8)))
    np.testing.assert_allclose(approval_probability(score, 0.0, -9.0, slope), expit(slope * (score - 6)))


def test_the_latest_decisions_count() -> None:
    old, new = forecast(1, 4_000, shift=3.0), forecast(2, 2_000)
    p, approved = (np.concatenate(parts) for parts in zip(old, new, strict=True))
    found = Platt.fit(p, approved, np.arange(6_000, dtype=np.int64))
    alone = Platt.fit(*new)
    assert (found.shift, found.slope, found.n) == (alone.shift, alone.slope, 2_000)
    assert Platt.fit(p, approved, np.zeros(6_000, dtype=np.int64)).n == 6_000


@pytest.mark.parametrize(
    ("p", "approved", "reason"),
    [
        (np.empty(0), np.empty(0), "0 decisions on earlier forecasts; calibration needs 50"),
        (np.full(MIN_ROWS - 1, 0.4), np.zeros(MIN_ROWS - 1), "49 decisions on earlier forecasts; calibration needs 50"),
        (np.linspace(0.1, 0.9, 60), np.ones(60), "every decision is an approval"),
        (np.linspace(0.1, 0.9, 60), np.zeros(60), "no decision is an approval"),
        (np.linspace(0.1, 0.9, 60), (np.arange(60) > 30).astype(float), "the forecasts separate the decisions completely"),
        (np.linspace(0.1, 0.9, 60), (np.arange(60) < 30).astype(float), "the forecasts separate the decisions completely"),
    ],
)
def test_what_cannot_be_calibrated_stays_as_it_is_with_the_reason(p: np.ndarray, approved: np.ndarray, reason: str) -> None:
    found = Platt.fit(p, approved)
    assert (found.shift, found.slope, found.reason) == (0.0, 1.0, reason)
    np.testing.assert_array_equal(found.probability(p), p)


def test_a_constant_forecast_is_moved_to_the_base_rate() -> None:
    approved = (np.arange(100) < 30).astype(float)
    found = Platt.fit(np.full(100, 0.8), approved)
    assert found.reason == "the forecasts do not vary: only their level is calibrated"
    np.testing.assert_allclose(found.probability(np.array([0.8])), 0.3)


def test_forecasts_that_rank_the_wrong_way_give_the_base_rate() -> None:
    p, approved = forecast(3, 500)
    found = Platt.fit(1 - p, approved)
    assert found.reason == "decisions do not rise with the forecasts: all get the base rate"
    np.testing.assert_allclose(found.probability(np.array([0.1, 0.9])), approved.mean())


def test_certain_forecasts_missing_values_and_ties() -> None:
    p, approved = forecast(4, 400)
    p[:40] = np.repeat([0.0, 1.0], 20)
    p[40:60], approved[60:80] = np.nan, np.nan
    found = Platt.fit(p, approved)
    assert found.n == 360
    assert found.reason is None
    calibrated = found.probability(p)
    assert np.isnan(calibrated).sum() == 20
    assert ((calibrated >= 0) & (calibrated <= 1))[~np.isnan(p)].all()


def test_calibrating_keeps_the_order_and_survives_pickling() -> None:
    p, approved = forecast(5, 300, shift=1.0)
    found = Platt.fit(p, approved)
    np.testing.assert_array_equal(np.argsort(found.probability(p)), np.argsort(p))
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - its own bytes
    order = np.random.default_rng(1).permutation(300)
    assert Platt.fit(p[order], approved[order]).slope == pytest.approx(found.slope, rel=1e-9)


def test_calibration_error_by_hand() -> None:
    p, approved = np.array([0.05, 0.15, 0.15, 1.0, np.nan]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    found = reliability(p, approved)
    assert found.n.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.observed[1] == 0.5
    assert np.isnan(found.forecast[5])
    assert ece(p, approved) == pytest.approx((0.05 + 2 * 0.35 + 0.0) / 4)
    assert math.isnan(ece(np.empty(0), np.empty(0)))
