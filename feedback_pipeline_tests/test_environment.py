import os
import shutil
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from feedback_pipeline.environment import Environment, prepared, readable_database, settings_from_environment
from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import binaries
from feedback_pipeline_tests.beside import drop_beside


def _settings(database: Database, home: Path) -> Settings:
    triggers: dict[str, Any] = {
        **{"learn_threshold": 7, "learn_thresholds": {"drafter": 2}, "learn_age_days": 3.5, "quiet_seconds": 0.5},
        **{
            "retry_pause_seconds": 12.0,
            "longest_wait_seconds": 90.0,
            "sensor_seconds": 5,
            "daily_hour": 23,
            "alert_webhook": "https://alerts.example/key",
        },
    }
    return Settings(database_url=database.url, home=home, first_day=date(2024, 2, 3), score_bounds={"tone": (1, 5)}, **triggers)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _nothing_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("FEEDBACK_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def _siblings(database: Database, postgres_server: Database) -> Iterator[None]:
    """What Dagster and MLflow get beside the database goes with it."""
    yield
    drop_beside(postgres_server, database)


def _exists(server: Database, name: str) -> bool:
    with server.connect() as connection:
        return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


@pytest.mark.slow
@pytest.mark.usefixtures("_siblings")
def test_children_read_the_settings_of_their_parent(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_POSTGRES_URL", raising=False)
    settings = _settings(database, tmp_path)
    with prepared(settings) as environment:
        variables = environment.of_children()
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        read = settings_from_environment()
        assert (read.home, read.store, read.first_day) == (settings.home, settings.store, settings.first_day)
        assert (read.score_bounds, read.seed) == (settings.score_bounds, settings.seed)
        names = [name for name in Settings.model_fields if name.startswith(("learn_", "quiet_", "longest_", "sensor_", "daily_"))]
        assert len(names) == 7
        assert {name: getattr(read, name) for name in names} == {name: getattr(settings, name) for name in names}
        assert read.alert_webhook == settings.alert_webhook is not None
        assert f"{database.name}_dagster" in variables["DAGSTER_POSTGRES_URL"]
        assert variables["DAGSTER_POSTGRES_URL"].startswith("postgresql+psycopg2://")
        assert (environment.dagster_home / ".nux" / "nux.yaml").read_text() == "seen: 1\n"
        assert "DAGSTER_POSTGRES_URL" in (environment.dagster_home / "dagster.yaml").read_text()
        # A command of this package that a child starts finds the same installation, and serves its MLflow as this one does.
        with prepared(read) as within:
            assert within.variables == environment.variables
            assert within.serves_mlflow


@pytest.mark.slow
@pytest.mark.usefixtures("_siblings")
def test_mlflow_gets_a_database_beside_the_others(database: Database, postgres_server: Database, tmp_path: Path) -> None:
    with prepared(_settings(database, tmp_path)) as environment:
        variables, serves = environment.variables, environment.serves_mlflow
    tracking = database.sibling(f"{database.name}_mlflow")
    assert serves
    assert variables["MLFLOW_TRACKING_URI"] == tracking.sqlalchemy_url()
    assert variables["MLFLOW_TRACKING_URI"].startswith("postgresql+psycopg2://")
    assert variables["FEEDBACK_MLFLOW_ARTIFACTS"] == str(tmp_path / "mlflow" / "artifacts")
    assert (variables["FEEDBACK_MLFLOW_URL"], variables["MLFLOW_DISABLE_TELEMETRY"]) == ("http://127.0.0.1:5000", "true")
    # Made, and left to MLflow to fill: a pass that trains nothing does not pay for its tables.
    with tracking.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert not (tmp_path / "mlflow").exists()


@pytest.mark.slow
def test_a_database_for_mlflow_that_may_not_be_created_is_named(
    database: Database, postgres_server: Database, tmp_path: Path
) -> None:
    role, dagster = f"{database.name}_user", database.sibling(f"{database.name}_dagster")
    dagster.ensure_exists()
    with database.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOCREATEDB").format(sql.Identifier(role)))
        connection.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(role)))
    url = database.url.replace("postgresql://postgres@", f"postgresql://{role}@")
    try:
        refused = pytest.raises(StoreError, match=f'CREATE DATABASE "{database.name}_mlflow"')
        with refused, prepared(_settings(Database(url), tmp_path)):
            pass
    finally:
        with database.connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
        with postgres_server.connect(autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(dagster.name)))


