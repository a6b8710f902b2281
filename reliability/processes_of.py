"""Finds the processes of one installation: by the FEEDBACK_HOME in their environment, never by name alone."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path


def processes(home: Path, *words: str) -> list[int]:
    """Processes whose FEEDBACK_HOME is `home` and whose command line holds all of the words; this one is not among them."""
    mark = f"FEEDBACK_HOME={home}".encode()
    return [pid for pid in _pids() if mark in _read(pid, "environ").split(b"\0") and _says(pid, words)]


def postmaster(home: Path) -> list[int]:
    """The PostgreSQL server of the installation."""
    file = home / "postgres" / "data" / "postmaster.pid"
    try:
        return [int(file.read_text().splitlines()[0])]
    except (OSError, IndexError, ValueError):
        return []


def kill(pids: list[int]) -> int:
    """SIGKILL to each; how many were there."""
    killed = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
    return killed


def _pids() -> Iterator[int]:
    own = os.getpid()
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != own)


def _says(pid: int, words: tuple[str, ...]) -> bool:
    line = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")
    return all(word in line for word in words)


def _read(pid: int, name: str) -> bytes:
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return b""
