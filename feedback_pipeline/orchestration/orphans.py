"""Runs whose process is gone: Dagster sees a dead run only while the server that started it lives."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import dagster as dg

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.resources import DatabaseResource, installation_tag

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Database

EVERY_S: Final = 20
_EXECUTING: Final = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


class OrphanWatch:
    """Fails runs of this installation that are executing by the books while no process shows a sign of life for them.

    Every run is tagged with the installation before it shows its sign, and shows it to its last step; runs of others in the
    same Dagster have no such tag and are left alone. A run is failed when two looks in a row find it executing without a sign:
    one look could fall into the moment before the first step or after the last.

    Args:
        instance: the Dagster instance.
        database: where the signs are.
        suspects: runs that an earlier look found without a sign.
    """

    def __init__(self, instance: dg.DagsterInstance, database: "Database", suspects: Collection[str] = ()) -> None:
        self._instance = instance
        self._database = database
        self.suspects = set(suspects)

    def look(self) -> list[str]:
        """Looks once.

        Returns:
            The ids of the runs failed by this look.

        Raises:
            StoreUnavailable: the database cannot be reached.
            StoreError: the database is not migrated.
        """
        from feedback_pipeline.storage.pass_lock import living_runs

        own = dg.RunsFilter(statuses=_EXECUTING, tags=installation_tag(self._database))
        runs = {run.run_id: run for run in self._instance.get_runs(own)}
        silent = set(runs) - living_runs(self._database, runs)
        orphans = sorted(self.suspects & silent)
        for run_id in orphans:
            self._instance.report_run_failed(runs[run_id], "The process of this run ended without a word; start the run again.")
        self.suspects = silent - set(orphans)
        return orphans


@contextmanager
def watch_for_orphans(database: "Database") -> Iterator[Callable[[], list[str]]]:
    """Yields the look of an `OrphanWatch` over the persistent instance that DAGSTER_HOME names.

    The look raises StoreUnavailable, whichever of the two databases is away and whatever breaks the connection.
    """
    import psycopg
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import DBAPIError

    with dg.DagsterInstance.get() as instance:
        watch = OrphanWatch(instance, database)

        def look() -> list[str]:
            try:
                return watch.look()
            except (psycopg.OperationalError, DBAPIError, DagsterPostgresException) as error:
                raise StoreUnavailable("cannot look for runs that lost their process: the connection was lost") from error

        yield look


@dg.sensor(
    name="orphaned_runs",
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process died together with the server that had started it: Dagster would show them "
    "as running for ever, and no other pass would start.",
)
def orphaned_runs(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SkipReason:
    """Looks once; whom the look before found silent is in the cursor."""
    with in_own_words():
        watch = OrphanWatch(context.instance, database.open(), json.loads(context.cursor or "[]"))
        failed = watch.look()
    context.update_cursor(json.dumps(sorted(watch.suspects)))
    return dg.SkipReason(f"marked as failed: {', '.join(failed)}" if failed else "every run that executes has its process")
