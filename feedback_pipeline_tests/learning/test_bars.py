"""The measured bars of the correlations, with 3-sigma Monte-Carlo slack: 60 agents, 40 reviewers, fixed seeds."""

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.adjustment import adjust
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.findings import find
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.truth import true_correlations
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline_tests.worlds import BOUNDS, learn, panel_of, subject_of, with_truth

pytestmark = pytest.mark.slow

# The family the bars were set for: seven features x four aspects.
SEVEN = ("duration_ms", "input_tokens", "output_tokens", "cost", "confidence_score", "alternatives_count", "reasoning_length")


def null_findings(n: int, seed: int) -> pd.DataFrame:
    world = simulate(WorldSpec(agents=60, executions=n, reviewers=40, seed=seed, effects=False, tastes=False))
    panel = panel_of(world)
    findings = find(subject_of(panel, adjust(panel, BOUNDS), SEVEN))
    return findings[findings["agent_name"] != FLEET]


@pytest.mark.parametrize(("n", "seeds"), [(20, 12), (50, 8), (200, 3)])
def test_null_worlds_have_at_most_a_twentieth_of_a_false_finding_per_agent(n: int, seeds: int) -> None:
    worlds = [null_findings(n, seed) for seed in range(1, seeds + 1)]
    per_agent = np.array([found["published"].sum() / 60 for found in worlds])
    slack = 3 * per_agent.std(ddof=1) / np.sqrt(seeds)
    assert per_agent.mean() <= 0.05 + slack
    with_any = np.array([found.loc[found["published"], "agent_name"].nunique() / 60 for found in worlds])
    assert with_any.mean() <= 0.10
    level = np.mean([(found["p_value"] < 0.05).mean() for found in worlds])
    assert level == pytest.approx(0.05, abs=0.02)


@pytest.fixture(scope="module")
def planted() -> dict[int, pd.DataFrame]:
    worlds = {n: learn(WorldSpec(agents=60, executions=n, reviewers=40, seed=1)) for n in (50, 200)}
    return {n: with_truth(find(learned.subject), true_correlations(learned.world)) for n, learned in worlds.items()}


@pytest.mark.parametrize("n", [50, 200])
def test_published_findings_are_rarely_false(planted: dict[int, pd.DataFrame], n: int) -> None:
    published = planted[n][planted[n]["published"]]
    false = (published["rho"].abs() < 0.02) | (np.sign(published["rho"]) != np.sign(published["r"]))
    assert len(published) > 100
    assert false.mean() <= 0.10 + 3 * np.sqrt(0.1 * 0.9 / len(published))


def test_strong_effects_are_found_with_two_hundred_outputs(planted: dict[int, pd.DataFrame]) -> None:
    strong = planted[200][planted[200]["rho"].abs() >= 0.2]
    assert len(strong) > 300
    assert strong["published"].mean() >= 0.70 - 3 * np.sqrt(0.7 * 0.3 / len(strong))


@pytest.mark.parametrize("n", [50, 200])
def test_intervals_cover_the_truth(planted: dict[int, pd.DataFrame], n: int) -> None:
    known = planted[n][planted[n]["r"].notna()]
    covered = ((known["ci_low"] <= known["rho"]) & (known["rho"] <= known["ci_high"])).mean()
    # Pairs of an agent share their outputs: the agents, not the pairs, are the independent draws.
    slack = 3 * np.sqrt(0.95 * 0.05 / (60 * 4))
    assert 0.92 - slack <= covered <= 0.97 + slack


def test_shrunken_effects_are_nearer_the_truth(planted: dict[int, pd.DataFrame]) -> None:
    known = planted[50][planted[50]["r"].notna()]
    raw, shrunken = ((known[name] - known["rho"]).pow(2).mean() ** 0.5 for name in ("r", "r_shrunk"))
    assert shrunken < 0.85 * raw


def test_confidence_is_a_probability_of_the_right_sign(planted: dict[int, pd.DataFrame]) -> None:
    sure = planted[200][planted[200]["confidence"] >= 0.95]
    right = np.sign(sure["rho"]) == np.sign(sure["r"])
    assert len(sure) > 200
    assert right.mean() >= 0.94
