import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from feedback_pipeline.simulation.spec import ASPECTS, FEATURES, NULLS, WorldSpec
from feedback_pipeline.simulation.truth import true_correlations
from feedback_pipeline.simulation.world import World, simulate


def observed(world: World, feature: str, aspect: str) -> "pd.Series[float]":
    """Spearman correlation of each agent with the mean score of an output less the planted severities."""
    reviews = world.reviews
    free = reviews[aspect] - world.reviewers.severity[world.review_reviewer]
    value = free.groupby(reviews["execution_id"]).mean().reindex(world.executions["execution_id"]).to_numpy()
    frame = world.executions[["agent_name"]].assign(x=world.executions[feature], y=value).dropna()
    return pd.Series({agent: spearmanr(rows["x"], rows["y"]).statistic for agent, rows in frame.groupby("agent_name")})


def test_a_null_world_has_no_correlation() -> None:
    truth = true_correlations(simulate(WorldSpec(agents=3, executions=5, effects=False)))
    assert len(truth) == 3 * len(FEATURES) * len(ASPECTS)
    assert (truth["rho"] == 0).all()


def test_outputs_of_a_null_world_show_no_correlation() -> None:
    world = simulate(WorldSpec(agents=1, executions=20_000, reviewers=2000, effects=False, seed=2))
    for feature in FEATURES:
        # .007 of the data, .006 of the panel's best lengths and slopes.
        assert abs(observed(world, feature, "content_quality").iloc[0]) < 0.035, feature


def test_truth_is_the_same_again_and_not_shared() -> None:
    world = simulate(WorldSpec(agents=2, executions=5))
    first = true_correlations(world, draws=2000)
    first["rho"] = 9.0
    again = true_correlations(world, draws=2000)
    assert again["rho"].abs().max() < 1
    assert (again.loc[again["feature"].isin(NULLS), "rho"] == 0).all()


def test_a_world_without_tastes_shows_its_true_correlations() -> None:
    world = simulate(WorldSpec(agents=2, executions=10_000, reviewers=60, tastes=False, best_length=False, seed=3))
    truth = true_correlations(world)
    strongest = truth.reindex(truth["rho"].abs().sort_values(ascending=False).index).head(6)
    assert strongest["rho"].abs().min() > 0.2
    for agent, feature, aspect, rho in strongest.to_numpy().tolist():
        # Standard errors: .007 of the Monte Carlo and .01 of the data.
        assert abs(observed(world, feature, aspect)[agent] - rho) < 0.04


@pytest.mark.slow
def test_over_many_panels_the_true_correlations_are_the_mean_of_the_observed() -> None:
    found: list[pd.DataFrame] = []
    for seed in range(6):
        world = simulate(WorldSpec(agents=2, executions=4000, reviewers=400, seed=seed))
        truth = true_correlations(world, draws=10_000)
        for feature in FEATURES:
            rho = truth[(truth["feature"] == feature) & (truth["aspect"] == "brand_alignment")].set_index("agent_name")["rho"]
            seen = observed(world, feature, "brand_alignment")
            found.append(pd.DataFrame({"feature": feature, "difference": seen - rho}))
    difference = pd.concat(found)
    # .016 of the data, .01 of the Monte Carlo, .3 / sqrt(400) x about .7 of the panel.
    assert difference["difference"].std() < 0.03
    by_feature = difference.groupby("feature")["difference"].mean()
    assert by_feature.abs().max() < 0.025
    assert np.isfinite(by_feature).all()
