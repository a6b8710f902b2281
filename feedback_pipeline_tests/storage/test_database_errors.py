import psycopg
import pytest

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.database_errors import public_message

QUOTED = "reviewer-7f3a"


def _error(database: Database, *statements: str) -> psycopg.Error:
    with database.connect() as connection:
        for statement in statements[:-1]:
            connection.execute(statement.encode())
        with pytest.raises(psycopg.Error) as error:
            connection.execute(statements[-1].encode())
    return error.value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (("CREATE TABLE t (k text PRIMARY KEY)", f"INSERT INTO t VALUES ('{QUOTED}'), ('{QUOTED}')"), "t_pkey"),
        (("CREATE TABLE t (k text CHECK (k = ''))", f"INSERT INTO t VALUES ('{QUOTED}')"), "t_k_check"),
        ((f"SELECT '{QUOTED}'::uuid",), "InvalidTextRepresentation, SQLSTATE 22P02"),
        ((f"SELECT '\"{QUOTED}'::json",), "22P02"),
        ((f"DO $$ BEGIN RAISE EXCEPTION 'no {QUOTED}'; END $$",), "RaiseException"),
    ],
)
def test_no_value_of_a_row_is_shown(empty_database: Database, statements: tuple[str, ...], words: str) -> None:
    error = _error(empty_database, *statements)
    assert QUOTED in str(error)
    message = public_message(error)
    assert QUOTED not in message
    assert words in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["SELECT 1 FROM learning_runs", "SELECT nosuch FROM pg_class", "SELECT nosuch()"])
def test_missing_tables_lead_to_migrate(empty_database: Database, statement: str) -> None:
    assert "feedback-pipeline migrate" in public_message(_error(empty_database, statement))


def test_an_error_without_a_server_is_named_by_its_class() -> None:
    assert "(DataError)" in public_message(psycopg.DataError(f"cannot adapt {QUOTED}"))
    assert QUOTED not in public_message(psycopg.DataError(f"cannot adapt {QUOTED}"))
