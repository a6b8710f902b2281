import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.agent_effects import AgentSlopes, UsualAmounts, fit_agent_slopes
from feedback_pipeline.learning.reviewers_design import Encoding

AGENTS, EACH = 12, 300
AGENT = np.repeat(np.arange(AGENTS), EACH)


def amounts(seed: int = 1) -> tuple[pd.DataFrame, np.ndarray]:
    """Tokens of agents of very different habits, and the logarithm of what each output needed beside its agent's habit."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.5, len(AGENT))
    tokens = np.exp(6 + rng.normal(0, 1, AGENTS)[AGENT] + own)
    return pd.DataFrame({"output_tokens": tokens, "word_count": rng.integers(100, 900, len(AGENT))}), own


def test_amounts_are_measured_against_what_the_agent_usually_uses() -> None:
    outputs, own = amounts()
    found = UsualAmounts.of(outputs, AGENT, AGENTS).relative(outputs, AGENT)
    assert np.corrcoef(np.log(outputs["output_tokens"]), own)[0, 1] < 0.6
    assert np.corrcoef(np.log(found["output_tokens"]), own)[0, 1] > 0.99
    pd.testing.assert_series_equal(found["word_count"], outputs["word_count"])


def test_agents_alike_keep_their_amounts() -> None:
    outputs = amounts()[0].assign(output_tokens=np.exp(np.random.default_rng(2).normal(6, 0.5, len(AGENT))))
    usual = UsualAmounts.of(outputs, AGENT, AGENTS)
    np.testing.assert_allclose(usual.factors["output_tokens"], 1.0, atol=0.06)


def test_new_agents_nothing_and_missing_amounts_pass_unchanged() -> None:
    outputs, _ = amounts()
    outputs.loc[::3, "output_tokens"] = np.nan
    outputs.loc[1::3, "output_tokens"] = 0.0
    before = outputs.copy()
    usual = UsualAmounts.of(outputs, AGENT, AGENTS)
    pd.testing.assert_frame_equal(outputs, before)
    found = usual.relative(outputs, AGENT)
    assert found.loc[::3, "output_tokens"].isna().all()
    assert (found.loc[1::3, "output_tokens"] == 0).all()
    pd.testing.assert_frame_equal(usual.relative(outputs, np.full(len(AGENT), -1)), outputs)
    pd.testing.assert_frame_equal(usual.relative(outputs[["word_count"]], AGENT), outputs[["word_count"]])
    nothing = UsualAmounts.of(outputs.assign(output_tokens=0.0), AGENT, AGENTS)
    assert nothing.factors == {}


def judged(own_sd: float, agents: int = AGENTS, seed: int = 1) -> tuple[AgentSlopes, np.ndarray]:
    """Fitted slopes of agents (G,) whose true ones differ by `own_sd` from .5, and the true differences."""
    rng = np.random.default_rng(seed)
    agent = np.repeat(np.arange(agents), EACH)
    outputs = pd.DataFrame({"readability": rng.normal(size=len(agent))})
    own = rng.normal(0, own_sd, agents)
    output, reviewer = np.tile(np.arange(len(agent)), 2), rng.integers(0, 30, 2 * len(agent))
    points = rng.normal(0, 0.5, agents)[agent] + (0.5 + own[agent]) * outputs["readability"].to_numpy()
    score = points[output] + rng.normal(0, 0.9, 30)[reviewer] + rng.normal(0, 0.8, len(output))
    encoding = Encoding.of(outputs, ["readability"])
    slopes = fit_agent_slopes(encoding, encoding.encode(outputs), agent, output, reviewer, score, agents)
    return slopes, own


def test_slopes_of_agents_are_recovered() -> None:
    slopes, own = judged(0.4)
    assert np.corrcoef(slopes.effects[:, 0], own)[0, 1] > 0.95
    # What all agents share is no agent's own.
    assert abs(slopes.effects.mean()) < 0.05


def test_agents_alike_or_alone_have_no_slopes_of_their_own() -> None:
    assert np.abs(judged(0.0)[0].effects).max() < 0.12
    assert (judged(0.4, agents=1)[0].effects == 0).all()


def test_points_are_those_of_the_agent_and_none_for_a_new_one() -> None:
    slopes = AgentSlopes(np.array([1, 3]), np.array([[1.0, 0.0], [0.5, -2.0]]))
    encoded = np.array([[1.0, 2.0, 9.0, 3.0]] * 3, dtype=np.float32)
    np.testing.assert_array_equal(slopes.points(encoded, np.array([0, 1, -1])), [2.0, -5.0, 0.0])


def test_no_score_is_an_error() -> None:
    outputs = pd.DataFrame({"readability": [1.0, 2.0]})
    encoding = Encoding.of(outputs, ["readability"])
    none = np.empty(0, dtype=np.intp)
    with pytest.raises(LearningError, match="no row"):
        fit_agent_slopes(encoding, encoding.encode(outputs), np.zeros(2, dtype=np.intp), none, none, np.empty(0), 1)
