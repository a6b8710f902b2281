import math
from collections.abc import Callable
from datetime import date

import numpy as np
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.review_queue import (
    BY_CHANCE,
    BY_RULE,
    daily_seed,
    lowest_approval,
    propensities,
    review_queue,
)
from feedback_pipeline_tests.learning.test_auto_approval import forecasts


def names(n: int) -> np.ndarray:
    return np.array([f"output-{code:06d}" for code in range(n)], dtype=object)


def rejects_found(seed: int, n: int, share: float, random_share: float) -> float:
    """Share of all rejects among the first `share` of the queue, lowest P(approve) first."""
    p, approved = forecasts(seed, n)
    places = round(share * n)
    queue = review_queue(lowest_approval(p), names(n), seed, places, random_share)
    return float((1 - approved)[queue.rank <= places].sum() / (1 - approved).sum())


def test_the_mix_finds_rejects_well_before_chance_does() -> None:
    found = {share: np.mean([rejects_found(seed, 4_000, 0.2, share) for seed in range(10)]) for share in (0.0, 0.3, 1.0)}
    assert found[0.0] == pytest.approx(0.38, abs=0.02)
    assert found[1.0] == pytest.approx(0.20, abs=0.02)
    assert found[0.3] >= 0.31


@pytest.mark.parametrize(
    ("n", "places", "share"), [(20, 7, 0.3), (20, 1, 0.3), (20, 2, 0.3), (12, 9, 0.5), (15, 5, 0.8), (9, 4, 0.0), (9, 4, 1.0)]
)
def test_the_propensity_is_the_frequency_over_random_orders(n: int, places: int, share: float) -> None:
    draws = 3_000
    priority = np.arange(n, 0, -1.0)
    early = np.zeros(n)
    for seed in range(draws):
        early += review_queue(priority, names(n), seed, places, share).rank <= places
    expected = propensities(n, places, share)
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(early / draws - expected) <= 4 * error + 1e-12).all()
    assert expected.sum() == pytest.approx(places, rel=1e-9)


