"""The bars of `benchmarks.shop_effects` are held: what misses one is said."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.shop_effects import missed
from feedback_pipeline.learning.trial_states import ACTIVE, PROBATION, RETIRED
from feedback_pipeline.simulation.shop import ShopRun, ShopSpec, run_shops

HELPS, USELESS, HARMS = range(3)


@pytest.fixture(scope="module")
def good() -> ShopRun:
    """100 shops that hold every bar."""
    run = run_shops(ShopSpec((0,), executions=600, look_every=600))
    states = np.full((2, 100, 3), PROBATION, object)
    states[-1] = [ACTIVE, RETIRED, RETIRED]
    ever = np.tile([True, False, False], (100, 1))
    better, worse = np.ones((100, 600), bool), np.zeros((100, 600), bool)
    run = replace(run, with_learning=better, without=worse, ever_active=ever)
    return replace(run, states=states, decided_at=np.full((100, 3), 700))


def changed(run: ShopRun, name: str, place: Any, value: object) -> ShopRun:
    field = getattr(run, name).copy()
    field[place] = value
    return replace(run, **{name: field})


def test_nothing_is_missed_at_the_bars(good: ShopRun) -> None:
    assert missed([good]) == []
    edge = changed(good, "ever_active", (slice(5), USELESS), True)
    edge = changed(edge, "states", (0, slice(3), HELPS), RETIRED)
    assert missed([edge]) == []
    assert missed([changed(edge, "states", (1, slice(5), HELPS), PROBATION)]) == []


@pytest.mark.parametrize(
    ("name", "place", "value", "said"),
    [
        ("states", (1, slice(6), HELPS), PROBATION, "the useful one is active at the end in 94.0%, bar 95%"),
        ("states", (0, slice(4), HELPS), RETIRED, "the useful one is ever retired in 4.0%, bar 3%"),
        ("ever_active", (slice(6), USELESS), True, "the useless one is ever active in 6.0%, bar 5%"),
        ("decided_at", (slice(51), HARMS), 701, "the harmful one is retired by a median of 701 executions, bar 700"),
        ("states", (1, slice(51), HARMS), PROBATION, "the harmful one is retired by a median of inf executions, bar 700"),
        ("with_learning", slice(None), False, "approval at the end is 0.0% with learning, 0.0% without"),
    ],
)
def test_what_is_missed_is_said(good: ShopRun, name: str, place: Any, value: object, said: str) -> None:
    assert missed([changed(good, name, place, value)]) == [said]
