"""The page of one agent, from documents as the readers of the published tables return them."""

import re
from typing import Any

import pytest

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.orchestration.agent_documents import AgentDocuments, read_agent
from feedback_pipeline.orchestration.agent_metadata import describe_agent
from feedback_pipeline.orchestration.agent_page import page
from feedback_pipeline.storage import reading, reading_patterns, reading_strategy
from feedback_pipeline.storage.database import Database

HOSTILE = "x | <script>alert(1)</script>\n# [a](https://evil.example) ![b](http://evil.example) $x_1^{ \u202e`"
PICTURES = ("threshold curves", "effect sizes", "terms", "correlations", "segments")
HEADINGS = [
    "## What to do",
    "## Thresholds",
    "## Approved and other outputs",
    "## Words",
    "## Features and scores",
    "## Segments and the next allocation",
]


def _pattern(kind: str, inputs: dict[str, Any], characteristics: dict[str, Any], signals: dict[str, Any]) -> dict[str, Any]:
    numbers = {"effect": 0.2, "ci": [0.1, 0.3], "unit": "sd", "q_value": 0.01, "direction": 1}
    return {
        "type": kind,
        "description": f"{kind} {HOSTILE}",
        "sentence": HOSTILE,
        "input_features": inputs,
        "output_characteristics": numbers | characteristics,
        "feedback_signals": {"n_reviewers": 5} | signals,
        "confidence": 0.97,
        "sample_size": 852,
    }


def _documents(name: str = HOSTILE, *, empty: bool = False, **state: Any) -> AgentDocuments:
    parts = {part: {"status": "success", "reason": None, "published": 1} for part in ("decisions", "terms", "correlations")}
    known = {"agent_name": name, "status": "success", "reason": None, "parts": parts, "learning_run_id": "run"}
    known |= {"computed_at": "2026-07-01T00:00:00+00:00", **state}
    curve = {"x": [0.1, 0.9], "approval": [0.5, 0.8], "observed": [0.5, 0.8], "n": [20, 20]}
    patterns = [
        _pattern(
            "quality_threshold",
            {"feature": HOSTILE, "decision_point": HOSTILE},
            {"cut": 0.5, "cut_interval": [0.4, 0.6], "curve": curve},
            {"n_good": 212, "n_bad": 640},
        ),
        _pattern("successful_decisions", {"feature": HOSTILE}, {}, {}),
        _pattern(
            "comment_terms", {"term": "vague"}, {"points": -0.4, "share": 0.1}, {"outcome": "score", "feedback_category": HOSTILE}
        ),
        _pattern("decision_rule", {}, {}, {}),
        _pattern("correlation_pattern", {"feature": "cost"}, {}, {}),
    ]
    finding = {"feature": HOSTILE, "aspect": HOSTILE, "r": 0.3, "r_shrunk": 0.2, "ci_low": 0.1, "ci_high": 0.4, "q_value": 0.01}
    finding |= {"confidence": 0.9, "n_contents": 800, "published": True, "reason": None, "sentence": HOSTILE}
    advice = {
        "rank": 1,
        "kind": "ask_reviewer_standard",
        "text": HOSTILE,
        "expected_effect": {"outcome": HOSTILE, "unit": "points", "value": 0.42, "ci": [0.1, 0.7]},
        "confidence": 0.99,
        "q_value": 0.0003,
        "evidence": {"n_contents": 1852, "n_reviewers": 12, "window": {"first": "2026-05-01", "last": "2026-06-30"}},
        "action": {"kind": "ask_reviewer_standard", "reviewer_id": "person-1"},
        "conflicts": [HOSTILE],
    }
    segment = {"family": "tone", "segment": HOSTILE, "n": 30, "approval_raw": 0.7, "approval": 0.7, "approval_low": 0.6}
    segment |= {"approval_high": 0.8, "n_scored": 0, "score_raw": None, "score": None, "score_low": None, "score_high": None}
    allocation = {"tone": [{"segment": HOSTILE, "n": 30, "outputs": 20, "propensity": 1.0}]}
    window = {"first": None, "last": "2026-06-30"}
    counts = {"window": window, "n_contents": 852, "n_reviewers": 12, "findings": [] if empty else [finding]}
    totals = {"total_patterns": 5, "high_confidence_patterns": 4, "recommendations": [] if empty else [advice]}
    return AgentDocuments(
        known | counts,
        known | {"patterns": [] if empty else patterns},
        known | totals,
        known | {"segments": [] if empty else [segment], "allocation": {} if empty else allocation},
    )


