from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.learning.recommendations import COLUMNS
from feedback_pipeline.learning.trial_openings import KEPT_WITHOUT_EVIDENCE, OpenTrial, Settled, beyond, settle
from feedback_pipeline.learning.trial_states import ACTIVE, PROBATION, RETIRED

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


def trial(state: str = PROBATION, *, applied: bool = True, number: int = 1, **changes: Any) -> OpenTrial:
    own = row(**changes)
    document = {name: value for name, value in own.items() if name not in ("agent_name", "rank", "conflicts", "pattern_id")}
    return OpenTrial(own["pattern_id"], number, own["agent_name"], state, applied, document, SINCE)


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


def test_a_target_beyond_the_interval_opens_the_next_trial() -> None:
    found = settled(frame(row(minimum=451.0)), trial(number=3))
    assert found.recommendations["target"][0]["min"] == 451.0
    assert found.trials["trial"].tolist() == [4]
    assert found.trials["recommendation"][0]["target"]["min"] == 451.0
    assert found.closed[["pattern_id", "trial"]].to_numpy().tolist() == [["writer/words", 3]]
    assert "trial 4 tests that" in found.closed["reason"][0]


@pytest.mark.parametrize("minimum", [440.0, 900.0])
def test_before_the_first_application_the_target_is_that_of_the_day(minimum: float) -> None:
    found = settled(frame(row(minimum=minimum)), trial(applied=False))
    assert found.recommendations["target"][0]["min"] == minimum
    assert found.trials[["trial"]].to_numpy().tolist() == [[1]]
    assert found.trials["recommendation"][0]["target"]["min"] == minimum
    assert found.closed.empty


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


def test_it_is_not_kept_where_nothing_could_be_tested_or_the_reviews_say_otherwise() -> None:
    assert settled(frame(), trial(ACTIVE), testable=()).recommendations.empty
    opposite = row("fewer words", feature="words")
    assert settled(frame(opposite), trial(ACTIVE)).recommendations["identity"].tolist() == ["fewer words"]


def test_a_list_stays_within_ten() -> None:
    many = frame(*(row(f"feature {i}", rank=i + 1) for i in range(10)), row("words", agent="other"))
    found = settled(many, trial(ACTIVE))
    ours = found.recommendations[found.recommendations["agent_name"] == "writer"]
    assert ours["rank"].tolist() == list(range(1, 11))
    assert ours["identity"].tolist() == [*(f"feature {i}" for i in range(9)), "words"]
    assert found.recommendations["agent_name"].tolist()[0] == "other"


def test_of_a_question_to_a_reviewer_nothing_is_kept() -> None:
    found = settled(frame(row(kind="ask_reviewer_standard", action={"reviewer_id": "anna"}, target={"reviewer": "R1"})))
    assert found.trials["recommendation"].tolist() == [{}]
    again = settled(
        frame(row(kind="ask_reviewer_standard", target={"reviewer": "R2"})),
        OpenTrial("writer/words", 1, "writer", ACTIVE, True, {}, SINCE),
    )
    assert again.recommendations["target"][0] == {"reviewer": "R2"}
    assert settled(frame(), OpenTrial("writer/words", 1, "writer", ACTIVE, True, {}, SINCE)).recommendations.empty


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
