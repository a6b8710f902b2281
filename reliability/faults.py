"""What is done to an installation: processes are killed, the disk of the feature store fills, connections break."""

import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Database
from reliability.processes_of import code_server, forks, kill, postmaster, processes, start_twin
from reliability.service import Service

DISK_BYTES: Final = 256 * 1024 * 1024
_FULL_FOR_S: Final = 8.0
_RUN_APPEARS_S: Final = 30.0
# It imports for some seconds, and then looks as often as the other.
_SECOND_DAEMON_S: Final = 25.0


class Disk:
    """The disk of the feature store: a small tmpfs where this user may mount one, else a limit on the size of files.

    Args:
        folder: Of the feature store.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        mount = shutil.which("mount")
        command = [mount or "", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        self.is_mount = mount is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0

    @property
    def description(self) -> str:
        """Which of the two it is."""
        return f"a tmpfs of {DISK_BYTES >> 20} MB" if self.is_mount else "a limit on the size of files (mounting is not allowed)"

    def fill(self, home: Path) -> int:
        """Nothing can be written for some seconds; then there is room again."""
        if not self.is_mount:
            return _limit_files(home)
        filler = self._folder / "filler"
        # Without a buffer: what does not fit is not tried again when the file is closed.
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * (1 << 20)):
                pass
        time.sleep(_FULL_FOR_S)
        filler.unlink()
        return 1

    def release(self) -> None:
        """Unmounts."""
        if self.is_mount:
            subprocess.run([shutil.which("umount") or "umount", "-l", str(self._folder)], check=False, capture_output=True)


def _limit_files(home: Path) -> int:
    """Runs inherit the limit of what they are forked from: every file ends after a kilobyte."""
    servers, _ = forks(home)
    for limit in (1024, resource.RLIM_INFINITY):
        for pid in servers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        if limit == 1024:
            time.sleep(_FULL_FOR_S)
    return len(servers)


@dataclass(frozen=True)
class Faults:
    """The faults that can be injected, by name; each says how many things it hit, 0 = it found nothing to hit."""

    home: Path
    database: Database
    service: Service
    disk: Disk

    def all(self) -> dict[str, Callable[[], int]]:
        """In the order of the campaign."""
        return {
            "run process killed": self._run_process,
            "daemon killed": lambda: kill(processes(self.home, "dagster._daemon")),
            "connections broken": self._connections,
            "second daemon": self._second_daemon,
            "code server killed": lambda: kill(code_server(self.home)),
            "disk filled": lambda: self.disk.fill(self.home),
            "Postgres killed": lambda: kill(postmaster(self.home)),
            "whole group killed": self.service.kill_and_start_again,
        }

    def _run_process(self) -> int:
        """As soon as one is there; the writers see to it that one comes."""
        deadline = time.monotonic() + _RUN_APPEARS_S
        while time.monotonic() < deadline:
            _, runs = forks(self.home)
            if runs:
                return kill(runs)
            time.sleep(0.1)
        return 0

    def _second_daemon(self) -> int:
        """Beside that of `up`, until it is killed: both look at the same reviews."""
        for pid in processes(self.home, "dagster._daemon"):
            twin = start_twin(pid)
            if twin is not None:
                time.sleep(_SECOND_DAEMON_S)
                twin.kill()
                twin.wait()
                return 1
        return 0

    def _connections(self) -> int:
        try:
            with self.database.connect(autocommit=True) as connection:
                row = connection.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                ).fetchone()
        except (StoreError, psycopg.OperationalError):
            return 0
        return int(row[0]) if row else 0
