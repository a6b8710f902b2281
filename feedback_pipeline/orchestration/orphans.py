"""Runs that nobody executes any more: Dagster sees a dead run only while the server that started it lives.

A run that it makes and never submits it fails by itself (run_monitoring in dagster.yaml).
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import dagster as dg

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.orchestration.failures import in_own_words
from feedback_pipeline.orchestration.looks import looks_every
from feedback_pipeline.orchestration.resources import INSTALLATION_TAG, DatabaseResource, installation_tag
from feedback_pipeline.orchestration.run_states import Ours, is_pass, ours_of

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Database

EVERY_S: Final = 20
LOOKS: Final = 6
_WITHOUT_A_WORD: Final = "The process of this run ended without a word; start the run again."
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
            self._instance.report_run_failed(runs[run_id], _WITHOUT_A_WORD)
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


def fail_untagged(instance: dg.DagsterInstance, ours: Ours, seen: Mapping[str, int]) -> tuple[list[str], dict[str, int]]:
    """Fails passes of ours that six looks in a row, two minutes, find executing without the tag of an installation.

    A pass tags itself within seconds of its start, before it waits for anything. One that is killed before, together with the
    server that started it, has no tag that `OrphanWatch` would find it by, and would hold up every other pass for hours. Runs
    that are no passes hold up nothing, and some of them never get the tag.

    Args:
        instance: the Dagster instance.
        ours: whose runs are looked at.
        seen: how many earlier looks in a row found which run.

    Returns:
        The ids of the runs failed, and how many looks have found the others.
    """
    executing = ours.runs(instance, _EXECUTING)
    found = {run_id: run for run_id, run in executing.items() if is_pass(run) and INSTALLATION_TAG not in run.tags}
    times = {run_id: seen.get(run_id, 0) + 1 for run_id in found}
    lost = sorted(run_id for run_id, count in times.items() if count >= LOOKS)
    for run_id in lost:
        instance.report_run_failed(found[run_id], _WITHOUT_A_WORD)
    return lost, {run_id: count for run_id, count in times.items() if count < LOOKS}


@dg.sensor(
    name="orphaned_runs",
    minimum_interval_seconds=looks_every(EVERY_S),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process died together with the server that had started it: Dagster would show them "
    "as under way for ever, and no other pass would start.",
)
def orphaned_runs(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SkipReason:
    """Looks once; what earlier looks have seen is in the cursor."""
    plain, cursor = database.open(), json.loads(context.cursor or "{}")
    before = cursor if isinstance(cursor, dict) else {}  # an older version kept a list
    with in_own_words():
        watch, ours = OrphanWatch(context.instance, plain, before.get("silent", [])), ours_of(context, installation_tag(plain))
        untagged, nameless = fail_untagged(context.instance, ours, before.get("untagged", {}))
        failed = watch.look() + untagged
    context.update_cursor(json.dumps({"silent": sorted(watch.suspects), "untagged": nameless}))
    return dg.SkipReason(f"marked as failed: {', '.join(failed)}" if failed else "every run that executes has its process")
