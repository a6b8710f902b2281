"""A prepared installation in this process: a fresh database, a feature store, a persistent Dagster instance on Postgres."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from psycopg import sql

from feedback_pipeline.environment import Environment, prepared
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.orchestration.learning_run import run_learning
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.extraction import pending_days
from feedback_pipeline_tests.beside import drop_beside

UNTIL = date(2026, 6, 30)


@pytest.fixture(scope="session")
def world() -> World:
    """Four agents over ten days."""
    return simulate(WorldSpec(agents=4, executions=40, reviewers=8, days=10, seed=5, until=UNTIL))


def days_of(world: World) -> tuple[date, date]:
    """The first and the last day of the world; nobody has reviewed anything on the first."""
    return world.spec.until - timedelta(days=world.spec.days + 2), world.spec.until


def pending(environment: Environment) -> list[date]:
    """The days that a pass would read."""
    store = open_store(environment.database, environment.settings)
    with environment.database.snapshot() as connection:
        return pending_days(connection, store, environment.settings)


@contextmanager
def _installed(database: Database, server: Database, mlflow_template: str, home: Path) -> Iterator[Environment]:
    """The environment of a command on this database; the databases beside it go with it."""
    with server.connect(autocommit=True) as connection:
        beside = sql.Identifier(f"{database.name}_mlflow")
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(beside, sql.Identifier(mlflow_template)))
    settings = Settings(database_url=database.url, home=home, store_url=None)  # type: ignore[arg-type]
    with prepared(settings, overridable=False) as ready:
        yield ready
    drop_beside(server, database)


def _adopt(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def environment(
    database: Database, postgres_server: Database, mlflow_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Environment]:
    """The environment of a command, adopted by this process for one test."""
    with _installed(database, postgres_server, mlflow_template, tmp_path / "home") as ready:
        _adopt(ready, monkeypatch)
        yield ready


@pytest.fixture
def simulated(environment: Environment, world: World) -> Environment:
    """The environment with the world in its database."""
    write_world(environment.database, world)
    return environment


@pytest.fixture
def instance(environment: Environment) -> Iterator[dg.DagsterInstance]:
    """The persistent instance that the environment names."""
    with dg.DagsterInstance.get() as opened:
        yield opened


@pytest.fixture(scope="session")
def _one_pass(
    make_database: Callable[[str], Database],
    migrated_template: str,
    postgres_server: Database,
    mlflow_template: str,
    tmp_path_factory: pytest.TempPathFactory,
    world: World,
) -> Iterator[tuple[Environment, str]]:
    home = tmp_path_factory.mktemp("learned") / "home"
    with _installed(make_database(migrated_template), postgres_server, mlflow_template, home) as ready:
        write_world(ready.database, world)
        with pytest.MonkeyPatch.context() as monkeypatch:
            _adopt(ready, monkeypatch)
            run_id = run_learning(days_of(world))
        yield ready, run_id


@dataclass(frozen=True)
class Learned:
    """The world after one pass. Tests look at it and change nothing: the pass is that of the session."""

    environment: Environment
    instance: dg.DagsterInstance
    run_id: str


@pytest.fixture
def learned(_one_pass: tuple[Environment, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Learned]:
    """What a pass over the world left behind."""
    environment, run_id = _one_pass
    _adopt(environment, monkeypatch)
    with dg.DagsterInstance.get() as opened:
        yield Learned(environment, opened, run_id)
