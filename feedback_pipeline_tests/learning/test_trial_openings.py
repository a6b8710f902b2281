from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.learning.measured_advice import KEPT_WITHOUT_EVIDENCE, MEASURED_OTHERWISE, OpenTrial
from feedback_pipeline.learning.recommendations import COLUMNS
from feedback_pipeline.learning.trial_openings import Settled, beyond, settle
from feedback_pipeline.learning.trial_states import ACTIVE, CANDIDATE, PROBATION, RETIRED

SINCE = datetime(2026, 6, 1, tzinfo=UTC)
LATER = SINCE + timedelta(days=1)


def row(identity: str = "words", agent: str = "writer", minimum: float = 400.0, **changes: Any) -> dict[str, Any]:
    target = {"min": minimum, "max": None, "cut_interval": [380.0, 450.0]}
    made = {
        **{
            "agent_name": agent,
            "rank": 1,
            "identity": identity,
            "kind": "set_threshold",
            "feature": identity,
            "direction": "more",
        },
        **{"target": target, "expected_effect": {"value": 0.1}, "confidence": 0.99, "q_value": 0.001, "gain": 0.3},
        **{"pattern_keys": [["quality_threshold", identity]], "n_contents": 100, "n_reviewers": 5, "text": f"keep {minimum}"},
        **{"action": {"kind": "set_threshold", "value": minimum}, "conflicts": [], "interval": [380.0, 450.0]},
    }
    return made | {"pattern_id": f"{agent}/{identity}"} | changes


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=[*COLUMNS, "pattern_id"])


def trial(state: str = PROBATION, *, number: int = 1, low: float | None = None, **changes: Any) -> OpenTrial:
    own = row(**changes)
    document = {name: value for name, value in own.items() if name not in ("agent_name", "rank", "conflicts", "pattern_id")}
    return OpenTrial(own["pattern_id"], number, own["agent_name"], state, low, document, SINCE)


def settled(
    found: pd.DataFrame, *known: OpenTrial, first: datetime | None = SINCE, testable: tuple[str, ...] = ("writer",)
) -> Settled:
    return settle(found, known, {} if first is None else {"writer": first}, testable)


def test_what_is_new_opens_its_first_trial() -> None:
    found = settled(frame(row(), row("cost", rank=2)))
    assert found.recommendations["rank"].tolist() == [1, 2]
    assert found.trials[["pattern_id", "trial"]].to_numpy().tolist() == [["writer/words", 1], ["writer/cost", 1]]
    assert found.trials["recommendation"][0]["target"]["min"] == 400.0
    assert found.closed.empty
    assert found.held_back == {}


@pytest.mark.parametrize("state", [PROBATION, ACTIVE])
def test_on_trial_the_target_stays_within_its_interval(state: str) -> None:
    found = settled(frame(row(minimum=440.0, confidence=0.8)), trial(state))
    (one,) = found.recommendations.to_dict("records")
    assert (one["target"]["min"], one["action"]["value"], one["text"]) == (400.0, 400.0, "keep 400.0")
    assert one["confidence"] == 0.8, "the evidence is that of the day"
    assert found.trials[["trial", "recommendation"]].to_numpy().tolist() == [[1, None]]
    assert found.closed.empty


@pytest.mark.parametrize("state", [PROBATION, CANDIDATE])
def test_what_nobody_has_applied_is_published_as_it_is_learned_under_the_next_number(state: str) -> None:
    found = settled(frame(row(minimum=440.0, confidence=0.8)), replace(trial(state, number=3), applied=False))
    (one,) = found.recommendations.to_dict("records")
    assert (one["target"]["min"], one["text"]) == (440.0, "keep 440.0")
    assert found.trials["trial"].tolist() == [4]
    assert found.trials["recommendation"][0]["target"]["min"] == 440.0
    assert found.closed.empty, "there is nothing to close"
    same = settled(frame(row(text="keep 400, shown more surely")), replace(trial(state, number=3), applied=False))
    assert same.recommendations["text"].tolist() == ["keep 400, shown more surely"]
    assert same.trials["trial"].tolist() == [3]


def test_a_target_beyond_the_interval_opens_the_next_trial() -> None:
    found = settled(frame(row(minimum=451.0)), trial(number=3))
    assert found.recommendations["target"][0]["min"] == 451.0
    assert found.trials["trial"].tolist() == [4]
    assert found.trials["recommendation"][0]["target"]["min"] == 451.0
    assert found.closed[["pattern_id", "trial"]].to_numpy().tolist() == [["writer/words", 3]]
    assert "trial 4 tests that" in found.closed["reason"][0]


@pytest.mark.parametrize("state", [PROBATION, ACTIVE, CANDIDATE])
def test_a_target_that_is_learned_again_as_it_is_stays_though_rounding_put_it_beyond_its_interval(state: str) -> None:
    found = settled(frame(row(minimum=451.0)), trial(state, minimum=451.0))
    assert found.trials[["trial", "recommendation"]].to_numpy().tolist() == [[1, None]]
    assert found.closed.empty


