"""How forecasts fared: beside what people then decided, and whether the champion's errors drift."""

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.calibration import BINS, reliability
from feedback_pipeline.learning_pass.champion_watch import alarm_in_words, watch_champion
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.past_forecasts import PastForecasts, past_forecasts
from feedback_pipeline.storage.reading import champion_document
from feedback_pipeline.storage.reading_models import read_champion

_COLUMNS: Final = (
    *("agent_name", "execution_id", "model_version", "p_approve", "approved", "score", "low", "high", "review_score"),
    *("abstain", "made_at", "reviewed_at"),
)


def read_outcomes(database: Database, settings: Settings, agent_name: str | None) -> dict[str, Any]:
    """The document of schema Outcomes, all outcomes in one list and without provenance.

    Args:
        database: In one snapshot.
        settings: Score bounds.
        agent_name: Only of this agent; one without outcomes has none.
    """
    with database.snapshot() as connection:
        past = past_forecasts(connection, settings.score_bounds)
    chosen = np.ones(len(past), dtype=bool) if agent_name is None else past.agent_name == agent_name
    found = reliability(past.relied_on[chosen], past.approved[chosen])
    interval = chosen & np.isfinite(past.low) & np.isfinite(past.review_score) & ~past.abstained
    inside = interval & (past.review_score >= past.low) & (past.review_score <= past.high)
    edges = np.linspace(0.0, 1.0, BINS + 1).round(2).tolist()
    return {
        "agent_name": agent_name,
        "n_outputs": int(chosen.sum()),
        "n_decided": int(found.n.sum()),
        "n_inside": int(inside.sum()),
        "n_intervals": int(interval.sum()),
        "ece": _number(found.ece),
        "calibration": [
            {"low": low, "high": high, "n": int(n), "forecast": _number(forecast), "approved": _number(observed)}
            for low, high, n, forecast, observed in zip(
                edges[:-1], edges[1:], found.n, found.forecast, found.observed, strict=True
            )
        ],
        "outcomes": _rows(past, chosen),
    }


def read_drift(database: Database, settings: Settings) -> dict[str, Any]:
    """The document of schema Drift, without provenance."""
    with database.snapshot() as connection:
        known, champion = champion_document(connection), read_champion(connection)
        drift = None if champion is None else watch_champion(connection, settings, champion, datetime.now(UTC))
    if drift is None:
        return {"champion": None, "alarm": None, "reason": "there is no champion", "weeks": []}
    weeks = drift.weeks.to_dict("records")
    return {"champion": known, "alarm": alarm_in_words(drift), "reason": drift.reason, "weeks": weeks}


def _rows(past: PastForecasts, chosen: "np.ndarray[Any, np.dtype[np.bool_]]") -> list[dict[str, Any]]:
    """One document per output, the latest review first."""
    frame = pd.DataFrame({name: getattr(past, name)[chosen] for name in _COLUMNS if name != "abstain"})
    frame["abstain"] = past.abstained[chosen]
    frame = frame.sort_values(["reviewed_at", "agent_name", "execution_id"], ascending=[False, True, True], kind="stable")
    for name in ("made_at", "reviewed_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True).map(pd.Timestamp.isoformat)
    frame = frame[list(_COLUMNS)].astype(object)
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in frame.where(frame.notna(), None).to_numpy().tolist()]
    return [row | {"approved": None if row["approved"] is None else bool(row["approved"])} for row in rows]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
