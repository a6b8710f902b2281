"""A real PostgreSQL for the tests: one embedded server a session, a fresh database a test."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.tracking import Tracking

# As the program sets it for its children: MLflow would ask the network otherwise.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# Nothing here has to survive a power failure.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "128MB"}
TEMPLATE = "feedback_template"
MLFLOW_TEMPLATE = "mlflow_template"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first."""
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The server's own database; tests take `database` or `empty_database`."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("home"), settings=FAST).hold() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Database) -> str:
    """Name of a migrated database that is copied for each test."""
    migrate(postgres_server.sibling(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def mlflow_template(postgres_server: Database) -> str:
    """Name of a database that MLflow has filled; it takes MLflow ten seconds, and is copied for each test."""
    template = postgres_server.sibling(MLFLOW_TEMPLATE)
    template.ensure_exists()
    assert Tracking(template.sqlalchemy_url()).models.versions() == []
    # Nobody may be connected to a database that is copied, and MLflow keeps connections.
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (MLFLOW_TEMPLATE,))
    return MLFLOW_TEMPLATE


@pytest.fixture(scope="session")
def make_database(postgres_server: Database) -> Callable[[str], Database]:
    """Makes a database from a template."""
    numbers = itertools.count()

    def make(template: str) -> Database:
        name = f"test_{next(numbers)}"
        with postgres_server.connect(autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return postgres_server.sibling(name)

    return make


def _drop(server: Database, database: Database) -> None:
    with server.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))


@pytest.fixture
def database(postgres_server: Database, migrated_template: str, make_database: Callable[[str], Database]) -> Iterator[Database]:
    """A migrated database without rows."""
    fresh = make_database(migrated_template)
    yield fresh
    _drop(postgres_server, fresh)


@pytest.fixture
def empty_database(postgres_server: Database, make_database: Callable[[str], Database]) -> Iterator[Database]:
    """A database with nothing in it."""
    fresh = make_database("template0")
    yield fresh
    _drop(postgres_server, fresh)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real review data beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} absent: real review data is not part of the repository")
    return folder
