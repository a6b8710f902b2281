"""Sentences that stay true however long they stand: they name moments, and are told as of a moment.

"oldest waits {since 2026-03-01T10:00:00+00:00}" is told at noon as "oldest waits 2 h". What is not ours goes in `escaped`.
"""

import re
from datetime import datetime, timedelta
from typing import Final

_MARKS: Final = re.compile(r"\{\{|\{(since|until) ([^}]+)\}")


def since(moment: datetime) -> str:
    """Stands for the time that has gone by since the moment."""
    return f"{{since {moment.isoformat()}}}"


def until(moment: datetime) -> str:
    """Stands for the time that is left until the moment."""
    return f"{{until {moment.isoformat()}}}"


def escaped(name: str) -> str:
    """A name that is told as it is, also one that looks like a moment."""
    return name.replace("{", "{{")


def told(sentence: str, now: datetime) -> str:
    """The sentence as of a moment: a moment that has passed is 0 s ahead, one that is to come 0 s ago."""

    def words(mark: re.Match[str]) -> str:
        if mark[1] is None:
            return "{"
        moment = datetime.fromisoformat(mark[2])
        return in_words(now - moment if mark[1] == "since" else moment - now)

    return _MARKS.sub(words, sentence)


def in_words(length: timedelta) -> str:
    """A length of time in its largest unit: 45 s, 3 min, 2 h, 6 d."""
    seconds = max(int(length.total_seconds()), 0)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
