"""Agents that read all the time: what one snapshot shows has to be of one learning run."""

import threading
import time
from typing import Final

import psycopg

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Database

_RUNS: Final = b"""
    SELECT learning_run_id FROM feedback_quality_correlations
    UNION SELECT learning_run_id FROM agent_learning_patterns WHERE superseded_by_run IS NULL
    UNION SELECT learning_run_id FROM agent_recommendations
    UNION SELECT learning_run_id FROM content_segments
    UNION SELECT learning_run_id FROM agent_learning_state
    UNION SELECT learning_run_id FROM human_preference_models WHERE superseded_by_run IS NULL
    UNION SELECT learning_run_id FROM reviewer_agreement
    UNION SELECT learning_run_id FROM reviewer_components
    UNION SELECT learning_run_id FROM reviewer_severity_months"""
_NEWEST: Final = b"SELECT count(*), extract(epoch FROM max(started_at))::double precision FROM learning_runs"


class Reader(threading.Thread):
    """Polls what is published until it is stopped.

    Attributes:
        looks: Snapshots read.
        mixed: Learning runs beyond one that the rows of a snapshot came from, summed over snapshots.
        vanished: Snapshots without a row after an earlier one had some.
        published: When each learning run began and when it first saw it, in seconds since 1970.
    """

    def __init__(self, database: Database, stopping: threading.Event) -> None:
        super().__init__(name="reader", daemon=True)
        self._database, self._stopping = database, stopping
        self.looks = self.mixed = self.vanished = 0
        self.published: list[tuple[float, float]] = []
        self._runs = 0

    def run(self) -> None:
        """Ten looks a second."""
        while not self._stopping.wait(0.1):
            try:
                with self._database.snapshot() as connection:
                    rows = connection.execute(_RUNS).fetchall()
                    runs, began = connection.execute(_NEWEST).fetchone() or (0, 0.0)
            except (StoreError, psycopg.OperationalError):
                continue
            self.looks += 1
            self.mixed += max(len(rows) - 1, 0)
            self.vanished += bool(self._runs) and not rows
            if runs > self._runs:
                self.published.append((began, time.time()))
            self._runs = max(self._runs, runs)
