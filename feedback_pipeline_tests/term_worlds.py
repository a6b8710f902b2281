"""A world of texts as a panel, as what was read of its texts, and as rows of the source tables."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from feedback_pipeline.learning.adjustment import adjust
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.terms import MIN_WITH, TermDocuments, TermTexts
from feedback_pipeline.simulation.term_texts import TermWorld
from feedback_pipeline.storage.bulk import copy_rows
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.tokens import Tokens

BOUNDS = {"*": (0.0, 10.0)}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def identifier(*parts: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))))


def agent_names(world: TermWorld) -> np.ndarray[Any, np.dtype[np.object_]]:
    return np.array([f"agent-{code:03d}" for code in range(world.spec.agents)], dtype=object)


def panel_of(world: TermWorld, *, stages: Sequence[str] = ("quality_check",), decisions: bool = True) -> Panel:
    """The adjusted panel; reviews take the stages in turn."""
    n = len(world.score)
    outputs = pd.DataFrame(
        {
            "agent_name": agent_names(world)[world.agent],
            "execution_id": [f"run-{i:06d}" for i in range(len(world.texts))],
            "content_id": [identifier("content", i) for i in range(len(world.texts))],
            "agent_type": "writer",
        }
    )
    reviews = outputs[["agent_name", "execution_id", "content_id"]].iloc[world.review_output].reset_index(drop=True)
    reviews = reviews.assign(
        feedback_id=[identifier("review", i) for i in range(n)],
        reviewer_id=[f"rev-{code:02d}" for code in world.review_reviewer],
        stage=[stages[i % len(stages)] for i in range(n)],
        decision=pd.Series(np.where(world.score > 6, "approve", "reject") if decisions else None, dtype=object, index=range(n)),
        reviewed_at=pd.Timestamp(NOW),
        is_training_data=True,
    )
    panel = build_panel(reviews, world.score[:, None], ("quality",), outputs)
    return replace(panel, scores=adjust(panel, BOUNDS).adjusted[:, :1])


def documents_of(
    panel: Panel,
    rows: Sequence[int],
    texts: Sequence[str],
    groups: tuple[str, ...] = (),
    group: Sequence[int] = (),
    *,
    reviews: bool = False,
) -> TermDocuments:
    """Documents as they would have been read; `rows` are ascending codes of the panel."""
    tokens = Tokens()
    tokens.add(pa.array(texts, pa.string()))
    row = np.array(rows, dtype=np.intp)
    agent = (panel.review_agent if reviews else panel.output_agent)[row]
    codes = np.array(group, dtype=np.intp) if len(group) else np.full(len(row), -1, dtype=np.intp)
    presence = tokens.presence(np.arange(len(row)), len(row), MIN_WITH)
    return TermDocuments(row, codes, groups, presence, np.bincount(agent, minlength=len(panel.agents)))


def texts_of(panel: Panel, **sources: TermDocuments) -> TermTexts:
    """These sources; the others are empty."""
    none = documents_of(panel, [], [])
    return TermTexts(**{name: sources.get(name, none) for name in ("reasoning", "points", "comments", "issues")})


def reasoning_of(world: TermWorld, panel: Panel) -> TermTexts:
    return texts_of(panel, reasoning=documents_of(panel, range(len(world.texts)), world.texts))


def write(
    connection: Connection,
    panel: Panel,
    *,
    reasonings: Iterable[tuple[int, str | None, str | None]] = (),
    comments: Sequence[str | None] | None = None,
    quality: Sequence[Any] | None = None,
    categories: Sequence[Any] | None = None,
) -> None:
    """Write the panel into the source tables.

    Args:
        connection: Of a migrated database.
        panel: Its outputs and reviews.
        reasonings: Decisions as (output, decision point, reasoning).
        comments, quality, categories: Of each review; None = none.
    """
    executions = panel.outputs["execution_id"].tolist()
    agents = panel.agents[panel.output_agent]
    runs = ((identifier("run", e), a, e, NOW, "success") for a, e in zip(agents, executions, strict=True))
    copy_rows(connection, "agent_performance", runs, ["id", "agent_name", "execution_id", "start_time", "status"])
    flows = ((identifier("flow", e), e) for e in executions)
    copy_rows(connection, "content_review_workflows", flows, ["id", "workflow_execution_id"])
    decisions = (
        (identifier("decision", i), identifier("run", executions[output]), point, reasoning)
        for i, (output, point, reasoning) in enumerate(reasonings)
    )
    copy_rows(connection, "agent_decisions", decisions, ["id", "performance_id", "decision_point", "reasoning"])
    n = len(panel.reviews)
    flow = [identifier("flow", executions[output]) for output in panel.review_output]
    documents = [[None if d is None else json.dumps(d) for d in column or [None] * n] for column in (quality, categories)]
    rows = zip(panel.reviews["feedback_id"], flow, panel.reviews["reviewer_id"], panel.reviews["stage"], comments or [None] * n,
               [NOW] * n, *documents, strict=True)  # fmt: skip
    names = ["id", "workflow_id", "reviewer_id", "stage", "comments", "reviewed_at", "quality_scores", "feedback_categories"]
    copy_rows(connection, "review_feedback", rows, names)
