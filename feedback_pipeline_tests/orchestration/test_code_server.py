"""The code server of `up`: its runs are forked from a process that has imported what a pass needs, and share its fate."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from feedback_pipeline.orchestration.code_server.__main__ import ORIGIN
from feedback_pipeline.processes import _end_when_asked
from feedback_pipeline.storage.database import Database
from feedback_pipeline_tests.sleepers import eventually
from reliability.processes_of import await_end, code_server, forks, kill, processes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux only")]
_PATIENCE_S = 60.0
_STATE = f"""
import gc, json, os, signal, sys, threading
import {ORIGIN}
files = [f"/proc/self/fd/{{number}}" for number in os.listdir("/proc/self/fd")]
sockets = [os.readlink(file) for file in files if os.path.islink(file) and "socket:" in os.readlink(file)]
ignored = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
print(json.dumps([threading.active_count(), sockets, gc.get_freeze_count() > 0, ignored, sorted(sys.modules)]))
"""


def test_the_origin_of_runs_has_imported_everything_and_opened_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _STATE], capture_output=True, text=True, check=True)
    threads, sockets, frozen, ignored, modules = json.loads(done.stdout)
    assert (threads, sockets, frozen, ignored) == (1, [], True, True)
    assert "cannot be imported" not in done.stderr
    needed = {"pandas", "pyarrow.dataset", "scipy.stats", "matplotlib.figure", "mlflow", "psycopg", "psycopg2"}
    assert needed | {"dagster_postgres", "feedback_pipeline.learning.term_patterns"} <= set(modules)
    # Neither gRPC nor OpenMP of LightGBM survives a fork once it is in use.
    assert not any(name.startswith(("grpc.", "lightgbm")) for name in modules)


class Place:
    """A code server with a Dagster instance of its own."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.home, self.dagster = folder / "home", folder / "dagster"
        self.dagster.mkdir()
        # Without a queue there is no daemon that has to be waited for.
        at_once = {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"}
        (self.dagster / "dagster.yaml").write_text(json.dumps({"telemetry": {"enabled": False}, "run_coordinator": at_once}))
        self.socket, self.workspace = folder / "code.sock", folder / "workspace.yaml"
        location = {"socket": str(self.socket), "location_name": "feedback"}
        self.workspace.write_text(json.dumps({"load_from": [{"grpc_server": location}]}))
        own = {"FEEDBACK_HOME": str(self.home), "FEEDBACK_DATABASE_URL": database.url, "DAGSTER_HOME": str(self.dagster)}
        self.variables = os.environ | own

    @contextmanager
    def served(self) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "feedback_pipeline.orchestration.code_server", "--socket", str(self.socket)]
        command += ["-m", "feedback_pipeline.definitions", "--location-name", "feedback"]
        server = subprocess.Popen(command, env=self.variables, start_new_session=True, preexec_fn=_end_when_asked)
        try:
            eventually(self.socket.exists, _PATIENCE_S)
            yield server
        finally:
            kill(processes(self.home))
            server.wait()

    def launch(self) -> int:
        """Starts a run; its process, once it is there."""
        launch = (sys.executable, "-m", "dagster", "job", "launch", "-w", str(self.workspace), "-j", "forecast")
        done = subprocess.run(launch, env=self.variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        eventually(lambda: forks(self.home)[1], _PATIENCE_S)
        (run,) = forks(self.home)[1]
        return run

    def told(self) -> list[str]:
        """What was written down of its runs."""
        with dg.DagsterInstance.from_config(str(self.dagster)) as instance:
            return [entry.message for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]


@pytest.fixture
def place(tmp_path: Path, database: Database) -> Place:
    return Place(tmp_path, database)


@contextmanager
def runs_wait(database: Database) -> Iterator[None]:
    """No run gets beyond the question whose it is."""
    with database.connect() as connection:
        connection.execute("LOCK TABLE installation IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_run_ends_with_its_origin_and_the_next_one_has_another(place: Place, database: Database) -> None:
    with place.served(), runs_wait(database):
        run = place.launch()
        (origin,), _ = forks(place.home)
        assert kill([origin]) == 1
        await_end([run])
        assert place.launch() != run
        assert forks(place.home)[0] != [origin]


def test_whoever_stops_everything_has_the_runs_end_by_themselves(place: Place, database: Database) -> None:
    with place.served() as server, runs_wait(database):
        run = place.launch()
        everything = [run, *forks(place.home)[0], *code_server(place.home)]
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(_PATIENCE_S)
        await_end(everything)
    told = place.told()
    # In its own words; the code server would say that it exited with code 255.
    assert any(message.startswith("Process for run exited") for message in told), told
    assert not [message for message in told if "exit code" in message]
