"""Agents that read all the time: what one snapshot shows has to be of one learning run."""

import threading
from typing import Final

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Database

_RUNS: Final = b"""
    SELECT agent_name, count(DISTINCT learning_run_id) FROM (
        SELECT agent_name, learning_run_id FROM feedback_quality_correlations
        UNION ALL SELECT agent_name, learning_run_id FROM agent_learning_patterns WHERE superseded_by_run IS NULL
        UNION ALL SELECT agent_name, learning_run_id FROM agent_recommendations
        UNION ALL SELECT agent_name, learning_run_id FROM content_segments
        UNION ALL SELECT agent_name, learning_run_id FROM agent_learning_state) AS published
    GROUP BY agent_name"""


class Reader(threading.Thread):
    """Polls what is published until it is stopped.

    Attributes:
        looks: Snapshots read.
        mixed: Agents of a snapshot whose rows came from two learning runs, summed over snapshots.
        vanished: Snapshots without a row after an earlier one had some.
    """

    def __init__(self, database: Database, stopping: threading.Event) -> None:
        super().__init__(name="reader", daemon=True)
        self._database, self._stopping = database, stopping
        self.looks = self.mixed = self.vanished = 0
        self._seen = False

    def run(self) -> None:
        """Ten looks a second."""
        while not self._stopping.wait(0.1):
            try:
                with self._database.snapshot() as connection:
                    rows = connection.execute(_RUNS).fetchall()
            except StoreError:
                continue
            self.looks += 1
            self.mixed += sum(runs > 1 for _, runs in rows)
            self.vanished += self._seen and not rows
            self._seen |= bool(rows)
