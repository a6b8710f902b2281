"""The columns of the sources and of the days, and which source column each comes from.

Belongs here: names, types and meanings for people. Does not belong here: how a value is computed (storage/ and learning/), and
what is learned from the days (learned_columns).
"""

import re
from collections.abc import Mapping
from typing import Final

import dagster as dg

from feedback_pipeline.learning.features import FEATURES, OUTPUT_KEYS

SourceColumn = tuple[str, str]

SOURCE_COLUMNS: Final[dict[str, list[tuple[str, str, str]]]] = {
    "agent_performance": [
        ("id", "uuid", "one run of one agent"),
        ("agent_name", "string", "who wrote the output"),
        ("agent_type", "string", "kind of agent; the latest seen counts"),
        ("execution_id", "string", "the execution this run belongs to"),
        ("start_time", "timestamp", "start of the run; the last successful one of an execution counts"),
        ("end_time", "timestamp", "end of the run"),
        ("duration", "float", "milliseconds"),
        ("status", "string", "success, or why not"),
        ("input_tokens", "int", "tokens read"),
        ("output_tokens", "int", "tokens written"),
        ("cost", "float", "USD"),
        ("metadata", "json", 'any number under "features" becomes a feature'),
    ],
    "agent_decisions": [
        ("id", "uuid", "one decision of a run"),
        ("performance_id", "uuid", "the run it belongs to"),
        ("decision_point", "string", "the step of the agent's work"),
        ("input_data", "json", "what the agent was asked for: keywords, content type, tone, channel"),
        ("output_data", "json", "what it decided; the text under content"),
        ("reasoning", "string", "the agent's own words"),
        ("confidence_score", "float", "0 to 1, by the agent"),
        ("alternatives_considered", "json", "list of alternatives"),
        ("created_at", "timestamp", "order of the decisions"),
    ],
    "content_review_workflows": [
        ("id", "uuid", "one review workflow"),
        ("content_id", "uuid", "the content under review"),
        ("workflow_execution_id", "string", "the execution that wrote it"),
        ("created_at", "timestamp", "start of the review"),
    ],
    "review_feedback": [
        ("id", "uuid", "one review"),
        ("workflow_id", "uuid", "the workflow it belongs to"),
        ("content_id", "uuid", "the content reviewed"),
        ("reviewer_id", "string", "who reviewed; may be missing"),
        ("stage", "string", "stage of the review"),
        ("decision", "string", "approve, reject, request_changes; missing = comment only"),
        ("comments", "string", "free text; never leaves Postgres"),
        ("reviewed_at", "timestamp", "its UTC day is the partition"),
        ("feedback_categories", "json", "scores by aspect, read where quality_scores has none"),
        ("quality_scores", "json", "scores by aspect"),
        ("improvement_suggestions", "list<string>", "free text; never leaves Postgres"),
        ("feedback_confidence", "float", "0 to 1, by the reviewer"),
        ("is_training_data", "bool", "only these are learned from"),
    ],
}

_HUMAN_FEEDBACK: Final[list[tuple[str, str, str, list[SourceColumn]]]] = [
    ("agent_name", "string", "who wrote the output", [("agent_performance", "agent_name")]),
    (
        "execution_id",
        "string",
        "the execution; with agent_name the key of an output",
        [("content_review_workflows", "workflow_execution_id")],
    ),
    (
        "content_id",
        "string",
        "the content reviewed",
        [("review_feedback", "content_id"), ("content_review_workflows", "content_id")],
    ),
    ("feedback_id", "string", "the review", [("review_feedback", "id")]),
    ("reviewer_id", "string", "who reviewed; may be missing", [("review_feedback", "reviewer_id")]),
    ("stage", "string", "stage of the review", [("review_feedback", "stage")]),
    ("decision", "string", "approve, reject or request_changes; missing = comment only", [("review_feedback", "decision")]),
    ("reviewed_at", "timestamp", "when; its UTC day is the partition", [("review_feedback", "reviewed_at")]),
    ("is_training_data", "bool", "only these are learned from", [("review_feedback", "is_training_data")]),
    ("feedback_confidence", "float", "0 to 1, by the reviewer", [("review_feedback", "feedback_confidence")]),
    (
        "aspects",
        "list<string>",
        "aspects scored",
        [("review_feedback", "quality_scores"), ("review_feedback", "feedback_categories")],
    ),
    (
        "scores",
        "list<float>",
        "their scores, raw, parallel to aspects",
        [("review_feedback", "quality_scores"), ("review_feedback", "feedback_categories")],
    ),
]

_OUTPUT_COLUMNS: Final[dict[str, tuple[str, str, list[SourceColumn]]]] = {
    "agent_name": ("string", "who wrote the output", [("agent_performance", "agent_name")]),
    "execution_id": ("string", "the execution", [("agent_performance", "execution_id")]),
    "content_id": ("string", "the content reviewed", [("content_review_workflows", "content_id")]),
    "agent_type": ("string", "kind of agent", [("agent_performance", "agent_type")]),
    "retry_count": ("int", "runs of the agent in this execution before the one that counts", [("agent_performance", "id")]),
}


def source_schema(table: str) -> dg.TableSchema:
    """Columns of one of the four source tables."""
    return table_schema(SOURCE_COLUMNS[table])


def human_feedback_schema() -> dg.TableSchema:
    """Columns of a day of human_feedback."""
    return table_schema([(name, kind, text) for name, kind, text, _ in _HUMAN_FEEDBACK])


def feature_table_schema() -> dg.TableSchema:
    """Columns of a day of feature_table; features an agent declares itself come on top."""
    keys = [(name, *_OUTPUT_COLUMNS[name][:2]) for name in OUTPUT_KEYS]
    types = {"numeric": "float", "category": "string"}
    features = [(f.name, types[f.kind], f"{f.source}{f' [{f.unit}]' if f.unit else ''}") for f in FEATURES]
    return table_schema(keys + features)


def human_feedback_lineage() -> dg.TableColumnLineage:
    """Source columns of every column of human_feedback."""
    return _lineage({name: sources for name, _, _, sources in _HUMAN_FEEDBACK})


def feature_table_lineage() -> dg.TableColumnLineage:
    """Source columns of every column of feature_table."""
    keys = {name: _OUTPUT_COLUMNS[name][2] for name in OUTPUT_KEYS}
    return _lineage(keys | {feature.name: _feature_sources(feature.source) for feature in FEATURES})


def _feature_sources(described: str) -> list[SourceColumn]:
    """The source columns whose names stand in the registry's own description of where a feature is read from."""
    words = set(re.findall(r"\w+", described))
    found = [
        (table, column)
        for table, columns in SOURCE_COLUMNS.items()
        if table in words
        for column, _, _ in columns
        if column in words
    ]
    return found or [("agent_decisions", "id")]


def table_schema(columns: list[tuple[str, str, str]]) -> dg.TableSchema:
    """A schema out of name, type and meaning of each column."""
    return dg.TableSchema([dg.TableColumn(name, kind, description=text) for name, kind, text in columns])


def _lineage(sources: Mapping[str, list[SourceColumn]]) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=dg.AssetKey(table), column_name=source) for table, source in parents]
            for column, parents in sources.items()
        }
    )
