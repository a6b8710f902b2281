"""One published learning run behind one real API; tests write executions of their own names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from feedback_pipeline.sdk import LearningClient
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline_tests.sdk.service import PROMPT, Api, running_api
from feedback_pipeline_tests.storage.publications import publication

_ON_TRIAL = """
    INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, reason, since, started_at)
    SELECT recommendation_id::text, 1, agent_name, 'probation', 0.5, target, 'on trial', now(), now() FROM agent_recommendations
"""


@pytest.fixture(scope="session")
def published(make_database: Callable[[str], Database], migrated_template: str, postgres_server: Database) -> Iterator[Database]:
    database = make_database(migrated_template)
    publish_run(database, publication(2))
    with database.connect() as connection:
        connection.execute(_ON_TRIAL)
    yield database
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))


@pytest.fixture(scope="session")
def api(published: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(published, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(params=["http", "postgres"])
def url(request: pytest.FixtureRequest, api: Api, published: Database) -> str:
    """The same service over both transports."""
    return api.url if request.param == "http" else published.url


@pytest.fixture
def client(url: str, tmp_path: Path) -> Iterator[LearningClient]:
    with LearningClient(url, spool=tmp_path, options=PROMPT) as made:
        yield made
