import subprocess
import sys
import threading
import time

import pytest

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.pass_lock import learning_pass_lock, living_runs, pass_is_running, sign_of_life

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


def test_a_pass_whose_sessions_the_server_ended_ends_as_it_would_have(database: Database) -> None:
    with learning_pass_lock(database, _never), sign_of_life(database, "run"):
        with database.connect(autocommit=True) as other:
            ended = other.execute(
                "SELECT count(pg_terminate_backend(pid, 20000)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()
        assert ended == (2,)
        assert not pass_is_running(database)
        assert living_runs(database, ["run"]) == set()


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
    deadline = time.monotonic() + 20
    while pass_is_running(database):
        assert time.monotonic() < deadline
        time.sleep(0.05)
