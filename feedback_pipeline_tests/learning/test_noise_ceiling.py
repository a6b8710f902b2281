import numpy as np
import pytest

from feedback_pipeline.learning.noise_ceiling import noise_ceiling


def test_by_hand_on_unequal_outputs() -> None:
    # Thirty outputs with two reviewers who differ by 2, one more with one.
    y = np.append(np.tile([3.0, 5.0], 30) + np.repeat(np.arange(30) % 5, 2), 9.0)
    output = np.append(np.repeat(np.arange(30), 2), 30)
    reviewer = np.append(np.tile([0, 1], 30), 0)
    found = noise_ceiling(y, output, reviewer)
    assert found.share == pytest.approx(max(1.0 - 2.0 / np.var(y, ddof=1), 0.0))
    assert (found.n_outputs, found.reason) == (30, None)
    # A forecast that knows the two reviewers leaves nothing between them.
    knows = np.where(reviewer == 0, 3.0, 5.0)
    assert noise_ceiling(y, output, reviewer, knows).share == pytest.approx(1.0)


def test_planted_shares_of_variance_are_recovered() -> None:
    stream = np.random.default_rng(3)
    n, m = 4000, 3
    output = np.repeat(np.arange(n), m)
    reviewer = np.concatenate([stream.choice(50, m, replace=False) for _ in range(n)])
    severity = stream.normal(0, 0.9, 50)
    severity -= severity.mean()
    quality = stream.normal(0, 1.0, n)[output]
    y = 5 + quality + severity[reviewer] + stream.normal(0, 0.7, n * m)
    total = 1.0 + severity.var() + 0.49
    assert noise_ceiling(y, output, reviewer).share == pytest.approx(1.0 / total, abs=0.03)
    assert noise_ceiling(y, output, reviewer, severity[reviewer]).share == pytest.approx(1 - 0.49 / total, abs=0.03)


def test_two_scores_of_one_reviewer_are_no_disagreement_between_reviewers() -> None:
    y = np.tile([3.0, 5.0], 40)
    output = np.repeat(np.arange(40), 2)
    found = noise_ceiling(y, output, np.zeros(80, dtype=int))
    assert (found.share, found.n_outputs) == (None, 0)
    assert found.reason == "unknown: 0 outputs have two reviewers, 30 are needed"
    assert noise_ceiling(y, output, np.full(80, -1)).share is None


def test_too_few_outputs_equal_scores_and_no_rows_have_a_reason() -> None:
    output, reviewer = np.repeat(np.arange(29), 2), np.tile([0, 1], 29)
    assert noise_ceiling(np.arange(58.0), output, reviewer).reason == "unknown: 29 outputs have two reviewers, 30 are needed"
    output, reviewer = np.repeat(np.arange(30), 2), np.tile([0, 1], 30)
    assert noise_ceiling(np.full(60, 4.0), output, reviewer).reason == "undefined: all scores are equal"
    but_for_rounding = np.where(np.arange(60) % 7, 7.3, np.nextafter(7.3, 8.0))
    assert noise_ceiling(but_for_rounding, output, reviewer).reason == "undefined: all scores are equal"
    nothing = np.empty(0, dtype=int)
    assert noise_ceiling(np.empty(0), nothing, nothing).share is None


def test_rows_without_a_forecast_are_left_out() -> None:
    stream = np.random.default_rng(0)
    y = stream.normal(size=120)
    output, reviewer = np.repeat(np.arange(60), 2), np.tile([0, 1], 60)
    forecast = np.where(output < 40, 0.3 * y, np.nan)
    found = noise_ceiling(y, output, reviewer, forecast)
    part = output < 40
    assert found == noise_ceiling(y[part], output[part], reviewer[part], forecast[part])
    assert found.n_outputs == 40
