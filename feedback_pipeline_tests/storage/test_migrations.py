"""Migrations on empty, original and migrated databases, beside readers, writers and each other."""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from feedback_pipeline.errors import StoreError, StoreUnavailable
from feedback_pipeline.storage import migrations
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.migrations import Migration, migrate, sql_files, statements
from feedback_pipeline_tests.storage.original_schema import TABLES, VARIANTS, original_schema

NAMES = [migration.name for migration in sql_files()]
DEADLINE_S = 60.0
ORIGINAL = next(iter(VARIANTS))


def execute(database: Database, query: str | bytes) -> None:
    with database.connect() as connection:
        connection.execute(query.encode() if isinstance(query, str) else query)


def value(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_statements_end_at_semicolons_of_their_own_only() -> None:
    text = """-- one; comment
    SELECT ';', "a;b" /* ; */ ; DO $$ BEGIN NULL; END $$;
    CREATE FUNCTION f() RETURNS text AS $body$ SELECT '$$;'; $body$;
    -- the end;
    """
    assert [part.split()[-1] for part in statements(text)] == ["*/", "$$", "$body$"]


def test_files_are_ordered_and_unique() -> None:
    numbers = [name[:3] for name in NAMES]
    assert numbers == sorted(set(numbers))


def test_the_checksum_ignores_line_ends_only() -> None:
    unix = Migration("001_x.sql", "SELECT 1;\nSELECT 2;\n")
    assert replace(unix, text="SELECT 1;\r\nSELECT 2;\r\n").checksum == unix.checksum
    assert replace(unix, text="SELECT 1;\nSELECT 3;\n").checksum != unix.checksum


@pytest.mark.slow
def test_an_empty_database_then_again(empty_database: Database) -> None:
    assert migrate(empty_database) == NAMES
    with empty_database.connect() as connection:
        before = connection.execute("SELECT * FROM feedback_schema_migrations ORDER BY name").fetchall()
    assert migrate(empty_database) == []
    with empty_database.connect() as connection:
        assert connection.execute("SELECT * FROM feedback_schema_migrations ORDER BY name").fetchall() == before
        assert value(connection, "SELECT count(*) FROM installation") == 1
        assert value(connection, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'feedback_changes%'") == 16


@pytest.mark.slow
def test_a_missing_database_is_created(postgres_server: Database) -> None:
    missing = postgres_server.sibling(f"missing {uuid.uuid4()}")
    try:
        assert migrate(missing) == NAMES
    finally:
        with postgres_server.connect(autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{missing.name}" WITH (FORCE)'.encode())


@pytest.mark.slow
@pytest.mark.parametrize("enhanced", [False, True], ids=["plain", "enhanced"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_original_tables_keep_every_row_and_value(empty_database: Database, variant: str, enhanced: bool) -> None:
    execute(empty_database, original_schema(variant, enhanced=enhanced))

    def columns(connection: Connection, table: str) -> list[str]:
        query = "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
        return [row[0] for row in connection.execute(query, [table]).fetchall()]

    def contents(connection: Connection) -> dict[str, list[str]]:
        queries = {t: f"SELECT ROW({', '.join(names[t])})::text FROM {t} ORDER BY 1" for t in TABLES}
        return {t: [row[0] for row in connection.execute(query.encode()).fetchall()] for t, query in queries.items()}

    with empty_database.connect() as connection:
        names = {table: columns(connection, table) for table in TABLES}
        before = contents(connection)
        files = {table: value(connection, f"SELECT pg_relation_filenode('{table}')") for table in TABLES}
    assert migrate(empty_database) == NAMES
    assert migrate(empty_database) == []
    with empty_database.connect() as connection:
        assert contents(connection) == before
        assert {table: value(connection, f"SELECT pg_relation_filenode('{table}')") for table in TABLES} == files, "rewritten"
        assert value(connection, "SELECT count(*) FROM review_feedback WHERE is_training_data") == 500
        # The rows of before are announced as a whole: no statement of theirs was seen.
        assert connection.execute("SELECT operation, row_id FROM feedback_changes").fetchall() == [("EXISTING", None)]
        connection.execute("UPDATE review_feedback SET decision = 'reject'")
        assert value(connection, "SELECT count(*) FROM feedback_changes WHERE new_day = '2024-03-01'") == 500
        connection.execute("UPDATE agent_performance SET duration = 3")
        connection.execute("UPDATE agent_decisions SET reasoning = 'r'")
        connection.execute("UPDATE content_review_workflows SET content_id = id")
        assert value(connection, "SELECT count(*) FROM feedback_changes WHERE source <> 'review_feedback'") == 3


@pytest.mark.slow
def test_original_learned_tables_take_honest_rows(empty_database: Database) -> None:
    execute(empty_database, original_schema(ORIGINAL))
    migrate(empty_database)
    execute(
        empty_database,
        "INSERT INTO feedback_quality_correlations (agent_name, agent_output_feature, human_feedback_aspect, "
        "correlation_strength, sample_size, reason) VALUES ('writer', 'tokens', 'seo', NULL, 0, 'no data')",
    )
    execute(
        empty_database,
        "INSERT INTO agent_learning_patterns (agent_name, pattern_type, pattern_description, input_features, "
        "output_characteristics, human_feedback_signals, confidence_score, sample_size) "
        "VALUES ('writer', 'correlation_pattern', 'x', '{}', '{}', '{}', NULL, 0)",
    )
    with empty_database.connect() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE feedback_quality_correlations SET sample_size = -1")
    with empty_database.connect() as connection:
        assert value(connection, "SELECT success_rate FROM agent_learning_patterns WHERE pattern_description = 'x'") is None


@pytest.mark.slow
def test_comments_on_columns_of_existing_tables_stay(empty_database: Database) -> None:
    execute(empty_database, original_schema(ORIGINAL))
    execute(empty_database, "COMMENT ON COLUMN agent_performance.duration IS 'theirs'")
    migrate(empty_database)
    with empty_database.connect() as connection:
        assert value(connection, "SELECT col_description('agent_performance'::regclass, 7)") == "theirs"


@pytest.mark.slow
def test_two_at_once_share_the_work(empty_database: Database) -> None:
    execute(empty_database, original_schema(ORIGINAL))
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [empty_database] * 4))
    assert sorted(applied) == [[], [], [], NAMES]


@pytest.mark.slow
def test_a_changed_file_is_named(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(empty_database)
    files = sql_files()
    files[1] = replace(files[1], text=files[1].text + "SELECT 1;")
    monkeypatch.setattr(migrations, "sql_files", lambda: files)
    with pytest.raises(StoreError, match=files[1].name):
        migrate(empty_database)


@pytest.mark.slow
def test_a_failing_file_is_named_and_leaves_nothing(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Migration("900_broken.sql", "CREATE TABLE half (n int); SELECT 1 / 0;")
    monkeypatch.setattr(migrations, "sql_files", lambda: [broken])
    with pytest.raises(StoreError, match=r"900_broken\.sql failed on database.*division by zero"):
        migrate(empty_database)
    with empty_database.connect() as connection:
        assert value(connection, "SELECT to_regclass('half')") is None
        assert value(connection, "SELECT count(*) FROM feedback_schema_migrations") == 0


@pytest.mark.slow
def test_who_may_not_alter_the_tables_is_told_so(empty_database: Database) -> None:
    execute(empty_database, original_schema(ORIGINAL))
    with empty_database.connect(autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
        connection.execute("GRANT ALL ON SCHEMA public TO guest")
    guest = Database(empty_database.url.replace("postgres@", "guest@"))
    with pytest.raises(StoreError, match="as the owner of the tables"):
        migrate(guest)
    with empty_database.connect(autocommit=True) as connection:
        connection.execute("DROP OWNED BY guest")
        connection.execute("DROP ROLE guest")


@pytest.mark.slow
def test_a_half_built_index_is_built_again(empty_database: Database) -> None:
    migrate(empty_database)
    concurrent = next(name for name in NAMES if "indexes" in name)
    with empty_database.connect(autocommit=True) as connection:
        connection.execute("DELETE FROM feedback_schema_migrations WHERE name = %s", [concurrent])
        connection.execute("DROP INDEX idx_review_feedback_workflow")
        connection.execute("INSERT INTO review_feedback (workflow_id) SELECT gen_random_uuid() FROM generate_series(1, 3)")
        # An older transaction makes the build wait after its first phase; there it is interrupted.
        connection.execute("SET statement_timeout = 300")
        with empty_database.connect() as older:
            older.execute("LOCK TABLE review_feedback IN ROW EXCLUSIVE MODE")
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("CREATE INDEX CONCURRENTLY idx_review_feedback_workflow ON review_feedback (workflow_id)")
        connection.execute("RESET statement_timeout")
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'idx_review_feedback_workflow'::regclass"
        assert value(connection, valid) is False
        assert migrate(empty_database) == [concurrent]
        assert value(connection, valid) is True


@pytest.mark.slow
def test_behind_a_reader_writers_go_on_and_the_migration_ends_when_it_can(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(empty_database, original_schema(ORIGINAL))
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_MS", 200)
    monkeypatch.setattr(migrations, "LOCK_PAUSE_S", 0.1)
    monkeypatch.setattr(migrations, "LOCK_ATTEMPTS", 1000)
    written, stop = [0], threading.Event()

    def write() -> None:
        with empty_database.connect(autocommit=True) as connection:
            connection.execute("SET lock_timeout = '20s'")  # queued behind a waiting ALTER for good, it fails
            while not stop.is_set():
                connection.execute("INSERT INTO review_feedback (id, reviewed_at) VALUES (gen_random_uuid(), '2024-03-02')")
                written[0] += 1

    with ThreadPoolExecutor(2) as pool, empty_database.connect() as watcher:
        watcher.autocommit = True
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ADD COLUMN%'"
        try:
            with empty_database.connect() as reader:
                reader.execute("SELECT count(*) FROM review_feedback")
                migrating, writing = pool.submit(migrate, empty_database), pool.submit(write)
                until(lambda: value(watcher, waiting) == 1)
                begun = written[0]
                until(lambda: writing.done() or written[0] > begun + 200)
                assert not migrating.done()
                assert not writing.done()
            assert migrating.result(DEADLINE_S) == NAMES
            after = value(watcher, "SELECT count(*) FROM feedback_changes")
            until(lambda: value(watcher, "SELECT count(*) FROM feedback_changes") != after)
        finally:
            stop.set()
        writing.result(DEADLINE_S)
        assert value(watcher, "SELECT count(*) FROM review_feedback WHERE comments IS NOT NULL") == 500


@pytest.mark.slow
def test_giving_up_behind_a_lock_names_the_file_and_can_be_repeated(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(empty_database, original_schema(ORIGINAL))
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(migrations, "LOCK_PAUSE_S", 0.01)
    monkeypatch.setattr(migrations, "LOCK_ATTEMPTS", 2)
    with empty_database.connect() as reader:
        reader.execute("SELECT count(*) FROM review_feedback")
        with pytest.raises(StoreUnavailable, match=r"002_.*stayed locked.*pg_stat_activity"):
            migrate(empty_database)
    assert migrate(empty_database) == NAMES[1:]


@pytest.mark.slow
def test_no_transaction_locks_two_source_tables(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that has one table and wants another must never meet a migration that has the other and wants the one."""
    execute(empty_database, original_schema(ORIGINAL))
    with monkeypatch.context() as patch:
        before = sql_files()[:5]  # the build of an index would wait for the writer first
        patch.setattr(migrations, "sql_files", lambda: before)
        migrate(empty_database)
    with ThreadPoolExecutor(1) as pool:
        with empty_database.connect() as writer:
            writer.execute("LOCK TABLE content_review_workflows IN ROW EXCLUSIVE MODE")
            migrating = pool.submit(migrate, empty_database)
            waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'content_review_workflows'::regclass AND NOT granted"
            with empty_database.connect(autocommit=True) as watcher:
                until(lambda: value(watcher, waiting) == 1)
            writer.execute("SET lock_timeout = '100ms'")  # far below the deadlock check: waiting at all is the failure
            for table in TABLES[:3]:
                writer.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE".encode())
        assert migrating.result(DEADLINE_S) == NAMES[5:]


@pytest.mark.slow
def test_an_index_that_waits_for_ever_is_given_up_and_built_again(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(empty_database, original_schema(ORIGINAL))
    monkeypatch.setattr(migrations, "INDEX_LOCK_TIMEOUT_MS", 100)
    with empty_database.connect() as writer:
        writer.execute("LOCK TABLE agent_performance IN ROW EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match=r"003_.*stayed locked"):
            migrate(empty_database)
    assert migrate(empty_database) == NAMES[2:]
    with empty_database.connect() as connection:
        assert value(connection, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


@pytest.mark.slow
def test_tables_in_another_schema_of_the_search_path(empty_database: Database) -> None:
    execute(empty_database, b"CREATE SCHEMA platform; SET search_path = platform; " + original_schema(ORIGINAL))
    execute(empty_database, f'ALTER DATABASE "{empty_database.name}" SET search_path = platform, public')
    assert migrate(empty_database) == NAMES
    assert migrate(empty_database) == []
    with empty_database.connect() as connection:
        connection.execute("SET search_path = ''")
        connection.execute("UPDATE platform.review_feedback SET decision = 'reject'")
        assert value(connection, "SELECT count(*) FROM platform.feedback_changes WHERE operation <> 'EXISTING'") == 500
