"""One small world, learned from once, with a champion; tests that write take agents of their own names."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from psycopg import sql
from pydantic import SecretStr

from feedback_pipeline.learning_pass.forecasts import forecast_unreviewed
from feedback_pipeline.learning_pass.predictor import train_if_due
from feedback_pipeline.serving import __main__ as process
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.application import create_app, make_service
from feedback_pipeline.settings import ApiToken, Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.tracking import Tracking
from feedback_pipeline_tests.passes import Pass

# One worker learns the world and serves it; the others would each learn their own.
WHOLE_ROOM = [pytest.mark.slow, pytest.mark.xdist_group("serving")]
NOBODY = "http://127.0.0.1:1"
"""Where no Dagster answers."""


@dataclass(frozen=True)
class LearnedWorld:
    database: Database
    settings: Settings
    tracking: Tracking

    @contextmanager
    def client(self, tokens: dict[str, ApiToken] | None = None, dagster: str = NOBODY, **options: Any) -> Iterator[TestClient]:
        """A client of this machine."""
        settings = self.settings.model_copy(update={"api_tokens": tokens or {}})
        app = create_app(make_service(settings, self.database, self.tracking, dagster))
        options = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 50_000)} | options
        with TestClient(app, **options) as client:
            yield client

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return connection.execute(query.encode(), values).fetchall()


@contextmanager
def served(world: LearnedWorld, tokens: dict[str, ApiToken] | None = None) -> Iterator[str]:
    """Address of a server of the process that `up` starts, on a free port."""
    settings = world.settings.model_copy(
        update={"database_url": SecretStr(world.database.url), "api_port": 1, "api_tokens": tokens or {}}
    )
    config = process.configuration(settings)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def learned_world(
    make_database: Callable[[str], Database],
    migrated_template: str,
    mlflow_template: str,
    postgres_server: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LearnedWorld]:
    folder, database = tmp_path_factory.mktemp("served"), make_database(migrated_template)
    beside = f"{database.name}_mlflow"
    with postgres_server.connect(autocommit=True) as connection:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(make.format(sql.Identifier(beside), sql.Identifier(mlflow_template)))
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    write_world(database, simulate(WorldSpec(agents=3, executions=80, reviewers=6, days=10, seed=5, until=yesterday, waiting=3)))
    installation = replace(Pass.at(database, folder), now=datetime.now(UTC))
    installation.learn()
    tracking = Tracking(postgres_server.sibling(beside).sqlalchemy_url(), str(folder / "mlflow"))
    now = installation.now + timedelta(minutes=1)
    train_if_due(database, installation.store, installation.settings, tracking, _draw_nothing, now=now)
    forecast_unreviewed(database, installation.store, installation.settings, tracking, now=now)
    yield LearnedWorld(database, installation.settings, tracking)
    for name in (database.name, beside):
        with postgres_server.connect(autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def api(learned_world: LearnedWorld) -> Iterator[TestClient]:
    """Without tokens; it stands for the whole session."""
    with learned_world.client() as client:
        yield client


@pytest.fixture(scope="session")
def agent(api: TestClient) -> str:
    """An agent that was learned from."""
    return str(api.get(f"{PREFIX}/agents").json()["agents"][0]["agent_name"])


def _draw_nothing(*_: object, **__: object) -> dict[str, bytes]:
    return {}
