"""MLflow as this package uses it: one experiment with a run for each training, one registered model, an explicit client.

Nothing global is touched: no active run, no tracking URI of the process, no environment. MLflow is imported at the first use.
"""

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from feedback_pipeline.storage.tracking_files import write_model, write_record
from feedback_pipeline.storage.tracking_forgetting import remove_trainings
from feedback_pipeline.storage.tracking_models import (
    UNDEFINED_TAG,
    Candidate,
    LoggedModel,
    Predictor,
    Record,
    TrainingData,
    defined,
    key,
    shortened,
)
from feedback_pipeline.storage.tracking_registry import MODE, ModelRegistry
from feedback_pipeline.storage.tracking_store import INSTALLATION_TAG, PARENT_TAG, TrackingStore

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME: Final = "quality-predictor"
_SOURCE_TAGS: Final = {"mlflow.source.name": "feedback-pipeline", "mlflow.source.type": "JOB"}
_BATCH: Final = 100


class Tracking:
    """Runs and models of the quality predictor in an MLflow store.

    Every method raises StoreUnavailable when nobody answers, and StoreError when the store refuses.

    Args:
        uri: MLFLOW_TRACKING_URI: a database or a tracking server.
        artifact_root: folder or URL under which a new experiment keeps its files; empty: where the server decides.
        name: of the experiment and of the registered model.

    Raises:
        UserError: the URI is none that MLflow can use.
    """

    def __init__(self, uri: str, artifact_root: str = "", name: str = NAME) -> None:
        self._store = TrackingStore(uri, artifact_root, name)
        self.models = ModelRegistry(self._store)

    def start_training(self, run_name: str, record: Record, installation: str = "") -> str:
        """Open the parent run of a training and return its id.

        Runs of the same installation that are still open belong to processes that died: they are marked as killed.

        Args:
            run_name: what a person reads.
            record: what is known before the candidates are fitted.
            installation: id of the database.
        """
        with self._store.client("start a run") as client:
            experiment = self._store.experiment_id(client)
            if installation:
                opened = f"attributes.status = 'RUNNING' and tags.{INSTALLATION_TAG} = '{installation}'"
                for run in client.search_runs([experiment], opened):
                    client.set_terminated(run.info.run_id, "KILLED")
            tags = _SOURCE_TAGS | ({INSTALLATION_TAG: installation} if installation else {})
            run_id = str(client.create_run(experiment, tags=tags, run_name=run_name).info.run_id)
        self.log(run_id, record)
        return run_id

    def log_candidate(self, parent: str, candidate: Candidate) -> str:
        """Write one candidate as a nested, finished run and return its id.

        A run that could not be written whole is marked as failed.
        """
        with self._store.client("start a nested run") as client:
            run = client.get_run(parent)
            tags = _SOURCE_TAGS | {PARENT_TAG: parent, "candidate": candidate.name}
            if INSTALLATION_TAG in run.data.tags:
                tags[INSTALLATION_TAG] = run.data.tags[INSTALLATION_TAG]
            run_id = str(client.create_run(run.info.experiment_id, tags=tags, run_name=candidate.name).info.run_id)
        try:
            self.log(run_id, candidate.record)
            self.log(run_id, Record(metrics={"fit_seconds": candidate.fit_seconds}))
        except Exception:
            self.finish(run_id, failed=True)
            raise
        self.finish(run_id)
        return run_id

    def log(self, run_id: str, record: Record) -> None:
        """Write parameters, metrics, tags, figures, tables and training data to a run."""
        metrics, undefined = defined(record.metrics)
        params, long = shortened(record.params)
        tags = {key(name): str(value) for name, value in record.tags.items()}
        if undefined:
            tags[UNDEFINED_TAG] = ", ".join(undefined)
        with self._store.client("write to a run") as client:
            _log_values(client, run_id, metrics, params, tags)
            if record.data is not None:
                client.log_inputs(run_id, datasets=[_dataset(record.data)])
            with tempfile.TemporaryDirectory(prefix="feedback-") as folder:
                if write_record(record, long, Path(folder)):
                    client.log_artifacts(run_id, folder)

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        """Close a run."""
        with self._store.client("close a run") as client:
            client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def log_model(self, run_id: str, predictor: Predictor) -> LoggedModel:
        """Write a fitted model with its code, requirements, signature and example, so that it loads in any process."""
        from mlflow.entities import LoggedModelOutput

        with tempfile.TemporaryDirectory(prefix="feedback-") as folder, self._store.client("log a model") as client:
            written = write_model(predictor, Path(folder))
            experiment = client.get_run(run_id).info.experiment_id
            model = client.create_logged_model(experiment, name=self._store.name, source_run_id=run_id)
            try:
                client.log_model_artifacts(model.model_id, str(written))
            except BaseException:
                client.finalize_logged_model(model.model_id, "FAILED")
                raise
            client.finalize_logged_model(model.model_id, "READY")
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
            return LoggedModel(model.model_id, run_id, model.artifact_location)

    def remove_trainings(self, kept: Collection[int], installation: str, day: str) -> list[int]:
        """Delete the files of all trainings but those of some versions; see `tracking_forgetting.remove_trainings`."""
        return remove_trainings(self._store, self.models, kept, installation, day)

    def link(self, run_id: str, address: str) -> str:
        """Page of a run in the web UI that answers at an address (FEEDBACK_MLFLOW_URL)."""
        with self._store.client("look for a run") as client:
            return f"{address.rstrip('/')}/#/experiments/{self._store.experiment_id(client)}/runs/{run_id}?{MODE}"

    def comparison_link(self, run_ids: Sequence[str], address: str) -> str:
        """Page of the web UI that shows runs beside each other."""
        with self._store.client("look for the runs") as client:
            runs, experiments = quote(json.dumps(list(run_ids))), quote(json.dumps([self._store.experiment_id(client)]))
        return f"{address.rstrip('/')}/#/compare-runs?runs={runs}&experiments={experiments}&{MODE}"


def _log_values(
    client: "MlflowClient", run_id: str, metrics: Mapping[str, float], params: Mapping[str, str], tags: Mapping[str, str]
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(datetime.now(UTC).timestamp() * 1000)
    entries = [
        *(Metric(name, value, now, 0) for name, value in metrics.items()),
        *(Param(name, value) for name, value in params.items()),
        *(RunTag(name, value) for name, value in tags.items()),
    ]
    for start in range(0, len(entries), _BATCH):
        batch = entries[start : start + _BATCH]
        client.log_batch(
            run_id,
            [entry for entry in batch if isinstance(entry, Metric)],
            [entry for entry in batch if isinstance(entry, Param)],
            [entry for entry in batch if isinstance(entry, RunTag)],
            synchronous=True,
        )


def _dataset(data: TrainingData) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"type": kind, "name": name, "required": True} for name, kind in data.columns.items()]
    dataset = Dataset(
        name=data.name,
        digest=data.digest,
        source_type="feature_store",
        source=json.dumps(dict(data.source), default=str),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(dict(data.profile), default=str),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
