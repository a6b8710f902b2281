"""What is learned as JSON documents of Postgres: numbers of numpy are numbers, and one that is not finite is undefined: null."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_NUMPY: Final = (np.generic, np.ndarray)


def json_document(value: Any) -> str:
    """A value as a JSON document.

    Args:
        value: Dictionaries, lists and arrays of plain values or numbers of numpy.
    """
    try:
        return _JSON.encode(value)
    except ValueError:
        # Few documents hold an undefined number, so only those are walked.
        return _JSON.encode(_finite(value))


def _finite(value: Any) -> Any:
    value = _plain(value) if isinstance(value, _NUMPY) else value
    if isinstance(value, Mapping):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """A number or an array of numpy, or a mapping that is no dictionary, as Python's own."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, _NUMPY):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no part of a JSON document")


_JSON: Final = json.JSONEncoder(allow_nan=False, default=_plain)
