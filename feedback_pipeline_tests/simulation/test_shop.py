"""A few seeds of the shop with slack; `benchmarks.shop_effects` runs 400."""

import numpy as np
import pytest

from feedback_pipeline.simulation.shop import EFFECTS, ShopRun, ShopSpec, run_shops

SEEDS = 24
HELPS, USELESS, HARMS = range(3)


@pytest.fixture(scope="module")
def shops() -> ShopRun:
    return run_shops(ShopSpec(tuple(range(SEEDS)), executions=3200, look_every=100, drift=0.1))


def test_the_shop_is_what_it_says() -> None:
    """Without a drift and without learning, approval is the base rate; each pattern is worth what it is said to be."""
    run = run_shops(ShopSpec(tuple(range(8)), executions=1000, look_every=1000, drift=0.0, effects=(("helps", 0.1),)))
    assert run.without.mean() == pytest.approx(0.5, abs=3.5 * 0.5 / np.sqrt(8000))
    assert (run.with_learning >= run.without).all(), "the same outputs and the same reviewers"
    assert (run.with_learning.mean() - run.without.mean()) == pytest.approx(0.05, abs=0.01)
    assert run.last.effects["uplift"].mean() == pytest.approx(0.1, abs=0.035)


def test_the_same_seed_is_the_same_shop() -> None:
    spec = ShopSpec((5, 6), executions=300, look_every=100)
    first, again = run_shops(spec), run_shops(ShopSpec((6,), executions=300, look_every=100))
    assert (first.with_learning[1] == again.with_learning[0]).all()
    assert (first.states[:, 1] == again.states[:, 0]).all()


def test_the_useful_pattern_is_active(shops: ShopRun) -> None:
    assert list(EFFECTS) == ["helps", "useless", "harms"]
    assert (shops.states[-1, :, HELPS] == "active").mean() >= 0.9
    assert (shops.states[:, :, HELPS] == "retired").any(axis=0).mean() <= 0.1


def test_the_useless_pattern_is_hardly_ever_kept(shops: ShopRun) -> None:
    """5 % are allowed: at most 4 of 24 with three standard errors."""
    assert shops.ever_active[:, USELESS].sum() <= 4
    assert (shops.states[-1, :, USELESS] != "probation").all(), "it is not tried for ever"


def test_the_harmful_pattern_is_gone(shops: ShopRun) -> None:
    assert (shops.states[-1, :, HARMS] == "retired").all()
    assert np.median(shops.decided_at[:, HARMS]) <= 700


def test_more_is_approved_in_the_end(shops: ShopRun) -> None:
    gain = (shops.with_learning[:, -500:].mean(axis=1) - shops.without[:, -500:].mean(axis=1)).astype(float)
    assert gain.mean() - 3 * gain.std() / np.sqrt(SEEDS) > 0.02


def test_without_forecasts_it_works_too() -> None:
    spec = ShopSpec(tuple(range(12)), executions=1000, look_every=100, predicted=0.5, effects=(("harms", -0.2),))
    assert (run_shops(spec).states[-1, :, 0] == "retired").all()
