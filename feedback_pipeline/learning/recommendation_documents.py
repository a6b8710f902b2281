"""One recommendation in words and as documents: what to aim for, what it brings, and the action a program can take.

Every builder takes the support that decides (a row of `recommendation_supports.supports`) and returns kind, direction, text,
target, action, expected_effect, `sure`, whether the interval of the effect lies above 0, and `interval`, within which a bound
learned later is the same target: of a cut its own, else where the bulk of the values lies; None where there is no bound.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from feedback_pipeline.learning import features as registry
from feedback_pipeline.learning.curves import INVERTED_U
from feedback_pipeline.learning.effects import Z95
from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.learning.pattern_sentences import noun
from feedback_pipeline.learning.recommendation_effects import APPROVAL, POINTS, SHARE, Effect
from feedback_pipeline.learning.recommendation_supports import BETTER_HALF
from feedback_pipeline.learning.sentences import taste

Document = dict[str, Any]
Support = Mapping[Any, Any]

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
_IN_STEPS: Final = ("decision_count", "heading_count", "link_count", "sentence_count", "word_count")
_WHERE: Final = {"reasoning_terms": "reasoning", "issue_terms": "issues"}


def of_threshold(support: Support, pattern: Support) -> Document:
    """Stay on the good side of a cut."""
    feature, rising = support["feature"], support["direction"] > 0
    shown, signals = (json.loads(pattern[name]) for name in ("output_characteristics", "human_feedback_signals"))
    low, high = _side(feature, float(shown["cut"]), rising=rising)
    effect = Effect(
        *(APPROVAL, SHARE, float(pattern["effect"]), [float(pattern["ci_low"]), float(pattern["ci_high"])]),
        before=shown["bad_rate"],
        after=shown["good_rate"],
        n_bad=int(signals["n_bad"]),
        n_good=int(signals["n_good"]),
    )
    action = _range_action(support, low, high)
    if action["kind"] == TARGET_RANGE:
        side = {"operator": ">=" if rising else "<", "value": low if rising else high}
        action = {"kind": SET_THRESHOLD, "feature": feature} | side
    target = {"min": low, "max": high, "cut_interval": shown["cut_interval"]}
    said = f"{effect.n_bad:,} v {effect.n_good:,} outputs"
    return _numeric(support, target, effect, action, said, shown["cut_interval"])


def of_correlation(support: Support, finding: Support, spread: Support) -> Document:
    """Aim for the good values of a feature that goes with a score; the effect is that of the better half of the outputs.

    The target is that half; where the curve has a top beyond the median the target ends there, and the effect, which counts
    what lies beyond too, promises rather too little.
    """
    feature, rising = support["feature"], support["direction"] > 0
    found = json.loads(finding["feature_range"])
    bounds, interval = _side(feature, float(found["p50"]), rising=rising), [found["p5"], found["p95"]]
    if found["shape"] == INVERTED_U:
        bounds = _ended(bounds, _side(feature, float(found["min"]), rising=True)[0], _whole(feature, float(found["max"])))
        interval = [found["min"], found["max"]]
    scale = BETTER_HALF * float(spread["sd"]) * (1.0 if rising else -1.0)
    # The correlation before shrinkage: an interval around a shrunken one would not cover. What is worth more is decided shrunken.
    value, mean = scale * float(finding["r"]), float(spread["mean"])
    ends = [scale * float(finding[name]) for name in ("ci_low", "ci_high")]
    effect = Effect.between(support["aspect"], POINTS, value, ends, before=mean, after=mean + value)
    said = f"against the average output, {int(support['n_contents']):,} outputs"
    target = {"min": bounds[0], "max": bounds[1], "best": found["best"]}
    return _numeric(support, target, effect, _range_action(support, *bounds), said, interval)


def _ended(half: tuple[float | None, float | None], low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """The better half as far as the good range reaches; the half alone where they do not meet."""
    ended = (half[0], high) if half[0] is not None else (low, half[1])
    return ended if None not in ended and float(ended[0] or 0.0) < float(ended[1] or 0.0) else half


def of_contrast(support: Support, pattern: Support, lift: Support) -> Document:
    """Stay on the side of the feature's best cut where approved outputs lie; the effect is the honest lift of that cut.

    The cut itself is not certain enough to be a threshold: how far approved and other outputs lie apart is.
    """
    feature, rising = support["feature"], support["direction"] > 0
    shown = json.loads(pattern["output_characteristics"])
    means = sorted((shown["mean_approved"], shown["mean_other"]))
    low, high = _side(feature, float(lift["cut"]), rising=rising)
    effect = Effect(APPROVAL, SHARE, float(lift["effect"]), [float(lift["ci_low"]), float(lift["ci_high"])])
    said = f"on the better side, {int(support['n_contents']):,} outputs"
    target = {"min": low, "max": high, "best": None}
    return _numeric(support, target, effect, _range_action(support, low, high), said, means)


def of_term(support: Support, pattern: Support) -> Document:
    """Avoid a word that goes with worse judgements."""
    shown, signals = (json.loads(pattern[name]) for name in ("output_characteristics", "human_feedback_signals"))
    scale = float(shown["points"]) / float(pattern["effect"])
    ends = [-scale * float(pattern[name]) for name in ("ci_low", "ci_high")]
    n, n_with = int(signals["n_documents"]), int(signals["n_with"])
    outcome, unit = (signals["scored_aspect"], POINTS) if signals["outcome"] == "score" else (APPROVAL, SHARE)
    effect = Effect.between(outcome, unit, -float(shown["points"]), ends, n_bad=n_with, n_good=n - n_with)
    term, where = support["term"], _WHERE[support["pattern_type"]]
    named = f'"{term}" in the reasoning' if where == "reasoning" else f'what reviewers call "{term}"'
    text = f"avoid {named}{_at(support)}: {effect.words()} without it, {n_with:,} of {n:,} have it"
    text += taste(int(support["n_reviewers"]))
    action = {"kind": AVOID_TERM, "term": term, "in": where} | {name: support[name] for name in ("aspect", "decision_point")}
    return _document(AVOID, {"term": term, "in": where}, effect, text, action)


def of_category(support: Support, segment: Support, mean: float) -> Document:
    """Prefer a category whose shrunken score, or rate where nobody scores, is above the agent's mean."""
    outcome, unit, name, n = (
        (OVERALL, POINTS, "score", "n_scored") if support["outcome"] == "score" else (APPROVAL, SHARE, "approval", "n")
    )
    to, low, high = (float(segment[f"{name}{suffix}"]) for suffix in ("", "_low", "_high"))
    ends = [low - mean, high - mean]
    effect = Effect(outcome, unit, to - mean, ends, level=0.9, before=mean, after=to, n_good=int(segment[n]))
    chosen = {"category": support["feature"], "value": support["term"]}
    plain = f"{support['feature'].replace('_', ' ')} {support['term']}"
    text = f"prefer {plain}: {effect.words()} against the agent's mean (shrunken, 90 %), {effect.n_good:,} outputs"
    text += taste(int(support["n_reviewers"]))
    return _document(PREFER, chosen, effect, text, {"kind": PREFER_CATEGORY} | chosen)


