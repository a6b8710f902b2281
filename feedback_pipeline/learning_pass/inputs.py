"""What the steps of a pass share: the window, the latest results of the steps before, the panel they work on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.errors import StoreError
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import read_installation

PREFERENCE_MODELS: Final = "preference_models"
QUALITY_CORRELATIONS: Final = "quality_correlations"
DECISION_PATTERNS: Final = "decision_patterns"
CONTENT_STRATEGY: Final = "content_strategy"
REVIEW_COLUMNS: Final = [
    "agent_name",
    "execution_id",
    "content_id",
    "feedback_id",
    "reviewer_id",
    "stage",
    "decision",
    "reviewed_at",
    "is_training_data",
]


@dataclass(frozen=True)
class Window:
    """Days a pass learns from, both included; first None = from the beginning, last None = there is no trainable review."""

    first: date | None
    last: date | None
    lookback_days: int | None

    @property
    def days(self) -> tuple[date | None, date]:
        """First and last day to read; before all days where there is no review."""
        return (self.first, self.last) if self.last is not None else (date.max, date.min)


def open_store(database: Database, settings: Settings) -> FeatureStore:
    """The feature store of this database.

    Raises:
        StoreError: the database is not migrated.
    """
    with database.connect() as connection:
        return FeatureStore(settings.store, read_installation(connection).id)


def learning_window(store: FeatureStore, lookback_days: int | None, today: date) -> Window:
    """The window that ends at the newest day, not in the future, with a trainable review in the whole feature store."""
    trainable = [day for day, manifest in store.days().items() if manifest["trainable_rows"] and day <= today]
    if not trainable:
        return Window(None, None, lookback_days)
    last = max(trainable)
    return Window(None if lookback_days is None else last - timedelta(days=lookback_days - 1), last, lookback_days)


def days_digest(store: FeatureStore, window: Window) -> str:
    """Changes whenever a day of the window does: its files are named by their content."""
    days = {
        str(day): [manifest[name]["file"] for name in ("human_feedback", "feature_table", "decision_points") if name in manifest]
        for day, manifest in store.days().items()
        if window.last is not None and day <= window.last and (window.first is None or day >= window.first)
    }
    return hashlib.sha256(json.dumps(days, sort_keys=True).encode()).hexdigest()


def adjusted_panel(store: FeatureStore) -> tuple[str, Panel, dict[str, Any]]:
    """Learning run, panel with adjusted scores, and facts of the latest preference_models.

    Raises:
        StoreError: there is no such result, or days were extracted again since.
    """
    return _panel(store, "adjusted")


def raw_panel(store: FeatureStore) -> tuple[str, Panel, dict[str, Any]]:
    """As `adjusted_panel`, with the scores as they were given."""
    return _panel(store, "score")


def _panel(store: FeatureStore, kind: str) -> tuple[str, Panel, dict[str, Any]]:
    learning_run_id = latest_run(store, PREFERENCE_MODELS)
    frames, facts = store.read_result(learning_run_id, PREFERENCE_MODELS)
    aspects, reviews = tuple(facts["aspects"]), frames["reviews"]
    scores = reviews[[f"{kind}:{aspect}" for aspect in aspects]].to_numpy(dtype=np.float64).reshape(len(reviews), len(aspects))
    window = window_of(facts)
    if facts["days_digest"] != days_digest(store, window):
        raise StoreError("days of the window were extracted again since preference_models; materialize preference_models again")
    features = store.read_outputs(*window.days)
    return learning_run_id, build_panel(reviews[REVIEW_COLUMNS], scores, aspects, features.to_pandas()), facts


def window_of(facts: dict[str, Any]) -> Window:
    """The window among the facts of preference_models."""
    first, last = (None if facts[key] is None else date.fromisoformat(facts[key]) for key in ("window_first", "window_last"))
    return Window(first, last, facts["lookback_days"])


def read_of_run(store: FeatureStore, learning_run_id: str, asset: str) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Frames and facts of the latest result of an asset.

    Raises:
        StoreError: there is none, or it belongs to another learning run.
    """
    other = latest_run(store, asset)
    if other != learning_run_id:
        raise StoreError(
            f"{asset} is of learning run {other}, {PREFERENCE_MODELS} of {learning_run_id}; materialize {asset} again"
        )
    return store.read_result(learning_run_id, asset)


def latest_run(store: FeatureStore, asset: str) -> str:
    """The learning run of the latest result of an asset.

    Raises:
        StoreError: there is none.
    """
    run = store.latest(asset)
    if run is None:
        raise StoreError(f"there is no result of {asset}; materialize {asset}")
    return run


def documents_as_text(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns of JSON documents as text: Parquet would give every row the keys of all."""
    text = {name: [None if value is None else json.dumps(value, sort_keys=True) for value in frame[name]] for name in names}
    return frame.assign(**{name: pd.Series(values, dtype="str") for name, values in text.items()})
