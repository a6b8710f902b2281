"""The tables of the reviewers: models in versions, agreement, components and bridges, severity by month."""

from collections.abc import Iterable
from typing import Any, Final

import pandas as pd

from feedback_pipeline.learning.preference_documents import MODEL_DOCUMENTS
from feedback_pipeline.storage.bulk import copy_rows, nullable, stage
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.publication_rows import Publication

VERSIONS_KEPT: Final = 10

_MODEL: Final = (
    "reviewer_id",
    *MODEL_DOCUMENTS,
    *("training_samples", "model_accuracy", "baseline_accuracy", "n_test", "reason", "reviews_digest"),
)
_REPLACED: Final = {
    "reviewer_agreement": (
        "agreement",
        (
            *("agent_name", "aspect", "alpha", "ci_low", "ci_high", "alpha_adjusted", "adjusted_ci_low", "adjusted_ci_high"),
            *("n_outputs", "n_reviewers", "reason", "adjusted_reason"),
        ),
    ),
    "reviewer_components": ("components", ("reviewer_id", "component")),
    "reviewer_bridges": ("bridges", ("component", "agent_name", "execution_id", "reviewer_id")),
    "reviewer_severity_months": (
        "months",
        ("reviewer_id", "month", "severity", "se", "ci_low", "ci_high", "n_reviews", "n_shared", "reason"),
    ),
}


def write_reviewers(connection: Connection, run: Publication) -> dict[str, int]:
    """Write what one run learned of the reviewers and return the rows per table."""
    _write_models(connection, run)
    counts = {"human_preference_models": len(run.reviewers["models"])}
    for table, (name, columns) in _REPLACED.items():
        frame = run.reviewers[name]
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constant names
        rows = ((*row, run.learning_run_id) for row in _rows(frame, columns))
        copy_rows(connection, table, rows, (*columns, "learning_run_id"))
        counts[table] = len(frame)
    return counts


def _rows(frame: pd.DataFrame, columns: Iterable[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(nullable(frame[name]) for name in columns), strict=True)


def _write_models(connection: Connection, run: Publication) -> None:
    """A reviewer whose own reviews changed gets a new version, the others' current version is updated; the last 10 are kept."""
    stage(connection, "new_models", "human_preference_models", _rows(run.reviewers["models"], _MODEL), _MODEL)
    listed = ", ".join(_MODEL)
    updates = ", ".join(f"{name} = excluded.{name}" for name in _MODEL[1:])
    connection.execute(
        f"INSERT INTO human_preference_models ({listed}, model_version, learning_run_id, last_updated, updated_at)"  # noqa: S608
        f" SELECT {', '.join(f'n.{name}' for name in _MODEL)}, CASE WHEN o.reviews_digest = n.reviews_digest THEN o.model_version"
        " ELSE coalesce(o.model_version, 0) + 1 END, %s, %s, %s FROM new_models n LEFT JOIN LATERAL"
        " (SELECT model_version, reviews_digest FROM human_preference_models h WHERE h.reviewer_id = n.reviewer_id"
        " ORDER BY model_version DESC LIMIT 1) o ON true"
        f" ON CONFLICT (reviewer_id, model_version) DO UPDATE SET {updates}, learning_run_id = excluded.learning_run_id,"
        " last_updated = excluded.last_updated, updated_at = excluded.updated_at,"
        " superseded_by_run = NULL, superseded_reason = NULL",
        (run.learning_run_id, run.published_at, run.published_at),
    )
    connection.execute(
        "UPDATE human_preference_models h SET superseded_by_run = %s, updated_at = %s,"
        " superseded_reason = CASE WHEN EXISTS (SELECT FROM new_models n WHERE n.reviewer_id = h.reviewer_id)"
        " THEN 'a newer version' ELSE 'no reviews in the window' END"
        " WHERE h.superseded_by_run IS NULL AND h.learning_run_id IS DISTINCT FROM %s",
        (run.learning_run_id, run.published_at, run.learning_run_id),
    )
    connection.execute(
        "DELETE FROM human_preference_models h USING (SELECT reviewer_id, max(model_version) AS newest"
        " FROM human_preference_models GROUP BY 1) m WHERE m.reviewer_id = h.reviewer_id AND h.model_version <= m.newest - %s",
        (VERSIONS_KEPT,),
    )
