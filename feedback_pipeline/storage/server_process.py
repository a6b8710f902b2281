"""How one PostgreSQL server process is initialised, started, found and stopped; standard library only.

On Linux the kernel sends the server SIGINT (fast shutdown) when its supervisor dies; elsewhere nothing does, and the next
supervisor stops the server that it finds.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from feedback_pipeline.storage.server_account import Account, ServerError, own_directory

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 100
SHARED_MEMORY_FLOOR = 512 * 1024 * 1024
DEFAULT_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # An error quotes rows in its statement, its detail and its message, and this log outlives the rows. Who caused it is told it.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length_on_error": "0",
}
_PATIENCE_S = 60.0
_POLL_S = 0.02


def initialise(data: Path, binaries: Path, account: Account, *, durable: bool) -> None:
    """Create the data directory once; an interrupted attempt leaves nothing that looks finished.

    Raises:
        ServerError: initdb failed; the reason is in the log.
    """
    if (data / "PG_VERSION").exists():
        return
    if data.exists() and any(data.iterdir()):
        raise ServerError(f"{data} is neither empty nor a PostgreSQL data directory; move it away")
    fresh = data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    own_directory(fresh, account)
    command = [str(binaries / "initdb"), "-D", str(fresh), "--auth=trust", "-U", "postgres", "-E", "UTF8", "--locale=C"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] + ([] if durable else ["--no-sync"])
    if account.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/").wait() != 0:
        raise ServerError("initdb failed")
    fresh.replace(data)


def socket_directory(folder: Path) -> Path:
    """Where the socket lies: in `folder`, or under the temporary directory where the path would be too long."""
    inside = folder / "socket"
    # libpq and postgres read a comma as the end of one address.
    if len(os.fsencode(inside / SOCKET_NAME)) <= SOCKET_PATH_LIMIT and "," not in str(inside):
        return inside
    return Path(tempfile.gettempdir()) / f"feedback-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def start(data: Path, socket: Path, binaries: Path, account: Account, settings: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start `postgres` as a child; its output goes where this process writes."""
    values = DEFAULT_SETTINGS | _shared_memory() | settings | {"unix_socket_permissions": "0700"}
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(socket), "-h", ""]
    command += [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
    return account.popen(command, stdin=subprocess.DEVNULL, cwd="/")


def _shared_memory() -> dict[str, str]:
    """Parallel queries need more than the 64 MB that containers give /dev/shm."""
    shared = Path("/dev/shm")  # noqa: S108 - the kernel's own mount, only measured
    if shared.is_dir() and shutil.disk_usage(shared).free < SHARED_MEMORY_FLOOR:
        return {"dynamic_shared_memory_type": "mmap"}
    return {}


def named_by_pid_file(data: Path) -> tuple[int, bool] | None:
    """(pid, accepts connections) as postmaster.pid says; None without the file."""
    try:
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
        return int(lines[0]), len(lines) > 7 and lines[7].strip() == "ready"
    except (FileNotFoundError, ValueError, IndexError):
        return None


def is_server(pid: int, data: Path) -> bool:
    """Whether the process runs and is a postgres on this data directory."""
    process = Path("/proc") / str(pid)
    if Path("/proc/self").exists():
        try:
            return (process / "comm").read_text().strip() == "postgres" and (process / "cwd").resolve() == data.resolve()
        except OSError:
            return False
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return "postgres" in listed.stdout and str(data) in listed.stdout


def clear_the_way(data: Path, socket: Path) -> None:
    """Stop what a killed supervisor or server left, and remove the lock files that name no server.

    Only for the holder of the supervisor's lock.
    """
    named = named_by_pid_file(data)
    if named and is_server(named[0], data):
        _end(named[0], data)
    # Their postmaster is gone: busy ones notice only after their statement, and until then no new server can start.
    for pid in _processes():
        if is_server(pid, data):
            _signal(pid, signal.SIGKILL)
            _gone(pid, data, _PATIENCE_S)
    # The system gives a number again: a lock file can name a stranger, and no server would start beside it.
    for left in (data / "postmaster.pid", socket / f"{SOCKET_NAME}.lock"):
        left.unlink(missing_ok=True)


def _end(pid: int, data: Path) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        _signal(pid, number)
        if _gone(pid, data, _PATIENCE_S):
            return


def _gone(pid: int, data: Path, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while is_server(pid, data):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _processes() -> list[int]:
    folder = Path("/proc")
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()] if folder.is_dir() else []
