"""`feedback-pipeline up` as a user starts it, its output in a file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reliability.processes_of import await_end, kill, processes, server

COMMAND: Final = str(Path(sys.executable).parent / "feedback-pipeline")
_STOP_PATIENCE_S: Final = 60
# Whoever was killed needs a moment to end.
_END_PATIENCE_S: Final = 5.0
_POLL_S: Final = 0.05


class Service:
    """One installation, served; as a context manager it stops with everything it started.

    Args:
        home: FEEDBACK_HOME.
        variables: Its environment.
    """

    def __init__(self, home: Path, variables: Mapping[str, str]) -> None:
        self._home, self._variables = home, dict(variables)
        self.log = home / "up.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Service":
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def call(self, *arguments: str) -> None:
        """Runs another command on the installation.

        Raises:
            CalledProcessError: it failed.
        """
        with self.log.open("ab") as log:
            subprocess.run([COMMAND, *arguments], env=self._variables, stdout=log, stderr=log, check=True, timeout=600)

    def kill_and_start_again(self) -> int:
        """SIGKILL to everything at once, the database server too, as when the machine loses its power; then `up` again."""
        everything = {*processes(self._home), *server(self._home)}
        killed = kill(everything)
        if self._process is not None:
            self._process.wait()
        await_end(everything)
        self._start()
        return killed

    def keep_running(self) -> bool:
        """Starts `up` again if it has ended; whether it had to."""
        if self._process is not None and self._process.poll() is None:
            return False
        self._start()
        return True

    def stop(self) -> int:
        """Ctrl-C, and whatever is left after a minute the hard way; how many processes outlived `up`.

        The database server is not counted, and left alone: it ends with the last of its holders.
        """
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        deadline = time.monotonic() + _END_PATIENCE_S
        while self._left() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return kill(self._left())

    def _left(self) -> set[int]:
        return set(processes(self._home)) - set(server(self._home))

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [COMMAND, "up"], env=self._variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without what configures other installations, for one under `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDBACK_", "DAGSTER_", "MLFLOW_"))}
    return kept | {"FEEDBACK_HOME": str(home)} | more
