"""How often, and how well, decision patterns find what is planted, with three sigma for the few seeds."""

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.patterns import find_patterns
from feedback_pipeline.learning.rules import find_rule
from feedback_pipeline.learning.threshold_lift import folds
from feedback_pipeline.learning.thresholds import Thresholds, find_thresholds
from feedback_pipeline.simulation.spec import FEATURES, WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline_tests.learning.pattern_worlds import planted_and, planted_step, points_of
from feedback_pipeline_tests.worlds import BOUNDS, panel_of

pytestmark = pytest.mark.slow


def above(level: float, n: int) -> float:
    return level + 3 * float(np.sqrt(level * (1 - level) / n))


def steps(n: int, worlds: int, logit: float, seed: int) -> tuple[Thresholds, float]:
    x, y, group, true = planted_step(n, worlds, logit, seed)
    return find_thresholds(x, y, group, np.arange(worlds), seed=1), true


@pytest.mark.parametrize(("n", "error"), [(500, 0.03), (2000, 0.01)])
def test_cut_and_honest_lift(n: int, error: float) -> None:
    found, true = steps(n, 300, 1.3, n)
    assert np.abs(found.cut - 0.85).mean() <= error
    assert abs(found.lift.mean() - true) <= 0.03 + 3 * found.lift.std() / np.sqrt(300)
    assert (found.p_value < 0.05).mean() >= 0.95
    assert pd.isna(found.reason).mean() >= 0.8
    cover = ((found.cut_low <= 0.85) & (found.cut_high >= 0.85))[np.isfinite(found.cut_low)].mean()
    assert cover >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("n", [100, 200, 500, 2000])
def test_null_rate_of_cuts(n: int) -> None:
    found, _ = steps(n, 400, 0.0, n + 1)
    assert (found.p_value < 0.05).mean() <= above(0.05, 400)
    assert pd.isna(found.reason).mean() <= above(0.05, 400)
    assert abs(found.lift.mean()) <= 3 * found.lift.std() / np.sqrt(400)


@pytest.mark.parametrize("n", [300, 1000])
def test_rules(n: int) -> None:
    names = [f"x{j}" for j in range(7)]
    kept = {}
    for lift in (0.0, 0.3):
        x, y = planted_and(n, 150, lift, n)
        found = [find_rule(x[w], y[w], np.zeros(n, dtype=int), folds(np.arange(n), 5, (1, w)), names) for w in range(150)]
        kept[lift] = np.mean([rule is not None and rule.kept for rule in found])
    assert kept[0.0] <= above(0.04, 150)
    assert kept[0.3] >= (0.95 if n == 1000 else 0.2)


def test_a_null_world_publishes_next_to_nothing() -> None:
    world = simulate(WorldSpec(agents=60, executions=200, reviewers=40, seed=3, effects=False, tastes=False, best_length=False))
    patterns, parts = find_patterns(panel_of(world), points_of(world), BOUNDS, FEATURES, {}, seed=1)
    own = patterns[patterns["agent_name"] != "*"]
    assert (own["unit"] == "approval").sum() == 60 * (len(FEATURES) + 3 * 5)
    level = (own.loc[own["unit"] == "approval", "p_value"] < 0.05).mean()
    assert level <= 0.06
    published = own[own["published"]]
    assert published.loc[published["unit"] == "approval", "agent_name"].nunique() / 60 <= above(0.1, 60)
    contrasts = published[published["description"].str.contains("approved v other")]
    assert contrasts["agent_name"].nunique() / 60 <= above(0.1, 60)
    assert set(parts["document"].map(lambda document: document["status"])) == {"success"}
