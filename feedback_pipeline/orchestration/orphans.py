"""Runs whose process is gone: Dagster sees a dead run only while the server that started it lives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg

from feedback_pipeline.orchestration.resources import installation_tag
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.pass_lock import pass_is_running

_EXECUTING: Final = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


class OrphanWatch:
    """Fails runs of this installation that are executing by the books while nobody holds its learning lock.

    Every run that wants the lock is tagged with the installation before it waits for the lock, and holds it to its last step;
    runs of others in the same Dagster have no such tag and are left alone. A run is failed when two looks in a row find it
    executing and the lock free: one look could fall into the moment before the first step or after the last.

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
            StoreError: the database is not migrated.
        """
        own = dg.RunsFilter(statuses=_EXECUTING, tags=installation_tag(self._database))
        runs = {run.run_id: run for run in self._instance.get_runs(own)}
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
