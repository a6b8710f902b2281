"""MLflow stores on PostgreSQL and SQLite, one of each a session."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline_tests.storage.tracking_stores import MakeTracking


@pytest.fixture(scope="session")
def mlflow_database(postgres_server: Database) -> Iterator[Database]:
    """A database that MLflow fills at its first use."""
    database = postgres_server.sibling("tracking_tests")
    database.ensure_exists()
    yield database
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that MLflow fills at its first use."""
    return tmp_path_factory.mktemp("tracking") / "mlflow.db"


@pytest.fixture(scope="session")
def make_tracking(mlflow_database: Database, tmp_path_factory: pytest.TempPathFactory) -> MakeTracking:
    """Makes a Tracking on the shared database whose experiment and model have names of their own."""
    numbers, artifacts = itertools.count(), tmp_path_factory.mktemp("artifacts")

    def make(purpose: str) -> Tracking:
        return Tracking(mlflow_database.url, str(artifacts), name=f"{purpose}-{next(numbers)}")

    return make
