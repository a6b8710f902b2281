"""What recording costs the agent that records, with the API and the database running: the time added to the caller.

    python -m benchmarks.sdk [--executions 5000]

Each execution has three decisions with reasons, tokens, a cost and a text of 500 words. What is timed are the calls of the SDK,
not the work between them: of an agent that waits for a model (5 ms, after which the caches of the processor are cold), and of one
that only records, while the threads behind it compete for the interpreter. Bar: 50 microseconds an execution, in the median.

Before that, what importing the SDK costs: the seconds of the import alone, in fresh processes. Bar: .6 s, in the best of them,
since what others do on the machine meanwhile is no cost of it.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3

from feedback_pipeline.sdk import LearningClient
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.migrations import migrate

BAR_US, WAIT_S = 50.0, 0.005
IMPORT_BAR_S, IMPORTS = 0.6, 5
IMPORT = "import time; start = time.perf_counter(); import feedback_pipeline.sdk; print(time.perf_counter() - start)"
TEXT = "five words about some product " * 100
REASON = "because the last three outputs of this length were approved by the reviewers of this channel " * 3
GIVEN = {"keywords": ["product", "some"], "tone": "warm", "channel": "blog"}


@contextmanager
def running_api(database: Database, home: Path) -> Iterator[str]:
    """Yields the address of a real API process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"FEEDBACK_DATABASE_URL": database.url, "FEEDBACK_API_PORT": str(port), "FEEDBACK_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-m", "feedback_pipeline.serving"], env=os.environ | variables)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib3.request("GET", f"{url}/health", retries=False, timeout=1)
            except urllib3.exceptions.HTTPError:
                time.sleep(0.1)
            else:
                break
        yield url
    finally:
        process.terminate()
        process.wait()


def import_seconds() -> list[float]:
    """Of importing the SDK in fresh processes; the first, which may compile, is left out."""
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True) for _ in range(IMPORTS + 1)
    ]
    return [float(done.stdout) for done in runs[1:]]


def added(client: LearningClient, work: Callable[[], None]) -> float:
    """Microseconds that recording one execution adds."""
    clock = time.perf_counter
    start = clock()
    with client.record_execution("drafter", input_data=GIVEN) as execution:
        working = clock()
        work()
        worked = clock()
        for point in ("outline", "draft", "check"):
            execution.decision(point, confidence=0.8, reasoning=REASON, alternatives=["shorter", "longer"])
        execution.tokens(input=812, output=655)
        execution.cost(0.0123)
        execution.output(TEXT)
    return 1e6 * (working - start + clock() - worked)


def main() -> None:
    """Measure, print, compare with the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=5000)
    n = parser.parse_args().executions
    imports = import_seconds()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with EmbeddedPostgres(home / "postgres").hold() as server:
            database = server.sibling("feedback")
            migrate(database)
            with running_api(database, home) as url, LearningClient(url, spool=home / "spool") as client:
                waiting = [added(client, wait) for _ in range(n // 5)]
                client.flush(60)
                busy = [added(client, nothing) for _ in range(n)]
                start = time.perf_counter()
                left = client.flush(120)
                behind = time.perf_counter() - start
    print(f"{'record_execution adds':<24} {'n':>6} {'p50 us':>8} {'mean us':>8} {'p99 us':>8}")
    for name, values in (("waiting for a model", waiting), ("back to back", busy)):
        ordered = sorted(values)
        p99 = ordered[int(0.99 * len(ordered))]
        print(f"{name:<24} {len(values):>6} {statistics.median(values):>8.1f} {statistics.fmean(values):>8.1f} {p99:>8.1f}")
    print(f"delivered {left.stored:,}, pending {left.pending}, {behind:.1f} s after the last; bar {BAR_US:.0f} us")
    print(
        f"import, fresh processes: best {min(imports):.2f} s, median {statistics.median(imports):.2f} s of {len(imports)}", end=""
    )
    print(f"; bar {IMPORT_BAR_S:.1f} s, load {os.getloadavg()[0]:.1f}")
    over = []
    if max(statistics.median(waiting), statistics.median(busy)) > BAR_US:
        over.append(f"record_execution adds more than {BAR_US:.0f} us to the caller")
    if min(imports) > IMPORT_BAR_S:
        over.append(f"importing the SDK takes more than {IMPORT_BAR_S:.1f} s")
    if over:
        sys.exit("; ".join(over))


def wait() -> None:
    """An agent that waits for a model."""
    time.sleep(WAIT_S)


def nothing() -> None:
    """An agent that only records."""


if __name__ == "__main__":
    main()
