"""The correlations an estimator should find: those of the population of reviewers and outputs, free of severity."""

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from feedback_pipeline.simulation import spec as model
from feedback_pipeline.simulation.judging import judge, personal_points
from feedback_pipeline.simulation.names import agent_names
from feedback_pipeline.simulation.outputs import draw_outputs
from feedback_pipeline.simulation.population import Agents, Floats, draw_agents, draw_reviewers
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import World


def true_correlations(world: World, *, draws: int = 20_000) -> pd.DataFrame:
    """Spearman correlation of every feature with every aspect in the population of each agent.

    Monte Carlo over ``draws`` new outputs an agent, each judged by as many reviewers as in the data, every one new from the
    population, so neither the panel's tastes nor its severities are in it; an output's value is the mean of its scores less the
    true severities. Standard error about ``1 / sqrt(draws)`` at most. Exactly 0 where no cause is planted: everything in a null
    world, and the features of ``spec.NULLS``.

    Args:
        world: the world; only its spec is used, results are kept for the last few specs.
        draws: outputs drawn for each agent.

    Returns:
        One row per agent, feature and aspect: agent_name, feature, aspect, rho.
    """
    spec = world.spec
    rho = _correlations(spec, draws).copy()
    agents = pd.Series(agent_names(spec.agents), dtype="str")
    keys = pd.MultiIndex.from_product([agents, model.FEATURES, model.ASPECTS], names=["agent_name", "feature", "aspect"])
    return pd.DataFrame({"rho": rho.ravel()}, index=keys).reset_index()


@lru_cache(maxsize=8)
def _correlations(spec: WorldSpec, draws: int) -> Floats:
    """(agents, features, aspects) correlations."""
    agents = draw_agents(spec)
    rho = np.zeros((spec.agents, len(model.FEATURES), len(model.ASPECTS)))
    # Without planted effects the outputs differ by hidden quality and by the inverted U alone: the length is symmetric around its
    # top, and so is everything that goes with the length.
    for agent in range(spec.agents) if spec.effects else ():
        rho[agent] = _one_agent(spec, agents, agent, draws)
    rho[:, [model.FEATURES.index(name) for name in model.NULLS]] = 0
    return rho


def _one_agent(spec: WorldSpec, agents: Agents, agent: int, draws: int) -> Floats:
    stream = spec.generator("truth", agent)
    only = slice(agent, agent + 1)
    alone = Agents(
        agents.level[only], agents.slopes[only], agents.size_shift[only], agents.reasoning_shift[only], agents.content_type[only]
    )
    outputs = draw_outputs(spec, alone, stream, each=draws)
    count = np.minimum(1 + stream.poisson(spec.reviews_per_content, draws), spec.reviewers)
    start = np.concatenate([[0], np.cumsum(count)])
    output = np.repeat(np.arange(draws), count)
    population = draw_reviewers(spec, "truth reviewers", count=output.size, block=agent)
    points = population.severity + personal_points(outputs, population, output, np.arange(output.size))
    points += spec.drift * np.repeat(stream.random(draws) - 0.5, count)
    scores = judge(outputs.level[output] + points[:, None], stream) - population.severity[:, None]
    value = np.add.reduceat(scores, start[:-1]) / count[:, None]
    return _spearman(np.column_stack(list(outputs.features.values())), value)


def _spearman(x: Floats, y: Floats) -> Floats:
    def standard_ranks(values: Floats) -> Floats:
        ranks = rankdata(values, axis=0)
        ranks -= ranks.mean(axis=0)
        scaled: Floats = ranks / np.linalg.norm(ranks, axis=0)
        return scaled

    return standard_ranks(x).T @ standard_ranks(y)
