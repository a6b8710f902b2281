import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from feedback_pipeline.commands.forecasts_rendering import MOST_SHOWN, print_auto_approval, print_forecasts, print_queue

HOSTILE = "\x1b[31mred\x07\n[bold]x[/bold] :smile: ‮\x9b2J\\"
SHOWN = r"\x1b[31mred\x07\n[bold]x[/bold]"

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


def champion(**changes: Any) -> dict[str, Any]:
    named = {"model_version": 3, "candidate": "eb_mixed", "since": "2026-03-01T00:00:00+00:00"}
    return named | {"mlflow_run_id": "abc", "metrics": {"r2": 0.4}} | changes


def forecast(execution: str = "e1", **changes: Any) -> dict[str, Any]:
    numbers = {"score": 6.543, "low": 4.0, "high": 9.04, "p_approve": 0.613, "abstain": False, "reason": None}
    keys = {"agent_name": "drafter", "execution_id": execution, "reviewer_id": None}
    return keys | numbers | {"model_version": 3, "made_at": "2026-03-01T00:00:00+00:00"} | changes


def forecasts(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fixed = {"agent_name": None, "execution_id": None, "champion": champion(), "forecasts": list(rows), "reason": None}
    return fixed | changes


def queue(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    placed = [{"place": place, "why": "lowest P", "propensity": 0.8125} | row for place, row in enumerate(rows, start=1)]
    told = {"draw_id": "9c1e", "champion": champion(), "n_outputs": 1234, "random_share": 0.3}
    return told | {"queue": placed, "reason": None} | changes


def risk(alpha: float = 0.05, **changes: Any) -> dict[str, Any]:
    found = {"threshold": 0.93, "share": 0.2333, "spared": 0.21, "rejected": 0.0274, "upper": 0.0494}
    return {"alpha": alpha} | found | {"n_approved": 9000, "n": 40000, "reason": None} | changes


def auto_approval(*risks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    rule = "Of the outputs that would be approved, 10 % are drawn at random and read all the same."
    counts = {"n_outputs": 40100, "n_abstained": 100, "confidence": 0.9, "audit_rule": rule}
    return {"champion": champion(), "risks": list(risks)} | counts | changes


def test_a_forecast_is_a_row_with_its_interval(show: Show) -> None:
    said = words(show(print_forecasts, forecasts(forecast())))
    assert said.startswith(
        "all agents: 1 output without a review and with a forecast By model 3 (eb_mixed), champion since 2026-03-01."
    )
    assert "agent execution P(approve) score interval drafter e1 61 % 6.54 [4.0, 9.0]" in said
    assert "reviewer" not in said
    assert "remark" not in said


def test_what_is_undefined_is_blank_and_says_why(show: Show) -> None:
    none: dict[str, Any] = {
        "score": None,
        "low": None,
        "high": None,
        "p_approve": None,
        "reason": "too few reviews of earlier forecasts",
    }
    said = words(show(print_forecasts, forecasts(forecast(abstain=True, **none), forecast("e2"), agent_name="drafter")))
    assert said.startswith("drafter: 2 outputs")
    assert "None" not in said
    assert "nan" not in said
    assert "abstains: too few" in said


def test_reviewers_have_a_column_where_some_are_named(show: Show) -> None:
    rows = (forecast(reviewer_id="ann", p_approve=0.2), forecast())
    said = words(show(print_forecasts, forecasts(*rows, execution_id="e1", reason="no forecast for bob is stored")))
    assert said.startswith("all agents, execution e1: 1 output ")
    assert "drafter e1 ann 20 %" in said
    assert "drafter e1 average 61 %" in said
    assert said.endswith("No forecast for bob is stored.")


def test_a_long_list_is_cut_and_says_so(show: Show) -> None:
    said = show(print_forecasts, forecasts(*(forecast(f"e{i}") for i in range(MOST_SHOWN + 1200))))
    assert f"e{MOST_SHOWN - 1} " in said
    assert f"e{MOST_SHOWN} " not in said
    assert "and 1,200 more; --json lists all" in said


def test_no_forecast_says_why(show: Show) -> None:
    said = words(show(print_forecasts, forecasts(execution_id="e1", reason="it has been reviewed")))
    assert said.endswith("It has been reviewed.")
    assert "P(approve)" not in said


def test_a_queue_says_why_each_output_stands_there(show: Show) -> None:
    rows = forecast(p_approve=0.0312), forecast("e2", why="random", propensity=0.07, low=None, high=None)
    said = words(show(print_queue, queue(*rows)))
    assert said.startswith("What to read first: 2 of 1,234 outputs without a review By model 3 (eb_mixed)")
    assert "1 drafter e1 3 % 6.54 [4.0, 9.0] lowest P 0.812" in said
    assert "2 drafter e2 61 % 6.54 random 0.070" in said
    assert "30 % of the places are drawn at random" in said
    kept_nowhere = "the user of the database may only read"
    assert kept_nowhere not in said
    assert kept_nowhere in words(show(print_queue, queue(*rows, draw_id=None)))


def test_an_empty_queue_says_why(show: Show) -> None:
    said = words(show(print_queue, queue(n_outputs=0, reason="nothing was forecast")))
    assert said.endswith("Nothing was forecast.")
    assert "propensity" not in said


def test_risks_with_their_bounds_and_the_audit_rule(show: Show) -> None:
    said = words(show(print_auto_approval, auto_approval(risk(0.05), risk(0.1, spared=0.35, rejected=0.07, upper=0.0981))))
    assert said.startswith("If the surest outputs were approved unread: 40,100 outputs with a forecast and a later decision")
    assert "100 forecasts of them abstained and would always be read." in said
    assert "5 % 21 % 2.7 % 4.9 % 40,000 10 % 35 % 7.0 % 9.8 % 40,000" in said
    assert "its 90 % upper bound" in said
    assert "read all the same" in said
    assert said.endswith("This approves nothing: it says what would have come of it.")
    assert "why none" not in said


def test_a_risk_without_a_threshold_says_why(show: Show) -> None:
    none: dict[str, Any] = {"threshold": None, "share": 0.0, "spared": 0.0, "rejected": None, "upper": None, "n": 20}
    none |= {"reason": "20 decisions on earlier forecasts; a threshold needs 500"}
    said = words(show(print_auto_approval, auto_approval(risk(**none), n_abstained=0)))
    assert "None" not in said
    assert "abstained" not in said
    assert "5 % 0 % 20 20 decisions on" in said


@pytest.mark.parametrize("key", ["agent_name", "execution_id", "reviewer_id", "reason"])
def test_texts_of_the_user_cannot_harm_the_terminal(show: Show, key: str) -> None:
    hostile = forecast(**{key: HOSTILE}, abstain=True)
    said = show(print_forecasts, forecasts(hostile, agent_name=HOSTILE, execution_id=HOSTILE, reason=HOSTILE))
    assert SHOWN.replace(" ", "") in said.replace("\n", "").replace(" ", "")
    show(print_queue, queue(hostile, reason=HOSTILE))
    show(print_auto_approval, auto_approval(risk(reason=HOSTILE), champion=champion(candidate=HOSTILE)))
