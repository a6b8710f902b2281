"""Recommendations in simulated worlds with known truth: what tests and benchmarks count.

60 agents, 40 reviewers, 500 outputs an agent. A null world has no effects, no tastes and no best length; in a planted one the
score rises by `step` points where the confidence is above .7. A hit on the threshold is a recommendation for the confidence whose
bound lies within .05 of .7; the strongest feature is the one with the largest |rho| with any aspect in the population.
"""

from typing import Any

import pandas as pd

from feedback_pipeline.learning.recommendations import recommend
from feedback_pipeline.simulation.spec import STEP_AT, WorldSpec
from feedback_pipeline.simulation.truth import true_correlations
from feedback_pipeline_tests.worlds import advice_of, learn

AGENTS, REVIEWERS, OUTPUTS = 60, 40, 500
CONFIDENCE = ("confidence_score", "min_confidence")
NEAR = 0.05
MIN_RHO = 0.2
PLANTED_STEP = 1.3
"""Points, which are logits of approval in the simulated world: the step that the threshold bars are stated for."""
WORLD: dict[str, Any] = {"agents": AGENTS, "executions": OUTPUTS, "reviewers": REVIEWERS}


def null_share(seed: int) -> float:
    """Share of the agents of a null world that get any recommendation."""
    learned = learn(WorldSpec(**WORLD, seed=seed, effects=False, tastes=False, best_length=False))
    return recommend(advice_of(learned))[0]["agent_name"].nunique() / AGENTS


def planted_hits(seed: int, step: float, *, tastes: bool) -> pd.DataFrame:
    """One row for every agent whose strongest |rho| is .2 or more: which planted things its first three recommendations name."""
    learned = learn(WorldSpec(**WORLD, seed=seed, step=step, tastes=tastes))
    recommended, _ = recommend(advice_of(learned))
    first = recommended[recommended["rank"] <= 3]
    rows = []
    for agent, truth in true_correlations(learned.world).groupby("agent_name"):
        strength = truth["rho"].abs().groupby(truth["feature"]).max()
        if strength.max() >= MIN_RHO:
            own = first[first["agent_name"] == agent].to_dict("records")
            rows.append(hits(own, str(strength.idxmax())))
    return pd.DataFrame(rows)


def hits(own: list[dict[Any, Any]], strongest: str) -> dict[str, bool]:
    """Which planted things the first three recommendations of one agent name."""
    about = [one for one in own if one["feature"] in CONFIDENCE and one["direction"] == "more"]
    threshold = any(abs(one["target"]["min"] - STEP_AT) <= NEAR for one in about)
    # The lowest confidence of an output is its mean confidence but for noise.
    same = CONFIDENCE if strongest in CONFIDENCE else (strongest,)
    found = any(one["feature"] in same for one in own)
    cut = any(one["kind"] == "set_threshold" for one in about)
    return {"threshold": threshold, "published cut": cut, "strongest feature": found, "both": threshold and found}
