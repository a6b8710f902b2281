"""How many processors this process may use at once: those it is bound to, within the quota of its control group."""

import math
import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """At least 1; a container's quota of 1.5 processors counts as 1, since two threads would wait for each other.

    Args:
        quota: The file of the control group (version 2): "<microseconds> <period>", or "max <period>" for no limit.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed, _, period = (quota.read_text() if quota.is_file() else "max 100000").partition(" ")
    return bound if allowed == "max" else max(1, min(bound, math.floor(int(allowed) / int(period))))
