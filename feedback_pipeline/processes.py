"""Child processes of one terminal: prefixed logs, restarts, and an end that leaves none behind."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

import click

from feedback_pipeline.errors import StoreError

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STARTS_ALLOWED: Final = 6
STEADY_AFTER_S: Final = 30.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
STOP_PATIENCE_S: Final = 20.0
READY_PATIENCE_S: Final = 120.0
POLL_S: Final = 0.2
_COLORS: Final = ("cyan", "magenta", "yellow", "green")
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Service:
    """A long-running command.

    Attributes:
        name: stands before each of its lines.
        command: program and arguments.
        ready: a file that the service makes when it can be used; later services start after it.
        variables: added to the environment of this one.
        essential: the others end with it when it keeps ending; one that is not is left out then.
    """

    name: str
    command: tuple[str, ...]
    ready: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    essential: bool = True


@dataclass
class _Life:
    """How a service has fared: when it was last started, its short lives in a row, whether it ever stayed up."""

    started: float = 0.0
    short: int = 0
    was_steady: bool = False


class Children:
    """The services of one terminal; as a context manager it starts them and, whatever happens, ends them.

    Args:
        services: what to run.
        variables: the environment of the children.
    """

    def __init__(self, services: Sequence[Service], variables: Mapping[str, str]) -> None:
        self._services = list(services)
        self._variables = dict(variables)
        self._running: dict[str, subprocess.Popen[str]] = {}
        # Groups whose leader is gone: what it had started, such as a run of the code server, may go on.
        self._left: set[int] = set()
        self._lives = {service.name: _Life() for service in services}
        self._due: dict[str, float] = {}
        self._readers: list[threading.Thread] = []
        self._colors = {service.name: _COLORS[i % len(_COLORS)] for i, service in enumerate(services)}
        self._width = max(len(service.name) for service in services)

    def __enter__(self) -> "Children":
        try:
            for service in self._services:
                self._start(service)
                self._await(service)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Starts again what ended, after a pause that doubles with every life shorter than half a minute, up to a minute.

        Raises:
            StoreError: an essential service has never stayed up and keeps ending.
        """
        now = time.monotonic()
        # One that is empty is forgotten at once: its number may be that of somebody else's group later.
        self._left = set(filter(_outlived, self._left))
        for service in self._services:
            process = self._running.get(service.name)
            if process is not None and process.poll() is not None:
                del self._running[service.name]
                if _outlived(process.pid):
                    self._left.add(process.pid)
                self._ended(service, process.returncode, now)
            if service.name in self._due and now >= self._due[service.name]:
                del self._due[service.name]
                self._start(service)

    def _ended(self, service: Service, status: int, now: float) -> None:
        life = self._lives[service.name]
        steady = now - life.started >= STEADY_AFTER_S
        life.was_steady |= steady
        life.short = 0 if steady else life.short + 1
        if life.short < STARTS_ALLOWED or life.was_steady:
            pause = min(FIRST_PAUSE_S * 2 ** max(life.short - 1, 0), LONGEST_PAUSE_S)
            self._note(service, f"ended with status {status}; starting it again in {pause:g} s")
            self._due[service.name] = now + pause
        elif service.essential:
            raise StoreError(f"{service.name} keeps ending; its last lines above say why. Correct that and start again")
        else:
            self._note(service, "keeps ending; its last lines say why. Everything else goes on without it")

    def stop(self) -> None:
        """Ends all children and theirs, also those of a child that died before: asks them first, kills what is still there.

        Whoever asks again meanwhile (Ctrl-C) has it done at once.
        """
        living = list(filter(self._group_lives, [*(process.pid for process in self._running.values()), *self._left]))
        try:
            for group in living:
                _signal_group(group, signal.SIGTERM)
            deadline = time.monotonic() + STOP_PATIENCE_S
            while living and time.monotonic() < deadline:
                time.sleep(POLL_S / 2)
                living = list(filter(self._group_lives, living))
        finally:
            for group in living:
                _signal_group(group, signal.SIGKILL)
            for process in self._running.values():
                process.wait()
            for reader in self._readers:
                reader.join(timeout=STOP_PATIENCE_S)
            self._running.clear()
            self._left.clear()

    def _group_lives(self, group: int) -> bool:
        """Whether anything of a group is left; a dead leader that nobody has waited for would count."""
        leading = any(process.pid == group and process.poll() is None for process in self._running.values())
        return leading or _outlived(group)

    def _start(self, service: Service) -> None:
        self._lives[service.name].started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - commands of this package
            service.command,
            env=self._variables | dict(service.variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_when_asked,
        )
        self._running[service.name] = process
        reader = threading.Thread(target=self._copy_lines, args=(service, process), daemon=True)
        reader.start()
        self._readers = [*(known for known in self._readers if known.is_alive()), reader]

    def _await(self, service: Service) -> None:
        deadline = time.monotonic() + READY_PATIENCE_S
        while service.ready is not None and not service.ready.exists():
            if self._running[service.name].poll() is not None or time.monotonic() > deadline:
                raise StoreError(f"{service.name} does not start; its lines above say why. Correct that and start again")
            time.sleep(POLL_S / 4)

    def _copy_lines(self, service: Service, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            with process.stdout as lines:
                for line in lines:
                    self._note(service, line.rstrip("\n"))

    def _note(self, service: Service, line: str) -> None:
        click.echo(click.style(f"{service.name:<{self._width}} | ", fg=self._colors[service.name]) + line)


def wait_for_stop(ticks: Sequence[Callable[[], None]], beside: Sequence[Callable[[], None]] = ()) -> None:
    """Calls every tick about five times a second until Ctrl-C, SIGTERM or the end of the terminal asks to stop.

    What a tick raises is raised here.

    Args:
        ticks: called in order.
        beside: called in a daemon thread each: one that hangs, as in a store that does not answer, holds up neither the others
            nor the end, and is left behind then.
    """
    asked = threading.Event()
    failures: list[Exception] = []

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    def repeat(tick: Callable[[], None]) -> None:
        try:
            while not asked.wait(POLL_S):
                tick()
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            failures.append(error)

    before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
    try:
        for tick in beside:
            threading.Thread(target=repeat, args=(tick,), daemon=True).start()
        while not asked.wait(POLL_S):
            for tick in ticks:
                tick()
            if failures:
                raise failures[0]
    finally:
        asked.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def run_in_foreground(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Runs a command with this terminal and returns its exit status, 128 + n for the end by signal n.

    The terminal sends Ctrl-C to the command too, which decides what it means; SIGTERM is passed on.
    """
    process = subprocess.Popen(list(command), env=dict(variables))  # noqa: S603 - what the user asked for
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _frame: process.send_signal(number)),
    }
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status


def _end_when_asked() -> None:
    """In a child, before its program starts: SIGTERM ends it, and comes when its parent dies.

    A shell starts what it puts in the background with SIGINT ignored, children inherit that, and servers of Dagster take SIGTERM
    as they take SIGINT.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _outlived(group: int) -> bool:
    """Whether processes are left of a group whose leader is gone and waited for.

    Where this process has become their parent, as the first one of a container does, they are waited for here.
    """
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
