"""The baseline: one query per agent whose join multiplies decisions with reviews, a dict per row, a loop per pair."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from feedback_pipeline.storage.database import Connection, Database

Row = dict[str, Any]

QUERY = """
    SELECT ap.id, ap.agent_name, ap.agent_type, ap.execution_id, ap.duration, ap.input_tokens, ap.output_tokens, ap.cost,
           ap.metadata, ad.decision_point, ad.input_data, ad.output_data, ad.reasoning, ad.confidence_score,
           ad.alternatives_considered, rf.decision, rf.comments, rf.feedback_categories, rf.quality_scores,
           rf.improvement_suggestions, rf.feedback_confidence, rf.reviewer_id, rf.stage
    FROM agent_performance ap
    JOIN agent_decisions ad ON ap.id = ad.performance_id
    JOIN content_review_workflows crw ON ap.execution_id = crw.workflow_execution_id
    JOIN review_feedback rf ON crw.id = rf.workflow_id
    WHERE ap.agent_name = %s AND ap.start_time >= %s AND rf.is_training_data AND ap.status = 'success'
    ORDER BY ap.start_time DESC
"""
FEATURES = ("duration_ms", "input_tokens", "output_tokens", "cost", "confidence_score", "alternatives_count", "reasoning_length")


def read_rows(connection: Connection, agent: str) -> list[Row]:
    """Every decision x review of one agent as nested dicts."""
    return [
        {
            "performance_id": row[0],
            "agent_name": row[1],
            "metrics": {
                "duration_ms": row[4],
                "input_tokens": row[5],
                "output_tokens": row[6],
                "cost": float(row[7]) if row[7] else 0,
                "metadata": row[8] or {},
            },
            "decision": {
                "decision_point": row[9],
                "input_data": row[10] or {},
                "output_data": row[11] or {},
                "reasoning": row[12],
                "confidence": float(row[13]) if row[13] else 0,
                "alternatives": row[14] or [],
            },
            "feedback": {
                "decision": row[15],
                "comments": row[16],
                "categories": row[17] or {},
                "scores": row[18] or {},
                "suggestions": row[19] or [],
                "feedback_confidence": float(row[20]) if row[20] else 0,
                "reviewer_id": row[21],
                "review_stage": row[22],
            },
        }
        for row in connection.execute(QUERY, (agent, datetime(2000, 1, 1, tzinfo=UTC))).fetchall()
    ]


def row_features(rows: list[Row]) -> list[dict[str, float]]:
    """The seven features of each row, as a dict."""
    return [
        {
            "duration_ms": row["metrics"]["duration_ms"],
            "input_tokens": row["metrics"]["input_tokens"] or 0,
            "output_tokens": row["metrics"]["output_tokens"] or 0,
            "cost": row["metrics"]["cost"],
            "confidence_score": row["decision"]["confidence"],
            "alternatives_count": len(row["decision"]["alternatives"]),
            "reasoning_length": len(row["decision"]["reasoning"] or ""),
        }
        for row in rows
    ]


def row_correlations(rows: list[Row], features: list[dict[str, float]]) -> list[tuple[str, str, float, int]]:
    """Pearson of every pair over decision x review rows; |r| > .3 is called a finding."""
    scored: list[Row] = []
    for row, values in zip(rows, features, strict=True):
        for aspect, score in row["feedback"]["scores"].items():
            if isinstance(score, dict) and "score" in score:
                scored.append({"aspect": aspect, "score": score["score"], "features": values})
    found = []
    for aspect in {item["aspect"] for item in scored}:
        items = [item for item in scored if item["aspect"] == aspect]
        scores = [item["score"] for item in items]
        for feature in FEATURES:
            column = [item["features"][feature] for item in items]
            pairs = [(x, y) for x, y in zip(column, scores, strict=True) if x is not None and y is not None]
            if len(pairs) >= 5:
                x, y = zip(*pairs, strict=True)
                with np.errstate(invalid="ignore", divide="ignore"):
                    r = np.corrcoef(x, y)[0, 1]
                if not np.isnan(r):
                    found.append((feature, aspect, float(r), len(pairs)))
    return found


def store_rows(connection: Connection, findings: dict[str, list[tuple[str, str, float, int]]]) -> None:
    """One INSERT per finding."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS baseline (agent text, feature text, aspect text, r float8, n int)")
    for agent, rows in findings.items():
        for row in rows:
            connection.execute("INSERT INTO baseline VALUES (%s, %s, %s, %s, %s)", (agent, *row))


def agents_of(database: Database) -> list[str]:
    """Names of the agents to learn for."""
    with database.connect() as connection:
        return [name for (name,) in connection.execute("SELECT DISTINCT agent_name FROM agent_performance ORDER BY 1")]


def empty_findings() -> dict[str, list[tuple[str, str, float, int]]]:
    """Findings by agent."""
    return defaultdict(list)
