"""How often sensors look."""

_ROUND_S = 5


def looks_every(seconds: int) -> int:
    """The `minimum_interval_seconds` of a sensor that is to look so often: a second less where that is a number of rounds.

    Dagster's daemon goes round every five seconds and leaves out a sensor that looked a moment less than its interval ago. As
    rounds are never the same to the millisecond, every second look would come five seconds late.
    """
    return seconds - 1 if seconds % _ROUND_S == 0 else seconds
