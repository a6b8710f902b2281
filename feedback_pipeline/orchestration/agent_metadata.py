"""Metadata of the report of one agent: the page, and its tables for whoever wants the numbers."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from feedback_pipeline.orchestration.learned_columns import ALLOCATION, CORRELATIONS, PATTERNS, REPORT, SEGMENTS
from feedback_pipeline.orchestration.metadata import table
from feedback_pipeline.orchestration.plain_text import one_line

if TYPE_CHECKING:
    from feedback_pipeline.orchestration.agent_documents import AgentDocuments


def describe_agent(agent: "AgentDocuments") -> dict[str, Any]:
    """Status, the page with all pictures, and what stands in its tables as tables."""
    from feedback_pipeline.orchestration import agent_frames as frames
    from feedback_pipeline.orchestration.agent_page import page

    state, recommendations = agent.patterns, frames.recommended(agent)
    return {
        "report": dg.MetadataValue.md(page(agent)),
        "agent": one_line(agent.agent_name),
        "status": state["status"],
        **({"reason": one_line(state["reason"])} if state["reason"] else {}),
        "learning run": state["learning_run_id"],
        "computed at": state["computed_at"],
        "patterns with confidence above .5": agent.improvements["total_patterns"],
        "patterns with confidence above .8": agent.improvements["high_confidence_patterns"],
        "dagster/row_count": len(recommendations),
        "recommendations": table(recommendations, REPORT),
        "correlations": table(frames.findings_of(agent), CORRELATIONS),
        "patterns": table(frames.patterns_of(agent), PATTERNS),
        "segments": table(frames.segments_of(agent), SEGMENTS),
        "next allocation": table(frames.allocation_of(agent), ALLOCATION),
    }
