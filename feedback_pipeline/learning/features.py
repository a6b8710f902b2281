"""The registry of features: every property of an output that is learned from is declared here, once.

A feature that is not in the registry can still enter: a number under `agent_performance.metadata->'features'` becomes a
feature named by its key, if `is_custom_feature_name` accepts the key.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["numeric", "category"]


@dataclass(frozen=True)
class Feature:
    """One property of an output.

    Attributes:
        name: Column of the feature table, and the name that agents read.
        unit: Unit of the values; empty where they have none.
        source: Where the value is read from.
        label: Plain words for sentences and pictures, without a leading capital.
        kind: "numeric" (float64, NaN = missing) or "category" (short text, null = missing).
        low: Smallest value that makes sense, None = any; a number below it is refused and missing.
        high: Largest one, None = any.
    """

    name: str
    unit: str
    source: str
    label: str
    kind: Kind = "numeric"
    low: float | None = 0.0
    high: float | None = None


_RUN = "agent_performance"
_DECISIONS = "agent_decisions of the run"
_TEXT = "agent_decisions.output_data->>'content'"
_LABELLED = "agent_decisions.input_data or output_data, else agent_performance.metadata"

FEATURES: Final[tuple[Feature, ...]] = (
    Feature("duration_ms", "ms", f"{_RUN}.duration", "longer runs"),
    Feature("input_tokens", "tokens", f"{_RUN}.input_tokens", "more input tokens"),
    Feature("output_tokens", "tokens", f"{_RUN}.output_tokens", "more output tokens"),
    Feature("cost", "USD", f"{_RUN}.cost", "higher cost"),
    Feature("confidence_score", "", f"{_DECISIONS}: mean confidence_score", "higher confidence of the agent", high=1.0),
    Feature("min_confidence", "", f"{_DECISIONS}: lowest confidence_score", "a higher lowest confidence of the agent", high=1.0),
    Feature(
        "alternatives_count",
        "alternatives",
        f"{_DECISIONS}: mean length of alternatives_considered",
        "more alternatives considered",
    ),
    Feature("reasoning_length", "characters", f"{_DECISIONS}: mean length of reasoning", "longer reasoning"),
    Feature("decision_count", "decisions", f"{_DECISIONS}: count", "more decisions"),
    Feature("word_count", "words", _TEXT, "longer texts"),
    Feature("sentence_count", "sentences", _TEXT, "more sentences"),
    Feature("mean_sentence_length", "words", _TEXT, "longer sentences"),
    Feature("readability", "ARI grade", _TEXT, "harder reading (automated readability index)", low=None),
    Feature("heading_count", "headings", _TEXT, "more headings"),
    Feature("link_count", "links", _TEXT, "more links"),
    Feature("keyword_density", "share", f"{_TEXT} and input_data.keywords", "a larger share of keywords", high=1.0),
    Feature("content_type", "", _LABELLED, "content type", "category"),
    Feature("tone", "", _LABELLED, "tone", "category"),
    Feature("channel", "", _LABELLED, "channel", "category"),
    Feature("structure", "", _LABELLED, "structure", "category"),
)
NUMERIC_FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES if feature.kind == "numeric")
CATEGORIES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES if feature.kind == "category")
TEXT_FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES if feature.source.startswith(_TEXT))
DECISION_FEATURES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES if feature.source.startswith(_DECISIONS))

OUTPUT_KEYS: Final[tuple[str, ...]] = ("agent_name", "execution_id", "content_id", "agent_type", "retry_count")
"""The columns of the feature table that are not features."""
_OTHER_KEYS: Final = ("start_time", "reviewer_id")  # beside the features where an output is forecast

LARGEST_NUMBER: Final = 1e100
"""A number beyond this, on either side of 0, is no measurement, whatever it is called, and is refused: its square
and sums of squares would leave what a float64 holds."""

_BY_NAME: Final = {feature.name: feature for feature in FEATURES}
_CUSTOM_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_ASPECT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ .-]{0,63}")
OVERALL: Final = "overall"
DECISION: Final = "decision"
"""Stands where an aspect's name is expected for what a review decided: approve, request changes or reject."""
FLEET: Final = "*"
"""Stands for all outputs of all agents where an agent's name is expected; no agent may be called so."""


def label(name: str) -> str:
    """Return the plain words for a feature; a custom feature is called by its name, as "more <name>"."""
    feature = _BY_NAME.get(name)
    return feature.label if feature is not None else f"more {name.replace('_', ' ')}"


def unit(name: str) -> str:
    """Return the unit of a feature; empty for a feature without unit and for custom features."""
    feature = _BY_NAME.get(name)
    return feature.unit if feature is not None else ""


def valid_range(name: str) -> tuple[float, float]:
    """Return the smallest and the largest value a feature may have; any finite number for a custom feature."""
    feature = _BY_NAME.get(name)
    low, high = (feature.low, feature.high) if feature is not None else (None, None)
    return (-math.inf if low is None else low, math.inf if high is None else high)


def is_custom_feature_name(name: str) -> bool:
    """Whether a key of `metadata->'features'` can name a feature: a plain identifier that no column already has."""
    return _CUSTOM_NAME.fullmatch(name) is not None and name not in _BY_NAME and name not in (*OUTPUT_KEYS, *_OTHER_KEYS)


def is_aspect_name(name: str) -> bool:
    """Whether a key of the scores can name an aspect; `overall`, the mean of the aspects, and `decision` are taken."""
    return _ASPECT_NAME.fullmatch(name) is not None and name not in (OVERALL, DECISION)


def numeric_columns(columns: Iterable[str]) -> list[str]:
    """Return the numeric features among the columns of a feature table: the registry's first, then the custom ones by name."""
    present = set(columns)
    custom = present.difference(_BY_NAME, OUTPUT_KEYS, _OTHER_KEYS)
    return [name for name in NUMERIC_FEATURES if name in present] + sorted(custom)
