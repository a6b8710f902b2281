"""What the triggers of the source tables write: exactly the change, in the writer's transaction, whoever the writer is."""

import uuid
from datetime import UTC, date, datetime

import pytest

from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.migrations import migrate

pytestmark = pytest.mark.slow

REVIEW, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
EXECUTION_SIDE = {
    "agent_performance": ("agent_name, execution_id", "'writer', {key}", "execution_id", "status = 'failed'"),
    "agent_decisions": ("decision_point, performance_id", "'draft', {key}", "performance_id", "reasoning = 'other'"),
    "content_review_workflows": ("workflow_execution_id, id", "'run-1', {key}", "id", "workflow_execution_id = 'run-2'"),
}


def changes(connection: Connection) -> list[tuple[object, ...]]:
    """The changes so far in order, which are then forgotten."""
    rows = connection.execute(
        "SELECT source, operation, row_id, old_day, new_day, trainable FROM feedback_changes ORDER BY id"
    ).fetchall()
    connection.execute("DELETE FROM feedback_changes")
    return rows


def review(connection: Connection, identifier: uuid.UUID, moment: str | None, trainable: bool | None = True) -> None:
    connection.execute(
        "INSERT INTO review_feedback (id, reviewed_at, is_training_data) VALUES (%s, %s, %s)", [identifier, moment, trainable]
    )


def reviewed(
    operation: str, identifier: uuid.UUID, old: date | None, new: date | None, trainable: bool = True
) -> tuple[object, ...]:
    return ("review_feedback", operation, str(identifier), old, new, trainable)


def test_a_review_inserted_edited_and_deleted(database: Database) -> None:
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    with database.connect() as connection:
        review(connection, REVIEW, "2024-03-01 23:59:59+00")
        assert changes(connection) == [reviewed("INSERT", REVIEW, None, first)]
        connection.execute("UPDATE review_feedback SET comments = 'better'")
        assert changes(connection) == [reviewed("UPDATE", REVIEW, first, first)]
        connection.execute("UPDATE review_feedback SET reviewed_at = '2024-03-02 00:00:00+00'")
        assert changes(connection) == [reviewed("UPDATE", REVIEW, first, second)]
        connection.execute("UPDATE review_feedback SET is_training_data = false")
        assert changes(connection) == [reviewed("UPDATE", REVIEW, second, second)]
        connection.execute("UPDATE review_feedback SET reviewed_at = NULL")
        assert changes(connection) == [reviewed("UPDATE", REVIEW, second, None, trainable=False)]
        connection.execute("DELETE FROM review_feedback")
        assert changes(connection) == [reviewed("DELETE", REVIEW, None, None, trainable=False)]


def test_an_update_that_changes_nothing_leaves_no_change(database: Database) -> None:
    with database.connect() as connection:
        review(connection, REVIEW, "2024-03-01")
        for table, (columns, values, _, _) in EXECUTION_SIDE.items():
            connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values.format(key=repr(str(OTHER)))})".encode())
        changes(connection)
        connection.execute("UPDATE review_feedback SET comments = comments, reviewed_at = reviewed_at")
        for table, (_, _, key, _) in EXECUTION_SIDE.items():
            connection.execute(f"UPDATE {table} SET {key} = {key}".encode())
        connection.execute("UPDATE review_feedback SET comments = 'x' WHERE false")
        connection.execute("DELETE FROM review_feedback WHERE false")
        assert changes(connection) == []


def test_a_review_whose_id_changes_is_both_gone_and_new(database: Database) -> None:
    day = date(2024, 3, 1)
    with database.connect() as connection:
        review(connection, REVIEW, "2024-03-01")
        changes(connection)
        connection.execute("UPDATE review_feedback SET id = %s", [OTHER])
        assert sorted(changes(connection), key=str) == [
            reviewed("UPDATE", REVIEW, day, None),
            reviewed("UPDATE", OTHER, None, day),
        ]


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "12000-01-01", "0044-03-15 BC"])
def test_a_moment_no_reader_can_hold_has_no_day(database: Database, moment: str) -> None:
    with database.connect() as connection:
        review(connection, REVIEW, moment)
        assert changes(connection) == [reviewed("INSERT", REVIEW, None, None)]


