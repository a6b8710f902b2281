import io
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from feedback_pipeline.commands.agreement_rendering import print_agreement
from feedback_pipeline.commands.rendering import printable
from feedback_pipeline.commands.reviewer_page import print_reviewer
from feedback_pipeline.commands.reviewers_rendering import MOST_ROWS, gives, more_or_less, print_reviewers

HOSTILE = "\x1b[31mred\x07\n[bold]x[/bold] :smile: \u202e\x9b2J\\"
CONTENT = ("preferred_tone", "content_length", "structure_preference", "example_quality_threshold")

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


def first_column(text: str) -> list[str]:
    """Of the rows of a table of the reviewers r000, r001, ... and u00, u01, ..."""
    return re.findall(r"^(r\d{3}|u\d+|\.{3})  ", text, re.MULTILINE)


def month(name: str, severity: float | None) -> dict[str, Any]:
    known = severity is not None
    bounds = {"se": 0.1, "ci_low": 0.1, "ci_high": 0.5} if known else dict.fromkeys(("se", "ci_low", "ci_high"))
    counts = {"n_reviews": 9, "n_shared": 8, "reason": None if known else "too few"}
    return {"month": name, "severity": severity} | bounds | counts


def reviewer(name: str = "ann", overall: float | None = 0.334, **changes: Any) -> dict[str, Any]:
    severity = {
        "overall": overall,
        "aspects": {"clarity": 0.5},
        "se": {"overall": 0.052, "clarity": 0.1},
        "comparable": True,
        "reasons": {},
        "drift": {"drifted": False, "q_value": 0.6, "spread": 0.0, "n_months": 2, "reason": None},
        "months": [month("2026-01", 0.3), month("2026-02", None)],
    }
    content = {
        "preferred_tone": "formal",
        "preferred_tone_probability": 0.82,
        "content_length": {"min": 600.4, "max": 1200.0, "best": 750.0, "sd": 60.0},
        "structure_preference": None,
        "structure_preference_probability": 0.3,
        "example_quality_threshold": 0.74,
        "reasons": {"structure_preference": "no structure stands out"},
    }
    slope = {"difference": -0.25, "se": 0.06, "population": 0.05, "probability": 0.99}
    standard = {"s50": 6.21, "s80": 7.44, "se": 0.21, "n": 41, "censored": None, "reason": None}
    return {
        "reviewer_id": name,
        "label": "R1",
        "n_reviews": 412,
        "severity": severity | changes.pop("severity", {}),
        "content_preferences": content,
        "style_preferences": {"slopes": {"mean_sentence_length": slope}, "unit": "points per sd", "reason": None},
        "quality_standards": {"overall": standard, "clarity": standard | {"s50": 5.0}},
        "model_accuracy": 0.81,
        "baseline_accuracy": 0.64,
        "n_test": 25,
        "reason": None,
        "model_version": 3,
        "learning_run_id": "run",
    } | changes


def unlearned(reason: str) -> dict[str, Any]:
    """A reviewer of whom nothing could be estimated."""
    nothing = {"s50": None, "s80": None, "se": None, "n": 0, "censored": None, "reason": reason}
    drift = {"drifted": None, "q_value": None, "spread": None, "n_months": 0, "reason": reason}
    none = {"aspects": {"clarity": None}, "se": {"overall": None, "clarity": None}, "months": [], "drift": drift}
    return reviewer(
        "zoe",
        None,
        severity=none | {"comparable": False, "reasons": {"overall": reason, "clarity": reason}},
        content_preferences=dict.fromkeys(CONTENT)
        | {f"{key}_probability": None for key in ("preferred_tone", "structure_preference")}
        | {"reasons": dict.fromkeys(CONTENT, reason)},
        style_preferences={"slopes": {}, "unit": "points per sd", "reason": reason},
        quality_standards={"overall": nothing, "clarity": nothing},
        model_accuracy=None,
        baseline_accuracy=None,
        n_test=0,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("value", "se", "expected"),
    [
        (0.334, 0.052, "gives 0.33 ± 0.05 points more than the average reviewer"),
        (-1.2, 0.25, "gives 1.20 ± 0.25 points less than the average reviewer"),
        (-0.0341, 0.004, "gives 0.034 ± 0.004 points less than the average reviewer"),
        (0.5, None, "gives 0.50 points more than the average reviewer"),
        (-0.004, 0.3, "gives as much as the average reviewer ± 0.30"),
        (0.0, 0.0, "gives as much as the average reviewer"),
    ],
)
def test_a_severity_in_words(value: float, se: float | None, expected: str) -> None:
    assert gives(value, se) == expected


def test_no_severity_is_no_word() -> None:
    assert more_or_less(None, None) == ""


def test_what_is_not_printable_stands_as_its_escape() -> None:
    assert printable(HOSTILE) == r"\x1b[31mred\x07\n[bold]x[/bold] :smile: \u202e\x9b2J" + "\\"
    assert printable("Jörg Ångström 李") == "Jörg Ångström 李"


