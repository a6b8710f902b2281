"""Records as JSON that the service can store: one line each, checked against the schemas it shares with the API."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ValidationError

from feedback_pipeline.errors import UserError
from feedback_pipeline.schemas.applications import Application
from feedback_pipeline.schemas.executions import Execution
from feedback_pipeline.schemas.reviews import Review
from feedback_pipeline.schemas.texts import MAX_DEPTH

EXECUTIONS: Final = "executions"
REVIEWS: Final = "reviews"
APPLICATIONS: Final = "applications"
MODELS: Final[dict[str, type[BaseModel]]] = {EXECUTIONS: Execution, REVIEWS: Review, APPLICATIONS: Application}
"""What is sent, by the name of its endpoint, which is also the key of its list."""

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_SHOWN_ERRORS: Final = 5
_log = logging.getLogger(__name__)
_told: set[type] = set()


def encoded(kind: str, item: Mapping[str, Any]) -> bytes:
    """One record as JSON.

    What JSON or Postgres cannot hold is replaced: numbers that are not finite by null, NUL characters and halves of surrogate
    pairs by U+FFFD, objects by the name of their class, which is logged once.

    Args:
        kind: A key of `MODELS`.
        item: Its fields.

    Raises:
        UserError: it is not what the schema asks for; the message names the fields, never their values.
    """
    try:
        return checked(kind, _dump(item))
    except (ValueError, TypeError, RecursionError, UserError):
        # Rare, so only now: a walk through the whole record costs more than all the rest.
        return checked(kind, _dump(_storable(dict(item), 0)))


def exact(kind: str, item: Mapping[str, Any]) -> bytes:
    """One record as JSON, without replacing anything: for what a person said.

    Raises:
        UserError: it is not what the schema asks for; the message names the fields, never their values.
    """
    try:
        raw = _dump(item)
    except (ValueError, TypeError, RecursionError):
        raise UserError(
            f"this record of {kind} holds what JSON cannot: a number that is not finite, or half a character"
        ) from None
    return checked(kind, raw)


def checked(kind: str, raw: bytes) -> bytes:
    """The JSON itself, if it is what the schema asks for.

    Raises:
        UserError: it is not.
    """
    try:
        MODELS[kind].model_validate_json(raw)
    except ValidationError as error:
        raise UserError(f"this record of {kind} cannot be stored: {in_words(error)}; correct it and send it again") from None
    return raw


def in_words(error: ValidationError) -> str:
    """Which fields are wrong and why; values may be free text and stay out."""
    found = error.errors(include_input=False, include_url=False)
    said = [f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in found[:_SHOWN_ERRORS]]
    return "; ".join(said) + (f" and {len(found) - _SHOWN_ERRORS} more" if len(found) > _SHOWN_ERRORS else "")


def _dump(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _plain(value: Any) -> Any:
    """What JSON has no notion of, as it is usually written."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID | PurePath):
        return str(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BaseModel):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "tolist"):  # numbers and arrays of numpy
        return value.tolist()
    return _named(value)


def _named(value: object) -> str:
    kind = type(value)
    if kind not in _told:
        _told.add(kind)
        _log.warning("a record holds a %s, which JSON cannot hold: its name is recorded in its place", kind.__qualname__)
    return f"<{kind.__qualname__}>"


def _storable(value: Any, depth: int) -> Any:
    """The same without what cannot be stored."""
    if isinstance(value, str):
        return value.replace("\0", _REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > MAX_DEPTH:
        return _named(value)
    if isinstance(value, Mapping):
        return {_storable(str(key), depth): _storable(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(each, depth + 1) for each in value]
    return _storable(_plain(value), depth + 1)


_ENCODER: Final = json.JSONEncoder(default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
