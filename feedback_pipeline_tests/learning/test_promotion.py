import math

import numpy as np
import pytest
from scipy import stats

from feedback_pipeline.learning.promotion import MIN_CONTENTS, Promotion, first_champion, promotes


def two_models(
    seed: int, contents: int, gain: float, reviews: float = 0.0, shared: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared errors of a champion (mean 1) and of a challenger that is better by a share `gain`, and the content.

    The two disagree as models do: their own errors have variance .05 + gain and .05. A content has 1 + Poisson(reviews) reviews
    that share the models' own errors and a part `shared` of the noise.
    """
    rng = np.random.default_rng(seed)
    content = np.repeat(np.arange(contents), 1 + rng.poisson(reviews, contents))
    noise_variance = 0.95 - gain
    noise = rng.normal(0, np.sqrt(noise_variance * shared), contents)[content]
    noise = noise + rng.normal(0, np.sqrt(noise_variance * (1 - shared)), len(content))
    champion = noise + rng.normal(0, np.sqrt(0.05 + gain), contents)[content]
    challenger = noise + rng.normal(0, np.sqrt(0.05), contents)[content]
    return champion**2, challenger**2, content


def promoted(seeds: int, contents: int, gain: float, reviews: float = 0.0, shared: float = 0.0) -> float:
    return float(np.mean([promotes(*two_models(seed, contents, gain, reviews, shared)).promoted for seed in range(seeds)]))


@pytest.mark.parametrize(("reviews", "shared"), [(0.0, 0.0), (4.0, 0.6)])
@pytest.mark.parametrize("contents", [200, 1_000])
def test_an_equal_model_is_rarely_promoted(contents: int, reviews: float, shared: float) -> None:
    assert promoted(200, contents, 0.0, reviews, shared) <= 0.06 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_a_better_model_is_promoted_once_there_is_enough_to_see_it() -> None:
    assert promoted(100, 1_000, 0.05) == pytest.approx(0.6, abs=0.05 + 3 * np.sqrt(0.24 / 100))
    assert promoted(40, 1_000, 0.10) >= 0.95
    assert promoted(20, 5_000, 0.05) >= 0.95
    assert promoted(20, MIN_CONTENTS - 1, 0.50) == 0.0


def test_the_bound_is_that_of_a_t_test_over_contents() -> None:
    """Equal champion losses: the ratio is a mean, and its bound a one-sample t."""
    rng = np.random.default_rng(2)
    champion, challenger = np.ones(300), 1 - rng.normal(0.1, 0.3, 300)
    found = promotes(champion, challenger, np.arange(300))
    expected = stats.ttest_1samp(1 - challenger, 0.0).confidence_interval(0.90).low
    assert found.lower == pytest.approx(expected, rel=1e-9)
    assert found.gain == pytest.approx((1 - challenger).mean())
    assert found == Promotion(True, found.gain, found.lower, 300, None)


def test_the_error_is_that_of_a_ratio_of_sums_over_unequal_contents() -> None:
    """The jackknife, a content left out at a time, is the oracle."""
    rng = np.random.default_rng(8)
    content = np.repeat(np.arange(400), rng.geometric(0.2, 400))
    champion = rng.gamma(3.0, size=400)[content] * rng.gamma(2.0, size=len(content))
    challenger = champion * 0.6 * np.exp(rng.normal(0, 0.2, 400))[content]
    found = promotes(champion, challenger, content)
    own, other = (np.bincount(content, weights=loss) for loss in (champion, challenger))
    without = 1 - (other.sum() - other) / (own.sum() - own)
    error = np.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum())
    assert found.gain == pytest.approx(1 - other.sum() / own.sum())
    assert found.gain - found.lower == pytest.approx(stats.t.ppf(0.95, 399) * error, rel=0.02)


def test_reviews_of_one_content_are_one_piece_of_evidence() -> None:
    champion, challenger, content = two_models(3, 400, 0.1)
    once = promotes(champion, challenger, content)
    thrice = promotes(np.tile(champion, 3), np.tile(challenger, 3), np.tile(content, 3))
    assert (thrice.n_contents, thrice.promoted) == (400, once.promoted)
    assert thrice.lower == pytest.approx(once.lower, rel=1e-9)


def test_a_gain_of_half_a_percent_is_not_worth_a_change() -> None:
    content = np.arange(400)
    loss = np.ones(400)
    assert not promotes(loss, loss * 0.996, content).promoted
    assert promotes(loss, loss * 0.994, content).promoted


def test_missing_forecasts() -> None:
    champion, challenger, content = two_models(4, 600, 0.3)
    assert promotes(champion, challenger, content).promoted
    neither = champion.copy(), challenger.copy()
    neither[0][:100], neither[1][:100] = np.nan, np.nan
    assert promotes(*neither, content).n_contents == 500
    for absent in (np.nan, np.inf):
        challenger[7] = absent
        found = promotes(champion, challenger, content)
        assert (found.promoted, found.reason) == (False, "reviews without a finite forecast of the challenger: 1")
        assert math.isnan(found.gain)


@pytest.mark.parametrize(
    ("champion", "challenger", "reason"),
    [
        (np.empty(0), np.empty(0), "0 contents compared; a promotion needs 200"),
        (np.full(300, np.nan), np.ones(300), "0 contents compared; a promotion needs 200"),
        (np.zeros(300), np.zeros(300), "the champion errs nowhere on these reviews"),
        (np.ones(1), np.zeros(1), "1 contents compared; a promotion needs 200"),
        (np.ones(199), np.zeros(199), "199 contents compared; a promotion needs 200"),
        (np.ones(300), np.ones(300), "the gain may be 0.0 % or less; more than 0.5 % has to be certain"),
    ],
)
def test_what_cannot_be_compared_is_not_promoted(champion: np.ndarray, challenger: np.ndarray, reason: str) -> None:
    found = promotes(champion, challenger, np.arange(len(champion)))
    assert (found.promoted, found.reason) == (False, reason)


def test_the_first_champion_is_the_simplest_that_nothing_beats() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, 1_000)
    errors = [0.6, 0.3, 0.3, 0.05]
    losses = np.column_stack([(noise + rng.normal(0, error, 1_000)) ** 2 for error in errors])
    names = ("mean", "ridge", "eb_mixed", "stack")
    found = first_champion(names, losses, np.arange(1_000))
    assert (found.name, found.little_to_predict) == ("stack", False)
    assert [name for name, _ in found.tests][:3] == ["ridge v mean", "eb_mixed v mean", "stack v mean"]
    assert [name for name, test in found.tests if test.promoted and name.endswith("v ridge")] == ["stack v ridge"]
    without = first_champion(names[:3], losses[:, :3], np.arange(1_000))
    assert (without.name, without.little_to_predict) == ("ridge", False)


def test_where_there_is_little_to_predict_the_mean_stays() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 1, 1_000)
    losses = np.column_stack([(noise + rng.normal(0, error, 1_000)) ** 2 for error in (0, 0.1, 0.2)])
    found = first_champion(("mean", "ridge", "stack"), losses, np.arange(1_000))
    assert (found.name, found.little_to_predict) == ("mean", True)
    alone = first_champion(("mean",), losses[:, :1], np.arange(1_000))
    assert (alone.name, alone.little_to_predict, alone.tests, alone.too_few_to_tell) == ("mean", False, (), True)


def test_a_complex_model_needs_more_than_the_mean_to_beat() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 1, 1_000)
    # The stack is certainly better than the mean, and as good as ridge, which is better than the mean in most samples.
    mean, ridge = noise + rng.normal(0, 0.5, 1_000), noise + rng.normal(0, 0.2, 1_000)
    stack = ridge + rng.normal(0, 0.01, 1_000)
    losses = np.column_stack([mean, ridge, stack]) ** 2
    assert first_champion(("mean", "ridge", "stack"), losses, np.arange(1_000)).name == "ridge"


def test_with_few_contents_nothing_is_said_of_what_there_is_to_predict() -> None:
    rng = np.random.default_rng(9)
    losses = np.column_stack([rng.normal(0, sd, 150) ** 2 for sd in (3.0, 0.1)])
    found = first_champion(("mean", "ridge"), losses, np.arange(150))
    assert (found.name, found.little_to_predict, found.too_few_to_tell) == ("mean", False, True)


def test_codes_and_order_of_the_contents_do_not_matter() -> None:
    champion, challenger, content = two_models(7, 300, 0.1, reviews=1.0)
    found = promotes(champion, challenger, content)
    order = np.random.default_rng(1).permutation(len(content))
    other = promotes(champion[order], challenger[order], 1_000 - 3 * content[order])
    assert other.lower == pytest.approx(found.lower, rel=1e-9)
    assert other.n_contents == 300
