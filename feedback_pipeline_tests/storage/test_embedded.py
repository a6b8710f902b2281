"""The embedded server through real processes and real signals: one server, no more, no less, and never for longer than held."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.storage import embedded, server_account, server_process
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres, binaries
from feedback_pipeline_tests.conftest import FAST

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0
AS_ROOT = os.geteuid() == 0
HOLDER = """
import sys
from pathlib import Path
from feedback_pipeline.storage.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"}).hold() as database:
    if "fork" in sys.argv:
        import os, time
        child = os.fork()
        if child == 0:
            time.sleep(600)
        print(child, flush=True)
    with database.connect() as connection:
        print(connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()[0], flush=True)
    sys.stdin.read()
"""
Holder = subprocess.Popen[str]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:g} s for: {what}"
        time.sleep(0.02)


def line(holder: Holder) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


def runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    state = tmp_path / "home" / "postgres" / "state.json"
    if state.exists():
        until(lambda: not runs(json.loads(state.read_text())["supervisor"]), "the supervisor left behind by the test to end")


@contextmanager
def holding(home: Path, *arguments: str) -> Iterator[Holder]:
    command = [sys.executable, "-c", HOLDER, str(home), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            yield holder
        finally:
            holder.kill()


def facts(home: Path) -> dict[str, int]:
    state: dict[str, int] = json.loads((home / "postgres" / "state.json").read_text())
    return state


def starts(home: Path) -> int:
    return (home / "postgres" / "server.log").read_text().count("database system is ready to accept connections")


def scalar(database: Database, query: str) -> object:
    with database.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def keep_a_row(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")


def copy_of_binaries(folder: Path) -> Path:
    """The binaries with the libraries that lie beside their package."""
    package = binaries().parents[1]
    shutil.copytree(package.with_name(package.name + ".libs"), folder / (package.name + ".libs"))
    return shutil.copytree(binaries().parent, folder / package.name / binaries().parent.name) / "bin"


def stopped(home: Path) -> None:
    until(lambda: json.loads((home / "postgres" / "state.json").read_text())["status"] == "stopped", "the supervisor to report")


def test_one_server_for_all_and_it_stops_cleanly_with_the_last(home: Path) -> None:
    with holding(home) as first, holding(home) as second:
        begun = {line(first), line(second)}
        with EmbeddedPostgres(home).hold() as database:
            begun.add(str(scalar(database, "SELECT pg_postmaster_start_time()::text")))
            assert len(begun) == 1
            server = facts(home)["server"]
            first.communicate("")
            second.communicate("")
            keep_a_row(database)
        until(lambda: not runs(server), "the server to stop with its last holder")
    stopped(home)
    assert "database system is shut down" in (home / "postgres" / "server.log").read_text()
    with EmbeddedPostgres(home).hold() as database:
        assert scalar(database, "SELECT n FROM kept") == 7


def test_commands_starting_at_once_share_one_server(home: Path) -> None:
    with holding(home) as a, holding(home) as b, holding(home) as c, holding(home) as d:
        assert len({line(a), line(b), line(c), line(d)}) == 1
        assert starts(home) == 1


@pytest.mark.parametrize("arguments", [(), ("fork",)], ids=["alone", "with a forked child that lives on"])
def test_a_killed_holder_holds_no_more(home: Path, arguments: tuple[str, ...]) -> None:
    with holding(home, *arguments) as holder:
        child = int(line(holder)) if arguments else None
        line(holder)
        server = facts(home)["server"]
        assert runs(server)
        holder.kill()
        until(lambda: not runs(server), "the server of a killed holder to stop")
        if child:
            assert runs(child)
            os.kill(child, signal.SIGKILL)


def test_a_hold_during_the_stop_gets_a_running_server(home: Path) -> None:
    for _ in range(3):
        with EmbeddedPostgres(home, settings=FAST).hold() as database:
            assert scalar(database, "SELECT 1") == 1
        time.sleep(0.3)  # the supervisor's own rhythm: the next hold meets it anywhere in its stop


@pytest.mark.parametrize("kind", ["dead", "alive"])
def test_a_stale_pid_file_does_not_hinder_nor_harm_whom_it_names(home: Path, kind: str) -> None:
    with EmbeddedPostgres(home, settings=FAST).hold():
        server = facts(home)["server"]
        text = (home / "postgres" / "data" / "postmaster.pid").read_text()
    until(lambda: not runs(server), "the server to stop")
    account = server_account.choose_account(home / "postgres" / "data", binaries())
    with account.popen(["sleep", "600"]) as other:  # postgres ignores a pid that is another account's
        if kind == "dead":
            other.kill()
            other.wait()
        stale = home / "postgres" / "data" / "postmaster.pid"
        stopped(home)
        stale.write_text(text.replace(str(server), str(other.pid), 1))
        lock = server_process.socket_directory(home / "postgres") / f"{server_process.SOCKET_NAME}.lock"
        lock.parent.mkdir(exist_ok=True)
        lock.write_text(text.replace(str(server), str(other.pid), 1))
        with EmbeddedPostgres(home, settings=FAST).hold() as database:
            assert scalar(database, "SELECT 1") == 1
            assert stale.read_text().splitlines()[0] == str(facts(home)["server"])
        assert (other.poll() is None) == (kind == "alive")
        other.kill()


def test_a_killed_server_comes_back_with_what_was_committed(home: Path) -> None:
    postgres = EmbeddedPostgres(home)
    with postgres.hold() as database:
        keep_a_row(database)
        before = facts(home)
        # A backend that is busy outlives its postmaster and blocks the data directory until it is ended.
        with closing(database.connect(autocommit=True)) as busy:
            busy.pgconn.send_query(b"SELECT count(*) FROM (SELECT generate_series(1, 3000000000)) AS numbers")
            os.kill(before["server"], signal.SIGKILL)
            assert scalar(postgres.ensure_running(), "SELECT n FROM kept") == 7
        after = facts(home)
        assert after["server"] != before["server"]
        assert after["supervisor"] == before["supervisor"]
        assert not runs(before["server"])


def test_a_killed_supervisor_takes_its_server_along_and_is_replaced(home: Path) -> None:
    postgres = EmbeddedPostgres(home)
    with postgres.hold() as database:
        keep_a_row(database)
        before = facts(home)
        os.kill(before["supervisor"], signal.SIGKILL)
        if sys.platform.startswith("linux"):
            until(lambda: not runs(before["server"]), "the server to follow its supervisor")
        assert scalar(postgres.ensure_running(), "SELECT n FROM kept") == 7
        after = facts(home)
        assert after["supervisor"] != before["supervisor"]
        assert not runs(before["server"])


def test_a_server_without_supervisor_is_stopped_before_another_starts(home: Path) -> None:
    """What a killed supervisor leaves where the platform has no parent-death signal."""
    with EmbeddedPostgres(home, settings=FAST).hold():
        server = facts(home)["server"]
    stopped(home)
    data = home / "postgres" / "data"
    account = server_account.choose_account(data, binaries())
    socket = server_process.socket_directory(home / "postgres")
    server_account.own_directory(socket, account)
    with server_process.start(data, socket, binaries(), account, FAST) as orphan:
        until(lambda: server_process.named_by_pid_file(data) == (orphan.pid, True), "the orphan to accept connections")
        with EmbeddedPostgres(home, settings=FAST).hold() as database:
            assert orphan.wait(DEADLINE_S) == 0
            assert scalar(database, "SELECT 1") == 1
            assert facts(home)["server"] not in {server, orphan.pid}


def test_ensure_running_leaves_a_running_server_alone(home: Path) -> None:
    postgres = EmbeddedPostgres(home, settings=FAST)
    with postgres.hold() as database:
        before = facts(home)
        assert postgres.ensure_running() == database
        assert facts(home) == before


def sleeps(database: Database, pid: int) -> bool:
    return scalar(database, f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}") == "PgSleep"


def test_nothing_of_a_row_gets_into_the_log(home: Path) -> None:
    """Not by the statement, the detail or the message of an error, nor by a process that dies over a statement."""
    postgres, log = EmbeddedPostgres(home, settings=FAST), home / "postgres" / "server.log"
    with postgres.hold() as database, closing(database.connect(autocommit=True)) as writer, closing(database.connect()) as lock:
        writer.execute("CREATE TABLE said (comment text UNIQUE, n int)")
        writer.execute("INSERT INTO said VALUES ('marmalade zeppelin')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            writer.execute("INSERT INTO said VALUES (%s)", ["marmalade zeppelin"])
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="marmalade"):
            writer.execute("INSERT INTO said (n) VALUES (%s::text::int)", ["marmalade"])
        lock.execute("LOCK TABLE said")
        writer.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            writer.execute("INSERT INTO said VALUES ('more marmalade')")
        for busy, end in ((lock, signal.SIGTERM), (writer, signal.SIGKILL)):
            busy.pgconn.send_query(b"SELECT 'marmalade', pg_sleep(600)")
            until(partial(sleeps, database, busy.info.backend_pid), "the statement to run")
            os.kill(busy.info.backend_pid, end)
        until(lambda: "terminating connection due to" in log.read_text(), "the server to say that it ended a session")
        until(lambda: "was terminated by signal 9" in log.read_text(), "the server to say that a process died")
        assert scalar(postgres.ensure_running(), "SELECT 1") == 1
    said = log.read_text()
    assert "database system is ready to accept connections" in said
    assert not {word for word in ("marmalade", "zeppelin", "INSERT") if word in said}


def test_a_long_or_odd_path_gets_a_short_private_socket_directory(tmp_path: Path) -> None:
    home = tmp_path / ("odd, name " + "x" * 90)
    with EmbeddedPostgres(home, settings=FAST).hold() as database:
        socket = Path(str(scalar(database, "SHOW unix_socket_directories")))
        assert not socket.is_relative_to(tmp_path)
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    stopped(home)
    assert not socket.exists()


def test_nobody_else_can_reach_the_socket(home: Path) -> None:
    with EmbeddedPostgres(home, settings=FAST).hold() as database:
        socket = Path(str(scalar(database, "SHOW unix_socket_directories")))
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert scalar(database, "SHOW listen_addresses") == ""
        assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    with (
        pytest.raises(StoreUnavailable, match=r"(?s)ended 3 times.*invalid value.*shared_buffers"),
        EmbeddedPostgres(home, settings={"shared_buffers": "plenty"}).hold(),
    ):
        pass
    with EmbeddedPostgres(home, settings=FAST).hold() as database:
        assert scalar(database, "SELECT 1") == 1


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="FEEDBACK_HOME") as caught, EmbeddedPostgres(tmp_path / "file").hold():
        pass
    assert "\n" not in str(caught.value)


def test_a_foreign_data_directory_is_not_touched(home: Path) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "letter").write_text("dear")
    with pytest.raises(StoreUnavailable, match="neither empty nor a PostgreSQL"), EmbeddedPostgres(home, settings=FAST).hold():
        pass
    assert (data / "letter").read_text() == "dear"


def capabilities(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(text for text in status if text.startswith("CapEff:")).split()[1], 16)


@pytest.mark.skipif(not AS_ROOT, reason="only root has to change the account")
def test_as_root_home_and_binaries_behind_a_closed_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    copy = copy_of_binaries(closed)
    monkeypatch.setattr(embedded, "binaries", lambda: copy)
    home = closed / "home"
    postgres = EmbeddedPostgres(home, settings=FAST)
    with postgres.hold() as database:
        assert scalar(database, "SELECT count(*) FROM pg_timezone_names WHERE name = 'Europe/Berlin'") == 1
        before = facts(home)
        assert Path(f"/proc/{before['server']}").stat().st_uid != 0
        assert capabilities(before["server"]) in {1 << bit for _, bit in server_account._PASSING_CAPABILITIES}
        os.kill(before["supervisor"], signal.SIGKILL)
        until(lambda: not runs(before["server"]), "the server to follow its supervisor")
        assert scalar(postgres.ensure_running(), "SELECT 1") == 1


@pytest.mark.skipif(not AS_ROOT, reason="only root has to change the account")
def test_as_root_with_open_doors_the_server_has_no_capability() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        copy = copy_of_binaries(Path(folder))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embedded, "binaries", lambda: copy)
            (home / "postgres").mkdir(parents=True)
            with EmbeddedPostgres(home, settings=FAST).hold():
                server = facts(home)["server"]
                assert Path(f"/proc/{server}").stat().st_uid != 0
                assert capabilities(server) == 0
            stopped(home)


@pytest.mark.skipif(not AS_ROOT, reason="only root has to change the account")
def test_as_root_without_setpriv_the_error_names_the_closed_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(server_account.ServerError, match=r"cannot enter /.*chmod o\+x") as caught:
        server_account.choose_account(closed / "data", binaries())
    assert "\n" not in str(caught.value)
