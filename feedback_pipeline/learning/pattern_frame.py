"""The shape of every pattern, whatever its kind: one row per candidate, the same columns, so that kinds can be compared.

A candidate is one thing that was looked for and tested; it is a pattern where it is published. Its description is its identity:
words and names, never a number, so that what is found again is known again and its counters survive.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.pooling import confidence

SUCCESSFUL_DECISIONS: Final = "successful_decisions"
FAILURE_PATTERNS: Final = "failure_patterns"
QUALITY_THRESHOLD: Final = "quality_threshold"
DECISION_RULE: Final = "decision_rule"
REASONING_TERMS: Final = "reasoning_terms"
COMMENT_TERMS: Final = "comment_terms"
ISSUE_TERMS: Final = "issue_terms"
TERM_TYPES: Final = (REASONING_TERMS, COMMENT_TERMS, ISSUE_TERMS)
PATTERN_TYPES: Final = (SUCCESSFUL_DECISIONS, FAILURE_PATTERNS, QUALITY_THRESHOLD, DECISION_RULE, *TERM_TYPES)
CORRELATION_PATTERN: Final = "correlation_pattern"

_TEXTS: Final = ("agent_name", "pattern_type", "description", "feature", "term", "aspect", "stage", "decision_point")
_NUMBERS: Final = (
    *("direction", "effect", "se", "ci_low", "ci_high", "p_value", "q_value", "confidence", "accuracy_rate"),
    *("gain", "cut"),
)
_COUNTS: Final = ("n_contents", "n_reviewers")
DOCUMENTS: Final = ("input_features", "output_characteristics", "human_feedback_signals")
PATTERN_COLUMNS: Final = (*_TEXTS, "unit", *_NUMBERS, *_COUNTS, "published", "reason", *DOCUMENTS, "algorithm", "sentence")
"""agent_name ('*' = all agents), pattern_type, description (identity), feature or term, aspect, stage (None = all),
decision_point (None = all); unit of the effect ("sd", "approval" = a share, "points"), direction (+1 = more of it is better, -1 =
less is, 0 = undefined), effect with se and 95 % interval, p_value, q_value (within its own family), confidence (1 - lfsr),
accuracy_rate (NaN where it has no meaning), gain (what all outputs would gain if all followed it, in standard deviations of the
outcome, NaN = undefined), cut (of a threshold: the value that parts good from bad), n_contents, n_reviewers, published, reason
(why not), the three documents agents read (None where not published), algorithm (at most 50 letters), sentence."""


def pattern_frame(columns: Mapping[str, Any], n: int) -> pd.DataFrame:
    """A frame of n candidates; columns that are left out are undefined: None, NaN, 0 for counts, False for published.

    Args:
        columns: Scalars or sequences of length n, by names of `PATTERN_COLUMNS`.
        n: Rows.

    Raises:
        KeyError: a name is none of the columns.
    """
    surplus = set(columns) - set(PATTERN_COLUMNS)
    if surplus:
        raise KeyError(f"{sorted(surplus)} are no columns of a pattern; the columns are {', '.join(PATTERN_COLUMNS)}")
    made: dict[str, pd.Series] = {}
    for name in PATTERN_COLUMNS:
        if name in _NUMBERS:
            made[name] = _series(columns.get(name, np.nan), n, np.float64)
        elif name in _COUNTS:
            made[name] = _series(columns.get(name, 0), n, np.int64)
        elif name == "published":
            made[name] = _series(columns.get(name, False), n, np.bool_)
        else:
            made[name] = _series(columns.get(name), n, object)
    return pd.DataFrame(made)


def _series(value: Any, n: int, dtype: Any) -> pd.Series:
    if isinstance(value, Sequence | np.ndarray | pd.Series) and not isinstance(value, str):
        whole = np.empty(n, dtype=dtype)
        whole[:] = list(value) if dtype is object else np.asarray(value)
        series: pd.Series = pd.Series(whole, dtype=dtype)
    else:
        series = pd.Series([value] * n, dtype=dtype)
    return series


def with_confidence(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `confidence` = 1 - lfsr of each effect under the shrinkage prior of its kind, over all agents.

    A kind is a pattern type, but for successful_decisions and failure_patterns, which are the two signs of one kind. Effects
    are on a scale where the prior's standard deviations of .02 to .64 make sense: standard deviations or shares.
    """
    kind = frame["pattern_type"].replace({FAILURE_PATTERNS: SUCCESSFUL_DECISIONS})
    value: Floats = np.full(len(frame), np.nan)
    for name in sorted(kind.unique()):
        rows = (kind == name).to_numpy()
        effect, se = (frame.loc[rows, column].to_numpy(dtype=np.float64) for column in ("effect", "se"))
        value[rows] = confidence(effect, np.where(se > 0, se**2, np.nan))
    return frame.assign(confidence=value)


def documents(
    row: Mapping[Any, Any], *, inputs: Mapping[str, Any], characteristics: Mapping[str, Any], signals: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The three documents of a published pattern: what is common to all kinds, and what this kind adds.

    Args:
        row: agent_name, feature, term, aspect, stage, decision_point, unit, direction, effect, se, ci_low, ci_high, p_value,
            q_value, n_reviewers of the candidate.
        inputs: What this kind adds to input_features; JSON values, no NaN.
        characteristics: What it adds to output_characteristics.
        signals: What it adds to human_feedback_signals.
    """
    named = {key: row[key] for key in ("feature", "term", "decision_point", "stage") if row[key] is not None}
    numbers = {key: _json(row[key]) for key in ("effect", "se", "p_value", "q_value", "direction")}
    return {
        "input_features": named | dict(inputs),
        "output_characteristics": numbers
        | {"unit": row["unit"], "ci": [_json(row["ci_low"]), _json(row["ci_high"])]}
        | dict(characteristics),
        "human_feedback_signals": {"feedback_category": row["aspect"] or "decision", "n_reviewers": int(row["n_reviewers"])}
        | dict(signals),
    }


def _json(value: Any) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number


def concatenated(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames of candidates as one, sorted by agent, type and description; an empty list gives an empty frame."""
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return pattern_frame({}, 0)
    return pd.concat(filled, ignore_index=True).sort_values(["agent_name", "pattern_type", "description"], ignore_index=True)
