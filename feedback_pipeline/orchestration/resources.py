"""Resources: typed shells that Dagster configures around the plain objects of storage/.

Belongs here: fields, their descriptions, setup and teardown. Does not belong here: SQL, files, anything a script without
Dagster would want too.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import dagster as dg
from pydantic import Field, PrivateAttr

from feedback_pipeline.errors import UserError
from feedback_pipeline.settings import Settings

if TYPE_CHECKING:
    from feedback_pipeline.storage.database import Connection, Database
    from feedback_pipeline.storage.feature_store import FeatureStore
    from feedback_pipeline.storage.tracking import Tracking

INSTALLATION_TAG: Final = "feedback_pipeline/installation"
# dagster.yaml lets one run with this tag execute at a time.
PASS_TAG: Final = {"feedback_pipeline/pass": "learn"}
_held: "dict[str, Database]" = {}
"""What this process holds the learning lock of, by URL: the steps of a run are executed in its process."""


class DatabaseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Postgres database with the source tables and everything learned."""

    url: str = Field(description="postgresql:// URL; bound to FEEDBACK_DATABASE_URL")

    def open(self) -> "Database":
        """The plain database object; opens no connection yet. A pass writes through it only while it holds its lock."""
        from feedback_pipeline.storage.database import Database

        return _held.get(self.url) or Database(self.url)


class FeatureStoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Parquet files of human_feedback, feature_table and the results of the learning runs."""

    root: str = Field(default="", description="folder or fsspec URL; empty: what FEEDBACK_STORE_URL or FEEDBACK_HOME say")

    def open(self, database: "Database") -> "FeatureStore":
        """The store of the installation whose id the database holds; a pass writes its results only while it holds its lock."""
        from feedback_pipeline.storage.installation import read_installation
        from feedback_pipeline.storage.pass_lock import HeldDatabase

        with database.connect() as connection:
            installation = read_installation(connection)
        prove = database.prove if isinstance(database, HeldDatabase) else None
        return self.of(installation.id, prove)

    def of(self, installation_id: str, prove: "Callable[[], None] | None" = None) -> "FeatureStore":
        """The store of an installation; `prove` is asked before a result is written, without it the store is for reading."""
        from feedback_pipeline.storage.feature_store import FeatureStore

        return FeatureStore(self.root or Settings().store, installation_id, prove)


class TrackingResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The MLflow store with the runs and versions of the quality predictor."""

    uri: str = Field(default="", description="database or tracking server; empty: what MLFLOW_TRACKING_URI says")

    def open(self) -> "Tracking":
        """The plain object; reaches no store yet.

        Raises:
            UserError: no store is named, or none that MLflow can use.
        """
        from feedback_pipeline.storage.tracking import Tracking
        from feedback_pipeline.storage.tracking_uris import TRACKING_VARIABLE

        uri = self.uri or os.environ.get(TRACKING_VARIABLE, "")
        if not uri:
            raise UserError(
                f"no MLflow store is named; start this with `feedback-pipeline run -- ...`, or set {TRACKING_VARIABLE}"
            )
        return Tracking(uri, Settings().mlflow_artifacts or "")

    @property
    def address(self) -> str:
        """Where the web UI of MLflow answers; empty where nobody said."""
        return Settings().mlflow_url or ""


class LearningLock(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One learning pass at a time.

    Steps run in the run's own process, where a resource lives from the first step to the last: so whoever starts a run
    (terminal, web UI, schedule), its process takes the lock once, nothing takes it twice, and a dying process frees it.
    """

    database: DatabaseResource
    _taken_at: datetime | None = PrivateAttr(default=None)

    @property
    def taken_at(self) -> datetime:
        """When the pass began: the moment its run took the lock."""
        if self._taken_at is None:
            raise UserError("the learning lock is not held; use it as a resource of a run")
        return self._taken_at

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["LearningLock"]:
        """Waits for a pass that is running, and says so; then holds the lock until the run ends.

        The run is tagged first, with the installation, so that a watch can tell it from the runs of others in one Dagster, and
        as a pass, whichever job it is of.
        """
        from feedback_pipeline.orchestration.run_process import fit_for_a_pass
        from feedback_pipeline.storage.pass_lock import learning_pass_lock

        def say() -> None:
            if context.log is not None:
                context.log.warning("Another learning pass is running on this database; waiting for it to finish")

        database = self.database.open()
        run_id = _tagged(database, context, PASS_TAG)
        with fit_for_a_pass(context.instance), learning_pass_lock(database, say, run_id) as held:
            self._taken_at = datetime.now(UTC)
            _held[database.url] = held
            try:
                yield self
            finally:
                del _held[database.url]


class RunSign(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Shows, from the first step of a run that takes no learning lock to its last, that its process lives."""

    database: DatabaseResource

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["RunSign"]:
        """Tags the run with the installation, and shows the sign until it ends."""
        from feedback_pipeline.storage.pass_lock import sign_of_life

        database = self.database.open()
        run_id = _tagged(database, context)
        with sign_of_life(database, run_id) if run_id is not None else nullcontext():
            yield self


def _tagged(
    database: "Database", context: dg.InitResourceContext, further_tags: Mapping[str, str] = MappingProxyType({})
) -> str | None:
    """The id of the run, None outside one, once it is tagged: a watch looks for the sign of those runs alone that give one."""
    if context.instance is None or context.run is None:
        return None
    context.instance.add_run_tags(context.run.run_id, installation_tag(database) | dict(further_tags))
    return context.run.run_id


def installation_tag(database: "Database") -> dict[str, str]:
    """The tag of every run of this installation.

    Raises:
        StoreUnavailable: the server cannot be reached.
        StoreError: the database has not been migrated.
    """
    with database.connect() as connection:
        return installation_tag_by(connection)


def installation_tag_by(connection: "Connection") -> dict[str, str]:
    """As `installation_tag`, over a connection that is open.

    Raises:
        StoreError: the database has not been migrated.
    """
    from feedback_pipeline.storage.installation import read_installation

    return {INSTALLATION_TAG: read_installation(connection).id}
