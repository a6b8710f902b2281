import math

import numpy as np
import pytest

from feedback_pipeline.learning.confidence_sequences import ALPHA, RHO2, confidence_sequences, half_width, pseudo_outcomes
from feedback_pipeline.learning.trial_states import FIRST_LOOK


def test_the_width_is_that_of_the_formula() -> None:
    """By hand: rho^2 = (5.9915 + ln 6.9915) / 800 = .009920."""
    assert pytest.approx(0.0099203, rel=1e-4) == RHO2
    found = half_width(np.array([60.0, 639.0, 3000.0]), np.array([1.0, 0.9, 2.0]))
    by_hand = [
        math.sqrt(2 * (n * RHO2 + 1) / (n**2 * RHO2) * math.log(math.sqrt(n * RHO2 + 1) / ALPHA)) * sd
        for n, sd in ((60, 1.0), (639, 0.9), (3000, 2.0))
    ]
    assert found.tolist() == pytest.approx(by_hand)
    assert found[0] == pytest.approx(0.5367, abs=1e-3)


def test_pseudo_outcomes_are_those_of_a_loop() -> None:
    """Asymmetric data, some executions without a prediction, two trials one after the other."""
    generator = np.random.default_rng(3)
    n = 300
    group = np.sort(generator.integers(0, 2, n))
    outcome = (generator.random(n) < 0.3).astype(float)
    propensity = generator.choice([0.5, 0.8, 0.95], n)
    applied = generator.random(n) < propensity
    predicted = np.where(generator.random(n) < 0.3, np.nan, generator.random(n))
    found = pseudo_outcomes(group, outcome, applied, propensity, predicted)
    expected = []
    for trial in (0, 1):
        residuals: list[float] = []
        outcomes: list[float] = []
        for i in np.flatnonzero(group == trial):
            if np.isnan(predicted[i]):
                baseline = np.mean(outcomes) if outcomes else 0.5
            else:
                baseline = predicted[i] + (np.mean(residuals) if residuals else 0.0)
                residuals.append(outcome[i] - predicted[i])
            z = 1 / propensity[i] if applied[i] else -1 / (1 - propensity[i])
            expected.append(z * (outcome[i] - baseline))
            outcomes.append(outcome[i])
    assert found == pytest.approx(np.array(expected))


def test_bounds_are_those_of_the_mean_and_the_standard_deviation() -> None:
    generator = np.random.default_rng(4)
    group = np.repeat([0, 1, 2], [200, 59, 90])
    values, applied = 1000.0 + generator.normal(0, 1.3, len(group)), generator.random(len(group)) < 0.5
    applied[group == 2] = True
    found = confidence_sequences(group, values, applied)
    assert found.n[:200].tolist() == list(range(1, 201))
    assert found.n[200] == 1
    for n in (60, 61, 200):
        half = half_width(np.array([float(n)]), np.array([values[:n].std(ddof=1)]))[0]
        assert found.effect[n - 1] == pytest.approx(values[:n].mean())
        assert (found.high - found.low)[n - 1] / 2 == pytest.approx(half)
    assert np.isnan(found.low[: FIRST_LOOK - 1]).all()
    assert np.isnan(found.low[200:259]).all(), "too few"
    assert np.isnan(found.low[259:]).all(), "nobody was held out"


def test_nothing_and_no_variation() -> None:
    empty = confidence_sequences(np.empty(0, np.intp), np.empty(0), np.empty(0, bool))
    assert len(empty.n) == 0
    same = confidence_sequences(np.zeros(80, np.intp), np.full(80, 0.25), np.arange(80) % 2 == 0)
    assert same.low[-1] == same.high[-1] == 0.25


def simulated(seeds: int, n: int, uplift: float, drift: float, p_on: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of many trials ever excluded the truth, and the last estimates."""
    generator = np.random.default_rng(5)
    shape = (seeds, n)
    quality = generator.uniform(-0.38, 0.38, shape)
    base = 0.5 + drift * np.sin(generator.uniform(0, 6.28, (seeds, 1)) + np.linspace(0, 12, n))
    applied = generator.random(shape) < p_on
    approved = generator.random(shape) < np.clip(base + quality + uplift * applied, 0, 1)
    group = np.repeat(np.arange(seeds), n)
    arrays = (approved.ravel().astype(float), applied.ravel(), np.full(seeds * n, p_on), (0.5 + quality).ravel())
    found = confidence_sequences(group, pseudo_outcomes(group, *arrays), arrays[1])
    outside = np.asarray((found.low > uplift) | (found.high < uplift)).reshape(shape)
    return np.asarray(outside.any(axis=1)), found.effect.reshape(shape)[:, -1]


@pytest.mark.parametrize(("drift", "p_on"), [(0.0, 0.5), (0.2, 0.5), (0.1, 0.8)])
def test_the_truth_is_hardly_ever_left_however_often_one_looks(drift: float, p_on: float) -> None:
    """Looked at after every execution; 5 % are allowed, with three standard errors of 300 seeds on top."""
    ever, last = simulated(300, 1500, 0.0, drift, p_on)
    assert ever.mean() <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 300)
    assert abs(last.mean()) < 4 * last.std() / math.sqrt(300), "unbiased, whatever the base rate does"


def test_an_effect_is_estimated_without_bias() -> None:
    ever, last = simulated(300, 1500, 0.1, 0.0, 0.8)
    assert ever.mean() <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 300)
    assert last.mean() == pytest.approx(0.1, abs=4 * last.std() / math.sqrt(300))
