"""Finds the processes of one installation: by the FEEDBACK_HOME in their environment or its folders, never by name alone."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from feedback_pipeline.storage import supervisor
from feedback_pipeline.storage.server_process import is_server

_GONE_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.02


def processes(home: Path, *words: str) -> list[int]:
    """Processes whose FEEDBACK_HOME is `home` and whose command line holds all of the words; this one is not among them."""
    mark = f"FEEDBACK_HOME={home}".encode()
    return [pid for pid in _pids() if mark in _read(pid, "environ").split(b"\0") and _says(pid, words)]


def code_server(home: Path) -> list[int]:
    """What holds the code, but not what it has started."""
    return processes(home, "feedback_pipeline.orchestration.code_server", "--socket")


def forks(home: Path) -> tuple[list[int], list[int]]:
    """The processes that runs are forked from, and the runs: they share a command line, and the latter come from the former."""
    found = processes(home, "multiprocessing.forkserver")
    runs = [pid for pid in found if _parent(pid) in found]
    return [pid for pid in found if pid not in runs], runs


def server(home: Path) -> list[int]:
    """The PostgreSQL server of the installation, its sessions and its supervisor, whoever started them."""
    folder = home / "postgres"
    return [pid for pid in _pids() if _says(pid, (supervisor.__name__, str(folder))) or is_server(pid, folder / "data")]


def postmaster(home: Path) -> list[int]:
    """The PostgreSQL server of the installation."""
    file = home / "postgres" / "data" / "postmaster.pid"
    try:
        return [int(file.read_text().splitlines()[0])]
    except (OSError, IndexError, ValueError):
        return []


def start_twin(pid: int) -> "subprocess.Popen[bytes] | None":
    """Start the command of a process once more, in the same environment; None if it has ended."""
    command, variables = (_read(pid, name).decode(errors="surrogateescape").split("\0") for name in ("cmdline", "environ"))
    if not command[0]:
        return None
    environment = dict(entry.split("=", 1) for entry in variables if "=" in entry)
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command[:-1], env=environment, stdin=quiet, stdout=quiet, stderr=quiet)


def kill(pids: Iterable[int]) -> int:
    """SIGKILL to each; how many were there."""
    killed = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
    return killed


def await_end(pids: Iterable[int]) -> None:
    """Waits until the kernel knows none of these any more.

    Raises:
        TimeoutError: one is still there.
    """
    deadline = time.monotonic() + _GONE_PATIENCE_S
    for pid in pids:
        while (Path("/proc") / str(pid)).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} is still there {_GONE_PATIENCE_S:g} s after it was killed")
            time.sleep(_POLL_S)


def _pids() -> Iterator[int]:
    own = os.getpid()
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != own)


def _says(pid: int, words: tuple[str, ...]) -> bool:
    line = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")
    return all(word in line for word in words)


def _parent(pid: int) -> int | None:
    """None if it has ended."""
    # After the name, which may hold anything: state and parent.
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else None


def _read(pid: int, name: str) -> bytes:
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""
