"""Reviewers who want the opposite of what is recommended to an agent whose outputs they review.

That somebody is strict is no advice; that somebody who reads much of an agent's work likes shorter texts where longer ones are
recommended is: whoever follows the recommendation should know, and ask.
"""

import json
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import special

from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Panel
from feedback_pipeline.learning.pooling import q_values

MIN_SHARE: Final = 0.1
MIN_REVIEWS: Final = 10
MAX_Q: Final = 0.05


def reviewer_shares(panel: Panel) -> pd.DataFrame:
    """Known reviewers with ten reviews and a tenth of an agent's reviews or more: agent_name, reviewer_id, n, share."""
    known = panel.review_reviewer != UNKNOWN_REVIEWER
    agent, width = panel.review_agent, max(len(panel.reviewers), 1)
    key, n = np.unique(agent[known] * width + panel.review_reviewer[known], return_counts=True)
    owner, reviewer = np.divmod(key, width)
    share = n / np.maximum(np.bincount(agent, minlength=len(panel.agents))[owner], 1)
    kept = (n >= MIN_REVIEWS) & (share >= MIN_SHARE)
    return pd.DataFrame(
        {
            "agent_name": panel.agents[owner[kept]],
            "reviewer_id": panel.reviewers[reviewer[kept]],
            "n": n[kept],
            "share": share[kept],
        }
    )


def reviewer_labels(reviewer_ids: pd.Series) -> dict[str, str]:
    """R1, R2, ... in the order of the ids: what texts and pictures call each reviewer."""
    return {name: f"R{place}" for place, name in enumerate(sorted(reviewer_ids), start=1)}


def contradicting_reviewers(recommended: pd.DataFrame, shares: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Reviewers whose own slope of a recommended feature has the other sign.

    The own slope is the population's plus the reviewer's difference; p is two-sided with the difference's standard error.
    Slopes that are not reported (the sign of the difference is not 95 % sure) count as tests that found nothing. A contradiction
    has q <= .05 over the agent's reviewers x recommended features.

    Args:
        recommended: agent_name, feature, direction (+1, -1): numeric features alone.
        shares: Rows of `reviewer_shares`.
        models: reviewer_id and style_preferences (JSON text).

    Returns:
        agent_name, feature, direction (the recommended one), reviewer_id, n, share, slope, se, unit ("points per standard
        deviation", or logits of approval), q_value, confidence (1 - lfsr: the probability of the slope's sign).
    """
    styles = {name: json.loads(text) for name, text in zip(models["reviewer_id"], models["style_preferences"], strict=True)}
    pairs = recommended.merge(shares, on="agent_name")
    slopes = [_slope(styles, reviewer, feature) for reviewer, feature in zip(pairs["reviewer_id"], pairs["feature"], strict=True)]
    pairs["slope"], pairs["se"] = np.array(slopes, dtype=np.float64).reshape(-1, 2).T
    pairs["unit"] = [_unit(styles, reviewer) for reviewer in pairs["reviewer_id"]]
    statistic = np.abs(pairs["slope"].to_numpy()) / pairs["se"].to_numpy()
    p = np.where(np.isfinite(statistic), 2.0 * special.ndtr(-statistic), 1.0)
    q = np.full(len(pairs), np.nan)
    for rows in pairs.groupby("agent_name").indices.values():
        q[rows] = q_values(p[rows][None, :])[0]
    pairs["q_value"], pairs["confidence"] = q, special.ndtr(statistic)
    return pairs[(q <= MAX_Q) & (pairs["slope"] * pairs["direction"] < 0)].reset_index(drop=True)


def _slope(styles: dict[str, Any], reviewer_id: str, feature: str) -> tuple[float, float]:
    slope = styles.get(reviewer_id, {}).get("slopes", {}).get(feature)
    return (np.nan, np.nan) if slope is None else (slope["population"] + slope["difference"], slope["se"])


def _unit(styles: dict[str, Any], reviewer_id: str) -> str:
    """The unit without the words that set a difference off from the population."""
    return str(styles.get(reviewer_id, {}).get("unit") or "").split(" of the feature")[0]
