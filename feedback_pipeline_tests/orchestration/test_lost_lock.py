"""The server ends the session of a pass that is at work: it publishes nothing, and says why."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from feedback_pipeline.environment import Environment
from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.agents import review_sample
from feedback_pipeline.learning.effectiveness import measure
from feedback_pipeline.learning.permutation_importance import forward_importance
from feedback_pipeline.learning_pass.inputs import PREFERENCE_MODELS, QUALITY_CORRELATIONS, open_store
from feedback_pipeline.learning_pass.training_records import version_tags
from feedback_pipeline.learning_pass.trials import settle_recommendations
from feedback_pipeline.orchestration.learning_run import run_learning
from feedback_pipeline.orchestration.resources import DatabaseResource
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.pass_lock import ADVISORY_KEY, HeldDatabase, pass_is_running
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline_tests.orchestration.conftest import pending

pytestmark = [
    pytest.mark.slow,
    # Dagster reads its own deprecated attribute whenever it sets up a resource.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning"),
]

_TABLES = ("learning_runs", "feedback_quality_correlations", "agent_learning_patterns", "agent_learning_state")


def _end_session_of_the_lock(database: Database) -> None:
    with database.connect(autocommit=True) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [ADVISORY_KEY],
        ).fetchall()
    assert ended == [(True,)]


def _once_before(function: Callable[..., Any], database: Database) -> Callable[..., Any]:
    """The function, before which the session that holds the learning lock is ended."""

    def call(*arguments: Any, **named: Any) -> Any:
        _end_session_of_the_lock(database)
        return function(*arguments, **named)

    return call


def _counts(database: Database, *tables: str) -> list[int]:
    with database.connect() as connection:
        rows = [connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() for table in tables]
    return [row[0] for row in rows if row is not None]


def _failed_steps(instance: dg.DagsterInstance) -> dict[str, int]:
    """Steps of the last run that failed, with the retries that they asked for."""
    run_id = instance.get_runs(limit=1)[0].run_id
    failed = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    retried = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY).records
    steps = [str(record.event_log_entry.step_key) for record in failed]
    return {step: sum(record.event_log_entry.step_key == step for record in retried) for step in steps}


def test_nothing_is_published_without_the_lock(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = pending(simulated)
    with monkeypatch.context() as broken:
        last = _once_before(settle_recommendations, simulated.database)  # before the transaction
        broken.setattr("feedback_pipeline.learning_pass.publication.settle_recommendations", last)
        with pytest.raises(LearningError, match="step learned_improvements failed: this learning pass has lost its lock"):
            run_learning(days)
    assert _counts(simulated.database, *_TABLES) == [0] * len(_TABLES)
    # The pass that comes next is the one to do it again, not this one.
    assert set(_failed_steps(instance).values()) == {0}
    assert not pass_is_running(simulated.database)

    run_learning(pending(simulated))
    assert min(_counts(simulated.database, *_TABLES)) > 0
    assert _counts(simulated.database, "learning_runs", "feedback_changes") == [1, 0]


def test_no_result_is_written_without_the_lock(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = _once_before(review_sample, simulated.database)
    monkeypatch.setattr("feedback_pipeline.learning_pass.correlations.review_sample", last)
    with pytest.raises(LearningError, match="step quality_correlations failed: this learning pass has lost its lock"):
        run_learning(pending(simulated))
    store = open_store(simulated.database, simulated.settings)
    assert (store.latest(PREFERENCE_MODELS) is None, store.latest(QUALITY_CORRELATIONS)) == (False, None)


def test_no_training_is_begun_without_the_lock(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = _once_before(forward_importance, simulated.database)
    monkeypatch.setattr("feedback_pipeline.learning_pass.predictor.forward_importance", last)
    with pytest.raises(LearningError, match="step quality_predictor failed: this learning pass has lost its lock"):
        run_learning(pending(simulated))
    assert _counts(simulated.database.sibling(f"{simulated.database.name}_mlflow"), "runs") == [0]


def test_no_model_is_registered_without_the_lock(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published before the lock was lost stays."""
    last = _once_before(version_tags, simulated.database)  # before the model is registered
    monkeypatch.setattr("feedback_pipeline.learning_pass.predictor.version_tags", last)
    with pytest.raises(LearningError, match="lost its lock"):
        run_learning(pending(simulated))
    assert _counts(simulated.database, "learning_runs", "quality_models", "quality_forecasts") == [1, 0, 0]
    assert Tracking(simulated.variables["MLFLOW_TRACKING_URI"]).models.versions() == []
    assert _failed_steps(instance).keys() == {"quality_predictor"}


def test_effects_are_not_written_without_the_lock(
    simulated: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback_pipeline.learning_pass.effectiveness.measure", _once_before(measure, simulated.database))
    with pytest.raises(LearningError, match="step learning_effectiveness failed: this learning pass has lost its lock"):
        run_learning(pending(simulated))
    assert _counts(simulated.database, "learning_runs", "quality_models", "quality_forecasts") == [1, 0, 0]


def test_only_a_pass_writes_under_a_lock(database: Database) -> None:
    assert not isinstance(DatabaseResource(url=database.url).open(), HeldDatabase)
