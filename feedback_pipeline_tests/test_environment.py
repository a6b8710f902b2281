import os
from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from feedback_pipeline.environment import prepared, readable_database, settings_from_environment
from feedback_pipeline.errors import StoreError, UserError
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database


def _settings(database: Database, home: Path) -> Settings:
    return Settings(database_url=database.url, home=home, first_day=date(2024, 2, 3), score_bounds={"tone": (1, 5)})  # type: ignore[arg-type]


def _drop(server: Database, name: str) -> None:
    with server.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.slow
def test_children_read_the_settings_of_their_parent(
    database: Database, postgres_server: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_POSTGRES_URL", raising=False)
    settings = _settings(database, tmp_path)
    with prepared(settings) as environment:
        variables = environment.of_children()
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        read = settings_from_environment()
        assert (read.home, read.store, read.first_day) == (settings.home, settings.store, settings.first_day)
        assert (read.score_bounds, read.seed) == (settings.score_bounds, settings.seed)
        assert f"{database.name}_dagster" in variables["DAGSTER_POSTGRES_URL"]
        assert variables["DAGSTER_POSTGRES_URL"].startswith("postgresql+psycopg2://")
        assert (environment.dagster_home / ".nux" / "nux.yaml").read_text() == "seen: 1\n"
        assert "DAGSTER_POSTGRES_URL" in (environment.dagster_home / "dagster.yaml").read_text()
    _drop(postgres_server, f"{database.name}_dagster")


@pytest.mark.slow
def test_the_database_of_dagster_can_be_chosen_unless_the_home_is_its_own(
    database: Database, postgres_server: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://chosen")
    with prepared(_settings(database, tmp_path)) as environment:
        assert environment.variables["DAGSTER_POSTGRES_URL"] == "postgresql+psycopg2://chosen"
    with prepared(_settings(database, tmp_path), overridable=False) as environment:
        assert database.name in environment.variables["DAGSTER_POSTGRES_URL"]
    _drop(postgres_server, f"{database.name}_dagster")


@pytest.mark.slow
def test_commands_that_read_leave_the_users_database_as_it_is(empty_database: Database, tmp_path: Path) -> None:
    refused = pytest.raises(StoreError, match="feedback-pipeline migrate")
    with refused, readable_database(_settings(empty_database, tmp_path)):
        pass
    with empty_database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.mark.slow
def test_a_migrated_database_can_be_read(database: Database, tmp_path: Path) -> None:
    with readable_database(_settings(database, tmp_path)) as readable:
        assert readable == database


def test_programs_beside_the_interpreter_are_found_first(tmp_path: Path) -> None:
    from feedback_pipeline.environment import Environment

    url = "postgresql://user:se%40cret@db.example:5433/name"
    environment = Environment(Settings(home=tmp_path), Database(url), {"DAGSTER_HOME": "x"})
    variables = environment.of_tools()
    assert variables["PATH"].split(os.pathsep)[0].endswith("bin")
    assert (variables["PGHOST"], variables["PGPORT"], variables["PGUSER"]) == ("db.example", "5433", "user")
    assert (variables["PGPASSWORD"], variables["PGDATABASE"], variables["DAGSTER_HOME"]) == ("se@cret", "name", "x")
    assert psycopg.conninfo.conninfo_to_dict(url)["host"] == variables["PGHOST"]


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDBACK_FIRST_DAY", "soon")
    with pytest.raises(UserError, match="FEEDBACK_FIRST_DAY"):
        settings_from_environment()
