"""Reviewers at work: sessions that insert, edit, back-date and delete reviews, some of them slowly."""

import random
import threading
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from psycopg.types.json import Jsonb

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Connection, Database

ASPECTS: Final = ("brand_alignment", "content_quality")
REVIEWERS: Final = tuple(f"campaign.reviewer.{number}" for number in range(6))
OLDEST: Final = timedelta(days=9)
_DECISIONS: Final = ("approve", "reject", "request_changes")
_MARKED: Final = "starts_with(reviewer_id, 'campaign.')"


class Writer(threading.Thread):
    """One session after another until it is stopped; what a crash of the server undoes is not repeated.

    Args:
        database: With outputs to review.
        seed: Of what it does.
        longest_hold: Seconds that some transactions stay open.
        stopping: Ends the work when set.
    """

    def __init__(self, database: Database, seed: int, longest_hold: float, stopping: threading.Event) -> None:
        super().__init__(name=f"writer {seed}", daemon=True)
        self._database, self._random = database, random.Random(seed)  # noqa: S311 - of a simulation
        self._longest_hold, self._stopping = longest_hold, stopping
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        """Writes a transaction every quarter of a second or so."""
        while not self._stopping.wait(self._random.uniform(0.05, 0.5)):
            kind = self._random.choices(("inserted", "edited", "back-dated", "deleted"), weights=(8, 3, 2, 2))[0]
            held = self._random.random() < 0.05
            try:
                with self._database.connect() as connection:
                    getattr(self, f"_{kind.replace('-', '_')}")(connection)
                    if held:
                        self._stopping.wait(self._random.uniform(0.3, 1.0) * self._longest_hold)
            except (StoreError, psycopg.OperationalError):
                self.done["cut off"] += 1
                continue
            self.done[kind] += 1
            self.done["held open"] += held

    def _inserted(self, connection: Connection) -> None:
        moment = datetime.now(UTC) - timedelta(seconds=self._random.uniform(0, 3600))
        connection.execute(
            "INSERT INTO review_feedback (id, workflow_id, content_id, reviewer_id, stage, decision, comments, reviewed_at,"
            " quality_scores, is_training_data)"
            " SELECT %s, id, content_id, %s, 'final', %s, 'as it should be', %s, %s, true FROM content_review_workflows"
            " OFFSET floor(%s * (SELECT count(*) FROM content_review_workflows)) LIMIT 1",
            (
                *(uuid.UUID(int=self._random.getrandbits(128)), self._random.choice(REVIEWERS)),
                *(self._random.choice(_DECISIONS), moment, Jsonb(self._scores()), self._random.random()),
            ),
        )

    def _edited(self, connection: Connection) -> None:
        self._change(connection, "decision = %s, quality_scores = %s", self._random.choice(_DECISIONS), Jsonb(self._scores()))

    def _back_dated(self, connection: Connection) -> None:
        self._change(connection, "reviewed_at = now() - %s::interval", OLDEST * self._random.random())

    def _deleted(self, connection: Connection) -> None:
        connection.execute(f"DELETE FROM review_feedback WHERE id IN ({self._one()})".encode(), (self._random.random(),))  # noqa: S608

    def _change(self, connection: Connection, assignments: str, *values: object) -> None:
        statement = f"UPDATE review_feedback SET {assignments} WHERE id IN ({self._one()})"  # noqa: S608 - constant texts
        connection.execute(statement.encode(), (*values, self._random.random()))

    @staticmethod
    def _one() -> str:
        """A review of this campaign that no other session has locked."""
        return (
            f"SELECT id FROM review_feedback WHERE {_MARKED} AND decision IS NOT NULL ORDER BY md5(id::text || %s::text)"  # noqa: S608
            " LIMIT 1 FOR UPDATE SKIP LOCKED"
        )

    def _scores(self) -> dict[str, dict[str, float]]:
        return {aspect: {"score": round(self._random.uniform(1, 10), 1)} for aspect in ASPECTS}
