import numpy as np
import pytest
from statsmodels.api import GLM, add_constant
from statsmodels.genmod.families import Binomial

from feedback_pipeline.learning.curves import FALLING, INVERTED_U, RISING, approval_thresholds, feature_ranges


def ranges_of(feature: np.ndarray, score: np.ndarray, r: float):  # type: ignore[no-untyped-def]
    return feature_ranges(feature, score, np.zeros(len(feature), dtype=int), np.array([r]), np.array([10.0]))


def test_inverted_u_is_found_around_its_planted_top() -> None:
    rng = np.random.default_rng(1)
    words = rng.lognormal(np.log(300), 0.45, 4000)
    score = 7 - 3.0 * np.log(words / 350) ** 2 + rng.normal(0, 0.8, 4000)
    found = ranges_of(words, score, 0.1)
    assert found.shape[0] == INVERTED_U
    assert found.low[0] < found.best[0] < found.high[0]
    assert found.best[0] == pytest.approx(350, rel=0.12)
    # Within .25 points of the best: |log(w / 350)| < sqrt(.25 / 3).
    assert found.low[0] == pytest.approx(350 * np.exp(-np.sqrt(0.25 / 3)), rel=0.12)
    assert found.high[0] == pytest.approx(350 * np.exp(np.sqrt(0.25 / 3)), rel=0.12)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_line_gives_its_good_side_open_at_the_end(sign: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, 3000)
    found = ranges_of(x, 5 + sign * 2.0 * x + rng.normal(0, 0.5, 3000), 0.7 * sign)
    assert found.shape[0] == (RISING if sign > 0 else FALLING)
    assert np.isnan(found.best[0])
    closed, open_end = (found.low, found.high) if sign > 0 else (found.high, found.low)
    assert np.isnan(open_end[0])
    # Two points over the range: within .25 of the best is the outer eighth.
    assert closed[0] == pytest.approx(0.875 if sign > 0 else 0.125, abs=0.05)
    assert found.p5[0] == pytest.approx(0.05, abs=0.02)
    assert found.p95[0] == pytest.approx(0.95, abs=0.02)


def test_a_flat_line_advises_no_more_than_the_better_half() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=800)
    found = ranges_of(x, 5 + 0.01 * x + rng.normal(0, 0.05, 800), 0.15)
    assert found.low[0] == pytest.approx(0.0, abs=0.1)


def test_pairs_do_not_mix_and_scale_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.lognormal(size=600), rng.normal(size=600)
    pair = np.repeat([0, 1], [200, 400])
    both = feature_ranges(x, y, pair, np.array([0.2, -0.2]), np.array([10.0, 10.0]))
    second = feature_ranges(x[200:] * 1000, y[200:], np.zeros(400, dtype=int), np.array([-0.2]), np.array([10.0]))
    assert second.high[0] == pytest.approx(1000 * both.high[1], rel=1e-9)


def test_two_values_only_give_a_line_not_a_failure() -> None:
    x = np.tile([0.0, 1.0], 30)
    found = ranges_of(x, x + np.linspace(0, 0.1, 60), 0.9)
    assert found.shape[0] == RISING
    assert found.low[0] == 1.0


def test_approval_thresholds_equal_a_logistic_regression() -> None:
    rng = np.random.default_rng(5)
    score = rng.beta(4, 3, (6000, 1))
    approved = (rng.random(6000) < 1 / (1 + np.exp(-12 * (score[:, 0] - 0.6)))).astype(float)
    found = approval_thresholds(np.zeros(6000, dtype=int), 1, score, approved)
    fit = GLM(approved, add_constant(score), family=Binomial()).fit().params
    assert found.positive[0, 0] == pytest.approx((np.log(4) - fit[0]) / fit[1], abs=0.01)
    assert found.negative[0, 0] == pytest.approx((-np.log(4) - fit[0]) / fit[1], abs=0.01)
    assert found.reason[0, 0] is None


def test_undefined_thresholds_carry_a_reason() -> None:
    rng = np.random.default_rng(6)
    n = 60
    group = np.repeat([0, 1, 2, 3], n)
    score = rng.uniform(size=(4 * n, 1))
    approved = np.concatenate([np.ones(n), rng.integers(0, 2, n), np.full(n, np.nan), (score[3 * n :, 0] < 0.5).astype(float)])
    found = approval_thresholds(group, 5, score, approved)
    assert found.reason[:, 0].tolist() == [
        "one_class",
        "decisions do not follow this aspect",
        "fewer than 10 decided outputs",
        "decisions do not follow this aspect",
        "fewer than 10 decided outputs",
    ]
    assert np.isnan(found.positive).all()


def test_a_score_that_decides_everything_stays_finite() -> None:
    score = np.linspace(0, 1, 100)[:, None]
    found = approval_thresholds(np.zeros(100, dtype=int), 1, score, (score[:, 0] > 0.7).astype(float))
    assert 0.6 < found.negative[0, 0] < found.positive[0, 0] < 0.85
