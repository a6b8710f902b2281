"""Names and sentences as the web UI may show them: nothing in them is read as markup, and no sign turns a line around.

Names of agents, features, aspects and categories are whatever an agent platform wrote. Belongs here: making text harmless. Does
not belong here: labels of pictures (drawing).
"""

import re
import string
from collections.abc import Iterable, Sequence
from typing import Final

MAX_TEXT: Final = 600  # letters
_PUNCTUATION: Final = re.compile(f"([{re.escape(string.punctuation)}])")
# Web UIs make links of these without being asked to; an invisible sign inside them prevents it.
_LINKS: Final = re.compile(r"(://|www(?=\.)|@)", re.IGNORECASE)
_JOINER: Final = "\u2060"


def one_line(text: str) -> str:
    """The text on one line, without control characters and marks that are not seen, such as those that turn text around."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def text_or_nothing(value: object) -> str:
    """The value if it is a text; nothing for None and for the NaN that stands for it in a frame."""
    return value if isinstance(value, str) else ""


def escaped(text: str) -> str:
    """The text for Markdown, in which none of its signs means anything; cut after 600 letters."""
    plain = one_line(text)
    short = plain if len(plain) <= MAX_TEXT else f"{plain[: MAX_TEXT - 1]}…"
    return _PUNCTUATION.sub(r"\\\1", _LINKS.sub(lambda found: found[0][0] + _JOINER + found[0][1:], short))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; None is an empty cell, numbers have three significant digits."""
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool | int):
        return f"{value:,}" if not isinstance(value, bool) else str(value)
    if isinstance(value, float):
        return escaped(f"{value:.3g}")
    return escaped(str(value))
