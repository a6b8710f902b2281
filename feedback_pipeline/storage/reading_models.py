"""The models of the quality predictor as they were published: every version, and the newest."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pandas as pd
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable

from feedback_pipeline.storage.database import Connection

HISTORY_COLUMNS: Final = ("model_version", "candidate", "trained_at", "champion_since", "champion_until", "r2", "rmse", "reason")


@dataclass(frozen=True)
class KnownModel:
    """One row of quality_models: what later trainings and checks need of it.

    Attributes:
        model_version: Of the registered model.
        candidate: Name of the winning candidate.
        mlflow_run_id: The run it was logged by, or None.
        trained_at: When.
        champion_since: When it became champion, or None.
        metrics: As they were written.
    """

    model_version: int
    candidate: str
    mlflow_run_id: str | None
    trained_at: datetime
    champion_since: datetime | None
    metrics: dict[str, Any]


def read_champion(connection: Connection) -> KnownModel | None:
    """The champion, None before the first."""
    return _read(connection, SQL("champion_since IS NOT NULL AND champion_until IS NULL"))


def read_newest(connection: Connection) -> KnownModel | None:
    """The model of the last training, champion or not; None before the first."""
    return _read(connection, SQL("true"))


def read_lasting(connection: Connection) -> list[int]:
    """The versions since which nothing was forgotten, ascending; one that MLflow has and nobody wrote down is none of them."""
    found = connection.execute("SELECT model_version FROM quality_models WHERE NOT tags ? 'forgotten' ORDER BY model_version")
    return [version for (version,) in found.fetchall()]


def read_history(connection: Connection) -> pd.DataFrame:
    """Every version, newest first; columns HISTORY_COLUMNS."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT model_version, candidate, trained_at, champion_since, champion_until, (metrics ->> 'r2')::float8 AS r2,"
            " (metrics ->> 'rmse')::float8 AS rmse, reason FROM quality_models ORDER BY model_version DESC"
        ).fetchall()
    return pd.DataFrame(rows, columns=list(HISTORY_COLUMNS))


def _read(connection: Connection, condition: Composable) -> KnownModel | None:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            SQL(
                "SELECT model_version, candidate, mlflow_run_id, trained_at, champion_since, metrics FROM quality_models"
                " WHERE {} ORDER BY model_version DESC LIMIT 1"
            ).format(condition)
        ).fetchone()
    return None if row is None else KnownModel(**row)
