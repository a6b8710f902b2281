"""Seconds from the commit of the review that crosses the threshold to what agents read, through the processes of `up`.

    python -m benchmarks.latency [--repeats 8] [--agents 12] [--executions 100]

Beside it, in turns, a Dagster project of a single empty asset on the same server, started as Dagster starts it (our runs are
forked, its are not), with the same instance configuration and the same interval of its sensor: the time from the commit of a row
to the materialization. Both are timed from the same moments between two looks of the sensor, spread evenly over its interval. No
quiet time, no training due. Exit status 1 above the bar.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from feedback_pipeline.commands.ports import free_ports
from feedback_pipeline.environment import DAGSTER_URL_VARIABLE, Environment, prepared
from feedback_pipeline.processes import Children, Service
from feedback_pipeline.settings import Settings
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline.simulation.writing import write_world
from feedback_pipeline.storage.database import Database

INTERVAL_S, THRESHOLD, PATIENCE_S, POLL_S, BAR = 5, 5, 300.0, 0.05, 2.0
_UNDER_WAY = "SELECT count(*) FROM runs WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')"


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Attributes:
        name: What it is.
        database: Where to cross the threshold.
        cross: SQL that does.
        books: Where to look for the end, and for runs.
        done: SQL that counts ends.
        dagster: The database of its instance.
        sensor: The name of what looks.
    """

    name: str
    database: Database
    cross: str
    books: Database
    done: str
    dagster: Database
    sensor: str

    def rest(self) -> None:
        """Wait until nothing runs: what is published is not yet the end of its run."""
        wait_until(lambda: count(self.dagster, _UNDER_WAY) == 0)

    def seconds(self, after_look: float) -> float:
        """From the commit to the end; commits so many seconds after a look of the sensor, while nothing runs."""
        self.rest()
        looks = f"SELECT count(*) FROM job_ticks WHERE strpos(tick_body, '\"{self.sensor}\"') > 0"
        seen = count(self.dagster, looks)
        wait_until(lambda: count(self.dagster, looks) > seen)
        time.sleep(after_look)
        before = count(self.books, self.done)
        with self.database.connect() as connection:
            connection.execute(self.cross.encode())
        start = time.perf_counter()
        wait_until(lambda: count(self.books, self.done) > before)
        return time.perf_counter() - start


def count(database: Database, query: str) -> int:
    """The number that a query returns; a table that is not there yet has none."""
    with database.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll; the time that polling takes is small beside what is measured."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came of it in {PATIENCE_S:.0f} s; the logs above say why")
        time.sleep(POLL_S)


@contextmanager
def empty_project(environment: Environment, folder: Path) -> Iterator[Subject]:
    """The empty project, its code server and daemon running."""
    books, asked = environment.database.sibling("empty_dagster"), environment.database.sibling("empty")
    books.ensure_exists()
    asked.ensure_exists()
    with asked.connect() as connection:
        connection.execute("CREATE TABLE asked (at timestamptz DEFAULT now())")
    home = folder / "empty"
    home.mkdir()
    shutil.copyfile(environment.dagster_home / "dagster.yaml", home / "dagster.yaml")
    socket, workspace = folder / "empty.sock", home / "workspace.yaml"
    workspace.write_text(f'{{"load_from": [{{"grpc_server": {{"socket": "{socket}", "location_name": "empty"}}}}]}}')
    python, quiet = (sys.executable, "-m"), ("--log-level", "warning")
    code = ("dagster", "api", "grpc", "--socket", str(socket), "-m", "benchmarks.empty_project", "--location-name", "empty")
    services = [
        Service("empty-code", (*python, *code, *quiet), ready=socket),
        Service("empty-daemon", (*python, "dagster._daemon", "run", *quiet, "-w", str(workspace))),
    ]
    variables = environment.of_children() | {
        "DAGSTER_HOME": str(home),
        DAGSTER_URL_VARIABLE: books.sqlalchemy_url(),
        "ASKED_URL": asked.url,
    }
    ends = "SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
    with Children(services, variables):
        yield Subject("one empty asset", asked, "INSERT INTO asked DEFAULT VALUES", books, ends, books, "rows_wait")


@contextmanager
def ours(environment: Environment, log: Path) -> Iterator[Subject]:
    """`up`, which has learned from a world already."""
    program = str(Path(sys.executable).parent / "feedback-pipeline")
    variables = environment.of_children()
    subprocess.run([program, "learn", "--all"], env=variables, check=True, stdout=subprocess.DEVNULL)
    cross = (
        "INSERT INTO review_feedback (workflow_id, content_id, reviewer_id, stage, decision, quality_scores, reviewed_at) "
        "SELECT w.id, w.content_id, 'crossing ' || gen_random_uuid(), 'quality_check', 'approve', "
        '\'{"content_quality": {"score": 7}}\', now() FROM content_review_workflows w '
        "JOIN agent_performance p ON p.execution_id = w.workflow_execution_id "
        "WHERE p.agent_name = (SELECT min(agent_name) FROM agent_performance) AND EXISTS ("
        f"SELECT FROM review_feedback r WHERE r.workflow_id = w.id) ORDER BY random() LIMIT {THRESHOLD}"
    )
    dagster = environment.database.sibling("dagster")
    with log.open("w") as lines:
        up = subprocess.Popen([program, "up"], env=variables, stdout=lines, stderr=subprocess.STDOUT)
        try:
            published = "SELECT count(*) FROM learning_runs"
            books = environment.database
            yield Subject("learned_improvements", books, cross, books, published, dagster, "new_feedback_sensor")
        finally:
            up.terminate()
            up.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--agents", type=int, default=12)
    parser.add_argument("--executions", type=int, default=100)
    options = parser.parse_args()
    moments = [INTERVAL_S * (number + 0.5) / options.repeats for number in range(options.repeats)]
    random.Random(1).shuffle(moments)  # noqa: S311 - an order, nothing to guess
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings = Settings(
            home=folder, quiet_seconds=0, sensor_seconds=INTERVAL_S, learn_threshold=THRESHOLD, database_url=None, store_url=None
        )
        with prepared(free_ports(settings), overridable=False) as environment:
            until = datetime.now(UTC).date() - timedelta(days=1)
            world = WorldSpec(agents=options.agents, executions=options.executions, reviewers=25, days=30, seed=3, until=until)
            write_world(environment.database, simulate(world))
            with ours(environment, folder / "up.log") as learned, empty_project(environment, folder) as empty:
                times: dict[str, list[float]] = {learned.name: [], empty.name: []}
                # The first of each starts cold: the code servers import, the daemons look for the first time.
                for subject in (learned, empty):
                    subject.seconds(0.0)
                print(f"load {os.getloadavg()[0]:.1f} before, interval {INTERVAL_S} s, {THRESHOLD} new reviews", flush=True)
                for moment in moments:
                    for subject in (learned, empty):
                        times[subject.name].append(subject.seconds(moment))
                for subject in (learned, empty):
                    subject.rest()
                print(f"load {os.getloadavg()[0]:.1f} after")
    for name, seconds in times.items():
        print(f"{name:<22} median {median(seconds):5.1f} s   {' '.join(f'{each:.1f}' for each in seconds)}")
    ratio = median(times[learned.name]) / median(times[empty.name])
    print(f"ratio {ratio:.2f} (bar {BAR:.0f})")
    sys.exit(int(ratio > BAR))


if __name__ == "__main__":
    main()
