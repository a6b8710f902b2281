"""One recommendation in words and as documents: what to aim for, what it brings, and the action a program can take.

Every builder takes the support that decides (a row of `recommendation_supports.supports`) and returns the same keys. Numbers in
`expected_effect` are positive where the advice helps.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning import features as registry
from feedback_pipeline.learning.curves import INVERTED_U
from feedback_pipeline.learning.recommendation_supports import BETTER_HALF
from feedback_pipeline.learning.sentences import SCOPE_ONE, SCOPE_THESE

Document = dict[str, Any]

SET_THRESHOLD: Final = "set_threshold"
TARGET_RANGE: Final = "target_range"
PREFER_CATEGORY: Final = "prefer_category"
AVOID_TERM: Final = "avoid_term"
EXTEND_REASONING: Final = "extend_reasoning"
CONSIDER_ALTERNATIVES: Final = "consider_alternatives"
ASK_REVIEWER_STANDARD: Final = "ask_reviewer_standard"
MORE, LESS, PREFER, AVOID, ASK = "more", "less", "prefer", "avoid", "ask"

# What an agent does on purpose has an action of its own; anything else is a range to aim for.
_OWN_ACTION: Final = {"reasoning_length": EXTEND_REASONING, "alternatives_count": CONSIDER_ALTERNATIVES}
_IN_STEPS: Final = ("alternatives_count", "decision_count", "heading_count", "link_count", "sentence_count", "word_count")
_WHERE: Final = {"reasoning_terms": "reasoning", "issue_terms": "issues"}


def of_threshold(support: Mapping[Any, Any], pattern: Mapping[Any, Any]) -> Document:
    """Stay on the good side of a cut."""
    feature, rising = support["feature"], support["direction"] > 0
    shown, signals = (json.loads(pattern[name]) for name in ("output_characteristics", "human_feedback_signals"))
    low, high = _side(feature, float(shown["cut"]), rising=rising)
    target = {"min": low, "max": high, "cut_interval": shown["cut_interval"]}
    effect = {
        "outcome": "approval",
        "unit": "share",
        "value": float(pattern["effect"]),
        "ci": [float(pattern["ci_low"]), float(pattern["ci_high"])],
        "level": 0.95,
        "from": shown["bad_rate"],
        "to": shown["good_rate"],
        "n_bad": int(signals["n_bad"]),
        "n_good": int(signals["n_good"]),
    }
    own = _OWN_ACTION.get(feature) if rising else None
    if own is None:
        action = {
            "kind": SET_THRESHOLD,
            "feature": feature,
            "operator": ">=" if rising else "<",
            "value": low if rising else high,
        }
    else:
        action = {"kind": own, "feature": feature, "min": low, "max": None}
    return _numeric(support, target, effect, action, f"{_rates(effect)}, {effect['n_bad']:,} v {effect['n_good']:,} outputs")


def of_correlation(support: Mapping[Any, Any], finding: Mapping[Any, Any], spread: Mapping[Any, Any]) -> Document:
    """Aim for the good values of a feature that goes with a score; the effect is that of the better half of the outputs.

    Where the curve has a top the target is the range around it, else the better half itself: the end of a line that only rises
    is no target.
    """
    feature, rising = support["feature"], support["direction"] > 0
    found = json.loads(finding["feature_range"])
    if found["shape"] == INVERTED_U:
        bounds = (_side(feature, float(found["min"]), rising=True)[0], _whole(feature, float(found["max"])))
    else:
        bounds = _side(feature, float(found["p50"]), rising=rising)
    low, high = bounds
    scale = BETTER_HALF * float(spread["sd"]) * (1.0 if rising else -1.0)
    value = scale * float(finding["r_shrunk"])
    low_end, high_end = sorted(scale * float(finding[name]) for name in ("ci_low", "ci_high"))
    effect = {
        "outcome": support["aspect"],
        "unit": "points",
        "value": value,
        # The interval is that of the correlation before shrinkage; it holds what shrinkage leaves.
        "ci": [min(low_end, value), high_end],
        "level": 0.95,
        "from": float(spread["mean"]),
        "to": float(spread["mean"]) + value,
        "n_bad": None,
        "n_good": None,
    }
    gained = f"{support['aspect']} {_signed(value)} points {_interval(effect['ci'])}"
    said = f"{gained} against the average output, {int(support['n_contents']):,} outputs"
    if finding["scope"] in (SCOPE_THESE, SCOPE_ONE):
        said += "; may be the taste of these reviewers" if finding["scope"] == SCOPE_THESE else "; may be this person's taste"
    target = {"min": low, "max": high, "best": found["best"]}
    return _numeric(support, target, effect, _range_action(support, low, high), said)


def of_contrast(support: Mapping[Any, Any], pattern: Mapping[Any, Any], lift: Mapping[Any, Any]) -> Document:
    """Aim for what approved outputs have; the effect is the honest lift of the feature's best cut, wherever that lies."""
    feature, rising = support["feature"], support["direction"] > 0
    shown = json.loads(pattern["output_characteristics"])
    low, high = _side(feature, (shown["mean_approved"] + shown["mean_other"]) / 2.0, rising=rising)
    effect = {
        "outcome": "approval",
        "unit": "share",
        "value": float(lift["effect"]),
        "ci": [float(lift["ci_low"]), float(lift["ci_high"])],
        "level": 0.95,
        "from": None,
        "to": None,
        "n_bad": None,
        "n_good": None,
    }
    said = f"approval {_percent_points(effect)} on the better side, {int(support['n_contents']):,} outputs"
    return _numeric(support, {"min": low, "max": high, "best": None}, effect, _range_action(support, low, high), said)


