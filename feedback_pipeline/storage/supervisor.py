"""Runs the embedded PostgreSQL server while somebody holds it; `python -m feedback_pipeline.storage.supervisor`.

Everything lies in FOLDER (`<home>/postgres`). Each process that uses the server holds a shared flock on `holders.lock`, which
the kernel drops when the process ends, however it ends. This process, alone by its exclusive flock on `supervisor.lock`,
starts the server, restarts it when it dies, and stops it when it gets the exclusive flock on `holders.lock`: nobody is left.
It imports the standard library only, so that it starts in a tenth of a second. Where the platform has no parent-death
signal (macOS), a server whose supervisor was killed runs until the next supervisor, which stops it and starts its own.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from feedback_pipeline.storage import server_process
from feedback_pipeline.storage.server_account import Account, ServerError, choose_account, own_directory

POLL_S = 0.3
STARTING_POLL_S = 0.02
LOCK_TRIES = 100
LOCK_TRY_S = 0.01
FAILURES_ALLOWED = 6
FAILED_STARTS_ALLOWED = 3
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
STEADY_AFTER_S = 60.0
FAST_SHUTDOWN_S = 60.0
IMMEDIATE_SHUTDOWN_S = 10.0

HOLDERS_LOCK = "holders.lock"
SUPERVISOR_LOCK = "supervisor.lock"
STATE = "state.json"
LOG = "server.log"


def try_lock(descriptor: int, operation: int) -> bool:
    """Take the flock without waiting; False where another process has it."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Supervisor:
    """One run of the server: from the first holder to the last."""

    def __init__(self, folder: Path, binaries: Path, settings: dict[str, str]) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._binaries = binaries
        self._settings = settings
        self._holders = os.open(folder / HOLDERS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        self._stop_asked = False
        self._served = False
        self._child: subprocess.Popen[bytes] | None = None

    def report(self, status: str, **facts: object) -> None:
        """Replace the state file, which the holders read."""
        fresh = self._folder / (STATE + ".new")
        fresh.write_text(json.dumps({"status": status, "supervisor": os.getpid(), **facts}))
        fresh.replace(self._folder / STATE)

    def run(self) -> int:
        """Serve until nobody holds the server; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self._serve()
        except ServerError as error:
            self._stop_server()
            self._log(str(error))
            self.report("failed", reason=str(error))
            return 1
        self._stop_server()
        socket = server_process.socket_directory(self._folder)
        if socket.parent != self._folder:
            with contextlib.suppress(OSError):  # not there, or not empty
                socket.rmdir()
        self.report("stopped")
        return 0

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_asked = True

    def _unwanted(self) -> bool:
        """Nobody holds the server any more; from then on nobody can, until this process has ended."""
        return self._stop_asked or try_lock(self._holders, fcntl.LOCK_EX)

    def _serve(self) -> None:
        account = choose_account(self._data, self._binaries)
        server_process.initialise(self._data, self._binaries, account, durable=self._settings.get("fsync") != "off")
        socket = server_process.socket_directory(self._folder)
        own_directory(socket, account)
        failures = 0
        while not self._unwanted():
            server_process.clear_the_way(self._data, socket)
            steady = self._run_server(socket, account)
            if self._stop_asked or self._child is None:
                return
            failures = 1 if steady else failures + 1
            if failures >= (FAILURES_ALLOWED if self._served else FAILED_STARTS_ALLOWED):
                raise ServerError(f"the server ended {failures} times in a row")
            pause = min(FIRST_PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)
            self._log(f"the server ended; starting it again in {pause:g} s")
            time.sleep(pause)

    def _run_server(self, socket: Path, account: Account) -> bool:
        """One life of the server; whether it had been steady. Leaves `_child` None where it is not wanted any more."""
        self._child = child = server_process.start(self._data, socket, self._binaries, account, self._settings)
        self.report("starting")
        ready_at: float | None = None
        while child.poll() is None:
            if ready_at is None and server_process.named_by_pid_file(self._data) == (child.pid, True):
                ready_at, self._served = time.monotonic(), True
                self.report("ready", server=child.pid, socket=str(socket))
            if self._unwanted():
                self._stop_server()
                return True
            time.sleep(STARTING_POLL_S if ready_at is None else POLL_S)
        self.report("starting")
        return ready_at is not None and time.monotonic() - ready_at > STEADY_AFTER_S

    def _stop_server(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for number, patience in ((signal.SIGINT, FAST_SHUTDOWN_S), (signal.SIGQUIT, IMMEDIATE_SHUTDOWN_S)):
            child.send_signal(number)
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            return
        child.kill()
        child.wait()

    def _log(self, message: str) -> None:
        moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        sys.stderr.write(f"{moment} [{os.getpid()}] supervisor: {message}\n")
        sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Detach, become the one supervisor of FOLDER, tell the caller, and serve.

    Args:
        arguments: FOLDER, directory of the binaries, then settings as name=value.
    """
    folder, binaries, *assignments = arguments
    heard, told = os.pipe()
    if os.fork():
        os.close(told)
        os.read(heard, 1)  # returns when the supervisor has its lock, has found another, or has died
        return 0
    os.close(heard)
    os.setsid()
    lock = os.open(Path(folder) / SUPERVISOR_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(LOCK_TRIES):  # whoever looks whether a supervisor lives has the lock for an instant
        if try_lock(lock, fcntl.LOCK_EX):
            break
        time.sleep(LOCK_TRY_S)
    else:
        return 0
    supervisor = Supervisor(Path(folder), Path(binaries), dict(part.split("=", 1) for part in assignments))
    supervisor.report("starting")
    os.close(told)
    try:
        status = supervisor.run()
    except OSError as error:
        traceback.print_exc()
        supervisor.report("failed", reason=str(error))
        status = 1
    os.close(lock)  # before the holders' lock, which the end of the process drops
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
