"""The four tables an agent platform writes: external assets, never materialized here."""

import dagster as dg

from feedback_pipeline.orchestration.columns import SOURCE_COLUMNS, source_schema
from feedback_pipeline.orchestration.ownership import OWNERS

_DESCRIPTIONS = {
    "agent_performance": "Runs of the agents: one row for every attempt of an agent in an execution.",
    "agent_decisions": "What an agent decided on the way, with its reasoning, its confidence and the text it wrote.",
    "content_review_workflows": "Review workflows: which content of which execution is under review.",
    "review_feedback": "Reviews by people: a decision, scores by aspect, comments. The comments never leave Postgres.",
}

assets = [
    dg.AssetSpec(
        table,
        group_name="source",
        description=_DESCRIPTIONS[table],
        kinds={"postgres", "table"},
        owners=OWNERS,
        code_version="1",
        metadata={"dagster/column_schema": source_schema(table), "dagster/table_name": f"public.{table}"},
    )
    for table in SOURCE_COLUMNS
]
