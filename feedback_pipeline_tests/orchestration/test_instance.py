"""dagster.yaml, read by Dagster itself."""

import dagster as dg
import pytest
from dagster._core.run_coordinator import QueuedRunCoordinator

from feedback_pipeline.environment import Environment
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
