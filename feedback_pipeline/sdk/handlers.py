"""How an agent follows a recommendation: one handler for each kind of action, which adapts the input it executes with.

What a handler learns it to do stands under the key `learning` of the input; agents read it from there, or replace the handler by
one that knows their own configuration. `instructions` says the same in words, for a prompt.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from feedback_pipeline.schemas.improvements import Recommendation

Input = dict[str, Any]
GUIDANCE: Final = "learning"
"""Key of the input under which the guidance stands."""


@dataclass(frozen=True)
class Skip:
    """A recommendation does not fit this input."""

    reason: str


Handler = Callable[[Recommendation, Input], Input | Skip]
"""Takes a recommendation and an input; returns a new input, or why it does not fit, and changes nothing.

It is asked whether the recommendation is then applied or held out: only so are the two comparable.
"""


def guidance(input_data: Mapping[str, Any]) -> dict[str, Any]:
    """What was learned for this execution; empty outside of one that applies it."""
    found = input_data.get(GUIDANCE)
    return dict(found) if isinstance(found, Mapping) else {}


def with_guidance(input_data: Mapping[str, Any], part: str, name: str, value: Any, text: str) -> Input:
    """A copy of an input with one more entry in a part of its guidance, and its instruction in words."""
    known = guidance(input_data)
    entries = {**known.get(part, {}), name: value}
    return {**input_data, GUIDANCE: {**known, part: entries, "instructions": [*known.get("instructions", []), text]}}


def with_listed(input_data: Mapping[str, Any], part: str, entry: Mapping[str, Any], text: str) -> Input:
    """The same where a part is a list, since no single name tells its entries apart."""
    known = guidance(input_data)
    entries = [*known.get(part, []), dict(entry)]
    return {**input_data, GUIDANCE: {**known, part: entries, "instructions": [*known.get("instructions", []), text]}}


def set_threshold(recommendation: Recommendation, input_data: Input) -> Input | Skip:
    """`thresholds`: {feature: {operator, value, decision_point}}: act on the outcome only on this side."""
    return _about_a_feature(recommendation, input_data, "thresholds", ("operator", "value", "decision_point"))


def target_range(recommendation: Recommendation, input_data: Input) -> Input | Skip:
    """`ranges`: {feature: {min, max, decision_point}}: keep the feature there; None = open."""
    return _about_a_feature(recommendation, input_data, "ranges", ("min", "max", "decision_point"))


def extend_reasoning(recommendation: Recommendation, input_data: Input) -> Input | Skip:
    """`reasoning`: {min_characters, max_characters}: think longer before deciding."""
    return _of_the_whole(recommendation, input_data, "reasoning", "characters")


def consider_alternatives(recommendation: Recommendation, input_data: Input) -> Input | Skip:
    """`alternatives`: {min_count, max_count}: weigh so many before deciding."""
    return _of_the_whole(recommendation, input_data, "alternatives", "count")


def prefer_category(recommendation: Recommendation, input_data: Input) -> Input | Skip:
    """`preferences`: {category: value}, and the input itself where it says nothing of the category."""
    action = recommendation.action
    category, value = str(action["category"]), action["value"]
    if input_data.get(category) is not None:
        return Skip(f"the input asks for a {category.replace('_', ' ')} of its own")
    return with_guidance({**input_data, category: value}, "preferences", category, value, recommendation.text)


def avoid_term(recommendation: Recommendation, input_data: Input) -> Input | Skip:
    """`avoid_terms`: [{term, in, aspect, decision_point}]; one term may be avoided for several aspects, and in two places."""
    entry = {key: recommendation.action.get(key) for key in ("term", "in", "aspect", "decision_point")}
    return with_listed(input_data, "avoid_terms", entry, recommendation.text)


def ask_reviewer_standard(recommendation: Recommendation, input_data: Input) -> Input | Skip:
    """`ask_reviewers`: [{reviewer_id, feature, wants}]: ask before the work, since this person wants the opposite."""
    entry = {key: recommendation.action.get(key) for key in ("reviewer_id", "feature", "wants")}
    return with_listed(input_data, "ask_reviewers", entry, recommendation.text)


HANDLERS: Final[Mapping[str, Handler]] = {
    "set_threshold": set_threshold,
    "target_range": target_range,
    "prefer_category": prefer_category,
    "avoid_term": avoid_term,
    "extend_reasoning": extend_reasoning,
    "consider_alternatives": consider_alternatives,
    "ask_reviewer_standard": ask_reviewer_standard,
}
"""The handler of each kind of action; pass `{**HANDLERS, kind: own}` to replace or add some."""


def _about_a_feature(recommendation: Recommendation, input_data: Input, part: str, keys: tuple[str, ...]) -> Input | Skip:
    action = recommendation.action
    feature = str(action["feature"])
    if input_data.get(feature) is not None:
        return Skip(f"the input sets {feature.replace('_', ' ')} itself")
    return with_guidance(input_data, part, feature, {key: action.get(key) for key in keys}, recommendation.text)


def _of_the_whole(recommendation: Recommendation, input_data: Input, part: str, unit: str) -> Input:
    low, high = recommendation.action.get("min"), recommendation.action.get("max")
    adapted = with_guidance(input_data, part, f"min_{unit}", None if low is None else math.ceil(low), recommendation.text)
    guided = adapted[GUIDANCE]
    guided[part][f"max_{unit}"] = None if high is None else math.floor(high)
    guided[part]["decision_point"] = recommendation.action.get("decision_point")
    return adapted
