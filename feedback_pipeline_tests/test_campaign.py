"""Two minutes of the reliability campaign: processes killed, the disk full, connections broken, nothing lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = {
    *("run process killed", "daemon killed", "connections broken", "code server killed", "disk filled", "Postgres killed"),
    *("second daemon", "whole group killed"),
}


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_no_review_is_lost_or_doubled_whatever_dies() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reliability.campaign", "--minutes", "2", "--seed", "3"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "lost 0 doubled 0 mixed 0"
    injected = re.search(r"faults injected: (.*)", done.stdout)
    assert injected is not None
    assert {re.sub(r" \d+$", "", part) for part in injected[1].split(", ")} == FAULTS
    recoveries = re.search(r"recoveries: (\d+) of (\d+)", done.stdout)
    assert recoveries is not None
    assert int(recoveries[1]) == int(recoveries[2]) >= len(FAULTS)
    assert "failed:" not in done.stdout
    assert re.search(r"reviews: .*deleted \d+, edited \d+.*inserted \d+", done.stdout)
