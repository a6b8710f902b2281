from collections.abc import Iterator

import pytest

from feedback_pipeline.storage import kept_connection as module
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.kept_connection import kept_connection

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    module._close()
    yield
    module._close()


def session(connection: Connection) -> int:
    ((number,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    return int(number)


def used(database: Database) -> int:
    with kept_connection(database) as connection:
        return session(connection)


def test_the_next_look_uses_the_session_of_the_last(empty_database: Database) -> None:
    assert used(empty_database) == used(empty_database) == used(Database(empty_database.url))


def test_each_statement_is_committed_at_once(empty_database: Database) -> None:
    with kept_connection(empty_database) as connection:
        connection.execute("CREATE TABLE seen ()")
        with empty_database.connect() as other:
            other.execute("SELECT FROM seen")


def test_a_session_that_the_server_has_ended_is_replaced(empty_database: Database) -> None:
    first = used(empty_database)
    with empty_database.connect() as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [first]).fetchone() == (True,)
    assert used(empty_database) != first


def test_one_that_was_silent_for_long_is_not_trusted(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    first = used(empty_database)
    monkeypatch.setattr(module, "_SILENT_S", 0.0)
    assert used(empty_database) != first


def test_after_an_error_it_is_closed(empty_database: Database) -> None:
    with pytest.raises(ZeroDivisionError), kept_connection(empty_database) as connection:
        raise ZeroDivisionError
    assert connection.closed
    assert not module._kept


def test_looks_at_the_same_time_have_sessions_of_their_own_and_one_is_kept(empty_database: Database) -> None:
    with kept_connection(empty_database) as outer, kept_connection(empty_database) as inner:
        assert session(outer) != session(inner)
    assert inner.closed
    assert not outer.closed
    assert [kept.connection for kept in module._kept] == [outer]


def test_another_database_gets_none_of_it(empty_database: Database) -> None:
    with kept_connection(empty_database) as first:
        pass
    with kept_connection(empty_database.sibling("postgres")) as second:
        assert second.info.dbname == "postgres"
    assert first.closed
