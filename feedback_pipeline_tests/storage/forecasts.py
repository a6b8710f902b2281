"""Models and forecasts as the quality predictor writes them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd

from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.published_forecasts import (
    FORECAST_COLUMNS,
    QualityModel,
    set_champion,
    write_forecasts,
    write_model,
)

RUN = "00000000-0000-4000-8000-00000000000f"
START = datetime(2026, 3, 1, tzinfo=UTC)


def model(version: int = 1, **changes: Any) -> QualityModel:
    values: dict[str, Any] = {
        **{"model_version": version, "candidate": "eb_mixed", "mlflow_run_id": "abc", "learning_run_id": RUN},
        **{"trained_at": START, "window_first": date(2026, 2, 1), "window_last": date(2026, 2, 28)},
        **{"n_reviews": 900, "n_contents": 400, "metrics": {"r2": 0.41}, "tags": {}, "reason": None},
    }
    return QualityModel(**values | changes)


def forecast(execution: str, agent: str = "writer", **changes: Any) -> dict[str, Any]:
    numbers = {"score": 6.5, "low": 4.0, "high": 9.0, "p_approve": 0.6, "abstain": False, "reason": None}
    return {"agent_name": agent, "execution_id": execution, "reviewer_id": None} | numbers | changes


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(FORECAST_COLUMNS))


def champion_says(
    connection: Connection, rows: Sequence[dict[str, Any]], version: int = 1, made_at: datetime = START, **changes: Any
) -> int:
    """Crown a model and let it say something."""
    write_model(connection, model(version, **changes))
    set_champion(connection, version, made_at)
    return write_forecasts(connection, frame(rows), model_version=version, learning_run_id=RUN, made_at=made_at)
