"""The tables of a day: their schemas, their order, and what is refused before anything is written."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.features import CATEGORIES, DECISION_FEATURES, NUMERIC_FEATURES

HUMAN_FEEDBACK: Final = pa.schema(
    [
        pa.field("agent_name", pa.string(), nullable=False),
        pa.field("execution_id", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("feedback_id", pa.string(), nullable=False),
        pa.field("reviewer_id", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("reviewed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("is_training_data", pa.bool_(), nullable=False),
        pa.field("feedback_confidence", pa.float64()),
        pa.field("aspects", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float64())),
    ]
)
"""One row per (output, review)."""

FEATURE_TABLE: Final = pa.schema(
    [
        pa.field("agent_name", pa.string(), nullable=False),
        pa.field("execution_id", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("agent_type", pa.string()),
        pa.field("retry_count", pa.int32(), nullable=False),
        *(pa.field(name, pa.float64()) for name in NUMERIC_FEATURES),
        *(pa.field(name, pa.string()) for name in CATEGORIES),
    ]
)
"""One row per output; custom features follow as further float64 columns."""

DECISION_POINTS: Final = pa.schema(
    [
        pa.field("agent_name", pa.string(), nullable=False),
        pa.field("execution_id", pa.string(), nullable=False),
        pa.field("decision_point", pa.string(), nullable=False),
        *(pa.field(name, pa.float64()) for name in DECISION_FEATURES),
    ]
)
"""One row per output and decision point."""

REVIEW_ORDER: Final = ("agent_name", "execution_id", "reviewed_at", "feedback_id")
OUTPUT_ORDER: Final = ("agent_name", "execution_id")
_REVIEW_KEY: Final = ("agent_name", "execution_id", "feedback_id")
_POINT_KEY: Final = ("agent_name", "execution_id", "decision_point")


def score_matrix(
    aspects: pa.ChunkedArray | pa.Array, scores: pa.ChunkedArray | pa.Array
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Spread the parallel lists of aspects and scores over columns.

    Args:
        aspects: Lists of aspect names, one list per row, without repetition inside a list.
        scores: Lists of the same lengths.

    Returns:
        Matrix (rows, K), NaN = no score, and the K aspect names, sorted.
    """
    names, values = (pa.chunked_array(x) if isinstance(x, pa.Array) else x for x in (aspects, scores))
    lengths = pc.fill_null(pc.list_value_length(names), 0).to_numpy()
    encoded = pc.dictionary_encode(pc.list_flatten(names)).unify_dictionaries().combine_chunks()
    labels = encoded.dictionary.to_pylist() if len(encoded) else []
    order = np.argsort(np.array(labels, dtype=object)) if labels else np.empty(0, dtype=np.intp)
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    matrix = np.full((len(lengths), len(labels)), np.nan)
    if labels:
        rows = np.repeat(np.arange(len(lengths)), lengths)
        matrix[rows, rank[encoded.indices.to_numpy()]] = pc.list_flatten(values).to_numpy()
    return matrix, tuple(labels[i] for i in order)


def in_order(table: pa.Table, keys: Iterable[str]) -> pa.Table:
    """Sort by some columns, ascending, stable; the result has one chunk per column."""
    return table.sort_by([(key, "ascending") for key in keys]).combine_chunks()


def checked_reviews(table: pa.Table) -> pa.Table:
    """Return human_feedback with exact types and in canonical order.

    Raises:
        StoreError: columns, types, nulls or repeated keys that the schema does not allow.
    """
    if table.schema.names != HUMAN_FEEDBACK.names:
        raise StoreError(
            f"human_feedback must have the columns {HUMAN_FEEDBACK.names}, got {table.schema.names}; nothing was written"
        )
    return in_order(_cast(table, HUMAN_FEEDBACK, "human_feedback", _REVIEW_KEY), REVIEW_ORDER)


def checked_outputs(table: pa.Table) -> pa.Table:
    """Return feature_table with exact types, custom features last by name, and in canonical order.

    Raises:
        StoreError: missing columns, types, nulls or repeated keys that the schema does not allow.
    """
    missing = [name for name in FEATURE_TABLE.names if name not in table.column_names]
    if missing:
        raise StoreError(f"feature_table lacks the columns {missing}; nothing was written")
    custom = [name for name in table.column_names if name not in FEATURE_TABLE.names]
    schema = pa.schema([*FEATURE_TABLE, *(pa.field(name, pa.float64()) for name in sorted(custom))])
    return in_order(_cast(table.select(schema.names), schema, "feature_table", OUTPUT_ORDER), OUTPUT_ORDER)


def checked_decision_points(table: pa.Table) -> pa.Table:
    """Return decision_points with exact types and in canonical order.

    Raises:
        StoreError: columns, types, nulls or repeated keys that the schema does not allow.
    """
    if table.schema.names != DECISION_POINTS.names:
        raise StoreError(
            f"decision_points must have the columns {DECISION_POINTS.names}, got {table.schema.names}; nothing was written"
        )
    return in_order(_cast(table, DECISION_POINTS, "decision_points", _POINT_KEY), _POINT_KEY)


def _cast(table: pa.Table, schema: pa.Schema, name: str, key: tuple[str, ...]) -> pa.Table:
    """Cast to the schema and refuse nulls where it allows none, and repeated keys."""
    nulls = [field.name for field in schema if not field.nullable and table[field.name].null_count]
    if nulls:
        raise StoreError(f"{name} has nulls in {nulls}; nothing was written")
    try:
        table = table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise StoreError(f"{name} does not have the types of its schema ({error}); nothing was written") from error
    if table.group_by(list(key)).aggregate([]).num_rows != table.num_rows:
        raise StoreError(f"{name} repeats a key ({', '.join(key)}); nothing was written")
    return table
