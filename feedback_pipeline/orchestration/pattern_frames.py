"""The patterns as pictures and tables take them: flat rows out of the documents, wherever the patterns come from.

Belongs here: which number of which document is which column. Does not belong here: how anything is drawn (*_pictures).
"""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.orchestration.term_pictures import SOURCES

if TYPE_CHECKING:
    import pandas as pd

_CONTRASTS: Final = ("successful_decisions", "failure_patterns")
_THRESHOLD: Final = "quality_threshold"
_CURVE_NUMBERS: Final = (
    "cut",
    "cut_low",
    "cut_high",
    "direction",
    "effect",
    "ci_low",
    "ci_high",
    "n_good",
    "n_bad",
)
_CURVE: Final = ("agent_name", "feature", "decision_point", *_CURVE_NUMBERS, "x", "observed", "n")
_CONTRAST: Final = (
    "agent_name",
    "feature",
    "decision_point",
    "effect",
    "ci_low",
    "ci_high",
    "n_contents",
    "published",
    "confounded",
)
_TERM_TEXTS: Final = ("agent_name", "source", "term", "aspect", "stage", "decision_point", "outcome")
_TERM_NUMBERS: Final = ("points", "low", "high", "share")


def published_patterns(agent_name: str, patterns: "Iterable[Mapping[str, Any]]") -> "pd.DataFrame":
    """The patterns that a reader returned, with the columns of `pattern_frame.PATTERN_COLUMNS` that the pictures need.

    Args:
        agent_name: Whose patterns they are.
        patterns: Documents with type, input_features, output_characteristics, feedback_signals, confidence and sample_size.
    """
    import pandas as pd

    rows = []
    for pattern in patterns:
        inputs, numbers = pattern["input_features"] or {}, pattern["output_characteristics"] or {}
        low, high = numbers.get("ci") or (None, None)
        rows.append(
            {
                "agent_name": agent_name,
                "pattern_type": pattern["type"],
                "feature": inputs.get("feature"),
                "decision_point": inputs.get("decision_point"),
                "effect": numbers.get("effect"),
                "ci_low": low,
                "ci_high": high,
                "n_contents": pattern["sample_size"],
                "published": True,
                "input_features": inputs,
                "output_characteristics": numbers,
                "human_feedback_signals": pattern["feedback_signals"] or {},
            }
        )
    columns = ["agent_name", "pattern_type", "feature", "decision_point", "effect", "ci_low", "ci_high", "n_contents"]
    documents = ["input_features", "output_characteristics", "human_feedback_signals"]
    frame = pd.DataFrame(rows, columns=[*columns, "published", *documents], dtype=object)
    return frame.astype({"effect": float, "ci_low": float, "ci_high": float, "n_contents": int, "published": bool})


def curves(patterns: "pd.DataFrame") -> "pd.DataFrame":
    """Thresholds and curves out of their documents.

    Returns:
        agent_name, feature, decision_point, cut with cut_low and cut_high (NaN without a cut), direction, effect (of a cut the
        lift, a share) with ci_low and ci_high, n_good and n_bad (outputs on either side), and by bin x, observed (share of
        approval) and n (lists).
    """
    rows = []
    for row in _documented(patterns, (_THRESHOLD,)):
        numbers, signals = row["output_characteristics"], row["human_feedback_signals"]
        curve = numbers.get("curve") or {}
        cut_low, cut_high = numbers.get("cut_interval") or (None, None)
        named = {name: row[name] for name in ("agent_name", "feature", "decision_point", "effect", "ci_low", "ci_high")}
        named |= {"cut": numbers.get("cut"), "cut_low": cut_low, "cut_high": cut_high, "direction": numbers.get("direction")}
        named |= {name: signals.get(name) for name in ("n_good", "n_bad")}
        rows.append(named | {name: _floats(curve.get(name)) for name in ("x", "observed", "n")})
    return _frame(rows, _CURVE, _CURVE_NUMBERS)


def contrasts(patterns: "pd.DataFrame") -> "pd.DataFrame":
    """What approved outputs have more or less of.

    Returns:
        agent_name, feature, decision_point, effect (Hedges g) with ci_low and ci_high, n_contents, published, confounded (an
        effect over all agents that may be a difference between them).
    """
    own = patterns[patterns["pattern_type"].isin(_CONTRASTS) & patterns["effect"].notna()]
    confounded = [bool((numbers or {}).get("confounded_with_agent")) for numbers in own["output_characteristics"]]
    return own.assign(confounded=confounded)[list(_CONTRAST)].reset_index(drop=True)


def terms(patterns: "pd.DataFrame") -> "pd.DataFrame":
    """Published words out of their documents.

    Returns:
        agent_name, source (the pattern type), term, aspect, stage, decision_point (None = all), outcome ("score" or "approval"),
        points (of score, or a share of approval) with low and high (95 %), share (of the texts that hold it).
    """
    rows = []
    for row in _documented(patterns, tuple(SOURCES)):
        inputs, numbers, signals = row["input_features"], row["output_characteristics"], row["human_feedback_signals"]
        points, effect = numbers.get("points"), row["effect"]
        # The interval belongs to the effect, which need not be in points.
        scale = points / effect if points is not None and effect and effect == effect else None
        category = signals.get("feedback_category")
        rows.append(
            {
                "agent_name": row["agent_name"],
                "source": row["pattern_type"],
                "term": inputs.get("term"),
                "aspect": category if row["pattern_type"] != "reasoning_terms" else None,
                "stage": inputs.get("stage"),
                "decision_point": inputs.get("decision_point"),
                "outcome": signals.get("outcome"),
                "points": points,
                "low": None if scale is None else row["ci_low"] * scale,
                "high": None if scale is None else row["ci_high"] * scale,
                "share": numbers.get("share"),
            }
        )
    return _frame(rows, (*_TERM_TEXTS, *_TERM_NUMBERS), _TERM_NUMBERS)


def as_document(value: Any) -> "dict[str, Any]":
    """A document that is a dict, or the text of one."""
    document: dict[str, Any] = json.loads(value) if isinstance(value, str) else dict(value or {})
    return document


def _documented(patterns: "pd.DataFrame", types: tuple[str, ...]) -> "list[dict[Any, Any]]":
    own = patterns[patterns["pattern_type"].isin(types) & patterns["output_characteristics"].notna()]
    rows: list[dict[Any, Any]] = own.to_dict("records")
    return rows


def _floats(values: "Iterable[Any] | None") -> list[float]:
    return [float("nan") if value is None else float(value) for value in values or []]


def _frame(rows: "list[dict[str, Any]]", columns: tuple[str, ...], numbers: tuple[str, ...]) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(columns), dtype=object)
    return frame.astype(dict.fromkeys(numbers, float))
