"""What members of the two roles may do, tried with logins of their own."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from feedback_pipeline.sdk.encoding import APPLICATIONS, EXECUTIONS, REVIEWS
from feedback_pipeline.sdk.postgres_transport import PostgresTransport
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline_tests.storage.members import member
from feedback_pipeline_tests.storage.publications import agent_names, publication

pytestmark = pytest.mark.slow

SOURCES = ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")
PUBLISHED = (
    *("feedback_quality_correlations", "agent_learning_patterns", "agent_recommendations", "agent_learning_state"),
    *("content_segments", "content_allocations", "human_preference_models", "reviewer_agreement", "learning_runs"),
    *("quality_models", "quality_forecasts", "pattern_effects", "queue_draws"),
)
BOOKS = (
    *("feedback_changes", "rejected_feedback", "installation", "feedback_schema_migrations", "trigger_decisions"),
    *("forget_receipts", "intake_receipts", "learning_applications"),
)
TRIGGERED = ("feedback_reviews_changed", "feedback_executions_changed", "feedback_table_truncated")

TEAM = Path(__file__).parents[2] / "docs" / "team.md"

Attempt = Callable[[str], bool]


@pytest.fixture
def attempt(database: Database, request: pytest.FixtureRequest) -> Iterator[Attempt]:
    """Whether a member of the role named by the parameter may run a statement; it is rolled back."""
    with member(database, request.param) as login:

        def allowed(statement: str) -> bool:
            with database.connect() as connection:
                connection.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(login)))
                try:
                    connection.execute(statement.encode())
                except psycopg.errors.InsufficientPrivilege:
                    return False
                finally:
                    connection.rollback()
            return True

        yield allowed


@pytest.mark.parametrize("attempt", ["feedback_reader"], indirect=True)
def test_a_reader_sees_what_is_published_and_nothing_else(attempt: Attempt, database: Database) -> None:
    assert {table: attempt(f"SELECT * FROM {table}") for table in PUBLISHED} == dict.fromkeys(PUBLISHED, True)
    assert not any(attempt(f"SELECT * FROM {table}") for table in (*SOURCES, *BOOKS))
    readable = {
        "agent_performance": {"agent_name", "execution_id", "status"},
        "content_review_workflows": {"id", "workflow_execution_id"},
        "review_feedback": {"workflow_id", "reviewed_at"},
    }
    assert columns_that(attempt, database) == {table: readable.get(table, set()) for table in SOURCES}
    # The page for whoever grants the role says the same.
    row = next(line for line in TEAM.read_text().splitlines() if line.startswith("| `feedback_reader`"))
    assert set(re.findall(r"`(\w+)`", row.split("of source tables")[1])) == set(readable).union(*readable.values())
    for table in (*SOURCES, *PUBLISHED, *BOOKS):
        assert not attempt(f"DELETE FROM {table}")
        assert not attempt(f"INSERT INTO {table} DEFAULT VALUES")
    assert not attempt("CREATE TABLE mine (id int)")


def columns_that(attempt: Attempt, database: Database) -> dict[str, set[str]]:
    """By source table: the columns that may be read."""
    with database.connect() as connection:
        found = connection.execute(
            "SELECT attrelid::regclass::text, attname FROM unnest(%s::text[]) AS t JOIN pg_attribute ON attrelid = t::regclass"
            " WHERE attnum > 0 AND NOT attisdropped",
            [list(SOURCES)],
        ).fetchall()
    return {table: {name for of, name in found if of == table and attempt(f'SELECT "{name}" FROM {table}')} for table in SOURCES}


@pytest.mark.parametrize("attempt", ["feedback_writer"], indirect=True)
def test_a_writer_brings_executions_and_reviews_and_changes_nothing(attempt: Attempt, database: Database) -> None:
    assert attempt("INSERT INTO agent_performance (agent_name, execution_id, status) VALUES ('a', gen_random_uuid(), 'success')")
    # The trigger notes the change with the rights of its owner.
    assert attempt("INSERT INTO review_feedback (reviewer_id, decision, is_training_data) VALUES ('r', 'approve', true)")
    assert attempt("INSERT INTO intake_receipts (receipt) VALUES (gen_random_uuid())")
    assert attempt("SELECT * FROM agent_recommendations")
    assert attempt("CREATE TEMP TABLE draw AS TABLE queue_draws; INSERT INTO queue_draws TABLE draw")
    for table in (*SOURCES, *PUBLISHED, *BOOKS):
        assert not attempt(f"DELETE FROM {table}")
        assert not attempt(f"TRUNCATE {table}")
    for statement in (
        "UPDATE review_feedback SET decision = 'reject'",
        "UPDATE agent_performance SET status = 'failed'",
        "UPDATE quality_models SET reason = reason",
    ):
        assert not attempt(statement)
    # It reads which execution and workflow a review is of.
    assert columns_that(attempt, database) == {
        "agent_performance": {"execution_id"},
        "agent_decisions": set(),
        "content_review_workflows": {"id", "content_id", "workflow_execution_id", "created_at"},
        "review_feedback": set(),
    }
    assert attempt("SELECT * FROM intake_receipts")
    assert not any(attempt(f"SELECT * FROM {table}") for table in BOOKS if table != "intake_receipts")


@pytest.mark.parametrize("attempt", ["feedback_reader", "feedback_writer"], indirect=True)
def test_nobody_fires_the_triggers_from_a_table_of_their_own(attempt: Attempt) -> None:
    """They write into feedback_changes with the rights of its owner, under the name of the table."""
    assert attempt("CREATE TEMP TABLE review_feedback (id int)")
    for function in TRIGGERED:
        assert not attempt(
            "CREATE TEMP TABLE review_feedback (id int); CREATE TRIGGER mine AFTER TRUNCATE ON pg_temp.review_feedback"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {function}(); TRUNCATE pg_temp.review_feedback"
        )


@pytest.mark.parametrize("made_later", [False, True])
def test_an_agent_with_both_roles_does_all_that_the_sdk_does(database: Database, made_later: bool) -> None:
    if made_later:
        with database.connect() as connection:
            connection.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM feedback_reader, feedback_writer")
            connection.execute("SELECT feedback_grant_roles()")
    publish_run(database, publication(2))
    name = agent_names(2)[0]
    with member(database, "feedback_reader", "feedback_writer") as login:
        transport = PostgresTransport(database.url.replace("//postgres@", f"//{login}@"))
        fetched = transport.improvements(name, None)
        assert fetched.document is not None
        assert transport.improvements(name, fetched.etag).document is None
        ran: dict[str, Any] = {
            "client_id": str(uuid.uuid4()),
            "execution_id": "e-1",
            "agent_name": name,
            "start_time": "2026-01-01T00:00:00Z",
        }
        ran |= {"status": "success", "content_id": str(uuid.uuid4()), "decisions": [{"decision_point": "plan"}]}
        said = {"client_id": str(uuid.uuid4()), "execution_id": "e-1", "reviewer_id": "ada", "decision": "approve"}
        lost = said | {"client_id": str(uuid.uuid4()), "execution_id": "nowhere"}
        unfit = said | {"client_id": str(uuid.uuid4()), "decision": "perhaps"}
        applied = {"application_id": str(uuid.uuid4()), "pattern_id": "p", "trial": 1, "agent_name": name, "execution_id": "e-1"}
        applied |= {"applied": True, "propensity": 0.5, "predicted_quality": None, "assigned_at": "2026-01-01T00:00:00Z"}
        for _ in range(2):
            sent = transport.send(EXECUTIONS, encoded(ran))
            assert (sent.stored + sent.known, sent.refused) == (1, [])
            sent = transport.send(REVIEWS, encoded(said, lost, unfit))
            assert (sent.stored + sent.known, [place for place, _ in sent.refused]) == (1, [1, 2])
            sent = transport.send(APPLICATIONS, encoded(applied))
            assert sent.stored + sent.known == 1
    with database.connect() as connection:
        for table in (*SOURCES, "learning_applications"):
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1,)
        # The triggers need no right of the writer.
        changed = connection.execute("SELECT source, count(*) FROM feedback_changes GROUP BY source ORDER BY source").fetchall()
        assert changed == [(table, 1) for table in sorted(SOURCES)]


def encoded(*items: dict[str, Any]) -> list[bytes]:
    return [json.dumps(item).encode() for item in items]


def test_without_the_right_to_make_roles_the_rest_is_migrated(empty_database: Database, postgres_server: Database) -> None:
    owner = f"owner_of_{empty_database.name}"
    with postgres_server.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOCREATEROLE").format(sql.Identifier(owner)))
        connection.execute(
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(empty_database.name), sql.Identifier(owner))
        )
    applied = migrate(Database(empty_database.url.replace("//postgres@", f"//{owner}@")))
    assert "015_roles.sql" in applied
    with empty_database.connect() as connection:
        assert connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall() == [
            (owner,)
        ]
