import subprocess
import sys
import threading

import pytest
from psycopg import sql

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage import pass_lock
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.pass_lock import POLL_S, learning_pass_lock, living_runs, pass_is_running, sign_of_life
from feedback_pipeline_tests.sleepers import eventually

pytestmark = pytest.mark.slow


def _never() -> None:
    raise AssertionError("nobody holds the lock")


def test_the_lock_is_held_for_the_block(database: Database) -> None:
    assert not pass_is_running(database)
    with learning_pass_lock(database, _never):
        assert pass_is_running(database)
    assert not pass_is_running(database)


def test_looking_does_not_take_the_lock(database: Database) -> None:
    assert not pass_is_running(database)
    with learning_pass_lock(database, _never):
        pass


def test_a_failing_pass_frees_the_lock(database: Database) -> None:
    with pytest.raises(RuntimeError), learning_pass_lock(database, _never):
        raise RuntimeError("broken pass")
    assert not pass_is_running(database)


def test_a_second_pass_says_that_it_waits_and_then_goes_on(database: Database) -> None:
    events: list[str] = []
    waiting = threading.Event()

    def say() -> None:
        events.append("waits")
        waiting.set()

    def second() -> None:
        with learning_pass_lock(database, say):
            events.append("second")

    thread = threading.Thread(target=second)
    with learning_pass_lock(database, _never):
        thread.start()
        assert waiting.wait(20)
        events.append("first ends")
    thread.join(20)
    assert events == ["waits", "first ends", "second"]


def test_databases_do_not_wait_for_each_other(database: Database, empty_database: Database) -> None:
    with learning_pass_lock(database, _never), learning_pass_lock(empty_database, _never):
        pass


def _end_sessions(database: Database) -> int:
    """As a restart of the server or a proxy does it to sessions that are idle."""
    with database.connect(autocommit=True) as other:
        ended = other.execute(
            "SELECT count(pg_terminate_backend(pid, 20000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'"
        ).fetchone()
    assert ended is not None
    return int(ended[0])


def _exists(database: Database, pid: int) -> bool:
    with database.connect(autocommit=True) as other:
        return other.execute("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)", [pid]).fetchone() == (True,)


def _write(connection: Connection) -> None:
    connection.execute("INSERT INTO agent_performance (agent_name, execution_id) VALUES ('written', 'by a pass')")


def _written(database: Database) -> int:
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM agent_performance").fetchone()
    assert row is not None
    return int(row[0])


def test_a_pass_whose_session_the_server_ended_writes_nothing_more(database: Database) -> None:
    with learning_pass_lock(database, _never, "run") as held:
        with held.connect() as connection:
            _write(connection)
        assert _end_sessions(database) == 1
        assert not pass_is_running(database)
        assert living_runs(database, ["run"]) == set()
        for _ in range(2):
            with pytest.raises(StoreError, match="lost its lock"), held.connect() as connection:
                _write(connection)
    assert _written(database) == 1


def _showing() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "sign of life" in thread.name]


def test_a_sign_whose_session_the_server_ended_is_shown_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_lock, "SHOWN_EVERY_S", 0.05)
    with sign_of_life(database, "run"):
        for _ in range(2):
            assert _end_sessions(database) == 1
            eventually(lambda: living_runs(database, ["run"]) == {"run"})
    assert living_runs(database, ["run"]) == set()
    assert _showing() == []


def test_a_sign_that_cannot_be_shown_again_disturbs_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_lock, "SHOWN_EVERY_S", 0.05)
    name = sql.Identifier(database.name)
    with database.sibling("postgres").connect(autocommit=True) as other:
        with sign_of_life(database, "run"):
            other.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            other.execute("SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE datname = %s", [database.name])
            assert len(_showing()) == 1
        assert _showing() == []
        other.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    assert living_runs(database, ["run"]) == set()


def test_a_lock_that_the_session_gave_away_is_lost_too(database: Database) -> None:
    """As behind a proxy that hands a session on: it lives, and the lock is gone."""
    with learning_pass_lock(database, _never) as held:
        held.holder.execute("DISCARD ALL")
        with pytest.raises(StoreError, match="lost its lock"):
            held.connect()


def test_reading_needs_no_lock(database: Database) -> None:
    with learning_pass_lock(database, _never) as held:
        _end_sessions(database)
        with held.snapshot() as connection, held.snapshot(connection) as beside:
            assert beside.execute("SELECT count(*) FROM learning_runs").fetchone() == (0,)


def test_a_refused_transaction_leaves_no_session(database: Database) -> None:
    with learning_pass_lock(database, _never) as held:
        _end_sessions(database)
        with pytest.raises(StoreError):
            held.connect()
        with database.connect(autocommit=True) as other:
            assert other.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone() == (0,)


def test_a_pass_begins_only_when_nothing_is_written_any_more_under_a_lost_lock(database: Database) -> None:
    """What had begun to be published when the lock was lost is there before the next pass, or a forgetting, reads."""
    seen: list[int] = []

    def second() -> None:
        with learning_pass_lock(database, lambda: None):
            seen.append(_written(database))

    thread = threading.Thread(target=second)
    with learning_pass_lock(database, _never) as held:
        with held.connect() as connection:
            _write(connection)
            assert _end_sessions(database) == 1
            thread.start()
            eventually(lambda: pass_is_running(database))
            # Long enough for two looks of the one that waits.
            thread.join(3 * POLL_S)
            assert seen == []
        thread.join(20)
    assert seen == [1]


def test_neither_the_server_nor_a_proxy_ends_a_session_for_being_idle(database: Database) -> None:
    with database.connect(autocommit=True) as other:
        other.execute(sql.SQL("ALTER DATABASE {} SET idle_session_timeout = '100ms'").format(sql.Identifier(database.name)))
    with learning_pass_lock(database, _never, "run") as held, sign_of_life(database, "other run"):
        with database.connect(autocommit=True) as younger:
            pid = younger.info.backend_pid
            eventually(lambda: not _exists(database, pid))
        assert pass_is_running(database)
        assert living_runs(database, ["run", "other run"]) == {"run", "other run"}
        held.connect().close()
        assert held.holder.info.get_parameters()["keepalives_idle"] == "60"


def test_what_the_url_says_of_keepalives_stays(database: Database) -> None:
    asked = Database(f"{database.url}&keepalives_idle=7&options=-c%20work_mem%3D7MB")
    with learning_pass_lock(asked, _never) as held:
        assert held.holder.info.get_parameters()["keepalives_idle"] == "7"
        assert held.holder.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert held.holder.execute("SHOW idle_session_timeout").fetchone() == ("0",)


def test_a_killed_pass_frees_the_lock(database: Database) -> None:
    code = (
        "import sys, time\n"
        "from feedback_pipeline.storage.database import Database\n"
        "from feedback_pipeline.storage.pass_lock import learning_pass_lock\n"
        "with learning_pass_lock(Database(sys.argv[1]), lambda: None):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, database.url], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert pass_is_running(database)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    eventually(lambda: not pass_is_running(database))
