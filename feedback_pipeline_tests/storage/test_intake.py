"""The source tables are the platform's: their keys may be numbers, their lists arrays, their columns more or fewer."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.executions_intake import insert_executions
from feedback_pipeline.storage.reviews_intake import insert_reviews
from feedback_pipeline_tests.storage.members import member

pytestmark = pytest.mark.slow

NUMBERED = """
    DROP TABLE agent_performance, agent_decisions, content_review_workflows, review_feedback CASCADE;
    CREATE TABLE agent_performance (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, agent_name text NOT NULL, execution_id uuid NOT NULL,
        start_time timestamptz, end_time timestamptz, status text, input_tokens integer, metadata json,
        duration integer GENERATED ALWAYS AS (7) STORED, host text NOT NULL DEFAULT 'unknown');
    CREATE TABLE agent_decisions (
        id serial PRIMARY KEY, performance_id bigint NOT NULL, decision_type varchar(20) NOT NULL, reasoning text,
        alternatives_considered text[]);
    CREATE TABLE content_review_workflows (id bigserial PRIMARY KEY, workflow_execution_id uuid NOT NULL, created_at timestamptz);
    CREATE TABLE review_feedback (
        id text PRIMARY KEY, workflow_id bigint NOT NULL, reviewer_id varchar(5), decision review_decision, quality_scores json,
        reviewed_at timestamptz);
"""


def execution(**more: Any) -> dict[str, Any]:
    own = {"client_id": str(uuid.uuid4()), "execution_id": str(uuid.uuid4()), "agent_name": "a", "status": "success"}
    return own | {"start_time": "2026-01-01T00:00:00Z", "metadata": {}, "decisions": []} | more


def review(execution_id: str, **more: Any) -> dict[str, Any]:
    return {"client_id": str(uuid.uuid4()), "execution_id": execution_id, "decision": "approve"} | more


@pytest.fixture
def numbered(database: Database) -> Database:
    with database.connect() as connection:
        connection.execute(NUMBERED.encode())
        connection.execute("SELECT feedback_grant_roles()")
    return database


@pytest.fixture
def writer(numbered: Database) -> Iterator[Database]:
    """The same with the rights of somebody who may write and nothing else."""
    with member(numbered, "feedback_writer") as login:
        yield Database(numbered.url.replace("//postgres@", f"//{login}@"))


def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def test_rows_are_numbered_where_the_table_numbers_them(numbered: Database, writer: Database) -> None:
    sent = [
        execution(
            duration_ms=3.0,
            input_tokens=2,
            decisions=[{"decision_type": f"t{k}", "reasoning": "r", "alternatives": ["x", {"y": 1}]}],
        )
        for k in range(3)
    ]
    intake = insert_executions(writer, sent)
    assert (intake.stored, intake.known, intake.refused) == (3, 0, [])
    assert (insert_executions(writer, sent).known, len(_rows(numbered, "SELECT FROM agent_performance"))) == (3, 3)
    found = _rows(
        numbered,
        "SELECT p.execution_id::text, host, duration, d.decision_type, d.alternatives_considered FROM agent_performance p"
        " JOIN agent_decisions d ON d.performance_id = p.id ORDER BY decision_type",
    )
    assert found == [(one["execution_id"], "unknown", 7, f"t{k}", ["x", '{"y": 1}']) for k, one in enumerate(sent)]
    reviews = [review(sent[0]["execution_id"]), review(sent[0]["execution_id"].upper()), review(sent[1]["execution_id"])]
    assert insert_reviews(writer, reviews[:1]).stored == 1
    assert insert_reviews(writer, reviews[2:]).stored == 1
    workflows = _rows(
        numbered, "SELECT w.id, r.workflow_id FROM content_review_workflows w JOIN review_feedback r ON r.workflow_id = w.id"
    )
    assert len(set(workflows)) == 2
    by_workflow = {"client_id": str(uuid.uuid4()), "workflow_id": str(workflows[0][0]), "decision": None}
    assert insert_reviews(writer, [by_workflow]).stored == 1


def test_what_the_columns_do_not_take_is_refused_with_a_reason_that_quotes_no_value(numbered: Database) -> None:
    ran = execution(decisions=[{"decision_type": "fine"}])
    wrong = [
        execution(execution_id="a secret that is no uuid", decisions=[]),
        execution(decisions=[{"reasoning": "no type"}]),
        execution(decisions=[{"decision_type": "too long a secret for this column"}]),
    ]
    intake = insert_executions(numbered, [wrong[0], ran, *wrong[1:]])
    assert (intake.stored, [place for place, _ in intake.refused]) == (1, [0, 2, 3])
    assert "secret" not in str(intake.refused)
    assert 'null value in column "decision_type"' in intake.refused[1][1]
    assert insert_reviews(numbered, [review("no uuid")]).refused == [
        (0, "no execution has this execution_id; send the execution first")
    ]
    long = insert_reviews(numbered, [review(ran["execution_id"], reviewer_id="longer than five")])
    assert (long.stored, len(long.refused)) == (0, 1)
    assert len(_rows(numbered, "SELECT FROM agent_performance")) == 1


def test_a_table_that_makes_ids_of_its_own_kind_is_named(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("ALTER TABLE agent_decisions DROP COLUMN id")
    with pytest.raises(StoreError, match="agent_decisions has no id"):
        insert_executions(database, [execution(decisions=[{}])])
    assert _rows(database, "SELECT FROM intake_receipts") == []


def test_the_receipts_do_not_show_the_ids(database: Database) -> None:
    ran = execution()
    insert_executions(database, [ran])
    assert _rows(database, "SELECT receipt::text FROM intake_receipts") != [(ran["client_id"],)]


def test_a_statement_that_fails_does_not_show_its_rows_to_a_server_that_logs_it(database: Database) -> None:
    ran = execution()
    assert insert_executions(database, [ran]).stored == 1
    ((folder,),) = _rows(database, "SHOW data_directory")
    log = Path(folder).with_name("server.log")
    before = log.stat().st_size
    with database.connect() as locking, database.connect() as writing:
        locking.execute("LOCK TABLE review_feedback")
        # As a server of somebody else does; the embedded one logs no statement.
        writing.execute("SET log_min_messages = warning; SET log_min_error_statement = error; SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            insert_reviews(writing, [review(ran["execution_id"], reviewer_id="zoe.unlogged", comments="unlogged marmalade")])
        writing.rollback()
    logged = log.read_text()[before:]
    assert 'INSERT INTO "review_feedback"' in logged
    assert "unlogged" not in logged


def test_an_item_that_is_refused_leaves_no_receipt_and_one_that_fits_is_stored_beside_it(numbered: Database) -> None:
    ran = execution()
    early = review(ran["execution_id"])
    assert insert_reviews(numbered, [early]).refused == [(0, "no execution has this execution_id; send the execution first")]
    assert insert_executions(numbered, [execution(execution_id="no uuid"), ran, ran]).stored == 1
    assert _rows(numbered, "SELECT count(*) FROM intake_receipts") == [(1,)]
    intake = insert_reviews(numbered, [early, review(ran["execution_id"], reviewer_id="longer than five"), early])
    assert (intake.stored, intake.known, [place for place, _ in intake.refused]) == (1, 1, [1])
    assert _rows(numbered, "SELECT count(*) FROM intake_receipts") == [(2,)]
