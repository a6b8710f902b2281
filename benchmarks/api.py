"""The HTTP API against the database it reads: improvements at 200 requests a second, forecasts of one execution.

    python -m benchmarks.api [--seconds 15] [--rounds 3]

In turns, on one machine: what agents ask for over HTTP, and the same SELECTs through a pool of as many connections. Requests are
due at their own times, whatever became of those before, and are timed from then. The server is the process that `up` starts.
"""

import argparse
import http.client
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from feedback_pipeline.environment import Environment, prepared
from feedback_pipeline.orchestration.learning_run import run_learning
from feedback_pipeline.serving.access import PREFIX
from feedback_pipeline.serving.connections import READERS, Connections
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.reading import read_status
from feedback_pipeline.storage.reading_forecasts import read_forecasts
from feedback_pipeline.storage.reading_patterns import read_improvements

RATE, FORECAST_RATE, HOST, PORT = 200, 20, "127.0.0.1", 8391
RATIO_BAR, FORECAST_BAR_MS = 3.0, 30.0
Ask = Callable[[], None]


def main() -> None:
    """Print the table; exits with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        _learned(Path(folder)) as environment,
        _served(environment),
    ):
        agent, execution = _subject(environment.database)
        improvements = f"{PREFIX}/agents/{agent}/improvements"
        features = json.dumps({"agent_name": agent, "features": {"word_count": 600, "tone": "formal", "cost": 0.02}})
        connections = Connections(environment.database)
        connections.open()

        def select() -> None:
            with connections.snapshot(published=True) as snapshot:
                read_improvements(snapshot, agent)

        measured: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {}
        for _ in range(chosen.rounds):
            for name, ask, rate in (
                ("the SELECTs through a pool", lambda: select, RATE),
                ("improvements by HTTP", lambda: _get(improvements), RATE),
                ("improvements by HTTP, not modified", lambda: _get(improvements, unmodified=True), RATE),
                (
                    "stored forecast of one execution",
                    lambda: _get(f"{PREFIX}/forecasts?agent={agent}&execution={execution}"),
                    RATE / 4,
                ),
                ("forecast of features", lambda: _post(f"{PREFIX}/forecasts", features), FORECAST_RATE),
            ):
                measured.setdefault(name, []).append(_open_loop(ask, rate, chosen.seconds))
        connections.close()
    missed = _report(measured)
    sys.exit(1 if missed else 0)


def _report(measured: dict[str, list["np.ndarray[tuple[int], np.dtype[np.float64]]"]]) -> bool:
    """The median over the rounds of each percentile, in ms; whether a bar is missed."""
    p99 = {}
    for name, rounds in measured.items():
        p50, p99[name] = (float(np.median([np.percentile(times, q) for times in rounds])) for q in (50, 99))
        print(f"{name:<36} p50 {p50:6.2f} ms   p99 {p99[name]:6.2f} ms   {sum(map(len, rounds)):,} requests")
    ratio = p99["improvements by HTTP"] / p99["the SELECTs through a pool"]
    slowest = max(p99["forecast of features"], p99["stored forecast of one execution"])
    print(
        f"p99 by HTTP / p99 of the SELECTs: {ratio:.2f} (bar {RATIO_BAR}); p99 of a forecast {slowest:.1f} ms"
        f" (bar {FORECAST_BAR_MS})"
    )
    return ratio > RATIO_BAR or slowest > FORECAST_BAR_MS


def _open_loop(make: Callable[[], Ask], rate: float, seconds: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Milliseconds of each request, from when it was due."""
    due: queue.Queue[float | None] = queue.Queue()
    taken: list[float] = []

    def work() -> None:
        ask = make()
        ask()  # opens its connection
        ready.wait()
        while (at := due.get()) is not None:
            time.sleep(max(0.0, at - time.perf_counter()))
            ask()
            taken.append(1000 * (time.perf_counter() - at))

    ready = threading.Barrier(READERS + 1)
    workers = [threading.Thread(target=work) for _ in range(READERS)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter() + 0.1
    for k in range(int(rate * seconds)):
        due.put(start + k / rate)
    for _ in workers:
        due.put(None)
    for worker in workers:
        worker.join()
    return np.array(taken)


def _get(path: str, *, unmodified: bool = False) -> Ask:
    connection = http.client.HTTPConnection(HOST, PORT)
    connection.request("GET", path)
    first = connection.getresponse()
    first.read()
    headers = {"If-None-Match": first.headers["ETag"]} if unmodified else {}

    def ask() -> None:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != (304 if unmodified else 200):
            raise RuntimeError(f"status {answer.status}")

    return ask


def _post(path: str, body: str) -> Ask:
    connection = http.client.HTTPConnection(HOST, PORT)

    def ask() -> None:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}")

    return ask


@contextmanager
def _learned(home: Path) -> Iterator[Environment]:
    """An installation that has learned from an agency of the size of the demo."""
    today = datetime.now(UTC).date()
    settings = Settings(home=home, database_url=None, first_day=today - timedelta(days=90))
    with prepared(settings, overridable=False) as environment:
        write_world(environment.database, simulate(WorldSpec(until=today - timedelta(days=1), seed=7, waiting=3)))
        environment.adopt()
        run_learning([settings.first_day, today])
        yield environment


@contextmanager
def _served(environment: Environment) -> Iterator[None]:
    variables = environment.of_children() | {"FEEDBACK_API_PORT": str(PORT)}
    command = [sys.executable, "-P", "-m", "feedback_pipeline.serving"]
    running = subprocess.Popen(command, env=variables | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")})
    try:
        while not _lives():
            if running.poll() is not None:
                raise RuntimeError("the API does not start; its lines above say why")
            time.sleep(0.1)
        yield
    finally:
        running.terminate()
        running.wait()


def _lives() -> bool:
    try:
        connection = http.client.HTTPConnection(HOST, PORT)
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False


def _subject(database: Database) -> tuple[str, str]:
    """The agent with the most to read, and an execution of it that waits."""
    agents = [agent["agent_name"] for agent in read_status(database)["agents"]]
    sizes = {name: len(json.dumps(read_improvements(database, name))) for name in agents}
    agent = max(agents, key=lambda name: sizes[name])
    print(f"{len(agents)} agents; the improvements of {agent} have {sizes[agent]:,} characters")
    return agent, read_forecasts(database, agent)["forecasts"][0]["execution_id"]


if __name__ == "__main__":
    main()