def test_what_was_recommended_before_there_were_trials_stays_too_and_gets_the_rest_of_its_document() -> None:
    whole = trial()
    short = {name: whole.recommendation[name] for name in ("kind", "feature", "direction", "target", "text", "action")}
    found = settled(frame(row(minimum=440.0)), replace(whole, recommendation=short))
    assert found.recommendations["target"][0]["min"] == 400.0
    assert found.trials["trial"].tolist() == [1]
    document = found.trials["recommendation"][0]
    assert (document["identity"], document["target"]["min"], document["interval"]) == ("words", 400.0, [380.0, 450.0])


@pytest.mark.parametrize("first", [None, SINCE - timedelta(days=9), SINCE])
def test_what_is_retired_is_held_back(first: datetime | None) -> None:
    found = settled(frame(row(), row("cost", rank=2)), trial(RETIRED), first=first)
    assert found.recommendations[["identity", "rank"]].to_numpy().tolist() == [["cost", 1]]
    assert found.held_back == {"writer": 1}
    assert found.trials[["trial", "recommendation"]].to_numpy().tolist()[0] == [1, None]


def test_found_again_on_reviews_that_are_all_later_it_returns() -> None:
    found = settled(frame(row()), trial(RETIRED, number=2), first=LATER)
    assert found.recommendations["identity"].tolist() == ["words"]
    assert found.trials["trial"].tolist() == [3]
    assert found.closed.empty
    assert found.held_back == {}


def test_what_was_measured_to_help_is_kept_without_evidence() -> None:
    found = settled(frame(row("cost")), trial(ACTIVE), trial(identity="tokens"), trial(RETIRED, identity="tone"))
    assert found.recommendations[["identity", "rank"]].to_numpy().tolist() == [["cost", 1], ["words", 2]]
    assert found.recommendations["conflicts"][1] == [KEPT_WITHOUT_EVIDENCE]
    assert found.trials["pattern_id"].tolist() == ["writer/cost"]


def test_it_is_not_kept_where_nothing_could_be_tested() -> None:
    assert settled(frame(), trial(ACTIVE), testable=()).recommendations.empty


RANGE = "target_range | words | more"
CUT = "set_threshold | words | more"


def about_words(identity: str, direction: str = "more", point: str | None = None, **changes: Any) -> dict[str, Any]:
    action = {"kind": identity.split(" ")[0], "decision_point": point}
    return {"identity": identity, "feature": "words", "direction": direction, "kind": action["kind"], "action": action} | changes


@pytest.mark.parametrize("own", [[], [trial(**about_words(CUT))], [trial(CANDIDATE, **about_words(CUT))]])
def test_another_support_of_the_same_advice_is_evidence_for_what_was_measured_to_help(own: list[OpenTrial]) -> None:
    again = row(**about_words(CUT, minimum=900.0, confidence=0.9, text="keep 900", conflicts=["cost"], rank=2))
    found = settled(frame(row("cost"), again), trial(ACTIVE, **about_words(RANGE)), *own)
    kept = found.recommendations.to_dict("records")[1]
    assert found.recommendations[["identity", "rank"]].to_numpy().tolist() == [["cost", 1], [RANGE, 2]]
    assert (kept["pattern_id"], kept["kind"], kept["target"]["min"]) == (f"writer/{RANGE}", "target_range", 400.0)
    assert (kept["text"], kept["action"]["kind"]) == ("keep 400.0", "target_range")
    assert (kept["confidence"], kept["conflicts"]) == (0.9, ["cost"]), "the evidence is that of the day"
    assert found.trials[["pattern_id", "trial"]].to_numpy().tolist() == [["writer/cost", 1], [f"writer/{RANGE}", 1]]
    assert found.trials["recommendation"][1] is None


@pytest.mark.parametrize("point", [None, "draft"])
def test_the_reviews_go_before_where_they_ask_for_the_opposite_and_that_is_said(point: str | None) -> None:
    opposite = row(**about_words("set_threshold | words | less", "less"))
    found = settled(frame(opposite), trial(ACTIVE, **about_words(RANGE, point=point, text="keep 400: approval")))
    assert found.recommendations["identity"].tolist() == ["set_threshold | words | less"]
    assert found.recommendations["conflicts"][0] == [f"{MEASURED_OTHERWISE}: keep 400"]
    assert found.trials["pattern_id"].tolist() == ["writer/set_threshold | words | less"]


def test_the_opposite_that_did_not_help_does_not_drive_it_out() -> None:
    opposite = about_words("set_threshold | words | less", "less")
    found = settled(frame(row(**opposite)), trial(ACTIVE, **about_words(RANGE)), trial(RETIRED, **opposite))
    assert found.recommendations["identity"].tolist() == [RANGE]
    assert found.held_back == {"writer": 1}


