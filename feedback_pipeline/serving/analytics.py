"""Weeks of reviews beside what was applied in them, and what is measured of applying so far."""

import hashlib
import json
import threading
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from feedback_pipeline.learning_pass.analytics import read_feedback_weeks
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.reading_effects import read_effects
from feedback_pipeline.storage.reading_provenance import read_applications_by_week

_MEASURED = ("pattern_id", "trial", "agent_name", "text", "kind", "state", "n", "uplift", "low", "high", "since")
_MOST_KEPT: Final = 4
Weeks = list[dict[str, Any]]


class FeedbackWeeks:
    """The weeks that were asked for last: a list that is read in many parts reads the feature store once."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, date], Weeks] = {}
        self._lock = threading.Lock()

    def read(self, store: FeatureStore, settings: Settings, weeks: int, today: date) -> Weeks:
        """As `read_feedback_weeks`; read anew when a day of the store has changed."""
        state = hashlib.sha256(json.dumps({day.isoformat(): told for day, told in store.days().items()}, default=str).encode())
        key = (state.hexdigest(), weeks, today)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = read_feedback_weeks(store, settings, weeks, today)
                for oldest in list(self._kept)[:-_MOST_KEPT]:
                    del self._kept[oldest]
            return self._kept[key]


def effects_so_far(database: Database, agent_name: str | None) -> list[dict[str, Any]]:
    """What is measured of each trial of an agent, or of all.

    Raises:
        NotFound: the agent is not known.
    """
    return [{key: trial[key] for key in _MEASURED} for trial in read_effects(database, agent_name)["trials"]]


def with_applications(database: Database, weeks: Sequence[dict[str, Any]]) -> Weeks:
    """The weeks, with how many executions applied a recommendation in each, and how many held one out."""
    if not weeks:
        return []
    applied = read_applications_by_week(database, min(date.fromisoformat(row["week"]) for row in weeks))
    return [
        row | dict(zip(("applied", "held_out"), applied.get((row["agent_name"], row["week"]), (0, 0)), strict=True))
        for row in weeks
    ]
