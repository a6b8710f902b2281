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


def _agent_summary(panel: Panel) -> pd.DataFrame:
    """One row per agent: agent_name, agent_type (latest seen), n_reviews, n_contents (outputs), n_reviewers."""
    agent = panel.review_agent
    n_agents = len(panel.agents)
    known = panel.review_reviewer != UNKNOWN_REVIEWER
    pairs = np.unique(agent[known] * max(len(panel.reviewers), 1) + panel.review_reviewer[known])
    return pd.DataFrame(
        {
            "agent_name": panel.agents,
            "agent_type": _latest_type(panel),
            "n_reviews": np.bincount(agent, minlength=n_agents),
            "n_contents": np.bincount(panel.output_agent, minlength=n_agents),
            "n_reviewers": np.bincount(pairs // max(len(panel.reviewers), 1), minlength=n_agents),
        }
    )


def _latest_type(panel: Panel) -> pd.Series:
    """Type of each agent in its most recently reviewed output that states one."""
    code, types = pd.factorize(panel.outputs["agent_type"], sort=True)
    moment = panel.reviews["reviewed_at"].astype(np.int64).to_numpy(dtype=np.int64)
    newest = np.full(len(panel.outputs), np.iinfo(np.int64).min)
    np.maximum.at(newest, panel.review_output, moment)
    order = np.lexsort((code, newest, panel.output_agent))
    order = order[code[order] >= 0]
    latest = np.full(len(panel.agents), -1)
    latest[panel.output_agent[order]] = code[order]
    return pd.Series(np.array([*types, None], dtype=object)[latest])


def correlation_part(n_contents: int, n_scored: int, n_published: int) -> dict[str, Any]:
    """Status of the correlations of one agent, with the reason where nothing can be published."""
    if n_contents < MIN_TESTED:
        return {"status": INSUFFICIENT, "reason": f"{n_contents} reviewed outputs, {MIN_TESTED} needed", "published": 0}
    if n_scored == 0:
        return {"status": UNDEFINED, "reason": "no scores, only decisions", "published": 0}
    if n_scored < MIN_PUBLISHED:
        return {"status": TENTATIVE, "reason": f"{n_scored} scored outputs, {MIN_PUBLISHED} needed to publish", "published": 0}
    return {"status": SUCCESS, "reason": None, "published": n_published}


def agent_states(
    panel: Panel, findings: pd.DataFrame, severity: dict[str, dict[str, Any]], broken: dict[str, str]
) -> pd.DataFrame:
    """One row per agent: agent_name, agent_type, n_reviews, n_contents (outputs), n_reviewers, parts (a dict of statuses).

    Args:
        panel: Panel whose scores are adjusted.
        findings: What `findings.find` returned for it.
        severity: What `severity_parts` returned for it.
        broken: Reason for each agent whose correlations failed.
    """
    summary = _agent_summary(panel)
    has_score = (~np.isnan(panel.scores)).any(axis=1)
    scored = np.unique(panel.review_output[has_score])
    n_scored = np.bincount(panel.output_agent[scored], minlength=len(panel.agents))
    published = findings[findings["published"]].groupby("agent_name").size()
    parts = [
        {"severity": severity[agent], "correlations": correlation_part(n_contents, int(n), int(published.get(agent, 0)))}
        for agent, n_contents, n in zip(panel.agents, summary["n_contents"].tolist(), n_scored, strict=True)
    ]
    for agent, part in zip(panel.agents, parts, strict=True):
        if agent in broken:
            part["correlations"] = {"status": ERROR, "reason": broken[agent], "published": 0}
    return summary.assign(parts=pd.Series(parts, dtype=object))


def review_sample(panel: Panel, seed: int, most: int = 100) -> pd.DataFrame:
    """A seeded sample of at most `most` reviews of each agent: agent_name, feedback_id."""
    agent = panel.review_agent
    order = np.lexsort((np.random.default_rng(seed).random(len(agent)), agent))
    starts = np.searchsorted(agent[order], np.arange(len(panel.agents)))
    kept = np.sort(order[np.arange(len(order)) - starts[agent[order]] < most])
    ids = panel.reviews["feedback_id"].to_numpy(dtype=object)[kept]
    return pd.DataFrame({"agent_name": panel.agents[agent[kept]], "feedback_id": ids})
