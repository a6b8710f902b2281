"""A whole learning pass without Dagster, and what it published."""

import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from feedback_pipeline.learning_pass.correlations import learn_correlations
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.learning_pass.patterns import learn_patterns
from feedback_pipeline.learning_pass.publication import PublishedRun, publish
from feedback_pipeline.learning_pass.reviewers import learn_preference_models
from feedback_pipeline.learning_pass.strategy import learn_strategy
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.extraction import ExtractionReport, extract, pending_days
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import set_lookback

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
_ticks = itertools.count()
# What a run adds to the numbers: who it was and when.
_RUN_COLUMNS = {"learning_run_id", "last_calculated", "last_updated", "computed_at", "updated_at", "created_at"}
_TABLES = {
    "feedback_quality_correlations": "agent_name, agent_output_feature, human_feedback_aspect",
    "agent_learning_patterns": "agent_name, pattern_type, pattern_description",
    "agent_learning_state": "agent_name",
    "agent_recommendations": "agent_name, rank",
    "content_segments": "agent_name, family, segment",
    "content_allocations": "agent_name, family, segment",
    "human_preference_models": "reviewer_id",
    "reviewer_agreement": "agent_name, aspect",
    "reviewer_components": "reviewer_id",
    "reviewer_bridges": "component",
    "reviewer_severity_months": "reviewer_id, month",
}
# A version counts the changes that were learned: a database that saw fewer of them has fewer versions of the same model.
_OF_A_VERSION = {"human_preference_models": {"id", "model_version"}}
# Rows kept for agents and patterns that are no longer there.
_LIVE = {
    "agent_learning_patterns": " WHERE superseded_by_run IS NULL",
    "human_preference_models": " WHERE superseded_by_run IS NULL",
    "content_allocations": " WHERE learning_run_id IN (SELECT learning_run_id FROM agent_learning_state)",
    "agent_learning_state": " WHERE reason IS DISTINCT FROM 'no reviews in the window'",
}


@dataclass(frozen=True)
class Pass:
    """An installation under test."""

    database: Database
    settings: Settings
    now: datetime = NOW

    @classmethod
    def at(
        cls,
        database: Database,
        folder: Path,
        bounds: dict[str, tuple[float, float]] | None = None,
        lookback_days: int | None = None,
    ) -> "Pass":
        settings = Settings(home=folder, store_url=str(folder / "store"), score_bounds=bounds or {"*": (0.0, 10.0)})
        with database.connect() as connection:
            set_lookback(connection, lookback_days)
        return cls(database, settings)

    @property
    def store(self) -> FeatureStore:
        return open_store(self.database, self.settings)

    def pending(self) -> list[date]:
        with self.database.snapshot() as connection:
            return pending_days(connection, self.store, self.settings, today=self.now.date())

    def extract(self, days: list[date] | None = None) -> ExtractionReport:
        return extract(self.database, self.store, self.settings, self.pending() if days is None else days, today=self.now.date())

    def reduce(self) -> PublishedRun:
        now = self.now + timedelta(seconds=next(_ticks))
        learn_preference_models(self.database, self.store, self.settings, now=now)
        learn_correlations(self.store, self.settings)
        learn_patterns(self.database, self.store, self.settings)
        learn_strategy(self.store, self.settings)
        return publish(self.database, self.store, self.settings, dagster_run_id=None, now=now)

    def learn(self) -> PublishedRun:
        self.extract()
        return self.reduce()

    def published(self) -> dict[str, list[tuple[Any, ...]]]:
        """Rows of the published tables without what names the run."""
        rows = {}
        with self.database.snapshot() as connection:
            for table, order in _TABLES.items():
                names = [
                    name
                    for (name,) in connection.execute(
                        "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY 1", (table,)
                    )
                    if name not in _RUN_COLUMNS | _OF_A_VERSION.get(table, set())
                ]
                # The evidence of a recommendation names its run.
                names = ["evidence - 'learning_run_id'" if name == "evidence" else name for name in names]
                live = _LIVE.get(table, "")
                rows[table] = connection.execute(
                    f"SELECT {', '.join(names)} FROM {table}{live} ORDER BY {order}".encode()
                ).fetchall()
        return rows

    def pending_changes(self) -> int:
        with self.database.connect() as connection:
            row = connection.execute("SELECT count(*) FROM feedback_changes").fetchone()
        assert row is not None
        return int(row[0])
