"""Connections, URLs and errors of one database."""

import socket
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from feedback_pipeline.errors import StoreError, StoreUnavailable, UserError
from feedback_pipeline.storage.database import Database

SECRET = "p@ss:w/rd?#%&é"  # noqa: S105 - no account has it
QUOTED = "p%40ss%3Aw%2Frd%3F%23%25%26%C3%A9"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_usual_scheme_is_read(scheme: str) -> None:
    database = Database(f"{scheme}://ann:{QUOTED}@db.example.org:6432/reviews?sslmode=require")
    assert database.name == "reviews"
    assert database.description == "database 'reviews' on host 'db.example.org' port 6432"
    url = sqlalchemy.make_url(database.sqlalchemy_url())
    assert url.drivername == "postgresql+psycopg2"
    assert (url.username, url.password, url.host, url.port) == ("ann", SECRET, "db.example.org", 6432)
    assert (url.database, url.query) == ("reviews", {"sslmode": "require"})


@pytest.mark.parametrize(
    "url", ["postgresql:///feedback?host=/run/my%20dir&user=ann", "postgresql://ann@%2Frun%2Fmy%20dir/feedback"]
)
def test_a_socket_directory_is_read_both_ways(url: str) -> None:
    database = Database(url)
    assert database.description == "database 'feedback' on host '/run/my dir'"
    other = sqlalchemy.make_url(database.sqlalchemy_url("dagster"))
    assert (other.database, other.username, other.host, other.query["host"]) == ("dagster", "ann", None, "/run/my dir")


def test_a_sibling_keeps_all_but_the_name() -> None:
    database = Database(f"postgresql://ann:{QUOTED}@[::1]:6432/reviews?sslmode=require&application_name=a%26b")
    sibling = database.sibling("reviews dagster/%")
    assert sibling.name == "reviews dagster/%"
    assert sibling.sibling("reviews").sqlalchemy_url() == database.sqlalchemy_url()
    assert sibling._parameters == database._parameters | {"dbname": "reviews dagster/%"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://ann:hunter2@host/db",
        f"sqlite:///{SECRET}",
        "postgresql://ann:hunter2@host",
        "postgresql://ann:hunter2@host:hunter2/db",
        "postgresql://ann:hunter2%@host/db",
        "postgresql://ann:x@hunter2@host/db",
        "postgresql://ann:x/hunter2@host/db",
        "postgresql://ann:x?1@hunter2@host/db",
        "postgresql://ann:1/hunter2@host/db",
        "postgresql://ann@host/db?hunter2=1",
    ],
)
def test_an_unusable_url_is_the_callers_and_its_text_is_not_shown(url: str) -> None:
    with pytest.raises(UserError, match=r"postgresql://user:password@host") as caught:
        Database(url)
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert "\n" not in str(caught.value)


def test_no_text_of_a_database_holds_the_password() -> None:
    database = Database(f"postgresql://ann:{QUOTED}@host/db")
    for text in (str(database), repr(database), f"{database}", database.description):
        assert SECRET not in text
        assert QUOTED not in text
        assert "db" in text


def refused(database: Database) -> str:
    """The error's message, which must be one line naming host and database, without the password anywhere in the traceback."""
    with pytest.raises(StoreUnavailable) as caught:
        database.connect()
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert QUOTED not in shown
    assert caught.value.__context__ is None
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"cannot reach {database.description}: ")
    return message


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can answer there
        message = refused(Database(f"postgresql://ann:{QUOTED}@127.0.0.1:{taken.getsockname()[1]}/reviews"))
    assert "refused" in message
    assert message.endswith("check that the server runs and the URL is right")


def test_a_host_that_does_not_exist() -> None:
    assert "reviews" in refused(Database(f"postgresql://ann:{QUOTED}@no-such-host.invalid/reviews"))


def test_a_socket_directory_without_a_server(tmp_path: Path) -> None:
    assert str(tmp_path) in refused(Database(f"postgresql://ann:{QUOTED}@/reviews?host={tmp_path}"))