def test_at_another_decision_point_or_as_a_question_it_is_another_thing() -> None:
    elsewhere = row(**about_words(f"{CUT} | decision_point=draft", point="draft"))
    question = row(**about_words("ask_reviewer_standard | words | anna", "ask", rank=2))
    found = settled(frame(elsewhere, question), trial(ACTIVE, **about_words(RANGE)))
    assert found.recommendations["identity"].tolist() == [elsewhere["identity"], question["identity"], RANGE]
    assert found.recommendations["conflicts"][2] == [KEPT_WITHOUT_EVIDENCE]


def test_another_category_waits_until_the_one_that_helps_is_gone() -> None:
    warm, formal = (
        about_words(f"prefer_category | tone | {tone}", "prefer", action={"category": "tone", "value": tone})
        for tone in ("w", "f")
    )
    found = settled(frame(row(**formal)), trial(ACTIVE, **warm))
    assert found.recommendations["identity"].tolist() == [warm["identity"]]
    assert found.recommendations["conflicts"][0] == [KEPT_WITHOUT_EVIDENCE]
    assert found.trials.empty


def test_two_that_help_are_both_kept_but_not_one_and_its_opposite() -> None:
    range_, cut = trial(ACTIVE, **about_words(RANGE)), trial(ACTIVE, **about_words(CUT))
    assert settled(frame(row("cost")), range_, cut).recommendations["identity"].tolist() == ["cost", CUT, RANGE]
    assert settled(frame(row(**about_words(CUT))), range_, cut).recommendations["identity"].tolist() == [CUT, RANGE]
    less = trial(CANDIDATE, low=0.1, **about_words("a | words | less", "less"))
    assert settled(frame(), less, range_).recommendations["identity"].tolist() == [RANGE], "what is followed now goes on"


@pytest.mark.parametrize(("low", "kept"), [(0.01, True), (0.0, False), (None, False)])
def test_a_candidate_that_was_measured_to_help_is_kept_like_an_active_one(low: float | None, kept: bool) -> None:
    assert settled(frame(), trial(CANDIDATE, low=low)).recommendations["identity"].tolist() == ["words"] * kept


def test_a_candidate_that_is_found_again_goes_on_in_its_trial() -> None:
    found = settled(frame(row(minimum=440.0)), trial(CANDIDATE, number=2, low=-0.1))
    assert found.recommendations["target"][0]["min"] == 400.0
    assert found.trials[["trial", "recommendation"]].to_numpy().tolist() == [[2, None]]


def test_a_list_stays_within_ten_and_what_is_not_listed_opens_no_trial() -> None:
    many = frame(*(row(f"feature {i}", rank=i + 1) for i in range(10)), row("words", agent="other"))
    found = settled(many, trial(ACTIVE))
    ours = found.recommendations[found.recommendations["agent_name"] == "writer"]
    assert ours["rank"].tolist() == list(range(1, 11))
    assert ours["identity"].tolist() == [*(f"feature {i}" for i in range(9)), "words"]
    assert found.recommendations["agent_name"].tolist()[0] == "other"
    assert "writer/feature 9" not in found.trials["pattern_id"].tolist()
    assert len(found.trials) == 10


def test_of_too_many_those_that_are_not_measured_to_help_go_first() -> None:
    many = frame(*(row(f"feature {i}", rank=i + 1) for i in range(10)))
    found = settled(many, trial(ACTIVE), trial(ACTIVE, identity="feature 9"))
    assert found.recommendations["identity"].tolist() == [*(f"feature {i}" for i in range(8)), "feature 9", "words"]


def test_of_a_question_to_a_reviewer_nothing_is_kept() -> None:
    found = settled(frame(row(kind="ask_reviewer_standard", action={"reviewer_id": "anna"}, target={"reviewer": "R1"})))
    assert found.trials["recommendation"].tolist() == [{}]
    again = settled(
        frame(row(kind="ask_reviewer_standard", target={"reviewer": "R2"})),
        OpenTrial("writer/words", 1, "writer", ACTIVE, 0.1, {}, SINCE),
    )
    assert again.recommendations["target"][0] == {"reviewer": "R2"}
    assert settled(frame(), OpenTrial("writer/words", 1, "writer", ACTIVE, 0.1, {}, SINCE)).recommendations.empty


@pytest.mark.parametrize(
    ("interval", "target", "expected"),
    [
        ([1.0, 2.0], {"min": 1.5, "max": None}, False),
        ([1.0, 2.0], {"min": None, "max": 2.0}, False),
        ([1.0, 2.0], {"min": None, "max": 2.01}, True),
        ([1.0, 2.0], {"min": 0.5, "max": 4.0, "best": 1.7}, False),
        ([1.0, 2.0], {"min": 0.5, "max": 4.0, "best": 2.7}, True),
        (None, {"min": 99.0}, False),
        ([None, None], {"min": 99.0}, False),
        ([1.0, 2.0], {"term": "vague", "in": "reasoning"}, False),
        ([1.0, 2.0], {"min": float("nan")}, False),
    ],
)
def test_beyond(interval: object, target: dict[str, Any], expected: bool) -> None:
    assert beyond(interval, target) is expected
