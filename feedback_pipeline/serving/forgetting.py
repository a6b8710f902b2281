"""Forgetting on request: the rows at once, everything learned from them by a pass that follows."""

import threading
import time
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import psycopg

from feedback_pipeline.errors import FeedbackError, LearningError
from feedback_pipeline.learning_pass.forgetting import Installation, begin_forgetting, finish_forgetting
from feedback_pipeline.serving.dagster_runs import DagsterRuns
from feedback_pipeline.serving.learning import launch
from feedback_pipeline.serving.observation import log_error
from feedback_pipeline.serving.problems import Overloaded
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.forget_receipts import read_receipt
from feedback_pipeline.storage.pass_lock import pass_is_running
from feedback_pipeline.storage.tracking import Tracking

_POLL_S: Final = 1.0


class Forgetting:
    """What is under way ends in a thread of its own; where this process ends before, `feedback-pipeline forget` goes on.

    Args:
        database: Migrated.
        settings: Of the installation.
        tracking: Its MLflow store.
        runs: Of Dagster.
    """

    def __init__(self, database: Database, settings: Settings, tracking: Tracking | None, runs: DagsterRuns) -> None:
        self._database, self._settings, self._tracking, self._runs = database, settings, tracking, runs

    def begin(self, kind: str, identifier: str) -> dict[str, Any]:
        """Delete the rows, and go on with the rest; the receipt.

        Raises:
            NotFound: nothing of that id is here.
            Overloaded: a learning pass is running, which has to end first.
        """
        if pass_is_running(self._database):
            raise Overloaded("a learning pass is running, and nothing can be forgotten meanwhile; ask again in a moment")
        if self._tracking is None:
            raise LearningError("no MLflow store is named; start the service with `feedback-pipeline up`")
        installation = Installation(self._database, self._settings, self._tracking, self._relearn)
        receipt_id = begin_forgetting(installation, kind, identifier)
        threading.Thread(target=self._finish, args=(installation,), name="forgetting", daemon=True).start()
        return read_receipt(self._database, receipt_id).document

    def _finish(self, installation: Installation) -> None:
        try:
            finish_forgetting(installation)
        except (FeedbackError, psycopg.Error) as error:
            log_error(error)

    def _relearn(self, _days: Sequence[date]) -> str:
        run_id = launch(self._database, self._runs, self._settings)
        while (status := self._runs.progress(run_id)["status"]) in ("queued", "running"):
            time.sleep(_POLL_S)
        if status != "done":
            raise LearningError(f"the learning pass {status}; Dagster run {run_id} says why")
        return run_id
