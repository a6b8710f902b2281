"""Runs whose process is gone: Dagster sees a dead run only while the server that started it lives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.pass_lock import pass_is_running

_EXECUTING: Final = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


class OrphanWatch:
    """Fails runs that are executing by the books while nobody holds the learning lock.

    Every run holds the lock from its first step to its last. A run is failed when two looks in a row find it executing and the
    lock free: one look could fall into the moment before the first step or after the last.

    Args:
        instance: the Dagster instance.
        database: where the lock is.
    """

    def __init__(self, instance: dg.DagsterInstance, database: Database) -> None:
        self._instance = instance
        self._database = database
        self._suspects: set[str] = set()

    def look(self) -> list[str]:
        """Looks once.

        Returns:
            The ids of the runs failed by this look.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        runs = {run.run_id: run for run in self._instance.get_runs(dg.RunsFilter(statuses=_EXECUTING))}
        if pass_is_running(self._database):
            runs = {}
        orphans = sorted(self._suspects & set(runs))
        for run_id in orphans:
            self._instance.report_run_failed(runs[run_id], "The process of this run ended without a word; start the run again.")
        self._suspects = set(runs) - set(orphans)
        return orphans


@contextmanager
def watch_for_orphans(database: Database) -> Iterator[Callable[[], list[str]]]:
    """Yields the look of an `OrphanWatch` over the persistent instance that DAGSTER_HOME names."""
    with dg.DagsterInstance.get() as instance:
        yield OrphanWatch(instance, database).look
