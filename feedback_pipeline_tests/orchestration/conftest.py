"""A prepared installation in this process: a fresh database, a feature store, a persistent Dagster instance on Postgres."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from psycopg import sql

from feedback_pipeline.environment import Environment, prepared
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database

UNTIL = date(2026, 6, 30)


@pytest.fixture(scope="session")
def world() -> World:
    """Four agents over ten days."""
    return simulate(WorldSpec(agents=4, executions=40, reviewers=8, days=10, seed=5, until=UNTIL))


@pytest.fixture
def environment(
    database: Database, postgres_server: Database, mlflow_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Environment]:
    """The environment of a command, adopted by this process for one test."""
    with postgres_server.connect(autocommit=True) as connection:
        beside = sql.Identifier(f"{database.name}_mlflow")
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(beside, sql.Identifier(mlflow_template)))
    settings = Settings(database_url=database.url, home=tmp_path / "home", store_url=None)  # type: ignore[arg-type]
    with prepared(settings, overridable=False) as ready:
        for name, value in ready.variables.items():
            monkeypatch.setenv(name, value)
        yield ready
    with postgres_server.connect(autocommit=True) as connection:
        for kind in ("dagster", "mlflow"):
            beside = sql.Identifier(f"{database.name}_{kind}")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(beside))


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
