"""What one learning run publishes, before it is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


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
    def of(cls, row: dict[Any, Any]) -> "AgentState":
        """From a record of the frame `agents`; the status is that of its correlations where there are none."""
        parts = json.loads(row["parts"])
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
