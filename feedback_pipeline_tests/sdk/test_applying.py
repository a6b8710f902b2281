"""Who applies what: every kind of action, the draw, the record of it."""

import uuid
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning import recommendation_documents as documents
from feedback_pipeline.schemas.applications import Application
from feedback_pipeline.schemas.improvements import Recommendation
from feedback_pipeline.sdk.applying import choose
from feedback_pipeline.sdk.handlers import HANDLERS, Input, Skip, guidance, with_guidance

ALWAYS = 1 - 1e-12
NEVER = 1e-300


TERM: dict[str, Any] = {"term": "synergy", "in": "issues", "aspect": "clarity", "decision_point": None}


def recommendation(kind: str, p_on: float = ALWAYS, name: str = "p", **action: Any) -> Recommendation:
    trial = {
        "state": "active",
        "trial": 3,
        "p_on": p_on,
        "salt": "here:3",
        "uplift": None,
        "ci": None,
        "n": 0,
        "reason": "because",
    }
    return Recommendation.model_validate(
        {
            **{"id": name, "rank": 1, "kind": kind, "feature": None, "direction": "more", "target": {}, "expected_effect": None},
            **{"confidence": 0.9, "q_value": 0.01, "evidence": {}, "text": f"do {kind}", "conflicts": [], "trial": trial},
            "action": {"kind": kind} | action,
        }
    )


THRESHOLD = recommendation("set_threshold", feature="confidence_score", operator=">=", value=0.7, decision_point="draft")
CASES: list[tuple[Recommendation, str, Any]] = [
    (THRESHOLD, "thresholds", {"confidence_score": {"operator": ">=", "value": 0.7, "decision_point": "draft"}}),
    (
        recommendation("target_range", feature="word_count", min=420.0, max=None, decision_point=None),
        "ranges",
        {"word_count": {"min": 420.0, "max": None, "decision_point": None}},
    ),
    (recommendation("prefer_category", category="tone", value="warm"), "preferences", {"tone": "warm"}),
    (
        recommendation("avoid_term", **TERM),
        "avoid_terms",
        [{"term": "synergy", "in": "issues", "aspect": "clarity", "decision_point": None}],
    ),
    (
        recommendation("extend_reasoning", feature="reasoning_length", min=300.2, max=None, decision_point="draft"),
        "reasoning",
        {"min_characters": 301, "max_characters": None, "decision_point": "draft"},
    ),
    (
        recommendation("consider_alternatives", feature="alternatives_count", min=2.5, max=6.5, decision_point=None),
        "alternatives",
        {"min_count": 3, "max_count": 6, "decision_point": None},
    ),
    (
        recommendation("ask_reviewer_standard", reviewer_id="ana", feature="word_count", wants="less"),
        "ask_reviewers",
        [{"reviewer_id": "ana", "feature": "word_count", "wants": "less"}],
    ),
]


def test_every_kind_of_action_has_its_handler() -> None:
    known = {value for name, value in vars(documents).items() if isinstance(value, str) and name == value.upper()}
    assert set(HANDLERS) < known
    assert {one.kind for one, _, _ in CASES} == set(HANDLERS)
    assert set(HANDLERS) == {
        documents.SET_THRESHOLD,
        documents.TARGET_RANGE,
        documents.PREFER_CATEGORY,
        documents.AVOID_TERM,
        documents.EXTEND_REASONING,
        documents.CONSIDER_ALTERNATIVES,
        documents.ASK_REVIEWER_STANDARD,
    }


@pytest.mark.parametrize(("one", "part", "expected"), CASES, ids=lambda value: getattr(value, "kind", ""))
def test_an_action_adapts_a_copy_of_the_input(one: Recommendation, part: str, expected: Any) -> None:
    present: Any = [{"other": 1}] if isinstance(expected, list) else {"other": 1}
    given = {"topic": "tea", "learning": {"instructions": ["from before"], part: present}}
    before = deepcopy(given)
    choice = choose([one], given, "1", HANDLERS)
    assert given == before
    found = guidance(choice.adapted)
    assert found[part] == (present + expected if isinstance(expected, list) else present | expected)
    assert found["instructions"] == ["from before", one.text]
    assert choice.adapted["topic"] == "tea"
    assert [each.pattern_id for each in choice.applied] == ["p"]
    # Of those held out nothing is left.
    held = choose([one.model_copy(update={"trial": one.trial.model_copy(update={"p_on": NEVER})})], given, "1", HANDLERS)
    assert held.adapted == before
    assert ([each.action for each in held.held_out], held.applied) == ([one.action], [])


