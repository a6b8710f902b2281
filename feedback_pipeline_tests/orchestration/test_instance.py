"""dagster.yaml, read by Dagster itself."""

import logging
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from feedback_pipeline.environment import Environment
from feedback_pipeline.orchestration.build import build_defs
from feedback_pipeline.orchestration.resources import PASS_TAG

pytestmark = pytest.mark.slow


def test_the_instance_is_what_the_file_says(environment: Environment, instance: dg.DagsterInstance) -> None:
    assert "postgres" in type(instance.run_storage).__module__
    assert not instance.telemetry_enabled
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_poll_interval_seconds <= 20
    assert instance.run_monitoring_start_timeout_seconds <= 60
    assert not instance.run_retries_enabled
    assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
    assert instance.run_coordinator.dequeue_interval_seconds == 1
    limits = instance.get_concurrency_config().run_queue_config
    assert limits is not None
    assert limits.tag_concurrency_limits == [{"key": next(iter(PASS_TAG)), "limit": 1}]


def test_runs_have_their_times_on_a_server_that_is_not_in_utc(environment: Environment, instance: dg.DagsterInstance) -> None:
    dagster = environment.database.sibling(f"{environment.database.name}_dagster")
    with dagster.connect() as connection:
        connection.execute(f"ALTER DATABASE \"{dagster.name}\" SET timezone = 'Asia/Tokyo'".encode())

    @dg.job
    def nothing() -> None: ...

    begun = datetime.now(UTC)
    nothing.execute_in_process(instance=instance)
    record = instance.get_run_records()[0]
    assert begun <= record.create_timestamp.replace(tzinfo=UTC) <= datetime.now(UTC)


def test_a_run_that_dagster_made_and_never_submitted_is_failed(environment: Environment, instance: dg.DagsterInstance) -> None:
    """It would count as under way for ever, and no pass would start."""
    lost, late = (instance.create_run_for_job(build_defs().resolve_job_def("learn")).run_id for _ in range(2))
    with environment.database.sibling(f"{environment.database.name}_dagster").connect() as connection:
        connection.execute("UPDATE runs SET create_timestamp = create_timestamp - interval '1 minute' WHERE run_id = %s", [lost])
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context:
        assert list(execute_run_monitoring_iteration(context, logging.getLogger(__name__))) == [None, None]
    found = {run.run_id: run.status for run in instance.get_runs()}
    assert found == {lost: dg.DagsterRunStatus.FAILURE, late: dg.DagsterRunStatus.NOT_STARTED}
