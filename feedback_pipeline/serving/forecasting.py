"""The champion, loaded once and kept: forecasts on demand in milliseconds."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from feedback_pipeline.errors import FeedbackError, NothingLearned, UserError
from feedback_pipeline.learning_pass.champion import load_champion
from feedback_pipeline.learning_pass.forecasts import forecast_features, forecast_for_reviewers
from feedback_pipeline.serving.connections import Connections
from feedback_pipeline.serving.observation import log_error
from feedback_pipeline.serving.problems import Overloaded
from feedback_pipeline.storage.reading_forecasts import NO_CHAMPION, known_champion, read_forecasts
from feedback_pipeline.storage.reading_models import KnownModel, read_champion
from feedback_pipeline.storage.reading_provenance import read_provenance
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline.storage.tracking_models import LoadedModel

MOST_ON_DEMAND: Final = 2000
_LOADING_S: Final = 60.0


class Forecaster:
    """Forecasts by the champion of the moment; a new one is loaded when it is first asked for.

    Args:
        connections: To the database.
        tracking: Where the files of the models are; None = no MLflow store is named.
    """

    def __init__(self, connections: Connections, tracking: Tracking | None) -> None:
        self._connections, self._tracking = connections, tracking
        self._loaded: LoadedModel | None = None
        self._lock = threading.Lock()

    def load_soon(self) -> None:
        """Load the champion, if there is one, beside whatever else is done."""
        threading.Thread(target=self._load_first, name="champion", daemon=True).start()

    def of_features(self, agent_name: str, features: dict[str, Any], reviewers: Sequence[str]) -> dict[str, Any]:
        """What the champion expects of an output with these features: the document of schema FeatureForecasts.

        Raises:
            NothingLearned: there is no champion.
            StoreUnavailable: MLflow is away.
        """
        with self._connections.snapshot() as snapshot:
            champion, known = read_champion(snapshot.connection), known_champion(snapshot.connection)
            provenance = read_provenance(snapshot.connection)
        if champion is None:
            raise NothingLearned(NO_CHAMPION)
        said = forecast_features(self._model(champion), agent_name, features, reviewers)
        forecasts = [one | {"model_version": champion.model_version} for one in said.forecasts]
        return {
            "agent_name": agent_name,
            "champion": known,
            "forecasts": forecasts,
            "ignored": said.ignored,
            "provenance": provenance,
        }

    def of_outputs(self, agent_name: str | None, execution_id: str | None, reviewers: Sequence[str]) -> dict[str, Any]:
        """As `read_forecasts`; what named reviewers will say is computed where that was never asked before, and kept.

        Raises:
            NothingLearned: there is no champion.
            NotFound: there is no such agent or execution.
            UserError: too much would have to be computed.
            StoreUnavailable: MLflow is away.
        """
        with self._connections.snapshot() as snapshot:
            document = read_forecasts(snapshot, agent_name, execution_id, reviewers)
        said = {(row["agent_name"], row["execution_id"], row["reviewer_id"]) for row in document["forecasts"]}
        outputs = sorted({(agent, execution) for agent, execution, _ in said})
        missing = {output: [name for name in dict.fromkeys(reviewers) if (*output, name) not in said] for output in outputs}
        asked = sum(map(len, missing.values()))
        if asked > MOST_ON_DEMAND:
            raise UserError(f"{asked:,} forecasts would have to be made, at most {MOST_ON_DEMAND:,} are; name an execution")
        if asked:
            forecast_for_reviewers(
                self._connections.pooled, self._store(), missing, now=datetime.now(UTC), load=lambda _, one: self._model(one)
            )
            with self._connections.snapshot() as snapshot:
                document = read_forecasts(snapshot, agent_name, execution_id, reviewers)
        return document

    def _model(self, champion: KnownModel) -> LoadedModel:
        loaded = self._loaded
        if loaded is not None and loaded.version.number == champion.model_version:
            return loaded
        if not self._lock.acquire(timeout=_LOADING_S):
            raise Overloaded("the model is being loaded; ask again in a moment")
        try:
            if self._loaded is None or self._loaded.version.number != champion.model_version:
                self._loaded = load_champion(self._store(), champion)
            return self._loaded
        finally:
            self._lock.release()

    def _store(self) -> Tracking:
        if self._tracking is None:
            raise UserError("no MLflow store is named; start the service with `feedback-pipeline up`")
        return self._tracking

    def _load_first(self) -> None:
        """Who asks meanwhile waits for it; where it fails, who asks is told why."""
        try:
            with self._connections.snapshot() as snapshot:
                champion = read_champion(snapshot.connection)
            if champion is not None:
                self._model(champion)
        except (FeedbackError, psycopg.Error) as error:
            log_error(error)