def test_what_is_recorded_as_applied_is_all_in_the_guidance() -> None:
    """One reviewer may want the opposite of two things, and one word go with worse scores of two aspects."""
    asks = [
        recommendation("ask_reviewer_standard", name=feature, reviewer_id="ana", feature=feature, wants="less")
        for feature in ("word_count", "keyword_count")
    ]
    terms = [
        recommendation("avoid_term", name=f"{place} {aspect}", **TERM | {"in": place, "aspect": aspect})
        for place, aspect in (("issues", "clarity"), ("issues", "seo"), ("reasoning", "seo"))
    ]
    choice = choose([*asks, *terms], {}, "1", HANDLERS)
    assert len(choice.applied) == 5
    found = guidance(choice.adapted)
    for part, ones in (("ask_reviewers", asks), ("avoid_terms", terms)):
        assert [{"kind": one.kind} | entry for one, entry in zip(ones, found[part], strict=True)] == [one.action for one in ones]
    assert len(found["instructions"]) == 5


def test_several_come_together_and_a_category_reaches_the_input() -> None:
    choice = choose([one for one, _, _ in CASES], {}, "1", HANDLERS)
    assert set(guidance(choice.adapted)) == {part for _, part, _ in CASES} | {"instructions"}
    assert len(guidance(choice.adapted)["instructions"]) == len(CASES)
    assert choice.adapted["tone"] == "warm"


@pytest.mark.parametrize(
    ("one", "given"),
    [(CASES[0][0], {"confidence_score": 0.2}), (CASES[1][0], {"word_count": 100}), (CASES[2][0], {"tone": "dry"})],
)
@pytest.mark.parametrize("p_on", [ALWAYS, NEVER])
def test_what_the_input_sets_itself_is_in_neither_group(one: Recommendation, given: dict[str, Any], p_on: float) -> None:
    drawn = one.model_copy(update={"trial": one.trial.model_copy(update={"p_on": p_on})})
    choice = choose([drawn], given, "1", HANDLERS)
    assert (choice.adapted, choice.applied, choice.held_out) == (given, [], [])
    assert "the input" in choice.skipped[0].reason


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (recommendation("juggle"), "no handler for actions of kind 'juggle'"),
        (recommendation("target_range", 0.0, feature="word_count"), "because"),
        (recommendation("target_range", 1.0, feature="word_count"), "because"),
    ],
)
def test_what_cannot_be_drawn_is_skipped_and_said(one: Recommendation, reason: str) -> None:
    choice = choose([one], {"topic": "tea"}, "1", HANDLERS)
    assert choice.adapted == {"topic": "tea"}
    assert [(each.improvement_type, each.reason) for each in choice.skipped] == [(one.kind, reason)]
    assert choice.applications("a", "1", None, datetime(2026, 1, 1, tzinfo=UTC)) == []


def test_handlers_are_replaced_and_added() -> None:
    def hotter(one: Recommendation, given: Input) -> Input | Skip:
        return {**given, "temperature": one.action["value"]}

    def never(one: Recommendation, given: Input) -> Input | Skip:
        return Skip("not today")

    ones = [recommendation("juggle", value=0.9), CASES[0][0]]
    choice = choose(ones, {}, "1", {**HANDLERS, "juggle": hotter, "set_threshold": never})
    assert choice.adapted == {"temperature": 0.9}
    assert [each.reason for each in choice.skipped] == ["not today"]


def test_a_text_gets_the_instructions_at_its_end() -> None:
    choice = choose([CASES[0][0], CASES[2][0]], "Write about tea.", "1", HANDLERS)
    assert choice.adapted == "Write about tea.\n\nWhat reviews have taught:\n- do set_threshold\n- do prefer_category"
    assert choose([], "Write about tea.", "1", HANDLERS).adapted == "Write about tea."


@pytest.mark.parametrize("given", [None, 3, ["a"]])
def test_other_inputs_are_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"mapping or a text.*as a mapping$"):
        choose([], given, "1", HANDLERS)


def test_the_draw_is_that_of_the_trial_and_its_record_is_what_the_service_stores() -> None:
    ones = [recommendation("juggle", 0.5, "p"), recommendation("juggle", 0.8, "q")]
    handlers = {"juggle": lambda one, given: with_guidance(given, "juggling", one.id, 1, one.text)}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    applied = {"p": 0, "q": 0}
    both = 0
    ids: set[uuid.UUID] = set()
    for i in range(4000):
        choice = choose(ones, {}, str(i), handlers)
        records = [Application.model_validate(each) for each in choice.applications("a", str(i), 0.4, moment)]
        assert records == [Application.model_validate(each) for each in choice.applications("a", str(i), 0.4, moment)]
        assert {(each.pattern_id, each.propensity, each.trial) for each in records} == {("p", 0.5, 3), ("q", 0.8, 3)}
        did = {each.pattern_id for each in records if each.applied}
        assert did == set(guidance(choice.adapted).get("juggling", {}))
        ids |= {each.application_id for each in records}
        both += did == {"p", "q"}
        for name in did:
            applied[name] += 1
    assert len(ids) == 8000
    # Three standard errors of 4,000 draws; the draws of the two are independent.
    assert applied["p"] == pytest.approx(2000, abs=95)
    assert applied["q"] == pytest.approx(3200, abs=76)
    assert both == pytest.approx(1600, abs=93)
