"""Whether outputs of one category fare better than the agent's others: a test for every segment of a single category.

Shrinkage says how large a difference is likely to be; it is no evidence that there is one. The evidence is the correlation of
"is of this category" with the adjusted score (approval where there are no scores), with the same variance as every other finding:
clustered by content and reviewer, so that a few reviewers who like a tone do not make it better.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from feedback_pipeline.learning.correlations import MAX_R, correlate
from feedback_pipeline.learning.leniency import approvals, review_leniency
from feedback_pipeline.learning.panel import Floats, Ints, Panel, overall_scores
from feedback_pipeline.learning.pooling import confidence
from feedback_pipeline.learning.strategy import FAMILIES, MIN_OUTPUTS, segment_levels
from feedback_pipeline.learning.subject import design_of


def segment_tests(panel: Panel, bounds: dict[str, tuple[float, float]], seed: int) -> pd.DataFrame:
    """Test every segment of one category against the agent's other outputs.

    p is two-sided, from atanh(r) and its variance (`correlations.Correlations.z_variance`); a segment is tested where it and the
    rest have 20 outputs each.

    Args:
        panel: Panel whose scores are severity-adjusted.
        bounds: (low, high) by aspect, "*" for the rest.
        seed: Of the permutations of `correlate`.

    Returns:
        agent_name, family, segment, r (of belonging to the segment), p_value, confidence (1 - lfsr), n (outputs of the
        segment), n_others, n_reviewers, outcome ("score" or "approval"); tested segments only.
    """
    levels, names = segment_levels(panel)
    columns = [(d, c) for d in range(len(FAMILIES)) for c in range(int(levels[:, d].max(initial=-1)) + 1)]
    member = np.full((len(panel.outputs), len(columns)), np.nan)
    for j, (d, c) in enumerate(columns):
        member[:, j] = np.where(levels[:, d] < 0, np.nan, levels[:, d] == c)
    outcome, uses_scores = _outcomes(panel, bounds)
    design = design_of(panel, outcome, member, seed)
    member[np.isnan(design.scores[:, 0])] = np.nan
    inside, outside = _counts(member, panel.output_agent, len(panel.agents))
    found = correlate(replace(design, features=_testable(member, panel.output_agent, inside, outside)))
    r, variance, df = (values[:, :, 0] for values in (found.r, found.z_variance, found.z_df))
    z = np.arctanh(np.clip(r, -MAX_R, MAX_R))
    statistic = np.divide(z, np.sqrt(variance), out=np.full(z.shape, np.nan), where=variance > 0)
    finite = np.isfinite(df)
    tail = np.where(finite, special.stdtr(np.where(finite, df, 1.0), -np.abs(statistic)), special.ndtr(-np.abs(statistic)))
    agent, column = np.nonzero(np.isfinite(statistic))
    family, code = (np.array([pair[k] for pair in columns], dtype=np.intp)[column] for k in (0, 1))
    return pd.DataFrame(
        {
            "agent_name": panel.agents[agent],
            "family": np.array(FAMILIES, dtype=object)[family],
            "segment": np.array([names[d][a, c] for d, a, c in zip(family, agent, code, strict=True)], dtype=object),
            "r": r[agent, column],
            "p_value": 2.0 * tail[agent, column],
            "confidence": confidence(z, variance)[agent, column],
            "n": inside[agent, column].astype(np.intp),
            "n_others": outside[agent, column].astype(np.intp),
            "n_reviewers": found.n_reviewers[agent, column, 0],
            "outcome": np.where(uses_scores[agent], "score", "approval").astype(object),
        }
    ).sort_values(["agent_name", "family", "segment"], ignore_index=True)


def _outcomes(panel: Panel, bounds: dict[str, tuple[float, float]]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What each review says (M, 1), and whether that is a score, agent by agent (G,).

    The mean of its scores; or, where most reviews of the agent give none, whether it approves less its reviewer's leniency.
    """
    overall = overall_scores(panel.scores, panel.aspects, bounds)
    decided = approvals(panel) - review_leniency(panel)
    n_scores, n_decisions = (
        np.bincount(panel.review_agent[~np.isnan(values)], minlength=len(panel.agents)) for values in (overall, decided)
    )
    scored = (n_scores >= 2 * MIN_OUTPUTS) & (2 * n_scores >= n_decisions)
    return np.where(scored[panel.review_agent], overall, decided)[:, None], scored


def _counts(member: Floats, agent: Ints, n_agents: int) -> tuple[Floats, Floats]:
    """Outputs inside and outside of each segment (G, C)."""
    inside, outside = np.zeros((n_agents, member.shape[1])), np.zeros((n_agents, member.shape[1]))
    for j, column in enumerate(member.T):
        inside[:, j] = np.bincount(agent[column == 1.0], minlength=n_agents)
        outside[:, j] = np.bincount(agent[column == 0.0], minlength=n_agents)
    return inside, outside


def _testable(member: Floats, agent: Ints, inside: Floats, outside: Floats) -> Floats:
    """Membership, missing where the segment or the rest of the agent's outputs are too few for a test."""
    enough = (inside >= MIN_OUTPUTS) & (outside >= MIN_OUTPUTS)
    return np.where(enough[agent], member, np.nan)
