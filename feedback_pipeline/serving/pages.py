"""Lists in parts: a cursor says after which item a part begins, so a walk meets everything once while the list changes."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from fastapi import Query

from feedback_pipeline.errors import UserError

MOST: Final = 1000
USUAL: Final = 100
Key = tuple[Any, ...]
"""What a list is sorted by: of numbers, texts and truth values; unlike for every two items."""

Limit = Annotated[int, Query(ge=1, le=MOST, description="how many items at most")]
Cursor = Annotated[str | None, Query(max_length=4000, description="`next` of the part before")]


def page(items: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], Key], limit: int, cursor: str | None) -> dict[str, Any]:
    """A part of a list in the order of its keys: {items, next}.

    Args:
        items: All of them; the order of a database, which is that of some language, may be another.
        key: Of an item.
        limit: Items of a part.
        cursor: Of the part before.

    Raises:
        UserError: the cursor is none of this list.
    """
    rest = sorted(items, key=key)
    if cursor is not None:
        after = read_cursor(cursor)
        try:
            rest = [item for item in rest if key(item) > after]
        except TypeError:
            raise UserError(_NO_CURSOR) from None
    part = rest[:limit]
    return {"items": part, "next": write_cursor(key(part[-1])) if len(rest) > limit else None}


def write_cursor(key: Key) -> str:
    """The key as a text that means nothing to its reader."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Key:
    """The key of a cursor.

    Raises:
        UserError: it is none.
    """
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(part, str | int | float) for part in found):
        raise UserError(_NO_CURSOR)
    return tuple(found)


_NO_CURSOR: Final = "the cursor is none of this list; begin without one"


def nulls_last(value: float | None) -> tuple[bool, float]:
    """Sorts a number that may be missing."""
    return (value is None, 0.0 if value is None else value)
