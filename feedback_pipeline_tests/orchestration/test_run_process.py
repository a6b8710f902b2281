"""What a pass does to the process of its run."""

import gc
from typing import Any

import dagster as dg
import pytest
import sqlalchemy

from feedback_pipeline.environment import Environment
from feedback_pipeline.orchestration.run_process import fit_for_a_pass

_BACKEND = sqlalchemy.text("SELECT pg_backend_pid()")


def _backend(instance: dg.DagsterInstance) -> int:
    """The process of the server that answers the storage of the runs."""
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        return int(connection.execute(_BACKEND).scalar_one())


def _end_sessions(environment: Environment) -> int:
    """End every session with the database of Dagster but this one; returns how many there were."""
    own = environment.database
    with own.sibling(f"{own.name}_dagster").connect(autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchall()
    assert set(ended) <= {(True,)}
    return len(ended)


@pytest.mark.slow
def test_storages_hold_their_connection_during_a_pass(instance: dg.DagsterInstance) -> None:
    assert _backend(instance) != _backend(instance)
    with fit_for_a_pass(instance):
        assert _backend(instance) == _backend(instance)


@pytest.mark.slow
def test_a_held_connection_that_the_server_closed_is_replaced(environment: Environment, instance: dg.DagsterInstance) -> None:
    with fit_for_a_pass(instance):
        held = _backend(instance)
        keys = instance.get_dynamic_partitions("agents")
        assert _end_sessions(environment) >= 2
        assert instance.get_dynamic_partitions("agents") == keys
        assert _backend(instance) != held


def _fail_within_a_pass(instance: dg.DagsterInstance, before: int) -> None:
    with fit_for_a_pass(instance):
        assert gc.get_threshold()[0] > before
        raise ArithmeticError


def test_the_collector_is_as_before_after_a_pass_that_fails() -> None:
    before = gc.get_threshold()
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(ArithmeticError):
        _fail_within_a_pass(instance, before[0])
    assert gc.get_threshold() == before
