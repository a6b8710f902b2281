"""What members of the two roles may do, tried with logins of their own."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.migrations import migrate

pytestmark = pytest.mark.slow

SOURCES = ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")
PUBLISHED = (
    *("feedback_quality_correlations", "agent_learning_patterns", "agent_recommendations", "agent_learning_state"),
    *("content_segments", "content_allocations", "human_preference_models", "reviewer_agreement", "learning_runs"),
    *("quality_models", "quality_forecasts", "pattern_effects", "queue_draws"),
)
BOOKS = ("feedback_changes", "rejected_feedback", "installation", "feedback_schema_migrations")

Attempt = Callable[[str], bool]


@pytest.fixture
def attempt(database: Database, request: pytest.FixtureRequest) -> Iterator[Attempt]:
    """Whether a member of the role named by the parameter may run a statement; it is rolled back."""
    role, login = request.param, f"member_of_{request.param}_{database.name}"
    with database.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(sql.Identifier(login), sql.Identifier(role)))

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
    with database.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))


@pytest.mark.parametrize("attempt", ["feedback_reader"], indirect=True)
def test_a_reader_sees_what_is_published_and_nothing_else(attempt: Attempt) -> None:
    assert {table: attempt(f"SELECT * FROM {table}") for table in PUBLISHED} == dict.fromkeys(PUBLISHED, True)
    assert not any(attempt(f"SELECT * FROM {table}") for table in (*SOURCES, *BOOKS))
    assert attempt("SELECT agent_name FROM agent_performance")
    assert attempt("SELECT reviewed_at FROM review_feedback")
    for column in ("reviewer_id", "decision", "comments", "quality_scores"):
        assert not attempt(f"SELECT {column} FROM review_feedback")
    for table in (*SOURCES, *PUBLISHED, *BOOKS):
        assert not attempt(f"DELETE FROM {table}")
        assert not attempt(f"INSERT INTO {table} DEFAULT VALUES")
    assert not attempt("CREATE TABLE mine (id int)")


@pytest.mark.parametrize("attempt", ["feedback_writer"], indirect=True)
def test_a_writer_brings_executions_and_reviews_and_changes_nothing_learned(attempt: Attempt) -> None:
    assert attempt("INSERT INTO agent_performance (agent_name, execution_id, status) VALUES ('a', gen_random_uuid(), 'success')")
    # The trigger notes the change with the rights of its owner.
    assert attempt("INSERT INTO review_feedback (reviewer_id, decision, is_training_data) VALUES ('r', 'approve', true)")
    assert attempt("UPDATE review_feedback SET decision = 'reject'")
    assert attempt("SELECT * FROM agent_recommendations")
    assert attempt("SELECT * FROM learning_applications")
    assert attempt("CREATE TEMP TABLE draw AS TABLE queue_draws; INSERT INTO queue_draws TABLE draw")
    for table in SOURCES:
        assert not attempt(f"DELETE FROM {table}")
        assert not attempt(f"TRUNCATE {table}")
    for table in PUBLISHED:
        assert not attempt(f"UPDATE {table} SET reason = reason" if table == "quality_models" else f"DELETE FROM {table}")
    assert not any(attempt(f"SELECT * FROM {table}") for table in BOOKS)


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
