from typing import Any

from feedback_pipeline.commands.effects_rendering import print_effects
from feedback_pipeline_tests.commands.test_patterns_rendering import HOSTILE, SHOWN, Show, show, words

__all__ = ["show"]  # the fixture


def trial(**changes: Any) -> dict[str, Any]:
    known = {"pattern_id": "p", "trial": 1, "agent_name": "drafter", "text": "keep length of texts below 314 words", "p_on": 0.8}
    rates = {"success_rate": 0.712, "success_rate_held_out": 0.6, "uplift": 0.098, "low": 0.004, "high": 0.191}
    reason = "kept: it helps, approval +9.8 points [0.4, 19.1] at 700 executions"
    return known | rates | {"n": 700, "n_waiting": 3, "reason": reason} | changes


def effects(*trials: dict[str, Any], agent_name: str | None = "drafter") -> dict[str, Any]:
    return {"agent_name": agent_name, "learning_run_id": "run", "computed_at": None, "trials": list(trials)}


def test_trials_are_said_with_their_reasons(show: Show) -> None:
    none = dict.fromkeys(("success_rate", "success_rate_held_out", "uplift", "low", "high"))
    fresh = trial(n=0, n_waiting=0, p_on=0.5, text=None, reason="on trial: nothing is decided yet", trial=2, **none)
    said = words(show(print_effects, effects(fresh, trial())))
    assert said.startswith(
        "Does applying it help? 2 trials applied to approved held out uplift trial 80 % 71 % 60 % +9.8 [0.4, 19.1]"
    )
    assert "at 700 executions; 3 wait for a decision" in said
    assert "50 % a question to a reviewer (trial 2) on trial: nothing is decided yet" in said
    assert "drafter:" not in said
    assert "None" not in said


def test_of_all_agents_each_is_named_and_nothing_breaks_the_terminal(show: Show) -> None:
    said = words(show(print_effects, effects(trial(agent_name=HOSTILE, text=HOSTILE, reason=HOSTILE), agent_name=None)))
    # A narrow column breaks it where it will.
    assert said.replace(" ", "").count(SHOWN.replace(" ", "")) == 3


def test_nothing_is_a_sentence(show: Show) -> None:
    assert "Nothing has been on trial" in show(print_effects, effects())
