"""How often sensors look."""


def looks_every(seconds: int) -> int:
    """The `minimum_interval_seconds` of a sensor that is to look so often: a second less.

    Dagster's daemon goes round every five seconds and leaves out a sensor that looked a moment less than its interval ago. As
    rounds are never the same to the millisecond, every second look would come five seconds late.
    """
    return max(1, seconds - 1)
