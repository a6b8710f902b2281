"""How readily each reviewer approves: decisions with it taken out, as scores have severity taken out.

leniency_r = sum over r's decisions (approves - share approved of that agent's decisions) / (n_r + 2): a share, positive =
approves more than others do of the same agents' outputs, pulled to 0 for those who decided little.
"""

from typing import Final

import numpy as np

from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Panel, group_sums, output_means

_PRIOR: Final = 2.0  # decisions


def approvals(panel: Panel) -> Floats:
    """1 where a review approves, 0 where it does not, NaN without a decision (M,)."""
    decision = panel.reviews["decision"]
    approves = (decision == "approve").to_numpy(dtype=bool, na_value=False)
    return np.where(decision.notna().to_numpy(), approves.astype(np.float64), np.nan)


def leniency(panel: Panel) -> Floats:
    """Leniency of each reviewer (R,), 0 for one who decided nothing."""
    approves, agent = approvals(panel), panel.review_agent
    decided = ~np.isnan(approves)
    n_agents, n = len(panel.agents), len(panel.reviewers)
    count = np.bincount(agent[decided], minlength=n_agents)
    share = group_sums(agent[decided], approves[decided], n_agents) / np.maximum(count, 1)
    known = decided & (panel.review_reviewer != UNKNOWN_REVIEWER)
    reviewer = panel.review_reviewer[known]
    excess = group_sums(reviewer, approves[known] - share[agent[known]], n)
    return excess / (np.bincount(reviewer, minlength=n) + _PRIOR)


def review_leniency(panel: Panel) -> Floats:
    """Leniency of who decided each review (M,); 0 for the unknown, NaN without a decision."""
    own = np.append(leniency(panel), 0.0)[panel.review_reviewer]
    return np.where(np.isnan(approvals(panel)), np.nan, own)


def output_leniency(panel: Panel) -> Floats:
    """Mean leniency of those who decided on each output (N,), NaN without a decision."""
    mean = output_means(review_leniency(panel)[:, None], panel.review_output, len(panel.outputs))[:, 0]
    # The same reviewers in another order are the same reviewers.
    return np.round(mean, 12)
