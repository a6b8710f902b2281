"""The registered model: versions with tags, the aliases champion and challenger, files read back and cleared away."""

import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.storage.tracking_models import LoadedModel, LoggedModel, Version, key
from feedback_pipeline.storage.tracking_store import TrackingStore

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
KEPT_VERSIONS: Final = 3
# Of links: else the web UI opens on its pages for language models.
MODE: Final = "workflowType=machine_learning"
FILES_TAG: Final = "files"
REMOVED: Final = "removed"
_LOADED_AT_ONCE: Final = 4
_PAGE: Final = 200


class ModelRegistry:
    """Versions of the registered model of a store.

    Every method raises StoreUnavailable when nobody answers, and StoreError when the store refuses.
    """

    def __init__(self, store: TrackingStore) -> None:
        self._store = store
        self.name = store.name
        self._loaded: dict[int, LoadedModel] = {}
        self._lock = threading.Lock()

    def register(self, model: LoggedModel, tags: Mapping[str, object]) -> int:
        """Make a logged model a version of the registered model and return its number."""
        from mlflow.exceptions import MlflowException

        with self._store.client("register a model") as client:
            try:
                client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            version = client.create_model_version(self.name, model.uri, model.run_id, tags=_texts(tags), model_id=model.model_id)
            return int(version.version)

    def set_alias(self, alias: str, number: int | None) -> None:
        """Let champion or challenger name a version; None: no version any more."""
        with self._store.client("move an alias") as client:
            if number is not None:
                client.set_registered_model_alias(self.name, alias, str(number))
            elif alias in self._aliases(client):
                client.delete_registered_model_alias(self.name, alias)

    def get_alias(self, alias: str) -> Version | None:
        """The version that champion or challenger names; None where there is none."""
        return next((version for version in self.versions() if alias in version.aliases), None)

    def versions(self) -> list[Version]:
        """All versions, newest first; empty before the first training."""
        with self._store.client("list the versions") as client:
            named: dict[int, list[str]] = {}
            for alias, number in self._aliases(client).items():
                named.setdefault(number, []).append(alias)
            found = [_version(each, named) for each in _all_versions(client, self.name)]
        return sorted(found, key=lambda version: -version.number)

    def load(self, which: int | str) -> LoadedModel:
        """A version ready to score, by its number or alias; one that was loaded before is not read again.

        Raises:
            UserError: there is no such version, or its files were removed.
            StoreError: it cannot be read, or was made by another version of this program.
        """
        version = next((each for each in self.versions() if which == each.number or which in each.aliases), None)
        if version is None:
            raise UserError(f"there is no version {which!r} of {self.name}; learn first, so that one is trained")
        if not version.has_files:
            raise UserError(f"the files of version {version.number} of {self.name} were removed; use a newer version")
        with self._lock:
            known = self._loaded.pop(version.number, None)
            model = known.model if known is not None else self._read(version.number)
            self._loaded[version.number] = LoadedModel(version, model)
            for number in list(self._loaded)[:-_LOADED_AT_ONCE]:
                del self._loaded[number]
            return self._loaded[version.number]

    def remove_old_files(self, keep: int = KEPT_VERSIONS) -> list[int]:
        """Remove the files of versions beyond the newest `keep` that no alias names; what is known of them stays.

        Returns:
            The numbers of the versions whose files went.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        old = [version for version in self.versions()[keep:] if version.has_files and not version.aliases]
        with self._store.client("remove the files of an old version") as client:
            for version in old:
                uri = client.get_model_version_download_uri(self.name, str(version.number))
                get_artifact_repository(uri, tracking_uri=self._store.uri, registry_uri=self._store.uri).delete_artifacts()  # type: ignore[no-untyped-call]
                client.set_model_version_tag(self.name, str(version.number), FILES_TAG, REMOVED)
        return [version.number for version in old]

    def version_link(self, number: int, address: str) -> str:
        """Page of a version in the web UI."""
        return f"{address.rstrip('/')}/#/models/{quote(self.name, safe='')}/versions/{number}?{MODE}"

    def _aliases(self, client: "MlflowClient") -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        try:
            aliases: dict[str, str] = client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return {alias: int(number) for alias, number in aliases.items()}

    def _read(self, number: int) -> Any:
        with tempfile.TemporaryDirectory(prefix="feedback-") as folder, self._store.client("read a model") as client:
            uri = client.get_model_version_download_uri(self.name, str(number))
            return _loaded(uri, self._store.uri, folder, f"version {number} of {self.name}")


def _loaded(uri: str, store: str, folder: str, what: str) -> Any:
    """The pyfunc model at an artifact URI; the search path of modules is left as it was."""
    import mlflow.artifacts
    import mlflow.pyfunc

    # Files that lie here already are read where they are.
    target = None if uri.startswith("file:") else folder
    path = mlflow.artifacts.download_artifacts(uri, dst_path=target, tracking_uri=store, registry_uri=store)
    before = list(sys.path)
    try:
        return mlflow.pyfunc.load_model(path, suppress_warnings=True)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"{what} was made by another version of this program ({error}); train again") from error
    finally:
        # In this process its code is the installed one; the copy beside the model, in a folder that goes, is for others.
        sys.path[:] = before


def _all_versions(client: "MlflowClient", name: str) -> Iterator["ModelVersion"]:
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(found: "ModelVersion", named: Mapping[int, Sequence[str]]) -> Version:
    number, tags = int(found.version), dict(found.tags)
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    aliases = tuple(sorted(named.get(number, ())))
    return Version(number, str(found.run_id), created, tags, aliases, tags.get(FILES_TAG) != REMOVED)


def _texts(tags: Mapping[str, object]) -> dict[str, str]:
    return {key(name): str(value) for name, value in tags.items()}