def test_the_list_says_who_gives_less_and_who_gives_more(show: Show) -> None:
    drifting = {"drifted": True, "q_value": 0.01, "spread": 0.4, "n_months": 4, "reason": None}
    mild = reviewer("mild", 1.5, severity={"comparable": False, "drift": drifting})
    text = show(print_reviewers, [reviewer("hard", -0.98), reviewer(), mild])
    said = words(text).replace(" R1 ", " ")  # on a wide terminal alone
    assert "hard 412 0.98 ± 0.05 less 6.2" in said
    assert "ann 412 0.33 ± 0.05 more 6.2" in said
    assert "hard gives 0.98 ± 0.05 points less than the average reviewer." in said
    assert "mild gives 1.50 ± 0.05 points more than the average reviewer." in said
    assert "1 reviewer cannot be compared" in said
    assert "1 reviewer changes its severity" in said


def test_a_standard_that_is_a_bound_is_called_one(show: Show) -> None:
    standard = {"s50": 3.1, "s80": 4.4, "se": 0.9, "n": 23, "reason": None}
    kind = reviewer("kind", quality_standards={"overall": standard | {"censored": "all approved"}})
    hard = reviewer("hard", quality_standards={"overall": standard | {"censored": "none approved"}})
    said = words(show(print_reviewers, [kind, hard]))
    assert "at most 3.1" in said
    assert "at least 3.1" in said
    assert "of 23 decisions all approved; would approve half of the outputs at 3.1 points at most" in words(
        show(print_reviewer, kind)
    )
    assert "of 23 decisions none approved; would approve half of the outputs at 3.1 points at least" in words(
        show(print_reviewer, hard)
    )


def test_the_page_says_in_words_what_a_reviewer_wants(show: Show) -> None:
    said = words(show(print_reviewer, reviewer()))
    for sentence in (
        "ann (R1): 412 reviews, version 3",
        "all aspects together: gives 0.33 ± 0.05 points more than the average reviewer",
        "clarity: 0.50 ± 0.10 more",
        "2026-01 0.30 ± 0.10 more +0.10 to +0.50 9 8",
        "2026-02: too few.",
        "No drift beyond chance within the window (q = 0.60).",
        "all aspects together: approves half of the outputs at 6.2 points, four of five at 7.4 (± 0.2, 41 decisions)",
        "clarity: approves half of the outputs at 5.0 points",
        "tone: likes formal best (probability 0.82)",
        "length: 600 to 1,200 words, best 750 ± 60",
        "structure: no preference: no structure stands out",
        "outputs at 74 % of the scale or above",
        "In points per sd: longer sentences: 0.25 ± 0.06 less (to everybody +0.05; probability 0.99)",
        "foresees 81 % of the latest 25 decisions, against 64 % by guessing this reviewer's own majority.",
    ):
        assert sentence in said


def test_a_model_that_is_no_better_than_guessing_is_called_that(show: Show) -> None:
    said = words(show(print_reviewer, reviewer(model_accuracy=0.6, baseline_accuracy=0.6, n_test=1)))
    assert "foresees 60 % of the latest decision, no better than 60 % by guessing" in said


def test_all_that_is_undefined_has_its_reason(show: Show) -> None:
    text = show(print_reviewer, unlearned("nobody knows why"))
    assert "None" not in text
    # Severity of two aspects, drift, one line for the standards of both, four of content, style, accuracy.
    assert words(text).count("nobody knows why") == 2 + 1 + 1 + 4 + 1 + 1
    listed = words(show(print_reviewers, [reviewer(), unlearned("nobody knows why")]))
    assert "Severity of 1 reviewer: nobody knows why." in listed
    assert "cannot be compared" not in listed


def test_nobody_is_a_sentence(show: Show) -> None:
    assert "No review of the window names its reviewer" in show(print_reviewers, [])


@pytest.mark.parametrize("n_unlearned", [0, 7, 90])
def test_of_many_the_strictest_and_the_mildest_are_shown(show: Show, n_unlearned: int) -> None:
    known = [reviewer(f"r{i:03}", i / 10 - 5) for i in range(100)]
    text = show(print_reviewers, [*known, *(unlearned("?") | {"reviewer_id": f"u{i}"} for i in range(n_unlearned))])
    shown = first_column(text)
    assert shown == [*(f"r{i:03}" for i in range(20)), "...", *(f"r{i:03}" for i in range(80, 100))]
    assert f"{60 + n_unlearned} more are not shown" in words(text)
    assert "r099 gives 4.90 ± 0.05 points more" in words(text)


