"""Takes days out of the feature store that must not be learned from.

A day in the store counts as read and good: no later pass would look at it again. So a day that fails a blocking check, or that
no check could look at, is taken out; it is missing then, and the next pass reads it and checks it again.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from feedback_pipeline.storage.feature_store import FeatureStore

MAX_LOOKS: Final = 200


def withdraw(store: "FeatureStore", days: Collection[date]) -> None:
    """Removes days from the store; a day that is not there is left alone."""
    for day in sorted(days):
        store.remove_day(day)


def bad_days(days: Sequence[date], is_good: Callable[[date, date], bool]) -> list[date]:
    """Finds the days behind a span that is not good, by halving it.

    Args:
        days: the days of the span, ascending.
        is_good: whether the days from a first to a last one are good.

    Returns:
        The bad days; all days of a part that is good half by half and only as a whole is not; and whole parts once 200 looks
        have been taken.
    """
    looks = count()

    def search(part: list[date]) -> list[date]:
        if len(part) < 2:
            return part
        middle = len(part) // 2
        found: list[date] = []
        for half in (part[:middle], part[middle:]):
            if next(looks) >= MAX_LOOKS:
                return part
            if not is_good(half[0], half[-1]):
                found += search(half)
        return found or part

    return search(list(days))


@contextmanager
def withdrawn_unless_done(store: "FeatureStore", days: Collection[date]) -> Iterator[None]:
    """Removes the days when the block does not come to its end: they were not looked at."""
    try:
        yield
    except BaseException:
        withdraw(store, days)
        raise
