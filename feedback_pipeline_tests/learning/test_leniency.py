from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.leniency import approvals, leniency, output_leniency, review_leniency
from feedback_pipeline.learning.panel import Panel
from feedback_pipeline_tests.learning.pattern_worlds import decided_panel


def panel_of(decisions: dict[str, list[float]], reviewers: dict[str, list[int]]) -> Panel:
    return decided_panel(
        {agent: {"x": np.zeros(len(values))} for agent, values in decisions.items()},
        {agent: np.array(values) for agent, values in decisions.items()},
        {agent: np.array(codes) for agent, codes in reviewers.items()},
    )


def test_leniency_is_what_is_approved_above_the_agents_share_pulled_to_zero() -> None:
    panel = panel_of({"a": [1, 1, 0, 0], "b": [1, 0, 0, 0]}, {"a": [0, 0, 1, 1], "b": [0, 1, 1, 1]})
    # Reviewer 0: (1 - .5) + (1 - .5) + (1 - .25); reviewer 1: 2 (0 - .5) + 3 (0 - .25).
    assert leniency(panel) == pytest.approx([1.75 / 5, -1.75 / 7])
    assert review_leniency(panel)[:2] == pytest.approx([1.75 / 5] * 2)
    assert output_leniency(panel)[4:] == pytest.approx([1.75 / 5, *[-1.75 / 7] * 3])


def test_an_agent_that_is_approved_less_makes_nobody_strict() -> None:
    panel = panel_of({"good": [1.0] * 40, "bad": [0.0] * 40}, {"good": [0] * 40, "bad": [1] * 40})
    assert leniency(panel) == pytest.approx([0.0, 0.0])


def test_the_unknown_have_none_and_no_decision_is_no_leniency() -> None:
    panel = panel_of({"a": [1, 0, 1, 0]}, {"a": [0, 0, -1, -1]})
    assert review_leniency(panel)[2:].tolist() == [0.0, 0.0]
    silent = replace(panel, reviews=panel.reviews.assign(decision=pd.Series([None] * 4, dtype=object)))
    assert np.isnan(approvals(silent)).all()
    assert np.isnan(output_leniency(silent)).all()
    assert leniency(silent).tolist() == [0.0]


def test_planted_leniency_is_recovered() -> None:
    rng = np.random.default_rng(3)
    bar = np.array([0.3, 0.5, 0.7])
    reviewer = rng.integers(0, 3, 6000)
    y = (rng.random(6000) < bar[reviewer]).astype(float)
    panel = panel_of({"a": y.tolist()}, {"a": reviewer.tolist()})
    assert leniency(panel) == pytest.approx(bar - 0.5, abs=0.04)
