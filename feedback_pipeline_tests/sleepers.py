"""Processes that write down their number and sleep, and waiting for what becomes of them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 20.0
# Names of children go to a file, since what they print belongs to the terminal.
SLEEPER: Final = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(600)"


def eventually(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(file: Path) -> list[int]:
    """Those that were written down so far."""
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def lives(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
