"""Texts and JSON that a database can store: no NUL character, no half of a surrogate pair, no number that is not finite."""

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, Field

MAX_NAME: Final = 100
MAX_ID: Final = 255
MAX_TEXT: Final = 200_000
MAX_DEPTH: Final = 100
MAX_COUNT: Final = 2**53 - 1
"""Beyond it JSON readers of other languages round."""


def storable(text: str) -> str:
    """The text, if a database can store it.

    Raises:
        ValueError: it holds a NUL character or half of a surrogate pair.
    """
    if "\0" in text:
        raise ValueError("holds a NUL character, which Postgres cannot store")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair, which is no text") from None
    return text


def _single_agent(name: str) -> str:
    if name == "*":
        raise ValueError("'*' stands for all agents; name one")
    return name


def _storable_json(value: dict[str, Any]) -> dict[str, Any]:
    """Level by level: deep input must not exhaust the stack."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, str):
                storable(one)
            elif isinstance(one, float):
                if not math.isfinite(one):
                    raise ValueError("holds a number that is not finite; send null")
            elif isinstance(one, dict):
                inner.extend(one)
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
        if not inner:
            return value
        level = inner
    raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(storable)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_ID), AfterValidator(storable)]
AgentName = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(storable), AfterValidator(_single_agent)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_storable_json)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time with its time zone, kept in UTC."""
