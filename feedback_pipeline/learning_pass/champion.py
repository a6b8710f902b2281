"""The champion: known to Postgres by its version, kept by MLflow as files."""

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.reading_models import KnownModel
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import LoadedModel


def load_champion(tracking: Tracking, champion: KnownModel) -> LoadedModel:
    """The champion ready to score.

    Raises:
        UserError: MLflow has no such version, or no files of it any more.
        StoreError: it cannot be read, or is another model than the one Postgres knows by that number.
        StoreUnavailable: MLflow is away.
    """
    loaded = tracking.models.load(champion.model_version)
    if champion.mlflow_run_id is not None and loaded.version.run_id != champion.mlflow_run_id:
        raise StoreError(
            f"version {champion.model_version} of {tracking.models.name} in MLflow is not the champion that the database knows "
            "by that number; set MLFLOW_TRACKING_URI to the store the database was used with"
        )
    return loaded


def require_new_numbers(tracking: Tracking, newest: KnownModel | None) -> None:
    """Make sure that the next version gets a number the database does not know yet.

    Raises:
        StoreError: MLflow would give it the number of another model.
    """
    highest = max((version.number for version in tracking.models.versions()), default=0)
    if newest is not None and highest < newest.model_version:
        raise StoreError(
            f"the database knows version {newest.model_version} of {tracking.models.name}, MLflow only {highest}: its next "
            "version would be taken for another model; set MLFLOW_TRACKING_URI to the store the database was used with"
        )
