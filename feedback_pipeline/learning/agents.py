"""The status of each agent: what could be learned, and the reason where it could not."""

from typing import Any

import numpy as np
import pandas as pd

from feedback_pipeline.learning.adjustment import Adjustment
from feedback_pipeline.learning.correlations import MIN_TESTED
from feedback_pipeline.learning.findings import MIN_PUBLISHED
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Panel

SUCCESS, INSUFFICIENT, ERROR = "success", "insufficient_data", "error"
TENTATIVE, UNDEFINED = "tentative", "undefined"


def severity_parts(panel: Panel, adjustment: Adjustment) -> dict[str, dict[str, Any]]:
    """What is known of the severity of each agent's reviewers: {agent_name: {status, reason, comparable, method}}.

    `comparable` is false where the scores of some reviewers of the agent cannot be compared with those of most others.
    """
    overall = adjustment.severities[-1]
    known = panel.review_reviewer != UNKNOWN_REVIEWER
    agent = panel.review_agent
    n = np.bincount(agent[known], minlength=len(panel.agents))
    compared = np.bincount(agent[known], weights=overall.comparable[panel.review_reviewer[known]], minlength=len(panel.agents))
    parts: dict[str, dict[str, Any]] = {}
    for name, reviews, in_common in zip(panel.agents, n, compared, strict=True):
        estimated = bool(reviews) and overall.method != "none"
        parts[name] = {
            "status": SUCCESS if estimated else UNDEFINED,
            "reason": overall.reason if reviews else "no known reviewer",
            "comparable": bool(reviews) and bool(in_common == reviews),
            "method": overall.method,
        }
    return parts


def agent_summary(panel: Panel) -> pd.DataFrame:
    """One row per agent: agent_type (latest seen), n_reviews, n_contents (outputs), n_reviewers."""
    agent = panel.review_agent
    n_agents = len(panel.agents)
    known = panel.review_reviewer != UNKNOWN_REVIEWER
    pairs = np.unique(np.column_stack([agent[known], panel.review_reviewer[known]]), axis=0)
    return pd.DataFrame(
        {
            "agent_name": panel.agents,
            "agent_type": _latest_type(panel),
            "n_reviews": np.bincount(agent, minlength=n_agents),
            "n_contents": np.bincount(panel.output_agent, minlength=n_agents),
            "n_reviewers": np.bincount(pairs[:, 0].astype(np.intp), minlength=n_agents),
        }
    )


def _latest_type(panel: Panel) -> pd.Series:
    """Type of each agent in its most recently reviewed output that states one."""
    newest = panel.reviews["reviewed_at"].groupby(panel.review_output).max()
    types = pd.DataFrame({"agent": panel.output_agent, "type": panel.outputs["agent_type"], "moment": newest.to_numpy()})
    stated = types[types["type"].notna()].sort_values(["agent", "moment", "type"], kind="stable")
    return stated.groupby("agent")["type"].last().reindex(range(len(panel.agents)))


def correlation_part(n_contents: int, n_scored: int, n_published: int) -> dict[str, Any]:
    """Status of the correlations of one agent, with the reason where nothing can be published."""
    if n_contents < MIN_TESTED:
        return {"status": INSUFFICIENT, "reason": f"{n_contents} reviewed outputs, {MIN_TESTED} needed", "published": 0}
    if n_scored == 0:
        return {"status": UNDEFINED, "reason": "no scores, only decisions", "published": 0}
    if n_scored < MIN_PUBLISHED:
        return {"status": TENTATIVE, "reason": f"{n_scored} scored outputs, {MIN_PUBLISHED} needed to publish", "published": 0}
    return {"status": SUCCESS, "reason": None, "published": n_published}
