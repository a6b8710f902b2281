r"""What the queries of the extraction return: names and types of their columns.

Lists travel as one text with the separator 0x1F: Arrow splits a column of them in one step. A score or a feature that is not
a number travels as NaN.
"""

from typing import Final

import pyarrow as pa

from feedback_pipeline.learning.features import CATEGORIES

SEPARATOR: Final = "\x1f"

REVIEWS: Final = pa.schema(
    [
        ("feedback_id", pa.string()),
        ("workflow_found", pa.bool_()),
        ("execution_id", pa.string()),
        ("content_id", pa.string()),
        ("reviewer_id", pa.string()),
        ("stage", pa.string()),
        ("decision", pa.string()),
        ("reviewed_at", pa.timestamp("us", tz="UTC")),
        ("is_training_data", pa.bool_()),
        ("feedback_confidence", pa.float64()),
        ("not_an_object", pa.string()),
        ("aspects", pa.string()),
        ("scores", pa.string()),
    ]
)
OUTPUTS: Final = pa.schema(
    [
        ("performance_id", pa.string()),
        ("agent_name", pa.string()),
        ("execution_id", pa.string()),
        ("agent_type", pa.string()),
        ("retry_count", pa.int32()),
        ("duration_ms", pa.float64()),
        ("input_tokens", pa.float64()),
        ("output_tokens", pa.float64()),
        ("cost", pa.float64()),
        ("custom_names", pa.string()),
        ("custom_values", pa.string()),
        ("decision_count", pa.float64()),
        ("confidence_score", pa.float64()),
        ("min_confidence", pa.float64()),
        ("unusable_confidences", pa.int64()),
        ("alternatives_count", pa.float64()),
        ("reasoning_length", pa.float64()),
        *((name, pa.string()) for name in CATEGORIES),
    ]
)
TEXTS: Final = pa.schema([("performance_id", pa.string()), ("content", pa.large_string()), ("keywords", pa.large_string())])