def test_of_many_without_a_severity_the_first_are_shown(show: Show) -> None:
    unknown = [unlearned("?") | {"reviewer_id": f"u{i:02}"} for i in range(60)]
    text = show(print_reviewers, [reviewer("r000"), reviewer("r001", 1.0), *unknown])
    shown = first_column(text)
    assert shown == ["r000", "r001", *(f"u{i:02}" for i in range(38)), "..."]
    assert "22 more are not shown" in words(text)


def test_as_many_as_fit_are_all_shown(show: Show) -> None:
    text = show(print_reviewers, [reviewer(f"r{i:03}", float(i)) for i in range(MOST_ROWS)])
    assert "not shown" not in text
    assert all(f"r{i:03}" in text for i in range(MOST_ROWS))


def test_names_cannot_break_the_terminal(show: Show) -> None:
    named = reviewer(HOSTILE, -1.0)
    named["content_preferences"]["preferred_tone"] = HOSTILE
    document = {
        "agent_name": HOSTILE,
        "aspects": [],
        "reason": HOSTILE,
        "components": [[HOSTILE, "ann"], ["zoe"]],
        "bridges": [{"agent_name": HOSTILE, "execution_id": HOSTILE, "reviewer_id": HOSTILE, "component": 1}],
        "learning_run_id": "run",
    }
    for text in (
        show(print_reviewers, [named, reviewer()]),
        show(print_reviewer, named),
        show(print_agreement, document),
    ):
        assert r"\x1b[31mred\x07\n[bold]x[/bold] :smile:" in words(text)


def alpha(aspect: str, value: float | None, adjusted: float | None, **changes: Any) -> dict[str, Any]:
    bounds = {"ci_low": value and value - 0.1, "ci_high": value and value + 0.1}
    after = {"adjusted_ci_low": adjusted and adjusted - 0.1, "adjusted_ci_high": adjusted and adjusted + 0.1}
    counts = {"n_outputs": 1200, "n_reviewers": 9, "reason": None, "adjusted_reason": None}
    return {"aspect": aspect, "alpha": value, "alpha_adjusted": adjusted} | bounds | after | counts | changes


def agreement(**changes: Any) -> dict[str, Any]:
    aspects = [
        alpha("clarity", 0.41, 0.62),
        alpha("overall", 0.33, 0.48),
        alpha("decision", 0.2, None, adjusted_reason="no severity of decisions"),
    ]
    fixed = {"agent_name": "*", "reason": None, "components": [["ann", "bob"]], "bridges": [], "learning_run_id": "run"}
    return fixed | {"aspects": aspects} | changes


def test_agreement_is_shown_with_how_to_read_it(show: Show) -> None:
    text = show(print_agreement, agreement())
    lines = {line.split()[0]: words(line) for line in text.splitlines() if line.strip()}
    assert lines["clarity"].startswith("clarity 0.41 [0.31, 0.51] 0.62")
    assert lines["clarity"].endswith("1,200 9")
    assert lines["decision"].startswith("decision 0.20 [0.10, 0.30] -")
    said = words(text)
    assert "1 where reviewers agree perfectly and 0 where they agree no more than by chance" in said
    assert "moves alpha of the overall score from 0.33 to 0.48" in said
    assert "decision: no severity of decisions." in said
    assert "2 reviewers. Outputs reviewed by several people connect all of them." in said


def test_agreement_that_is_undefined_has_its_reason_once(show: Show) -> None:
    why = {"reason": "undefined: nobody overlaps", "adjusted_reason": "undefined: nobody overlaps"}
    aspects = [alpha("clarity", None, None, **why), alpha("overall", None, None, **why)]
    text = show(print_agreement, agreement(aspects=aspects, components=[["ann"]]))
    assert words(text).count("clarity, overall: undefined: nobody overlaps.") == 1
    assert "moves alpha" not in text
    assert "1 reviewer. It takes two to compare." in words(text)


def test_groups_that_cannot_be_compared_are_named_with_what_would_connect_them(show: Show) -> None:
    components = [[f"a{i}" for i in range(9)], *([f"b{i}"] for i in range(14))]
    bridges = [{"agent_name": "drafter", "execution_id": f"e{i}", "reviewer_id": f"b{i}", "component": i + 1} for i in range(14)]
    said = words(show(print_agreement, agreement(components=components, bridges=bridges)))
    assert "15 groups of reviewers that share no output" in said
    assert "group 1, 9 reviewers: a0, a1, a2, a3, a4, a5 and 3 more" in said
    assert "group 2, 1 reviewer: b0" in said
    assert "and 5 more groups; --json lists all" in said
    assert "b0 2 drafter e0" in said
    assert "and 4 more reviews; --json lists all" in said


def test_without_any_score_nobody_can_be_compared(show: Show) -> None:
    assert "Nobody: no known reviewer gave a score." in show(print_agreement, agreement(components=[]))
    text = show(print_agreement, agreement(agent_name="drafter", aspects=[], reason="no reviews in the window"))
    assert "Agreement on drafter" in text
    assert "Nothing to compare: no reviews in the window." in text