def test_the_day_is_that_of_utc_whatever_the_writers_time_zone(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("SET TimeZone = 'Pacific/Kiritimati'")
        review(connection, REVIEW, "2024-03-02 09:00:00")
        assert changes(connection) == [reviewed("INSERT", REVIEW, None, date(2024, 3, 1))]


def test_unknown_trainability_counts_as_not_trainable(database: Database) -> None:
    with database.connect() as connection:
        review(connection, REVIEW, "2024-03-01", trainable=None)
        assert changes(connection) == [reviewed("INSERT", REVIEW, None, date(2024, 3, 1), trainable=False)]


def test_an_upsert_records_the_inserted_and_the_updated(database: Database) -> None:
    with database.connect() as connection:
        review(connection, REVIEW, "2024-03-01")
        changes(connection)
        connection.execute(
            "INSERT INTO review_feedback (id, reviewed_at) VALUES (%s, '2024-03-05'), (%s, '2024-03-06') "
            "ON CONFLICT (id) DO UPDATE SET reviewed_at = excluded.reviewed_at",
            [REVIEW, OTHER],
        )
        assert sorted(changes(connection), key=str) == [
            reviewed("INSERT", OTHER, None, date(2024, 3, 6)),
            reviewed("UPDATE", REVIEW, date(2024, 3, 1), date(2024, 3, 5)),
        ]


def test_copy_is_recorded(database: Database) -> None:
    with database.connect() as connection:
        with connection.cursor() as cursor, cursor.copy("COPY review_feedback (id, reviewed_at) FROM STDIN") as copy:
            copy.write_row((REVIEW, datetime(2024, 3, 1, tzinfo=UTC)))
            copy.write_row((OTHER, datetime(2024, 3, 2, tzinfo=UTC)))
        assert {row[2] for row in changes(connection)} == {str(REVIEW), str(OTHER)}


@pytest.mark.parametrize("table", EXECUTION_SIDE)
def test_the_execution_side_names_its_key(database: Database, table: str) -> None:
    columns, values, key, edit = EXECUTION_SIDE[table]
    one, two = str(REVIEW), str(OTHER)

    def recorded(operation: str, *keys: str) -> list[tuple[object, ...]]:
        return [(table, operation, name, None, None, None) for name in keys]

    with database.connect() as connection:
        connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values.format(key=repr(one))})".encode())
        assert changes(connection) == recorded("INSERT", one)
        connection.execute(f"UPDATE {table} SET {edit}".encode())
        assert changes(connection) == recorded("UPDATE", one)
        connection.execute(f"UPDATE {table} SET {key} = {two!r}".encode())
        assert sorted(changes(connection)) == sorted(recorded("UPDATE", one, two))
        connection.execute(f"DELETE FROM {table}".encode())
        assert changes(connection) == recorded("DELETE", two)


def test_many_rows_of_one_execution_are_one_change(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO agent_performance (agent_name, execution_id) SELECT 'a' || i, 'run' FROM generate_series(1, 9) i"
        )
        assert changes(connection) == [("agent_performance", "INSERT", "run", None, None, None)]


@pytest.mark.parametrize("table", ["review_feedback", *EXECUTION_SIDE])
def test_truncate_names_the_whole_table(database: Database, table: str) -> None:
    with database.connect() as connection:
        connection.execute(f"TRUNCATE {table}".encode())
        assert changes(connection) == [(table, "TRUNCATE", None, None, None, None)]


def test_a_rollback_leaves_nothing(database: Database) -> None:
    with database.connect() as connection:
        review(connection, REVIEW, "2024-03-01")
        connection.execute("INSERT INTO agent_performance (agent_name, execution_id) VALUES ('a', 'run')")
        connection.execute("TRUNCATE agent_decisions")
        connection.rollback()
        assert changes(connection) == []


def test_a_writer_without_rights_or_path_to_our_tables_still_writes(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS platform")
        connection.execute("CREATE ROLE platform")
        connection.execute("GRANT INSERT, UPDATE, DELETE, SELECT ON review_feedback, agent_performance TO platform")
        try:
            connection.execute("SET ROLE platform")
            connection.execute("SET search_path = ''")
            connection.execute("INSERT INTO public.review_feedback (reviewed_at) VALUES ('2024-03-01')")
            connection.execute("UPDATE public.review_feedback SET comments = 'x'")
            connection.execute("INSERT INTO public.agent_performance (agent_name, execution_id) VALUES ('a', 'run')")
            connection.execute("UPDATE public.agent_performance SET status = 'failed'")
            connection.execute("DELETE FROM public.review_feedback")
        finally:
            connection.execute("RESET ROLE")
            connection.execute("RESET search_path")
            connection.execute("DROP OWNED BY platform")
            connection.execute("DROP ROLE platform")
        assert [row[:2] for row in changes(connection)] == [
            ("review_feedback", "INSERT"),
            ("review_feedback", "UPDATE"),
            ("agent_performance", "INSERT"),
            ("agent_performance", "UPDATE"),
            ("review_feedback", "DELETE"),
        ]


def test_tables_with_other_types_of_columns(empty_database: Database) -> None:
    """Text ids, a time without zone, json (which has no equality), an enum, a nullable key."""
    with empty_database.connect() as connection:
        connection.execute("CREATE TYPE review_stage AS ENUM ('quality_check', 'seo_review')")
        connection.execute(
            "CREATE TABLE review_feedback (id varchar(40) PRIMARY KEY, workflow_id text, content_id text, reviewer_id text, "
            "stage review_stage, decision text, comments text, reviewed_at timestamp, quality_scores json, place point)"
        )
        connection.execute("CREATE TABLE agent_decisions (id bigint PRIMARY KEY, performance_id text, input_data json)")
    migrate(empty_database)
    with empty_database.connect() as connection:
        connection.execute("SET TimeZone = 'America/Los_Angeles'")
        connection.execute(
            "INSERT INTO review_feedback (id, stage, reviewed_at, quality_scores) "
            "VALUES ('r1', 'seo_review', '2024-03-01 23:30', '{\"a\": 1}'), ('r2', NULL, NULL, NULL)"
        )
        assert [row[2:5] for row in changes(connection)] == [("r1", None, date(2024, 3, 1)), ("r2", None, None)]
        connection.execute("UPDATE review_feedback SET quality_scores = quality_scores")
        assert changes(connection) == []
        connection.execute("UPDATE review_feedback SET quality_scores = '{\"a\": 2}' WHERE id = 'r1'")
        assert [row[2:5] for row in changes(connection)] == [("r1", date(2024, 3, 1), date(2024, 3, 1))]
        connection.execute("INSERT INTO agent_decisions VALUES (1, NULL, '{}'), (2, 'p2', '{}')")
        assert [row[2] for row in changes(connection)] == ["p2"]
        connection.execute("UPDATE agent_decisions SET performance_id = NULL WHERE id = 2")
        assert [row[2] for row in changes(connection)] == ["p2"]