def of_term(support: Mapping[Any, Any], pattern: Mapping[Any, Any]) -> Document:
    """Avoid a word that goes with worse judgements."""
    shown, signals = (json.loads(pattern[name]) for name in ("output_characteristics", "human_feedback_signals"))
    points, scale = -float(shown["points"]), float(shown["points"]) / float(pattern["effect"])
    by_score = signals["outcome"] == "score"
    effect = {
        "outcome": (support["aspect"] or registry.OVERALL) if by_score else "approval",
        "unit": "points" if by_score else "share",
        "value": points,
        "ci": sorted(-scale * float(pattern[name]) for name in ("ci_low", "ci_high")),
        "level": 0.95,
        "from": None,
        "to": None,
        "n_bad": int(signals["n_with"]),
        "n_good": int(signals["n_documents"]) - int(signals["n_with"]),
    }
    where, aspect = _WHERE[support["pattern_type"]], support["aspect"]
    named = f'"{support["term"]}" in the reasoning' if where == "reasoning" else f'what reviewers call "{support["term"]}"'
    gain = (
        f"{effect['outcome']} {_signed(points)} points {_interval(effect['ci'])}"
        if by_score
        else f"approval {_percent_points(effect)}"
    )
    action = {
        "kind": AVOID_TERM,
        "term": support["term"],
        "in": where,
        "aspect": aspect,
        "decision_point": support["decision_point"],
    }
    text = f"avoid {named}{_at(support)}: {gain} without it, {effect['n_bad']:,} of {int(signals['n_documents']):,} have it"
    return _document(AVOID_TERM, AVOID, {"term": support["term"], "in": where}, effect, text, action)


def of_category(support: Mapping[Any, Any], segment: Mapping[Any, Any], mean: float) -> Document:
    """Prefer a category whose shrunken score, or rate where nobody scores, is above the agent's mean."""
    scored = support["outcome"] == "score"
    to, low, high = (float(segment[f"{'score' if scored else 'approval'}{suffix}"]) for suffix in ("", "_low", "_high"))
    effect = {
        "outcome": registry.OVERALL if scored else "approval",
        "unit": "points" if scored else "share",
        "value": to - mean,
        "ci": [low - mean, high - mean],
        "level": 0.9,
        "from": mean,
        "to": to,
        "n_bad": None,
        "n_good": int(segment["n_scored"] if scored else segment["n"]),
    }
    gain = f"{effect['outcome']} {_signed(to - mean)} points {_interval(effect['ci'])}" if scored else _rates(effect)
    family, level = support["feature"], support["term"]
    against = f"against the agent's mean (shrunken, 90 %), {effect['n_good']:,} outputs"
    text = f"prefer {family.replace('_', ' ')} {level}: {gain} {against}"
    action = {"kind": PREFER_CATEGORY, "category": family, "value": level}
    return _document(PREFER_CATEGORY, PREFER, {"category": family, "value": level}, effect, text, action)


