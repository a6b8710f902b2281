"""Between which values scores lie, for a client that speaks to the database: with HTTP the API says so itself."""

import math
import os
from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter, ValidationError

from feedback_pipeline.errors import UserError

ScoreBounds = Mapping[str, tuple[float, float]]
"""(low, high) by aspect, "*" for the rest."""

VARIABLE: Final = "FEEDBACK_SCORE_BOUNDS"
USUAL: Final[ScoreBounds] = {"*": (0.0, 10.0)}


def score_bounds(given: ScoreBounds | None = None) -> ScoreBounds:
    """The bounds that are given, else those of the environment, which the API reads too; those left out are the usual ones.

    Raises:
        UserError: they are none.
    """
    said = os.environ.get(VARIABLE)
    bounds = given if given is not None else _read(said) if said else {}
    for aspect, (low, high) in bounds.items():
        if not (math.isfinite(high - low) and low < high):
            raise UserError(f"score bounds of {aspect!r} must be finite numbers [low, high] with low < high, got [{low}, {high}]")
    return {**USUAL, **bounds}


def _read(text: str) -> ScoreBounds:
    try:
        return TypeAdapter(dict[str, tuple[float, float]]).validate_json(text)
    except ValidationError:
        raise UserError(f'{VARIABLE} must be JSON {{aspect or "*": [low, high]}}, such as {{"*": [0, 10]}}') from None
