"""Takes out of an MLflow store the files of trainings that have seen what is forgotten; what was measured stays, as numbers.

Only files can name anybody: a model keeps what it learned of each reviewer. Parameters, metrics and tags hold counts and names of
features and agents.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from feedback_pipeline.storage.tracking_registry import CHALLENGER, CHAMPION, FILES_TAG, REMOVED, ModelRegistry
from feedback_pipeline.storage.tracking_store import INSTALLATION_TAG, PARENT_TAG, TrackingStore

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

FORGOTTEN_TAG: Final = "forgotten"
_PAGE: Final = 200


def remove_trainings(
    store: TrackingStore, models: ModelRegistry, kept: Collection[int], installation: str, day: str
) -> list[int]:
    """Delete the files of every training of the installation but those that made these versions.

    A training may have ended before its model was registered, or before anybody wrote down that it was. Versions lose their
    aliases, stay in the registry so that their numbers are not given away again, and say why they are empty.

    Args:
        store: The store.
        models: Its registered model.
        kept: Numbers of versions; one that is not there is left out.
        installation: Id of the database: versions and runs of others stay.
        day: What the tag says.

    Returns:
        The numbers of the versions that have been emptied now.
    """
    with store.client("delete the files of a model") as client:
        experiment = store.experiment_id(client)
        runs = {run.info.run_id: run for run in _runs(client, experiment)}
        foreign = {run_id for run_id, run in runs.items() if not _is_of(run, installation)}
        versions = [version for version in models.versions() if version.run_id not in foreign]
        gone = [version for version in versions if version.number not in kept and FORGOTTEN_TAG not in version.tags]
        for alias in (CHAMPION, CHALLENGER):
            if any(alias in version.aliases for version in gone):
                models.set_alias(alias, None)
        for number in (str(version.number) for version in gone):
            _delete(store, client.get_model_version_download_uri(models.name, number))
            client.set_model_version_tag(models.name, number, FILES_TAG, REMOVED)
            client.set_model_version_tag(models.name, number, FORGOTTEN_TAG, day)
        own = {run_id: run for run_id, run in runs.items() if run_id not in foreign}
        stay = {version.run_id for version in versions if version.number in kept}
        _remove_files_of_runs(store, client, experiment, own, stay)
    return sorted(version.number for version in gone)


def _remove_files_of_runs(
    store: TrackingStore, client: "MlflowClient", experiment: str, runs: Mapping[str, "Run"], kept: Collection[str]
) -> None:
    """Of every training among the runs but those of the kept ones: the files of its models and runs."""
    trainings = {_training(runs[run_id]) for run_id in kept if run_id in runs}
    gone = {run_id: run for run_id, run in runs.items() if _training(run) not in trainings}
    for model in _models(client, experiment):
        if model.source_run_id in gone:
            _delete(store, model.artifact_location)
    for run_id, run in gone.items():
        if run.data.tags.get(FILES_TAG) != REMOVED:
            _delete(store, run.info.artifact_uri)
            if run.info.lifecycle_stage == "active":  # MLflow takes no tag of a deleted run
                client.set_tag(run_id, FILES_TAG, REMOVED)


def _is_of(run: "Run", installation: str) -> bool:
    return run.data.tags.get(INSTALLATION_TAG, installation) == installation


def _training(run: "Run") -> str:
    """The parent run of a training."""
    return str(run.data.tags.get(PARENT_TAG, run.info.run_id))


def _delete(store: TrackingStore, uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(uri, tracking_uri=store.uri, registry_uri=store.uri).delete_artifacts()  # type: ignore[no-untyped-call]


def _runs(client: "MlflowClient", experiment: str) -> Iterator["Run"]:
    """All runs, also those that somebody deleted in the web UI: their files are still there."""
    from mlflow.entities import ViewType

    token: str | None = None
    while True:
        page = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _models(client: "MlflowClient", experiment: str) -> Iterator["LoggedModel"]:
    token: str | None = None
    while True:
        page = client.search_logged_models([experiment], page_token=token)
        yield from page
        token = page.token
        if not token:
            return
