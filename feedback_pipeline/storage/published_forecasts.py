"""The tables of the quality predictor: its models and what they expect. Written in the predictor's own transaction."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import pandas as pd

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.copy_fields import Fields, fields, stage_fields
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.json_documents import json_document

AVERAGE_REVIEWER: Final = ""
"""Stands for the average reviewer where a reviewer's id is expected."""
FORECAST_COLUMNS: Final = ("agent_name", "execution_id", "reviewer_id", "score", "low", "high", "p_approve", "abstain", "reason")
_STAGED: Final = "new_forecasts"
_ADVISORY_KEY: Final = 0x_FEED_C4A4


@dataclass(frozen=True)
class QualityModel:
    """One row of quality_models, without its time as champion.

    Attributes:
        model_version: Of the registered model.
        candidate: Name of the winning candidate.
        mlflow_run_id: The run it was logged by, or None.
        learning_run_id: The learning run whose reviews it was trained on.
        trained_at: When, with a time zone.
        window_first: First day of these reviews, None = from the beginning.
        window_last: Last day.
        n_reviews: Rows it was trained on.
        n_contents: Contents they are about.
        metrics: Forward in time; what is not finite is stored as null.
        tags: Texts by name.
        reason: Why it became champion, or did not.
    """

    model_version: int
    candidate: str
    mlflow_run_id: str | None
    learning_run_id: str | None
    trained_at: datetime
    window_first: date | None
    window_last: date | None
    n_reviews: int
    n_contents: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None


def write_model(connection: Connection, model: QualityModel) -> None:
    """Write one model; written again, as a step that is repeated does, it stays one row and champion if it is."""
    row = vars(model) | {"metrics": json_document(model.metrics), "tags": json_document(model.tags)}
    names = ", ".join(row)
    changed = ", ".join(f"{name} = excluded.{name}" for name in row)
    connection.execute(
        f"INSERT INTO quality_models ({names}) VALUES ({', '.join(['%s'] * len(row))})"  # noqa: S608 - names of the class
        f" ON CONFLICT (model_version) DO UPDATE SET {changed}".encode(),
        list(row.values()),
    )


def set_champion(connection: Connection, model_version: int, since: datetime) -> None:
    """Make a model the champion, in place of the one that is; nothing changes where it is already.

    A model that was champion before loses its earlier time as one.

    Args:
        connection: In a transaction.
        model_version: A written model.
        since: When, with a time zone; where a clock was moved back, the moment the champion it replaces became so. Its forecasts
            are made from then on.

    Raises:
        StoreError: there is no such model.
    """
    # Two trainings at once: the later one sees what the first has done.
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_KEY,))
    found = connection.execute(
        "SELECT champion_since IS NOT NULL AND champion_until IS NULL FROM quality_models WHERE model_version = %s",
        (model_version,),
    ).fetchone()
    if found is None:
        raise StoreError(f"there is no quality model {model_version} to be champion; write it first")
    if found == (True,):
        return
    followed = connection.execute(
        "UPDATE quality_models SET champion_until = greatest(%s, champion_since)"
        " WHERE champion_since IS NOT NULL AND champion_until IS NULL RETURNING champion_until",
        (since,),
    ).fetchone()
    (since,) = followed or (since,)
    connection.execute(
        "UPDATE quality_models SET champion_since = %s, champion_until = NULL WHERE model_version = %s", (since, model_version)
    )


def retire_models(connection: Connection, now: datetime) -> list[int]:
    """Let no model be champion any more, since each may have been trained on what is being forgotten; their rows stay.

    Args:
        connection: In a transaction.
        now: Since when, with a time zone.

    Returns:
        All versions that were not retired like this before, ascending.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_KEY,))
    retired = connection.execute(
        "UPDATE quality_models SET tags = tags || %s::jsonb, champion_until = CASE WHEN champion_since IS NOT NULL"
        " AND champion_until IS NULL THEN greatest(%s, champion_since) ELSE champion_until END"
        " WHERE NOT tags ? 'forgotten' RETURNING model_version",
        (json.dumps({"forgotten": now.date().isoformat()}), now),
    ).fetchall()
    return sorted(version for (version,) in retired)


def write_forecasts(
    connection: Connection, frame: pd.DataFrame, *, model_version: int, learning_run_id: str | None, made_at: datetime
) -> int:
    """Append forecasts; what the model has already said of an output and reviewer stays as it was.

    Args:
        connection: In a transaction.
        frame: Columns FORECAST_COLUMNS. A missing reviewer_id is the average reviewer; a missing score needs a reason.
        model_version: A written model.
        learning_run_id: The learning run read for it.
        made_at: When they were made, with a time zone.

    Returns:
        Forecasts that are new.
    """
    columns: dict[str, Fields | str] = {name: fields(frame[name]) for name in FORECAST_COLUMNS if name != "reviewer_id"}
    columns |= {
        "reviewer_id": fields(frame["reviewer_id"].astype(object).where(frame["reviewer_id"].notna(), AVERAGE_REVIEWER)),
        "model_version": str(model_version),
        "learning_run_id": r"\N" if learning_run_id is None else learning_run_id,
        "made_at": made_at.isoformat(),
    }
    names = ", ".join(columns)
    stage_fields(connection, _STAGED, "quality_forecasts", columns, len(frame))
    written = connection.execute(
        f"INSERT INTO quality_forecasts ({names}) SELECT {names} FROM {_STAGED} ON CONFLICT DO NOTHING".encode()  # noqa: S608
    ).rowcount
    connection.execute(f"DROP TABLE {_STAGED}".encode())
    return written
