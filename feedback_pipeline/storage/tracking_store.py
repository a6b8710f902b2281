"""The connection to an MLflow store: an explicit client, opened at the first use, and the experiment of this package."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.tracking_failures import OLD_SCHEMA, speaking_plainly
from feedback_pipeline.storage.tracking_uris import described, require_reachable, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_TAG: Final = "mlflow.parentRunId"
INSTALLATION_TAG: Final = "installation"
_OPENING_ATTEMPTS: Final = 3
_PAUSE_S: Final = 2.0
_EXPERIMENT_TAGS: Final = {
    # Else the web UI guesses that the experiment is about language models.
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Forecasts of how outputs will be judged: one run for each training, the candidates nested in it.",
}


class TrackingStore:
    """A store and the name under which this package's things stand in it.

    Args:
        uri: a database or a tracking server.
        artifact_root: folder or URL under which a new experiment keeps its files; empty: where the server decides.
        name: of the experiment and of the registered model.

    Raises:
        UserError: the URI is none that MLflow can use.
    """

    def __init__(self, uri: str, artifact_root: str, name: str) -> None:
        self.uri = tracking_uri(uri)
        self.name = name
        self._artifact_root = artifact_root
        self._opened: MlflowClient | None = None
        self._experiment: str | None = None
        self._lock = threading.Lock()

    @contextmanager
    def client(self, doing: str) -> Iterator["MlflowClient"]:
        """The client; errors of the block become this package's.

        Args:
            doing: what is tried, to stand after "could not".

        Raises:
            StoreUnavailable: nobody answers, or the files cannot be written.
            StoreError: the store refuses.
        """
        with speaking_plainly(self.uri, doing):
            with self._lock:
                if self._opened is None:
                    require_reachable(self.uri)
                    self._opened = self._open()
            yield self._opened

    def experiment_id(self, client: "MlflowClient") -> str:
        """Id of the experiment, which is made where it is missing and restored where somebody deleted it."""
        if self._experiment is None:
            from mlflow.exceptions import MlflowException

            found = client.get_experiment_by_name(self.name)
            if found is None:
                try:
                    client.create_experiment(self.name, artifact_location=self._artifact_location(), tags=_EXPERIMENT_TAGS)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was faster
                        raise
                found = client.get_experiment_by_name(self.name)
            elif found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            if found is None:
                raise StoreError(f"MLflow has no experiment {self.name} although it was just made; try again")
            self._experiment = str(found.experiment_id)
        return self._experiment

    def _open(self) -> "MlflowClient":
        """The first question makes the tables of an empty database.

        Where two processes ask it at the same time, the database lets one make them and refuses the other, which asks again.
        """
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        for attempt in range(1, _OPENING_ATTEMPTS + 1):
            try:
                # The registry is named too: else one that the process has set would be used.
                client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                client.get_experiment_by_name(self.name)
            except (MlflowException, SQLAlchemyError) as error:
                if attempt == _OPENING_ATTEMPTS or OLD_SCHEMA in str(error):
                    raise
                require_reachable(self.uri)
                time.sleep(_PAUSE_S)
            else:
                return client
        raise StoreError(f"MLflow in {described(self.uri)} could not be opened; try again")

    def _artifact_location(self) -> str | None:
        if not self._artifact_root:
            return None
        root = self._artifact_root if "://" in self._artifact_root else Path(self._artifact_root).absolute().as_uri()
        return f"{root.rstrip('/')}/{self.name}"
