"""What one learning run publishes, before it is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.pattern_frame import pattern_frame

RECOMMENDATION_COLUMNS: Final = (
    *("agent_name", "rank", "identity", "kind", "feature", "direction", "target", "expected_effect", "confidence", "q_value"),
    *("gain", "pattern_keys", "n_contents", "n_reviewers", "text", "action", "conflicts"),
)
_SHRUNKEN: Final = ("_raw", "", "_low", "_high")
SEGMENT_COLUMNS: Final = (
    *("agent_name", "family", "segment", "n", *(f"approval{suffix}" for suffix in _SHRUNKEN)),
    *("n_scored", *(f"score{suffix}" for suffix in _SHRUNKEN)),
)
TRIAL_COLUMNS: Final = ("pattern_id", "trial", "agent_name", "recommendation", "pattern_keys")
CLOSED_COLUMNS: Final = ("pattern_id", "trial", "reason")
ALLOCATION_COLUMNS: Final = ("agent_name", "family", "segment", "n", "outputs", "propensity")


def _no_patterns() -> pd.DataFrame:
    return pattern_frame({}, 0)


def _no_recommendations() -> pd.DataFrame:
    return pd.DataFrame(columns=list(RECOMMENDATION_COLUMNS))


def _no_segments() -> pd.DataFrame:
    return pd.DataFrame(columns=list(SEGMENT_COLUMNS))


def _no_trials() -> pd.DataFrame:
    return pd.DataFrame(columns=list(TRIAL_COLUMNS))


def _no_closed() -> pd.DataFrame:
    return pd.DataFrame(columns=list(CLOSED_COLUMNS))


def _no_allocation() -> pd.DataFrame:
    return pd.DataFrame(columns=list(ALLOCATION_COLUMNS))


@dataclass(frozen=True)
class AgentState:
    """One row of agent_learning_state."""

    agent_name: str
    agent_type: str | None
    status: str
    reason: str | None
    parts: dict[str, Any]
    n_reviews: int
    n_contents: int
    n_reviewers: int

    @classmethod
    def of(cls, row: dict[Any, Any], more: Mapping[str, Any] | None = None) -> "AgentState":
        """From a record of the frame `agents` and further parts; the status is that of its correlations where there are none."""
        parts = json.loads(row["parts"]) | dict(more or {})
        correlations = parts["correlations"]
        status = correlations["status"] if correlations["status"] in ("insufficient_data", "error") else "success"
        agent_type = row["agent_type"]
        return cls(
            row["agent_name"],
            agent_type if isinstance(agent_type, str) else None,
            status,
            correlations["reason"] if status != "success" else None,
            parts,
            int(row["n_reviews"]),
            int(row["n_contents"]),
            int(row["n_reviewers"]),
        )


@dataclass(frozen=True)
class Publication:
    """All that one learning run publishes.

    Attributes:
        findings: Every tested pair, as `learning.findings.find` returns them.
        evidence: agent_name and feedback_id of at most 100 reviews per agent.
        reviewers: The frames of `learning.reviewer_results.ReviewerResults`, documents as JSON text.
        consumed: Ids of feedback_changes this run has learned from.
        patterns: Every candidate of every kind but correlations, `pattern_frame.PATTERN_COLUMNS`, documents as JSON text.
        recommendations: `RECOMMENDATION_COLUMNS`, documents as Python objects: rank from 1 within the agent, identity (what its
            id is made of), target, expected_effect and action dicts, pattern_keys a list of [pattern_type, description],
            conflicts a list of texts.
        segments: As `strategy.content_strategy` returns them, `SEGMENT_COLUMNS`.
        trials: The trial of every recommendation, `TRIAL_COLUMNS`, as `trial_openings.settle` returns them; those that are not in
            the books are opened.
        closed_trials: Trials that another target has overtaken, `CLOSED_COLUMNS`.
        fleet_parts: Status and reason of each part of what was learned of all agents together.
        allocation: The next batch, as `strategy.content_strategy` returns it, `ALLOCATION_COLUMNS`.
    """

    learning_run_id: str
    dagster_run_id: str | None
    started_at: datetime
    published_at: datetime
    window_start: str | None
    window_end: str | None
    lookback_days: int | None
    n_reviews: int
    n_contents: int
    n_agents: int
    n_reviewers: int
    code_version: str
    agents: Sequence[AgentState] = field(repr=False)
    findings: pd.DataFrame = field(repr=False)
    evidence: pd.DataFrame = field(repr=False)
    reviewers: Mapping[str, pd.DataFrame] = field(repr=False)
    consumed: npt.NDArray[np.int64] = field(repr=False)
    patterns: pd.DataFrame = field(default_factory=_no_patterns, repr=False)
    recommendations: pd.DataFrame = field(default_factory=_no_recommendations, repr=False)
    trials: pd.DataFrame = field(default_factory=_no_trials, repr=False)
    closed_trials: pd.DataFrame = field(default_factory=_no_closed, repr=False)
    segments: pd.DataFrame = field(default_factory=_no_segments, repr=False)
    allocation: pd.DataFrame = field(default_factory=_no_allocation, repr=False)
    fleet_parts: Mapping[str, Any] = field(default_factory=dict, repr=False)
