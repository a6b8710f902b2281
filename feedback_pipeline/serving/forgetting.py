"""Forgetting on request: the rows at once, everything learned from them by a pass that follows."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import Any, Final

import psycopg

from feedback_pipeline.errors import FeedbackError, LearningError
from feedback_pipeline.learning_pass.forgetting import begin_forgetting, finish_forgetting, note_reason
from feedback_pipeline.learning_pass.forgetting_steps import Installation
from feedback_pipeline.serving.dagster_runs import DagsterRuns
from feedback_pipeline.serving.learning import launch
from feedback_pipeline.serving.observation import LOG, log_error
from feedback_pipeline.serving.problems import Overloaded
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.database_errors import public_message
from feedback_pipeline.storage.forget_receipts import abandoned_receipts, read_receipt
from feedback_pipeline.storage.pass_lock import pass_is_running
from feedback_pipeline.storage.tracking import Tracking

_POLL_S: Final = 1.0
# A store that is started again is back soon, a learning pass that fails again and again costs as much as one that does not.
_PAUSES_S: Final = (1.0, 5.0, 20.0, 60.0)
_LONGEST_PAUSE_S: Final = 300.0
_LOOK_EVERY_S: Final = 60.0


class Forgetting:
    """What is under way ends in a thread, which also looks now and then for what ended processes have left, of any kind.

    While another process goes on with it, such as `feedback-pipeline forget`, it is left to that one. After a failure it is tried
    again, first soon, then every few minutes.

    Args:
        database: Migrated.
        settings: Of the installation.
        tracking: Its MLflow store.
        runs: Of Dagster.
    """

    def __init__(self, database: Database, settings: Settings, tracking: Tracking | None, runs: DagsterRuns) -> None:
        self._database, self._settings, self._tracking, self._runs = database, settings, tracking, runs
        self._guard = threading.Lock()
        self._working = False
        self._stopping, self._awake = threading.Event(), threading.Event()

    def resume(self) -> None:
        """Go on, in a thread, with what is not finished; to be called when this process starts."""
        with self._guard:
            self._stopping.clear()
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="forgetting", daemon=True).start()

    def stop(self) -> None:
        """Try no more; what is left is left to the next process."""
        self._stopping.set()
        self._awake.set()

    def begin(self, kind: str, identifier: str) -> dict[str, Any]:
        """Delete the rows, and go on with the rest; the receipt.

        Raises:
            NotFound: nothing of that id is here.
            Overloaded: a learning pass is running, which has to end first.
        """
        if pass_is_running(self._database):
            raise Overloaded("a learning pass is running, and nothing can be forgotten meanwhile; ask again in a moment")
        receipt_id = begin_forgetting(self._installation(), kind, identifier)
        self._awake.set()
        return read_receipt(self._database, receipt_id).document

    def _installation(self) -> Installation:
        if self._tracking is None:
            raise LearningError("no MLflow store is named; start the service with `feedback-pipeline up`")
        return Installation(self._database, self._settings, self._tracking, self._relearn)

    def _work(self) -> None:
        failures = 0
        while self._goes_on():
            error = self._take_steps()
            failures = 0 if error is None else failures + 1
            pause = _LOOK_EVERY_S if error is None else (*_PAUSES_S, _LONGEST_PAUSE_S)[min(failures - 1, len(_PAUSES_S))]
            if error is not None:
                about = {"error": type(error).__name__, "failures": failures, "tried_again_after_s": pause}
                LOG.warning("a forgetting does not go on", extra={"about": about})
            self._awake.wait(pause)

    def _goes_on(self) -> bool:
        # Whoever asks, or stops it, from here on is heard at once after what comes next.
        self._awake.clear()
        with self._guard:
            self._working = not self._stopping.is_set()
            return self._working

    def _take_steps(self) -> Exception | None:
        """Take the steps that are missing, unless another process does; what stood in the way. The receipts say it too."""
        try:
            with self._database.connect() as connection:
                abandoned = abandoned_receipts(connection)
            if abandoned:
                finish_forgetting(self._installation())
        except Exception as error:  # noqa: BLE001 - the outermost handler of this thread
            log_error(error)
            with suppress(FeedbackError, psycopg.Error):
                note_reason(self._database, _reason(error))
            return error
        return None

    def _relearn(self, _days: Sequence[date]) -> str:
        run_id = launch(self._database, self._runs, self._settings)
        while (status := self._runs.progress(run_id)["status"]) in ("queued", "running"):
            time.sleep(_POLL_S)
        if status != "done":
            raise LearningError(f"the learning pass {status}; Dagster run {run_id} says why")
        return run_id


def _reason(error: Exception) -> str:
    """What may be shown of it."""
    if isinstance(error, FeedbackError):
        return str(error)
    if isinstance(error, psycopg.Error):
        return public_message(error)
    return f"{type(error).__name__}; the log of the API says where, and `feedback-pipeline forget` goes on"