@pytest.mark.parametrize(("n", "places"), [(1, 1), (2, 1), (50, 7), (50, 49), (3_000, 600), (20_000, 100)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_propensities_add_up_to_the_places_and_fall_with_the_rule(n: int, places: int, share: float) -> None:
    found = propensities(n, places, share)
    assert found.sum() == pytest.approx(places, rel=1e-8)
    assert (np.diff(found) <= 1e-9).all()
    if share == 0.0:
        np.testing.assert_allclose(found, np.arange(n) < places)
    if share == 1.0:
        np.testing.assert_allclose(found, places / n)
    if share > 0 and places >= 10:
        assert found.min() > 0


def test_means_weighted_by_the_propensity_are_unbiased() -> None:
    p, approved = forecasts(1, 400)
    plain, weighted = [], []
    for seed in range(300):
        queue = review_queue(lowest_approval(p), names(400), seed, 100)
        read = queue.rank <= 100
        plain.append(approved[read].mean())
        weighted.append((approved[read] / queue.propensity[read]).sum() / 400)
    assert abs(np.mean(weighted) - approved.mean()) <= 4 * np.std(weighted) / np.sqrt(300)
    assert np.mean(plain) < approved.mean() - 0.15


def test_the_queue_is_the_walk_of_its_docstring() -> None:
    n, priority = 60, np.random.default_rng(3).normal(size=60)
    queue = review_queue(priority, names(n), 5, 20)
    everything_random = review_queue(priority, names(n), 5, 20, random_share=1.0)
    rule, chance = iter(np.argsort(-priority)), iter(np.argsort(everything_random.rank))
    order, by = [], []
    for slot in range(200):
        is_random = slot % 10 in (1, 4, 8)
        entry = next(chance if is_random else rule, None)
        if entry is not None and entry not in order:
            order.append(int(entry))
            by.append(BY_CHANCE if is_random else BY_RULE)
    assert np.argsort(queue.rank).tolist() == order
    assert queue.chosen_by[order].tolist() == by
    assert sorted(queue.rank) == list(range(1, n + 1))
    np.testing.assert_array_equal(queue.propensity, propensities(n, 20)[np.argsort(np.argsort(-priority))])


def test_the_queue_is_stable() -> None:
    p, _ = forecasts(4, 500)
    first = review_queue(lowest_approval(p), names(500), 1, 50)
    order = np.random.default_rng(1).permutation(500)
    mixed = review_queue(lowest_approval(p[order]), names(500)[order], 1, 50)
    np.testing.assert_array_equal(first.rank[order], mixed.rank)
    np.testing.assert_array_equal(first.propensity[order], mixed.propensity)
    assert (first.rank != review_queue(lowest_approval(p), names(500), 2, 50).rank).any()
    # Once some were read, the random list of the others stands as before.
    left = np.arange(500) % 7 != 0
    everything = review_queue(np.zeros(500), names(500), 1, 50, random_share=1.0)
    rest = review_queue(np.zeros(500)[left], names(500)[left], 1, 50, random_share=1.0)
    np.testing.assert_array_equal(np.argsort(everything.rank[left]), np.argsort(rest.rank))


def test_ties_and_missing_forecasts() -> None:
    tied = review_queue(np.zeros(8), names(8)[::-1], 1, 4, random_share=0.0)
    assert tied.rank.tolist() == [8, 7, 6, 5, 4, 3, 2, 1]
    p = np.array([np.nan, 0.9, 0.1, np.nan])
    queue = review_queue(lowest_approval(p), names(4), 1, 2, random_share=0.0)
    assert queue.rank.tolist() == [3, 2, 1, 4]


def test_no_output_one_output_and_room_for_all() -> None:
    empty = review_queue(np.empty(0), names(0), 1, 5)
    assert len(empty.rank) == len(empty.propensity) == 0
    one = review_queue(np.array([0.5]), names(1), 1, 1)
    assert (one.rank[0], one.propensity[0]) == (1, 1.0)
    np.testing.assert_array_equal(review_queue(np.arange(5.0), names(5), 1, 9).propensity, np.ones(5))


def waiting_on_the_second_day(seeds: int, seed_of: Callable[[int, date], int]) -> tuple[float, float]:
    """How often outputs that were passed over on the first day are read on the second, less their propensity; its 3 sigma."""
    found = []
    for seed in range(seeds):
        old, fresh = names(40), np.array([f"new {i}" for i in range(40)], dtype=object)
        first = review_queue(np.zeros(40), old, seed_of(seed, date(2026, 1, 5)), 20)
        left = np.concatenate([old[first.rank > 20], fresh])
        second = review_queue(np.random.default_rng(seed).normal(size=60), left, seed_of(seed, date(2026, 1, 6)), 20)
        found.append((second.rank[:20] <= 20).mean() - second.propensity[:20].mean())
    return float(np.mean(found)), 3 * float(np.std(found)) / math.sqrt(seeds)


def test_whom_chance_passed_over_has_the_chances_of_any_other_the_next_day() -> None:
    bias, slack = waiting_on_the_second_day(150, daily_seed)
    assert abs(bias) <= slack
    bias, slack = waiting_on_the_second_day(150, lambda seed, _: seed)
    assert bias < -slack
    assert daily_seed(7, date(2026, 1, 5)) == daily_seed(7, date(2026, 1, 5)) != daily_seed(8, date(2026, 1, 5))


def test_numbers_are_names_too() -> None:
    assert sorted(review_queue(np.arange(3.0), np.array([7, 11, 5], dtype=object), 1, 1).rank) == [1, 2, 3]


@pytest.mark.parametrize(("identity", "places", "share"), [(["a", "a"], 1, 0.3), (["a", "b"], 0, 0.3), (["a", "b"], 1, 1.5)])
def test_nonsense_is_refused(identity: list[str], places: int, share: float) -> None:
    with pytest.raises(LearningError):
        review_queue(np.zeros(2), np.array(identity, dtype=object), 1, places, share)
