"""Values that Dagster can hold and show: counts, tables, pictures.

Belongs here: how anything becomes metadata. Does not belong here: what is told of an asset (the modules named *_report).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.orchestration.plain_text import one_line

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS: Final = 100
_LABELS: Final = {
    "n_reviews": "reviews",
    "n_contents": "outputs",
    "n_agents": "agents",
    "n_reviewers": "reviewers",
    "n_pairs": "pairs tested",
    "n_published": "published",
    "n_candidates": "candidates tested",
    "n_tested": "categories tested",
    "n_segments": "segments estimated",
    "n_allocated": "outputs of the next batches",
    "accuracy": "decisions foreseen by the preference models",
    "baseline": "decisions foreseen by the reviewers' own majorities",
    "n_test": "decisions held out",
    "window_first": "window from",
    "window_last": "window to",
}


def plain_facts(learning_run_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Plain counts of the learning run; anything longer than a word belongs in a table."""
    plain = {
        _LABELS.get(key, key.replace("_", " ")): _plain(value)
        for key, value in facts.items()
        if isinstance(value, bool | int | float | str)
    }
    return {"learning run": learning_run_id, **plain}


def table(frame: "pd.DataFrame", schema: dg.TableSchema) -> dg.TableMetadataValue:
    """The first 100 rows of a frame, in the columns of the schema that it has."""
    names = [column.name for column in schema.columns if column.name in frame.columns]
    rows = frame[names].head(MAX_ROWS).to_dict("records")
    return dg.MetadataValue.table(
        [dg.TableRecord({str(key): _plain(value) for key, value in row.items()}) for row in rows], schema
    )


def _plain(value: Any) -> str | int | float | bool | None:
    """A value that a metadata table can hold: Python numbers, NaN as nothing, three significant digits for the eye."""
    if value is None:
        return None
    if isinstance(value, str):
        return one_line(value)
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool | int):
        return number
    if isinstance(number, float):
        return None if math.isnan(number) else float(f"{number:.3g}")
    return one_line(str(number))