def test_something_else_on_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1024)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answered = pool.submit(answer)
        refused(Database(f"postgresql://ann:{QUOTED}@127.0.0.1:{server.getsockname()[1]}/reviews?sslmode=disable"))
        answered.result(10)


@pytest.fixture
def locked(postgres_server: Database) -> Iterator[Database]:
    """The server's database as a role that has to give a password."""
    with postgres_server.connect(autocommit=True) as connection:
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        before = rules.read_text()
        connection.execute("DROP ROLE IF EXISTS locked")
        connection.execute("CREATE ROLE locked LOGIN")
        connection.execute(psycopg.sql.SQL("ALTER ROLE locked PASSWORD {}").format(SECRET))
        rules.write_text("local all locked scram-sha-256\n" + before)
        connection.execute("SELECT pg_reload_conf()")
        host = postgres_server._parameters["host"]
        try:
            yield Database(f"postgresql://locked:{QUOTED}@/{postgres_server.name}?host={host}")
        finally:
            rules.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP ROLE locked")


@pytest.mark.slow
def test_the_right_password_opens_with_both_libraries(locked: Database) -> None:
    with locked.connect() as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("locked",)
    engine = sqlalchemy.create_engine(locked.sqlalchemy_url())
    with engine.connect() as other:
        assert other.execute(sqlalchemy.text("SELECT current_user")).scalar() == "locked"
    engine.dispose()


@pytest.mark.slow
def test_a_wrong_password(locked: Database) -> None:
    message = refused(Database(locked.url.replace(QUOTED, QUOTED + "x")))
    assert message.endswith("check the user name and the password")


@pytest.mark.slow
def test_a_missing_database_and_a_missing_role(postgres_server: Database) -> None:
    assert "feedback-pipeline migrate" in refused(postgres_server.sibling("no such database"))
    assert "user name" in refused(Database(postgres_server.url.replace("postgres@", "nobody_at_all@")))


@pytest.mark.slow
def test_ensure_exists_creates_once(postgres_server: Database) -> None:
    fresh = postgres_server.sibling('a "quoted" name')
    try:
        with ThreadPoolExecutor(4) as pool:
            created = list(pool.map(lambda database: database.ensure_exists(), [fresh] * 4))
        assert sorted(created) == [False, False, False, True]
        assert fresh.ensure_exists() is False
        fresh.connect().close()
    finally:
        with postgres_server.connect(autocommit=True) as connection:
            connection.execute('DROP DATABASE "a ""quoted"" name"')


@pytest.mark.slow
def test_ensure_exists_without_the_right_to_create(locked: Database) -> None:
    with pytest.raises(StoreError, match='CREATE DATABASE "missing"') as caught:
        locked.sibling("missing").ensure_exists()
    assert not isinstance(caught.value, StoreUnavailable)


@pytest.mark.slow
def test_every_session_is_in_utc(empty_database: Database) -> None:
    with empty_database.connect(autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {empty_database.name} SET TimeZone = 'Asia/Tokyo'".encode())
    with empty_database.connect() as connection:
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
        connection.rollback()
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)


@pytest.mark.slow
def test_options_of_the_url_stay(postgres_server: Database) -> None:
    separator = "&" if "?" in postgres_server.url else "?"
    database = Database(f"{postgres_server.url}{separator}options=-c%20statement_timeout%3D1234&application_name=mine")
    with database.connect() as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("1234ms",)
        assert connection.execute("SHOW application_name").fetchone() == ("mine",)
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)


@pytest.mark.slow
def test_a_snapshot_is_of_its_entry_and_read_only(empty_database: Database) -> None:
    with empty_database.connect() as writer:
        writer.execute("CREATE TABLE numbers AS SELECT 1 AS n")
        writer.commit()
        with empty_database.snapshot() as reader:
            writer.execute("INSERT INTO numbers VALUES (2)")
            writer.commit()
            assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (1,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                reader.execute("INSERT INTO numbers VALUES (3)")
            reader.rollback()
        with empty_database.snapshot() as reader:
            assert reader.execute("SELECT count(*) FROM numbers").fetchone() == (2,)