def of_contradiction(row: Support, label: str) -> Document:
    """Ask a reviewer who wants the opposite of what is recommended."""
    slope, half, n = float(row["slope"]), Z95 * float(row["se"]), int(row["n"])
    opposite = LESS if row["direction"] > 0 else MORE
    wants = f"{slope:+.2f} {row['unit']} [{slope - half:.2f}, {slope + half:.2f}], {n:,} reviews"
    share = f"gives {100 * float(row['share']):.0f} % of the reviews"
    text = f"ask {label} about {noun(row['feature'])} first: {label} {share} and wants the opposite, {wants}"
    action = {"kind": ASK_REVIEWER_STANDARD, "reviewer_id": row["reviewer_id"], "feature": row["feature"], "wants": opposite}
    # Asking promises nothing: what the reviewer wants stands in the text.
    return _document(ASK, {"reviewer": label, "wants": opposite}, Effect(OVERALL, POINTS, math.nan, [math.nan] * 2), text, action)


def question_identity(feature: str, reviewer_id: str) -> str:
    """The meaning of a question to a reviewer, without its numbers."""
    return f"{ASK_REVIEWER_STANDARD} | {feature} | {reviewer_id}"


def _range_action(support: Support, low: float | None, high: float | None) -> Document:
    own = _OWN_ACTION.get(support["feature"]) if support["direction"] > 0 and low is not None else None
    return {"kind": own or TARGET_RANGE, "feature": support["feature"], "min": low, "max": high}


def _numeric(
    support: Support, target: Document, effect: Effect, action: Document, said: str, interval: list[float] | None
) -> Document:
    """A recommendation about a number: "keep length of texts at 420 words or more: ..."."""
    feature, rising = support["feature"], support["direction"] > 0
    bounds = _bounds(feature, target["min"], target["max"])
    joint = ", " if effect.n_bad is not None else " "
    text = f"keep {noun(feature)} {bounds}{_at(support)}: {effect.words()}{joint}{said}{taste(int(support['n_reviewers']))}"
    action = action | {"decision_point": support["decision_point"]}
    return _document(MORE if rising else LESS, target, effect, text, action) | {"interval": interval}


def _document(direction: str, target: Document, effect: Effect, text: str, action: Document) -> Document:
    found = {"kind": action["kind"], "direction": direction, "text": text, "target": target, "action": action}
    return found | {"expected_effect": effect.document(), "sure": effect.sure, "interval": None}


def _at(support: Support) -> str:
    return f" at {support['decision_point']}" if support["decision_point"] is not None else ""


def _bounds(feature: str, low: float | None, high: float | None) -> str:
    unit = registry.unit(feature)
    after = f" {unit}" if unit and unit != "share" and unit not in noun(feature) else ""
    if low is not None and high is not None:
        return f"between {_short(low)} and {_short(high)}{after}"
    if low is not None:
        return f"at {_short(low)}{after} or more"
    return f"below {_short(high)}{after}" if high is not None else "as approved outputs have it"


def _side(feature: str, value: float, *, rising: bool) -> tuple[float | None, float | None]:
    """Lower and upper bound of one side of a value; the upper one is too much itself. Whole numbers where there are no others."""
    whole = feature in _IN_STEPS
    if rising:
        return float(math.ceil(value) if whole else value), None
    return None, float(math.floor(value) + 1 if whole else value)


def _whole(feature: str, value: float) -> float | None:
    return float(math.floor(value)) if feature in _IN_STEPS else value


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