@pytest.mark.slow
@pytest.mark.usefixtures("_siblings")
@pytest.mark.parametrize(
    ("chosen", "uri", "artifacts", "url", "serves"),
    [
        ("http://me:word@tracking:8080/", "http://me:word@tracking:8080", "", "http://tracking:8080", False),
        ("databricks", "databricks", "", "", False),
        ("sqlite:////data/ml.db", "sqlite:////data/ml.db", "{home}/mlflow/artifacts", "http://127.0.0.1:5000", True),
        ("postgresql://a@b/ml", "postgresql+psycopg2://a@b/ml", "{home}/mlflow/artifacts", "http://127.0.0.1:5000", True),
    ],
)
def test_another_mlflow_can_be_chosen_unless_the_home_is_its_own(
    database: Database,
    postgres_server: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
    uri: str,
    artifacts: str,
    url: str,
    serves: bool,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", chosen)
    names = "MLFLOW_TRACKING_URI", "FEEDBACK_MLFLOW_ARTIFACTS", "FEEDBACK_MLFLOW_URL"
    with prepared(_settings(database, tmp_path)) as environment:
        assert [environment.variables[name] for name in names] == [uri, artifacts.format(home=tmp_path), url]
        assert environment.serves_mlflow is serves
        assert not _exists(postgres_server, f"{database.name}_mlflow")
    with prepared(_settings(database, tmp_path), overridable=False) as environment:
        assert f"{database.name}_mlflow" in environment.variables["MLFLOW_TRACKING_URI"]
        assert environment.serves_mlflow


@pytest.mark.slow
@pytest.mark.usefixtures("_siblings")
def test_a_ui_of_mlflow_elsewhere_is_linked_and_not_served(database: Database, tmp_path: Path) -> None:
    chosen = _settings(database, tmp_path).model_copy(
        update={"mlflow_url": "https://mlflow.example", "mlflow_artifacts": "s3://b"}
    )
    with prepared(chosen) as environment:
        assert environment.variables["FEEDBACK_MLFLOW_URL"] == "https://mlflow.example"
        assert environment.variables["FEEDBACK_MLFLOW_ARTIFACTS"] == "s3://b"
        assert not environment.serves_mlflow


@pytest.mark.slow
@pytest.mark.usefixtures("_siblings")
def test_an_mlflow_that_cannot_be_used_is_refused(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"), prepared(_settings(database, tmp_path)):
        pass


@pytest.mark.slow
@pytest.mark.usefixtures("_siblings")
def test_the_database_of_dagster_can_be_chosen_unless_the_home_is_its_own(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://chosen")
    with prepared(_settings(database, tmp_path)) as environment:
        assert environment.variables["DAGSTER_POSTGRES_URL"] == "postgresql+psycopg2://chosen"
    with prepared(_settings(database, tmp_path), overridable=False) as environment:
        assert database.name in environment.variables["DAGSTER_POSTGRES_URL"]


@pytest.mark.slow
def test_commands_that_read_leave_the_users_database_as_it_is(empty_database: Database, tmp_path: Path) -> None:
    refused = pytest.raises(StoreError, match="feedback-pipeline migrate")
    with refused, readable_database(_settings(empty_database, tmp_path)):
        pass
    with empty_database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.mark.slow
def test_commands_that_read_make_nothing_for_dagster_and_mlflow(
    database: Database, postgres_server: Database, tmp_path: Path
) -> None:
    with readable_database(_settings(database, tmp_path)) as readable:
        assert readable == database
    assert not _exists(postgres_server, f"{database.name}_mlflow")
    assert list(tmp_path.iterdir()) == []


def test_programs_beside_the_interpreter_are_found_first(tmp_path: Path) -> None:
    url = "postgresql://user:se%40cret@db.example:5433/name"
    environment = Environment(Settings(home=tmp_path, database_url=SecretStr(url)), Database(url), {"DAGSTER_HOME": "x"})
    variables = environment.of_tools()
    assert variables["PATH"].split(os.pathsep)[0].endswith("bin")
    assert (variables["PGHOST"], variables["PGPORT"], variables["PGUSER"]) == ("db.example", "5433", "user")
    assert (variables["PGPASSWORD"], variables["PGDATABASE"], variables["DAGSTER_HOME"]) == ("se@cret", "name", "x")
    assert psycopg.conninfo.conninfo_to_dict(url)["host"] == variables["PGHOST"]


def test_the_embedded_server_brings_its_own_tools(tmp_path: Path) -> None:
    environment = Environment(Settings(home=tmp_path, database_url=None), Database("postgresql://postgres@/feedback"), {})
    path = environment.of_tools()["PATH"]
    assert shutil.which("pg_dump", path=path) == str(binaries() / "pg_dump")
    assert Path(path.split(os.pathsep)[0]) == Path(sys.executable).parent


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDBACK_FIRST_DAY", "soon")
    with pytest.raises(UserError, match="FEEDBACK_FIRST_DAY"):
        settings_from_environment()
