import math
import pickle

import numpy as np
import pytest

from feedback_pipeline.learning.conformal import (
    LEAST_ALPHA,
    MIN_ROWS,
    TARGET,
    Conformal,
    coverage,
    forward_intervals,
    split_width,
)

BOUNDS = (1.0, 10.0)


def reviewed(seed: int, n: int, drift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts, their residuals and moments: scores in quarters within 1..10, a little noisier where more is expected."""
    rng = np.random.default_rng(seed)
    prediction = rng.normal(6, 1.2, n)
    noise = 0.95 * np.exp(0.07 * (prediction - 6) / 1.2) * rng.normal(0, 1, n)
    score = np.clip(np.round(4 * (prediction + noise + drift * np.linspace(0, 1, n))) / 4, *BOUNDS)
    return prediction, score - prediction, np.arange(n, dtype=np.int64)


@pytest.mark.parametrize("drift", [0.0, 1.5, -1.5])
@pytest.mark.parametrize("n", [1_500, 5_000])
def test_nine_in_ten_reviews_lie_inside_everywhere_on_the_scale_and_while_scores_drift(n: int, drift: float) -> None:
    overall, quartiles = [], []
    for seed in range(6):
        prediction, residual, moment = reviewed(seed, n, drift)
        found = coverage(forward_intervals(residual, moment).inside(residual), prediction)
        assert found.n == n - 50
        overall.append(found.overall)
        quartiles.append(found.quartiles)
    assert 0.88 <= np.mean(overall) <= 0.92
    slack = 3 * np.sqrt(0.85 * 0.15 / (6 * n / 4))
    assert np.mean(quartiles, axis=0).min() >= 0.85 - slack


def test_the_intervals_of_the_next_reviews_hold_nine_in_ten_of_them() -> None:
    hits = []
    for seed in range(40):
        prediction, residual, moment = reviewed(seed, 1_200, drift=1.5)
        low, high = Conformal.of(residual[:1000], moment[:1000]).interval(prediction[1000:], BOUNDS)
        score = prediction[1000:] + residual[1000:]
        hits.append(((low <= score) & (score <= high)).mean())
    # Within a further 200 reviews scores move by another quarter of a point.
    assert np.mean(hits) == pytest.approx(0.89, abs=3 * np.std(hits) / np.sqrt(40))


def test_without_recentring_a_drift_leaves_too_many_outside() -> None:
    prediction, residual, moment = reviewed(1, 3_000, drift=1.5)
    late = slice(1_500, None)
    fixed = np.abs(residual[late]) <= split_width(np.abs(residual[:1_500]), TARGET)
    moving = forward_intervals(residual, moment).inside(residual)[late]
    assert coverage(fixed.astype(float), prediction[late]).overall < 0.85
    assert coverage(moving, prediction[late]).overall > 0.88


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(50, 0.1, 46), (99, 0.1, 90), (100, 0.1, 91), (9, 0.1, 9), (50, LEAST_ALPHA, 50)]
)
def test_the_width_is_the_rank_of_the_split_conformal_definition(n: int, alpha: float, rank: int) -> None:
    distance = np.abs(np.random.default_rng(n).normal(size=n))
    assert split_width(distance, alpha) == np.sort(distance)[rank - 1]
    assert rank == math.ceil(round((n + 1) * (1 - alpha), 9))


def test_too_few_rows_for_the_level_have_no_finite_width() -> None:
    assert split_width(np.arange(8.0), 0.1) == math.inf
    assert split_width(np.empty(0), 0.1) == math.inf


def test_reviews_of_one_moment_give_the_plain_split_interval_around_their_median() -> None:
    residual = np.random.default_rng(3).normal(0.4, 1, 200)
    found = Conformal.of(residual, np.zeros(200, dtype=np.int64))
    assert found.centre == np.median(residual)
    assert found.width == np.sort(np.abs(residual - np.median(residual)))[math.ceil(201 * 0.9) - 1]
    assert (found.alpha, found.n, found.reason) == (TARGET, 200, None)
    low, high = found.interval(np.array([5.0]), BOUNDS)
    assert (low[0], high[0]) == (5 + found.centre - found.width, 5 + found.centre + found.width)
    assert found.expected(np.array([5.0, 20.0]), BOUNDS).tolist() == [5 + found.centre, 10.0]


def test_the_walk_is_its_definition_row_by_row() -> None:
    """Distinct moments, blocks of 25: the loop of the docstring, written out."""
    _, residual, moment = reviewed(4, 260)
    alpha, distance = TARGET, np.abs(residual[:25] - np.median(residual[:25]))
    expected = np.full((260, 2), np.nan)
    for begin in range(25, 260, 25):
        own = residual[begin : begin + 25]
        middle = np.median(residual[:begin])
        if begin >= 50:
            width = np.sort(distance)[math.ceil(round((begin + 1) * (1 - alpha), 9)) - 1]
            expected[begin : begin + 25] = middle, width
            missed = (np.abs(own - middle) > width).mean()
            alpha = np.clip(alpha + 0.1 * len(own) / 25 * (0.1 - missed), LEAST_ALPHA, 0.5)
        distance = np.concatenate([distance, np.abs(own - middle)])
    found = forward_intervals(residual, moment)
    np.testing.assert_allclose(np.column_stack([found.centre, found.width]), expected, rtol=1e-12)
    now = Conformal.of(residual, moment)
    assert now.alpha == pytest.approx(alpha, rel=1e-12)
    assert now.centre == np.median(residual)
    assert now.width == np.sort(distance)[math.ceil(round(261 * (1 - alpha), 9)) - 1]


def test_the_past_is_replayed_without_the_future() -> None:
    _, residual, moment = reviewed(5, 1_000)
    later = residual.copy()
    later[600:] += 100.0
    before, after = forward_intervals(residual, moment), forward_intervals(later, moment)
    np.testing.assert_array_equal(before.width[:625], after.width[:625])
    assert (before.width[650:] != after.width[650:]).any()


def test_errors_that_grow_without_end_leave_a_finite_interval() -> None:
    found = Conformal.of(np.exp(np.arange(400) / 20), np.arange(400, dtype=np.int64))
    assert found.alpha == LEAST_ALPHA
    assert np.isfinite(found.width)


def test_only_the_latest_reviews_count() -> None:
    _, residual, moment = reviewed(6, 2_000)
    residual[:1_000] = 50.0
    found = Conformal.of(residual, moment)
    assert abs(found.centre) < 0.3
    assert 1.2 < found.width < 2.2


def test_row_order_changes_nothing() -> None:
    _, residual, moment = reviewed(7, 400)
    moment //= 7
    order = np.random.default_rng(0).permutation(400)
    assert Conformal.of(residual, moment) == Conformal.of(residual[order], moment[order])
    np.testing.assert_array_equal(
        forward_intervals(residual, moment).width[order], forward_intervals(residual[order], moment[order]).width
    )


@pytest.mark.parametrize("n", [0, 1, MIN_ROWS - 1])
def test_too_few_residuals_are_no_interval_with_the_reason(n: int) -> None:
    residual = np.concatenate([np.zeros(n), np.full(20, np.nan)])
    found = Conformal.of(residual, np.arange(n + 20, dtype=np.int64))
    assert found.n == n
    assert found.reason == f"{n} reviews of earlier forecasts; an interval needs 50"
    assert np.isnan(found.interval(np.array([5.0]), BOUNDS)).all()
    assert np.isnan(forward_intervals(residual, np.arange(n + 20, dtype=np.int64)).width).all()


def test_constant_residuals_have_an_interval_without_width() -> None:
    found = Conformal.of(np.full(60, 0.5), np.arange(60, dtype=np.int64))
    assert (found.centre, found.width, found.reason) == (0.5, 0.0, None)


def test_intervals_are_clipped_to_the_scale_and_nan_stays_nan() -> None:
    _, residual, moment = reviewed(8, 500)
    low, high = Conformal.of(residual, moment).interval(np.array([1.2, 9.9, 14.0, np.nan]), BOUNDS)
    assert (low[0], high[1], low[2], high[2]) == (1.0, 10.0, 10.0, 10.0)
    assert np.isnan([low[3], high[3]]).all()


def test_the_state_is_small_plain_and_survives_pickling() -> None:
    _, residual, moment = reviewed(9, 5_000)
    found = Conformal.of(residual, moment)
    assert len(pickle.dumps(found)) < 400
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - its own bytes
    assert {type(value) for value in vars(found).values()} <= {float, int, type(None)}


def test_coverage_of_nothing_and_of_equal_forecasts() -> None:
    assert coverage(np.full(3, np.nan), np.arange(3.0)).n == 0
    equal = coverage(np.array([1.0, 0.0, 1.0, 1.0]), np.full(4, 6.0))
    assert (equal.overall, equal.n) == (0.75, 4)
    np.testing.assert_array_equal(equal.quartiles, [0.75, np.nan, np.nan, np.nan])