def _text(markdown: str) -> str:
    """The page without its pictures."""
    return re.sub(r"!\[([a-z ]+)\]\(data:image/png;base64,[A-Za-z0-9+/=]+\)", r"(\1)", markdown)


def test_everything_stands_on_the_page_in_order() -> None:
    shown = _text(page(_documents()))
    assert [line for line in shown.splitlines() if line.startswith("## ")] == HEADINGS
    assert [name for name in PICTURES if f"({name})" in shown] == list(PICTURES)
    assert r"1,852 outputs\, 12 reviewers\, 2026\-05\-01 to 2026\-06\-30" in shown.replace("1\\,852", "1,852")
    assert r"\+0\.42 points \[0\.1\, 0\.7\]" in shown
    assert r"the beginning to 2026\-06\-30" in shown


def test_nothing_on_the_page_is_read_as_markup() -> None:
    shown = _text(page(_documents()))
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", shown)
    for sign in "<>[]`$!":
        assert sign not in bare, sign
    assert "\u202e" not in shown
    assert "://" not in shown.replace("\\", "")
    rows = [line for line in bare.splitlines() if line.startswith("|")]
    # Each table has as many bars in every row: none came out of a text.
    assert {line.count("|") for line in rows} == {5, 8, 3, 9, 6}


def test_the_tables_say_the_same_and_hold_no_id() -> None:
    shown = describe_agent(_documents())
    assert "person-1" not in str(shown)
    assert {name: len(shown[name].records) for name in ("recommendations", "correlations", "patterns", "segments")} == {
        "recommendations": 1,
        "correlations": 1,
        "patterns": 5,
        "segments": 1,
    }
    assert shown["next allocation"].records[0].data["outputs"] == 20
    assert all(
        str(value).isprintable()
        for table in ("recommendations", "patterns", "segments")
        for record in shown[table].records
        for value in record.data.values()
    )


@pytest.mark.parametrize(
    "part", [{"status": "insufficient_data", "reason": "8 outputs, 20 needed"}, {"status": "one_class", "reason": "all approved"}]
)
def test_what_there_is_nothing_of_says_why(part: dict[str, Any]) -> None:
    parts = dict.fromkeys(("decisions", "terms", "correlations", "strategy", "recommendations"), part)
    agent = _documents("drafter", empty=True, parts=parts, **part)
    shown = _text(page(agent))
    assert [line for line in shown.splitlines() if line.startswith("## ")] == HEADINGS
    assert f"No recommendation\\: {part['reason']}".replace(",", "\\,") in shown
    assert agent.reason("terms") == part["reason"]
    assert describe_agent(agent)["reason"] == part["reason"]


def test_a_part_without_a_state_has_the_reason_of_the_agent() -> None:
    assert _documents(empty=True, parts={}, reason="no reviews in the window").reason("terms") == "no reviews in the window"
    assert (
        _documents(empty=True, parts={"terms": {"status": "success", "reason": None}}).reason("terms")
        == "nothing passed the tests"
    )


def _readers(monkeypatch: pytest.MonkeyPatch, runs: list[str]) -> list[str]:
    """Readers whose documents are of the next of these learning runs; returns what was asked for."""
    asked: list[str] = []
    for module, name in (
        (reading, "read_findings"),
        (reading_patterns, "read_patterns"),
        (reading_patterns, "read_improvements"),
        (reading_strategy, "read_strategy"),
    ):

        def read(_database: Database, agent: str) -> dict[str, Any]:
            asked.append(agent)
            return {"agent_name": agent, "learning_run_id": runs[min(len(asked), len(runs)) - 1]}

        monkeypatch.setattr(module, name, read)
    return asked


def test_a_page_is_of_one_learning_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _readers(monkeypatch, ["old", "old", "new"])
    agent = read_agent(Database("postgresql://nobody@127.0.0.1:1/none"), "drafter")
    assert {part["learning_run_id"] for part in (agent.findings, agent.patterns, agent.improvements, agent.strategy)} == {"new"}
    assert len(asked) == 8


def test_what_is_published_all_the_time_is_asked_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    _readers(monkeypatch, [str(number) for number in range(100)])
    with pytest.raises(StoreUnavailable, match="while the results of 'drafter' were read"):
        read_agent(Database("postgresql://nobody@127.0.0.1:1/none"), "drafter")
