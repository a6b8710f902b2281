"""Recommendations in worlds with known truth: silence where there is nothing, else the planted things first."""

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.recommendations import recommend
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.advice_worlds import AGENTS, PLANTED_STEP, WORLD, null_share, planted_hits
from feedback_pipeline_tests.worlds import advice_of, learn

pytestmark = pytest.mark.slow


def test_in_a_null_world_nothing_is_recommended() -> None:
    """Bar: at most 5 % of the agents; three standard errors of a share over two worlds of 60 agents are .06."""
    assert np.mean([null_share(seed) for seed in (1, 2)]) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / (2 * AGENTS))


def test_where_only_the_length_matters_only_the_length_is_recommended() -> None:
    """Reviewers have a best length in every world but the null one: that is true, and what is said is about it."""
    learned = learn(WorldSpec(**WORLD, seed=2, effects=False, tastes=False))
    found, _ = recommend(advice_of(learned))
    about_length = found["identity"].str.contains("length_band|word_count|sentence_count")
    assert about_length.sum() >= 10
    assert (~about_length).sum() <= 0.05 * AGENTS + 3 * np.sqrt(0.05 * 0.95 * AGENTS)


def test_the_planted_threshold_and_the_strongest_feature_are_among_the_first_three() -> None:
    found = pd.concat([planted_hits(seed, PLANTED_STEP, tastes=True) for seed in (1, 2)])
    assert len(found) > 100
    assert found["both"].mean() >= 0.8 - 3 * np.sqrt(0.8 * 0.2 / len(found))
    assert found["threshold"].mean() >= 0.8
    assert found["strongest feature"].mean() >= 0.8
