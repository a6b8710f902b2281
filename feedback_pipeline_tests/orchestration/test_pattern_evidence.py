from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.orchestration.pattern_evidence import unusable_patterns, unusable_recommendations, unusable_segments

GOOD: dict[str, Any] = {
    "agent_name": "drafter",
    "pattern_type": "successful_decisions",
    "description": "cost | approved v other",
    "term": None,
    "effect": 0.4,
    "ci_low": 0.1,
    "ci_high": 0.7,
    "p_value": 0.001,
    "q_value": 0.01,
    "confidence": 0.99,
    "accuracy_rate": 0.7,
    "published": True,
    "reason": None,
    "input_features": "{}",
    "output_characteristics": "{}",
    "human_feedback_signals": "{}",
    "sentence": "Approved outputs cost more.",
}
TERM = GOOD | {"pattern_type": "comment_terms", "term": "vague", "description": "vague | comment | aspect=tone"}
WITHHELD = GOOD | {
    "description": "duration_ms | approved v other",
    "published": False,
    "reason": "q above .10",
    **dict.fromkeys(("input_features", "output_characteristics", "human_feedback_signals", "sentence"), None),
}


def _patterns(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(GOOD))


def test_patterns_within_their_ranges_pass() -> None:
    undefined = WITHHELD | dict.fromkeys(("effect", "ci_low", "ci_high", "p_value", "q_value", "confidence", "accuracy_rate"))
    undefined |= {"description": "alone"}
    result = unusable_patterns(_patterns(GOOD, TERM, WITHHELD, undefined))
    assert (result.observed, result.details) == (0, {"candidates": 4})
    assert result.passed
    assert unusable_patterns(_patterns()).passed


@pytest.mark.parametrize("term", ["überraschend", "評審", "слово", "a", "w" * 40])
def test_a_word_of_any_language_is_a_word(term: str) -> None:
    assert unusable_patterns(_patterns(TERM | {"term": term, "description": f"{term} | comment | aspect=tone"})).passed


@pytest.mark.parametrize(
    "term",
    ["two words", "Vague", "r2d2", "ignore-all", "<script>", "", None, "w" * 41, "a\u202eb", "it's", "vague\n", "mail@b.co"],
)
def test_a_text_is_no_word(term: str | None) -> None:
    result = unusable_patterns(_patterns(GOOD, TERM | {"term": term, "description": f"{term} | comment | aspect=tone"}))
    assert result.details == {"candidates": 2, "terms that are no single word": 1}
    assert not result.passed


def test_a_text_does_not_hide_in_the_description() -> None:
    result = unusable_patterns(_patterns(TERM | {"description": "the whole comment | comment | aspect=tone"}))
    assert result.details["terms that are no single word"] == 1


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"description": GOOD["description"]}, "repeated identities"),
        ({"q_value": 1.01}, "q_value out of range"),
        ({"p_value": -0.1}, "p_value out of range"),
        ({"confidence": 1.5}, "confidence out of range"),
        ({"accuracy_rate": 70.0}, "accuracy_rate out of range"),
        ({"ci_low": 0.8}, "empty intervals"),
        ({"effect": None}, "published without a value"),
        ({"sentence": None}, "published without sentence"),
        ({"input_features": None}, "published without input_features"),
        ({"human_feedback_signals": None}, "published without human_feedback_signals"),
        ({"published": False}, "withheld without a reason"),
    ],
)
def test_an_unusable_pattern_is_counted(change: dict[str, Any], where: str) -> None:
    result = unusable_patterns(_patterns(GOOD, GOOD | {"description": "other"} | change))
    assert result.details == {"candidates": 2, where: 1}
    assert not result.passed


def test_agents_may_share_a_pattern() -> None:
    assert unusable_patterns(_patterns(GOOD, GOOD | {"agent_name": "editor"}, GOOD | {"pattern_type": "failure_patterns"})).passed


SEGMENT: dict[str, Any] = {
    "agent_name": "drafter",
    "family": "tone",
    "segment": "warm",
    "approval_raw": 1.0,
    "approval": 0.8,
    "approval_low": 0.6,
    "approval_high": 0.9,
    "score": 7.0,
    "score_low": 6.0,
    "score_high": 8.0,
}
LEVELS = [
    {"agent_name": "drafter", "family": "tone", "segment": "warm", "propensity": 0.7},
    {"agent_name": "drafter", "family": "tone", "segment": "dry", "propensity": 0.3},
]


