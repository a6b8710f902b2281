from collections.abc import Iterator

import pytest

from feedback_pipeline.storage import kept_connection as module
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.kept_connection import KeptDatabase, kept_connection

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    module._close()
    yield
    module._close()


def session(connection: Connection) -> int:
    ((number,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    return int(number)


@pytest.fixture
def kept_database(empty_database: Database) -> KeptDatabase:
    return KeptDatabase(empty_database.url)


def used(database: KeptDatabase) -> int:
    with kept_connection(database) as connection:
        return session(connection)


def test_the_next_look_uses_the_session_of_the_last(kept_database: KeptDatabase) -> None:
    assert used(kept_database) == used(kept_database) == used(KeptDatabase(kept_database.url))


def test_each_statement_is_committed_at_once(kept_database: KeptDatabase) -> None:
    with kept_connection(kept_database) as connection:
        connection.execute("CREATE TABLE seen ()")
        with kept_database.connect() as other:
            other.execute("SELECT FROM seen")


def test_a_session_that_the_server_has_ended_is_replaced(kept_database: KeptDatabase) -> None:
    first = used(kept_database)
    with kept_database.connect() as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [first]).fetchone() == (True,)
    assert used(kept_database) != first


def test_one_that_was_silent_for_long_is_not_trusted(kept_database: KeptDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    first = used(kept_database)
    monkeypatch.setattr(module, "_SILENT_S", 0.0)
    assert used(kept_database) != first


def test_after_an_error_it_is_closed(kept_database: KeptDatabase) -> None:
    with pytest.raises(ZeroDivisionError), kept_connection(kept_database) as connection:
        raise ZeroDivisionError
    assert connection.closed
    assert not module._kept


def test_looks_at_the_same_time_have_sessions_of_their_own_and_one_is_kept(kept_database: KeptDatabase) -> None:
    with kept_connection(kept_database) as outer, kept_connection(kept_database) as inner:
        assert session(outer) != session(inner)
    assert inner.closed
    assert not outer.closed
    assert [kept.connection for kept in module._kept] == [outer]


def test_another_database_gets_none_of_it(kept_database: KeptDatabase) -> None:
    with kept_connection(kept_database) as first:
        pass
    with kept_connection(KeptDatabase(kept_database.sibling("postgres").url)) as second:
        assert second.info.dbname == "postgres"
    assert first.closed


def test_the_server_ends_one_that_nobody_comes_back_to(kept_database: KeptDatabase) -> None:
    with kept_connection(kept_database) as connection:
        assert connection.execute("SHOW idle_session_timeout").fetchone() == ("1min",)
        assert connection.info.get_parameters()["tcp_user_timeout"] == "10000"
