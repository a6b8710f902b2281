"""Children that the kernel signals when their parent dies (Linux); standard library only."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def tie_to_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child of this process has to call, after a change of account, which would clear the signal; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return tie