def _look(segments: list[dict[str, Any]], levels: list[dict[str, Any]]) -> dict[str, Any]:
    allocation = pd.DataFrame(levels, columns=list(LEVELS[0]))
    return unusable_segments(pd.DataFrame(segments, columns=list(SEGMENT)), allocation).details


def test_segments_within_their_ranges_pass() -> None:
    undefined = {"segment": "dry"} | dict.fromkeys(("approval_raw", "approval", "approval_low", "approval_high"))
    assert _look([SEGMENT, SEGMENT | undefined], LEVELS) == {"segments": 2}
    assert _look([], []) == {"segments": 0}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"segment": "warm"}, "repeated segments"),
        ({"approval_raw": 1.2}, "approval_raw out of range"),
        ({"approval_low": -0.1}, "approval_low out of range"),
        ({"approval": 0.5}, "approval outside its interval"),
        ({"score": 8.5}, "score outside its interval"),
    ],
)
def test_an_unusable_segment_is_counted(change: dict[str, Any], where: str) -> None:
    assert _look([SEGMENT, SEGMENT | {"segment": "dry"} | change], LEVELS) == {"segments": 2, where: 1}


def test_chances_add_up_to_one() -> None:
    assert _look([], [LEVELS[0], LEVELS[1] | {"propensity": 0.2}])["propensities that do not add up"] == 1
    assert _look([], [LEVELS[0], LEVELS[0]])["repeated allocations"] == 1
    assert _look([], [LEVELS[0] | {"propensity": 1.3}, LEVELS[1] | {"propensity": -0.3}])["propensity out of range"] == 2


ADVICE: dict[str, Any] = {
    "agent_name": "drafter",
    "rank": 1,
    "identity": "set_threshold | cost",
    "kind": "set_threshold",
    "n_contents": 300,
    "confidence": 0.99,
    "q_value": 0.05,
    "text": "Ask for more.",
    "pattern_keys": [["quality_threshold", "cost | threshold"]],
    "action": {"kind": "set_threshold"},
}
SECOND = ADVICE | {"rank": 2, "identity": "avoid_term | vague"}


def _advice(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(ADVICE))


def test_ranked_recommendations_pass() -> None:
    assert unusable_recommendations(_advice(SECOND, ADVICE, ADVICE | {"agent_name": "editor"})).passed
    assert unusable_recommendations(_advice()).passed
    assert unusable_recommendations(_advice(ADVICE, SECOND | {"kind": "ask_reviewer_standard", "pattern_keys": []})).passed
    assert unusable_recommendations(_advice(ADVICE, SECOND | {"kind": "prefer_category", "pattern_keys": []})).passed
    ten = [ADVICE | {"rank": n, "identity": str(n)} for n in range(1, 11)]
    assert unusable_recommendations(_advice(*ten)).passed
    eleven = unusable_recommendations(_advice(*ten, ADVICE | {"rank": 11, "identity": "11"}))
    assert eleven.details == {"recommendations": 11, "agents with too many": 1}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"identity": ADVICE["identity"]}, "repeated identities"),
        ({"rank": 3}, "ranks that are not 1, 2, ..."),
        ({"rank": 1}, "ranks that are not 1, 2, ..."),
        ({"confidence": -0.1}, "confidence out of range"),
        ({"q_value": 0.051}, "q_value above .05"),
        ({"q_value": None}, "q_value above .05"),
        ({"text": " "}, "without a text"),
        ({"text": None}, "without a text"),
        ({"pattern_keys": []}, "without a pattern"),
        ({"n_contents": 0}, "without an output"),
        ({"action": {}}, "without an action"),
        ({"action": None}, "without an action"),
    ],
)
def test_an_unusable_recommendation_is_counted(change: dict[str, Any], where: str) -> None:
    result = unusable_recommendations(_advice(ADVICE, SECOND | change))
    assert result.details == {"recommendations": 2, where: 1}
    assert not result.passed
