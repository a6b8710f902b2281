import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from feedback_pipeline.commands.patterns_rendering import MOST_OF_A_KIND, print_improvements, print_patterns
from feedback_pipeline.commands.strategy_rendering import MOST_OF_A_FAMILY, print_strategy
from feedback_pipeline.learning.pattern_frame import CORRELATION_PATTERN, PATTERN_TYPES

HOSTILE = "\x1b[31mred\x07\n[bold]x[/bold] :smile: \u202e\x9b2J\\"
SHOWN = r"\x1b[31mred\x07\n[bold]x[/bold] :smile:"

Show = Callable[[Callable[[Any], None], Any], str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[80, 160])
def show(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Prints on a terminal without colours and returns what stands there."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("TERM", "dumb")

    def call(render: Callable[[Any], None], document: Any) -> str:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        render(document)
        text = terminal.getvalue()
        assert max(map(len, text.splitlines())) <= request.param
        assert all(line.isprintable() for line in text.split("\n"))
        return text

    return call


def words(text: str) -> str:
    """Without line breaks."""
    return " ".join(text.split())


def pattern(kind: str = "quality_threshold", **changes: Any) -> dict[str, Any]:
    said = {"description": "x | threshold", "sentence": "x above 0.7: approval 61 % -> 84 %"}
    rates = {"applied_count": 0, "success_rate": None, "success_rate_held_out": None}
    return {"type": kind, **said, "confidence": 0.9871, "sample_size": 852} | rates | changes


def patterns(**changes: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"agent_name": "drafter", "status": "success", "reason": None, "parts": {}}
    return state | {"patterns": [pattern()], "learning_run_id": "run", "computed_at": "2026-11-01T12:00:00+00:00"} | changes


def recommendation(rank: int = 1, **changes: Any) -> dict[str, Any]:
    window = {"first": "2026-10-02", "last": "2026-10-31", "lookback_days": 30}
    evidence = {"learning_run_id": "run", "pattern_ids": ["a", "b"], "n_contents": 1852, "n_reviewers": 1, "window": window}
    said = {
        "text": "Ask for confidence above 0.7: approval 61 % -> 84 %, +23 points [14, 31]",
        "conflicts": [],
        "trial": {"n": 0},
    }
    return {"id": "id", "rank": rank, **said, "q_value": 0.00041, "confidence": 0.9987, "evidence": evidence} | changes


def improvements(*recommendations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    counts = {"total_patterns": 12, "high_confidence_patterns": 7, "patterns": [], "recommendations": list(recommendations)}
    return patterns() | counts | changes


def segment(name: str = "warm", approval: float | None = 0.81, **changes: Any) -> dict[str, Any]:
    known = approval is not None
    rates = {"approval_low": 0.744 if known else None, "approval_high": 0.86 if known else None, "approval_raw": 1.0}
    score = {"score": 7.123, "score_low": 6.9, "score_high": 7.4, "score_raw": 9.9, "n_scored": 1031}
    return {"family": "tone", "segment": name, "n": 1024, "approval": approval} | rates | score | changes


def strategy(segments: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    rows = [
        {"segment": "warm", "n": 1024, "outputs": 13, "propensity": 0.64},
        {"segment": "formal", "n": 3, "outputs": 7, "propensity": 0.36},
    ]
    fixed = {"agent_name": "drafter", "status": "success", "reason": None, "segments": segments, "allocation": {"tone": rows}}
    return fixed | {"learning_run_id": "run", "computed_at": "2026-11-01T12:00:00+00:00"} | changes


def test_patterns_are_said_in_words_kind_by_kind(show: Show) -> None:
    found = [
        pattern("correlation_pattern", sentence="cost goes with lower seo"),
        pattern(),
        pattern("decision_rule", sentence="r"),
    ]
    said = words(show(print_patterns, patterns(patterns=found)))
    assert said.startswith("drafter: 3 patterns Thresholds (1) confidence pattern 0.987 x above 0.7: approval 61 % -> 84 %")
    assert said.index("Rules (1)") < said.index("What goes with better or worse scores (1)")
    assert "cost goes with lower seo" in said


@pytest.mark.parametrize("kind", [CORRELATION_PATTERN, *PATTERN_TYPES])
def test_every_kind_has_a_heading(show: Show, kind: str) -> None:
    assert kind not in show(print_patterns, patterns(patterns=[pattern(kind)]))


def test_a_kind_that_is_not_known_is_shown_too(show: Show) -> None:
    assert "new_kind (1)" in show(print_patterns, patterns(patterns=[pattern("new_kind")]))


def test_of_many_patterns_the_surest_are_shown(show: Show) -> None:
    found = [pattern(sentence=f"number {i:02}") for i in range(MOST_OF_A_KIND + 3)]
    said = show(print_patterns, patterns(patterns=found))
    assert f"number {MOST_OF_A_KIND - 1:02}" in said
    assert f"number {MOST_OF_A_KIND:02}" not in said
    assert "and 3 more; --json lists all" in said


def test_what_was_applied_is_counted(show: Show) -> None:
    found = [
        pattern(applied_count=1200, success_rate=0.755, success_rate_held_out=0.704),
        pattern(applied_count=7, success_rate=0.5),
        pattern(applied_count=2),
        pattern(confidence=None),
    ]
    said = words(show(print_patterns, patterns(patterns=found)))
    assert "confidence applied approved held out pattern" in said
    assert "1,200 times 76 % 70 % x above" in said
    assert "7 times 50 % x above" in said
    assert "2 times x above" in said


def test_no_pattern_is_a_sentence_with_the_reason_of_each_part(show: Show) -> None:
    parts = {"decisions": {"status": "one_class", "reason": "all 96 outputs are approved"}, "terms": {"status": "success"}}
    said = words(show(print_patterns, patterns(patterns=[], parts=parts)))
    assert "No pattern is published" in said
    assert "decisions: all 96 outputs are approved." in said
    assert "terms:" not in said
    little = patterns(patterns=[], status="insufficient_data", reason="9 reviewed outputs, 10 needed")
    assert "Insufficient data: 9 reviewed outputs, 10 needed." in words(show(print_patterns, little))


def test_the_fleet_is_named(show: Show) -> None:
    assert "all agents together: 1 pattern " in words(show(print_patterns, patterns(agent_name="*")))


def test_recommendations_are_said_in_words_with_their_evidence(show: Show) -> None:
    conflicting = recommendation(2, conflicts=["cost pulls the other way"], q_value=None, confidence=None)
    said = words(show(print_improvements, improvements(recommendation(), conflicting)))
    assert "drafter: 2 recommendations 1. Ask for confidence above 0.7: approval 61 % -> 84 %, +23 points [14, 31]" in said
    assert "1,852 outputs, 1 reviewer, 2026-10-02 to 2026-10-31; 2 patterns, q = 0.00041, confidence 0.999" in said
    assert "but: cost pulls the other way" in said
    measured = recommendation(trial={"n": 700, "reason": "kept: it helps, approval +9.8 points [0.4, 19.1] at 700 executions"})
    assert "kept: it helps" in words(show(print_improvements, improvements(measured)))
    assert "12 patterns with a confidence above .5, 7 above .8" in said
    assert "None" not in said


def test_a_window_without_a_beginning_is_from_the_beginning(show: Show) -> None:
    evidence = recommendation()["evidence"] | {"window": {"first": None, "last": "2026-10-31", "lookback_days": None}}
    assert "the beginning to 2026-10-31" in words(show(print_improvements, improvements(recommendation(evidence=evidence))))


def test_nothing_to_recommend_is_a_sentence(show: Show) -> None:
    assert "Nothing is recommended" in show(print_improvements, improvements())
    broken = improvements(status="error", reason="ValueError: cannot be computed")
    assert "Error: ValueError: cannot be computed." in words(show(print_improvements, broken))


def test_segments_are_listed_as_they_come_with_their_interval_and_the_next_outputs(show: Show) -> None:
    pair = segment("warm x blog", family="tone x channel")
    text = show(print_strategy, strategy([segment(), segment("formal", 0.4, approval_raw=0.0), segment("odd", None), pair]))
    said = words(text)
    assert said.index("warm 81 % [74, 86] % 1,024") < said.index("formal 40 %") < said.index("Tone x channel")
    assert "100 %" not in said, "the raw rate is not shown"
    assert "so that a lucky handful is not taken for the best" in said
    assert "tone warm 13 0.640 1,024 formal 7 0.360 3" in said
    assert ("7.12 [6.90, 7.40] 1,031" in said) == (max(map(len, text.splitlines())) > 80)
    assert "None" not in said


def test_of_many_segments_the_first_are_shown(show: Show) -> None:
    said = show(print_strategy, strategy([segment(f"level {i:02}") for i in range(MOST_OF_A_FAMILY + 2)], allocation={}))
    assert f"level {MOST_OF_A_FAMILY - 1:02}" in said
    assert f"level {MOST_OF_A_FAMILY:02}" not in said
    assert "and 2 more; --json lists all" in said
    assert "The next outputs" not in said


def test_no_strategy_has_its_reason(show: Show) -> None:
    said = words(show(print_strategy, strategy([], status="undefined", reason="the outputs do not differ", allocation={})))
    assert said == "drafter: content strategy Undefined: the outputs do not differ."


def test_texts_cannot_break_the_terminal(show: Show) -> None:
    part = {HOSTILE: {"status": HOSTILE, "reason": HOSTILE}}
    named = {"agent_name": HOSTILE, "reason": HOSTILE, "parts": part}
    row = {"segment": HOSTILE, "n": 1, "outputs": 1, "propensity": 0.5}
    for text in (
        show(print_patterns, patterns(**named, patterns=[pattern(HOSTILE, sentence=HOSTILE), pattern(sentence=None)])),
        show(print_improvements, improvements(recommendation(text=HOSTILE, conflicts=[HOSTILE]), **named)),
        show(print_strategy, strategy([segment(HOSTILE, family=HOSTILE)], **named) | {"allocation": {HOSTILE: [row]}}),
    ):
        assert words(text).count(SHOWN) >= 3
