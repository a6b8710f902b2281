"""Sets of UTC days as conditions that an index on the time of the review can answer."""

from collections.abc import Sequence
from datetime import date, timedelta

from psycopg.sql import SQL, Composable, Literal


def moment(day: date) -> Composable:
    """Return the beginning of a UTC day as a literal."""
    return SQL("timestamptz {}").format(Literal(f"{day.isoformat()} 00:00:00+00"))


def within(days: Sequence[date]) -> Composable:
    """A condition on r.reviewed_at: one index range for each run of consecutive days."""
    one = timedelta(days=1)
    firsts = [day for day, before in zip(days, [None, *days], strict=False) if before is None or day - before > one]
    lasts = [day for day, after in zip(days, [*days[1:], None], strict=True) if after is None or after - day > one]
    ranges = [
        SQL("(r.reviewed_at >= {} AND r.reviewed_at < {})").format(moment(first), moment(last + one))
        for first, last in zip(firsts, lasts, strict=True)
    ]
    return SQL("({})").format(SQL(" OR ").join(ranges))
