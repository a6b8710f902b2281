"""How well later scores are forecast in simulated worlds, with 3-sigma Monte-Carlo slack: 40 reviewers, fixed seeds."""

from functools import partial

import numpy as np
import pytest

from feedback_pipeline.learning.quality_models import CANDIDATES, COMPARISON
from feedback_pipeline.learning.quality_validation import forward_baseline, forward_chain, forward_predictions
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import quality_world, r2

pytestmark = pytest.mark.slow


def forward_r2(spec: WorldSpec, names: list[str]) -> dict[str, float]:
    """Forward R2 of candidates, and of the oracle."""
    world = quality_world(spec)
    rows = world.rows
    folds = forward_chain(rows.moment, rows.content)
    baseline = forward_baseline(rows.y, folds)
    forecasts = {name: forward_predictions(partial(world.model, name), rows.X, rows.y, rows.content, folds) for name in names}
    return {name: r2(rows.y, found, baseline) for name, found in (forecasts | {"oracle": world.oracle}).items()}


def test_nine_tenths_of_what_features_allow_at_ten_thousand_outputs() -> None:
    worlds = [
        forward_r2(WorldSpec(agents=60, executions=167, reviewers=40, seed=seed), ["ridge", "eb_mixed", "stack"])
        for seed in (1, 2)
    ]
    for found in worlds:
        assert found["stack"] > found["eb_mixed"] > found["ridge"] + 0.2
    shares = np.array([found["stack"] / found["oracle"] for found in worlds])
    assert shares.mean() >= 0.90
    assert shares.min() >= 0.90 - 3 * 0.01  # .01: spread between worlds


@pytest.mark.parametrize(("executions", "best_length"), [(17, True), (17, False), (167, False)])
def test_never_much_below_ridge_where_reviewers_have_no_tastes(executions: int, best_length: bool) -> None:
    names = ["ridge", "eb_mixed", *(["stack"] if executions > 100 else [])]
    for seed in (1, 2):
        spec = WorldSpec(agents=60, executions=executions, reviewers=40, seed=seed, tastes=False, best_length=best_length)
        found = forward_r2(spec, names)
        assert min(found[name] for name in names) >= found["ridge"] - 0.02


def test_one_agent_and_five_reviewers_are_enough_for_the_mixed_model() -> None:
    alone = forward_r2(WorldSpec(agents=1, executions=3000, reviewers=40, seed=1, tastes=False), ["ridge", "eb_mixed"])
    few = forward_r2(WorldSpec(agents=20, executions=100, reviewers=5, seed=1), ["ridge", "eb_mixed"])
    for found in (alone, few):
        assert found["eb_mixed"] > found["ridge"]


def test_a_random_forest_on_the_guides_features_forecasts_nothing() -> None:
    found = forward_r2(WorldSpec(agents=60, executions=50, reviewers=40, seed=1), [COMPARISON, "mean"])
    assert found[COMPARISON] < 0.1 < found["mean"]


def test_an_interaction_that_no_line_can_show_is_found_by_the_trees_of_the_stack() -> None:
    world = quality_world(WorldSpec(agents=10, executions=400, reviewers=20, seed=4))
    rows = world.rows
    z = [(rows.X[name] > rows.X[name].median()).to_numpy() for name in ("readability", "queue_wait_ms")]
    y = rows.y + np.where(z[0] == z[1], 1.0, -1.0)
    first = rows.moment < np.quantile(rows.moment, 0.7)
    known, new = rows.take(first), rows.take(~first)
    found = {}
    for name in ("eb_mixed", "stack"):
        model = CANDIDATES[name](rows.features, (-5.0, 15.0), 0).fit(known.X, y[first], content=known.content)
        found[name] = float(((model.predict(new.X) - y[~first]) ** 2).mean())
    assert found["stack"] < found["eb_mixed"] - 0.4
