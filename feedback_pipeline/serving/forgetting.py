"""Forgetting on request: the rows at once, everything learned from them by a pass that follows."""

import threading
import time
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import psycopg

from feedback_pipeline.errors import FeedbackError, LearningError, StoreUnavailable
from feedback_pipeline.learning_pass.forgetting import begin_forgetting, finish_forgetting, note_reason
from feedback_pipeline.learning_pass.forgetting_steps import Installation
from feedback_pipeline.serving.dagster_runs import DagsterRuns
from feedback_pipeline.serving.learning import launch
from feedback_pipeline.serving.observation import log_error
from feedback_pipeline.serving.problems import Overloaded
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.database_errors import public_message
from feedback_pipeline.storage.forget_receipts import read_receipt, unfinished_receipts
from feedback_pipeline.storage.pass_lock import pass_is_running
from feedback_pipeline.storage.tracking import Tracking

_POLL_S: Final = 1.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_MAY_PASS: Final = (StoreUnavailable, psycopg.OperationalError)


class Forgetting:
    """What is under way ends in a thread; where this process ends before, the next one goes on, or `feedback-pipeline forget`.

    Args:
        database: Migrated.
        settings: Of the installation.
        tracking: Its MLflow store.
        runs: Of Dagster.
    """

    def __init__(self, database: Database, settings: Settings, tracking: Tracking | None, runs: DagsterRuns) -> None:
        self._database, self._settings, self._tracking, self._runs = database, settings, tracking, runs
        self._guard = threading.Lock()
        self._asked = self._working = False
        self._stopping = threading.Event()

    def resume(self) -> None:
        """Go on, in a thread, with what ended processes have left; to be called when this one starts."""
        self._stopping.clear()
        self._go_on()

    def stop(self) -> None:
        """Try no more; what is left is left to the next process."""
        self._stopping.set()

    def begin(self, kind: str, identifier: str) -> dict[str, Any]:
        """Delete the rows, and go on with the rest; the receipt.

        Raises:
            NotFound: nothing of that id is here.
            Overloaded: a learning pass is running, which has to end first.
        """
        if pass_is_running(self._database):
            raise Overloaded("a learning pass is running, and nothing can be forgotten meanwhile; ask again in a moment")
        receipt_id = begin_forgetting(self._installation(), kind, identifier)
        self._go_on()
        return read_receipt(self._database, receipt_id).document

    def _installation(self) -> Installation:
        if self._tracking is None:
            raise LearningError("no MLflow store is named; start the service with `feedback-pipeline up`")
        return Installation(self._database, self._settings, self._tracking, self._relearn)

    def _go_on(self) -> None:
        """One thread for all that is asked for."""
        with self._guard:
            self._asked = True
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="forgetting", daemon=True).start()

    def _work(self) -> None:
        try:
            while self._still_asked():
                pause = _FIRST_PAUSE_S
                while self._has_to_be_tried_again() and not self._stopping.wait(pause):
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
        except BaseException:
            with self._guard:
                self._working = False
            raise

    def _still_asked(self) -> bool:
        with self._guard:
            self._working, self._asked = self._asked, False
            return self._working

    def _has_to_be_tried_again(self) -> bool:
        """Take the steps that are missing; True where a store was away. What failed is said in the receipts."""
        try:
            with self._database.connect() as connection:
                unfinished = unfinished_receipts(connection)
            if unfinished:
                finish_forgetting(self._installation())
        except _MAY_PASS as error:
            log_error(error)
            return True
        except Exception as error:  # noqa: BLE001 - the outermost handler of this thread
            log_error(error)
            note_reason(self._database, _reason(error))
        return False

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