def of_contradiction(row: Mapping[Any, Any], label: str) -> Document:
    """Ask a reviewer who wants the opposite of what is recommended."""
    slope, se = float(row["slope"]), float(row["se"])
    opposite = "less" if row["direction"] > 0 else "more"
    effect = {
        "outcome": registry.OVERALL,
        "unit": row["unit"],
        "value": abs(slope),
        "ci": [abs(slope) - 1.96 * se, abs(slope) + 1.96 * se],
        "level": 0.95,
        "from": None,
        "to": None,
        "n_bad": None,
        "n_good": int(row["n"]),
    }
    wants = f"{_signed(slope)} {row['unit']} {_interval([slope - 1.96 * se, slope + 1.96 * se])}, {int(row['n']):,} reviews"
    share = f"gives {100 * float(row['share']):.0f} % of the reviews"
    text = f"ask {label} about {_plain(row['feature'])} first: {label} {share} and wants the opposite, {wants}"
    action = {"kind": ASK_REVIEWER_STANDARD, "reviewer_id": row["reviewer_id"], "feature": row["feature"], "wants": opposite}
    return _document(ASK_REVIEWER_STANDARD, ASK, {"reviewer": label, "wants": opposite}, effect, text, action)


def _range_action(support: Mapping[Any, Any], low: float | None, high: float | None) -> Document:
    own = _OWN_ACTION.get(support["feature"]) if support["direction"] > 0 and low is not None else None
    return {"kind": own or TARGET_RANGE, "feature": support["feature"], "min": low, "max": high}


def _numeric(support: Mapping[Any, Any], target: Document, effect: Document, action: Document, said: str) -> Document:
    """A recommendation about a number: "keep word count at 420 or more: ..."."""
    feature, rising = support["feature"], support["direction"] > 0
    text = f"keep {_plain(feature)} {_bounds(feature, target['min'], target['max'])}{_at(support)}: {said}"
    action = action | {"decision_point": support["decision_point"]}
    return _document(action["kind"], MORE if rising else LESS, target, effect, text, action)


def _plain(feature: str) -> str:
    """The name of a feature in words."""
    return feature.removesuffix("_ms").replace("_", " ")


def _document(kind: str, direction: str, target: Document, effect: Document, text: str, action: Document) -> Document:
    parts = {"target": target, "expected_effect": effect, "action": action}
    return {"kind": kind, "direction": direction, "text": text} | {name: _clean(part) for name, part in parts.items()}


def _clean(document: Document) -> Document:
    """What is no number is null: JSON knows no NaN."""
    return {name: _clean_value(value) for name, value in document.items()}


def _clean_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_clean_value(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return None if value is pd.NaT else value


def _at(support: Mapping[Any, Any]) -> str:
    return f" at {support['decision_point']}" if support["decision_point"] is not None else ""


def _bounds(feature: str, low: float | None, high: float | None) -> str:
    unit = registry.unit(feature)
    after = f" {unit}" if unit and unit != "share" and unit.rstrip("s") not in _plain(feature) else ""
    if low is not None and high is not None:
        return f"between {_number(low)} and {_number(high)}{after}"
    if low is not None:
        return f"at {_number(low)}{after} or more"
    return f"below {_number(high)}{after}" if high is not None else "as approved outputs have it"


def _side(feature: str, value: float, *, rising: bool) -> tuple[float | None, float | None]:
    """Lower and upper bound of one side of a value; the upper one is too much itself. Whole numbers where there are no others."""
    whole = feature in _IN_STEPS
    if rising:
        return float(math.ceil(value) if whole else value), None
    return None, float(math.floor(value) + 1 if whole else value)


def _whole(feature: str, value: float) -> float | None:
    return float(math.floor(value)) if feature in _IN_STEPS else value


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _interval(ci: Any) -> str:
    return f"[{ci[0]:.2f}, {ci[1]:.2f}]"


def _rates(effect: Mapping[Any, Any]) -> str:
    return f"approval {effect['from']:.0%} -> {effect['to']:.0%}, {_percent_points(effect)}".replace("%,", " %,").replace(
        "% ->", " % ->"
    )


def _percent_points(effect: Mapping[Any, Any]) -> str:
    low, high = (100.0 * value for value in effect["ci"])
    return f"{100.0 * effect['value']:+.0f} points [{low:.0f}, {high:.0f}]"
