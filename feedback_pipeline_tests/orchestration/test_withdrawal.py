from datetime import date, timedelta

import pyarrow as pa
import pytest

from feedback_pipeline.orchestration.withdrawal import MAX_LOOKS, bad_days, withdraw, withdrawn_unless_done
from feedback_pipeline.storage.day_tables import FEATURE_TABLE, HUMAN_FEEDBACK
from feedback_pipeline.storage.feature_store import FeatureStore

DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range(300)]


class Eye:
    """Sees the planted days of a span, and counts its looks."""

    def __init__(self, planted: set[date]) -> None:
        self.planted, self.looks = planted, 0

    def __call__(self, first: date, last: date) -> bool:
        self.looks += 1
        return not any(first <= day <= last for day in self.planted)


@pytest.mark.parametrize("planted", [{0}, {299}, {17, 18}, {3, 150, 298}, set(range(40, 50))])
def test_exactly_the_planted_days_are_found_in_few_looks(planted: set[int]) -> None:
    eye = Eye({DAYS[n] for n in planted})
    assert bad_days(DAYS, eye) == sorted(eye.planted)
    assert eye.looks <= 20 * len(planted)


def test_days_that_are_bad_only_together_go_together() -> None:
    assert bad_days(DAYS[:8], lambda _first, _last: True) == DAYS[:8]
    assert bad_days([], lambda _first, _last: False) == []
    assert bad_days(DAYS[:1], lambda _first, _last: True) == DAYS[:1]


def test_many_bad_days_cost_a_bounded_number_of_looks_and_none_stays() -> None:
    eye = Eye(set(DAYS[::2]))
    assert set(bad_days(DAYS, eye)) >= eye.planted
    assert eye.looks <= MAX_LOOKS


@pytest.fixture
def store(tmp_path: object) -> FeatureStore:
    store = FeatureStore(str(tmp_path), "installation")
    for day in DAYS[:4]:
        store.write_day(day, HUMAN_FEEDBACK.empty_table(), FEATURE_TABLE.empty_table(), "1")
    return store


def test_what_is_withdrawn_is_gone_and_the_rest_stays(store: FeatureStore) -> None:
    withdraw(store, [DAYS[2], DAYS[0], DAYS[200]])
    assert list(store.days()) == [DAYS[1], DAYS[3]]


def test_days_are_kept_only_when_the_block_came_to_its_end(store: FeatureStore) -> None:
    with withdrawn_unless_done(store, DAYS[:2]):
        pass
    assert list(store.days()) == DAYS[:4]
    for error in (pa.ArrowInvalid("broken"), KeyboardInterrupt()):
        with pytest.raises(type(error)), withdrawn_unless_done(store, DAYS[:2]):
            raise error
    assert list(store.days()) == DAYS[2:4]
