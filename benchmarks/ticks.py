"""What one look of the sensor costs the database: 10,000 and 1,000,000 reviews, few and thousands of pending changes.

    python -m benchmarks.ticks [--reviews 10000 1000000]

A look is the whole evaluation, also where it starts a run, with a feature store in which every day is read. The times are the
server's own: it reports to the client what each statement took to parse, to plan and to execute (log_duration), every statement
that the look sends; the median of some looks, over a connection that is kept from one to the next as the sensor keeps it. Measure
on a machine that does nothing else. Not in it: what Dagster asks its own database. Ends with 1 where a bar does not hold.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import dagster as dg
from psycopg.errors import Diagnostic

from benchmarks.shop import fill_shop
from feedback_pipeline.learning_pass.inputs import open_store
from feedback_pipeline.orchestration.new_feedback import evaluate
from feedback_pipeline.orchestration.resources import installation_tag_by
from feedback_pipeline.orchestration.run_states import Ours
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.day_tables import FEATURE_TABLE, HUMAN_FEEDBACK
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.extraction import extraction_version
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.kept_connection import KeptDatabase, kept_connection
from feedback_pipeline.storage.migrations import migrate

AGENTS, DAYS, REPEATS, BAR_MS, BAR_RATIO = 1000, 60, 21, 25.0, 2.0
FIRST_DAY: Final = date(2026, 1, 1)
EDIT = "UPDATE review_feedback SET comments = clock_timestamp()::text WHERE id IN (SELECT id FROM review_feedback LIMIT {})"
PENDING = {
    "nothing pending": "",
    "20 reviews pending": EDIT.format(20),
    "250 reviews pending": EDIT.format(250),
    "900 reviews pending": EDIT.format(900),
    "580 reviews pending, thresholds of 600": EDIT.format(580),
    "5,000 reviews pending": EDIT.format(5000),
    "5,000 reviews deleted": "DELETE FROM review_feedback WHERE id IN (SELECT id FROM review_feedback LIMIT 5000)",
    "20 reviews and 20,000 executions pending": f"{EDIT.format(20)}; INSERT INTO agent_performance (agent_name, execution_id) "
    "SELECT 'agent-0001', 'new ' || n FROM generate_series(1, 20000) AS n",
}
_DURATION: Final = re.compile(r"duration: ([\d.]+) ms")


@dataclass(frozen=True)
class Cost:
    """Of one look.

    Attributes:
        milliseconds: The median.
        statements: How many the look sent.
        fires: Whether it starts a run.
    """

    milliseconds: float
    statements: int
    fires: bool


class Timed(KeptDatabase):
    """A database that tells what each statement took, sent over whichever connection."""

    durations: Final[list[float]] = []

    def session(self, options: str = "") -> dict[str, str]:
        """As of `Database`; the server reports durations to the client."""
        return super().session(f"-c log_duration=on -c client_min_messages=log {options}")

    def connect(self, *, autocommit: bool = False) -> Connection:
        """As of `Database`; listens to the reports."""
        connection = super().connect(autocommit=autocommit)
        connection.add_notice_handler(self._hear)
        return connection

    def _hear(self, said: Diagnostic) -> None:
        found = _DURATION.match(said.message_primary or "")
        if found is not None:
            self.durations.append(float(found[1]))


def look(database: Timed, settings: Settings) -> Cost:
    """Some looks at what is pending, none of which knows of the others."""
    times: list[float] = []
    answer = None
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(REPEATS):
            with Database(database.url).connect() as connection:
                connection.execute("DELETE FROM trigger_decisions")
            database.durations.clear()
            with kept_connection(database) as connection:
                ours = Ours(installation_tag_by(connection))
                store = partial(FeatureStore, settings.store, ours.installation_id)
                answer = evaluate(instance, connection, store, settings, ours)
            times.append(sum(database.durations))
    return Cost(median(times), len(database.durations), isinstance(answer, dg.RunRequest))


@contextmanager
def pending(database: Database, statement: str) -> Iterator[None]:
    """Changes that are pending for the block, longer than the quiet time."""
    with database.connect() as connection:
        if statement:
            connection.execute(statement.encode())
            connection.execute("UPDATE feedback_changes SET changed_at = changed_at - interval '1 hour'")
    with database.connect(autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE feedback_changes")
    yield
    with database.connect(autocommit=True) as connection:
        connection.execute("DELETE FROM feedback_changes")
        connection.execute("VACUUM feedback_changes")


def measure(server: Database, reviews: int, home: Path) -> dict[str, Cost]:
    """Cost of a look by what is pending."""
    database = Timed(server.sibling(f"ticks_{reviews}").url)
    migrate(Database(database.url))
    fill_shop(Database(database.url), reviews=reviews, agents=AGENTS, days=DAYS)
    settings = Settings(home=home / str(reviews), store_url=None, learn_thresholds={}, learn_threshold=5)
    store, version = open_store(Database(database.url), settings), extraction_version(settings)
    for day in range(DAYS):
        store.write_day(FIRST_DAY + timedelta(days=day), HUMAN_FEEDBACK.empty_table(), FEATURE_TABLE.empty_table(), version)
    costs = {}
    for name, statement in PENDING.items():
        with pending(Database(database.url), statement):
            threshold = int(name.split(" of ")[1].replace(",", "")) if " of " in name else 5
            costs[name] = look(database, settings.model_copy(update={"learn_threshold": threshold}))
    return costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, nargs="+", default=[10_000, 1_000_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, EmbeddedPostgres(Path(folder)).hold() as server:
        costs = {reviews: measure(server, reviews, Path(folder)) for reviews in options.reviews}
    small, large = costs[options.reviews[0]], costs[options.reviews[-1]]
    print(f"{'':<42}{'statements':>11}" + "".join(f"{reviews:>12,}" for reviews in options.reviews) + f"{'ratio':>8}")
    for name, cost in large.items():
        cells = "".join(f"{costs[reviews][name].milliseconds:>9.2f} ms" for reviews in options.reviews)
        ratio = cost.milliseconds / small[name].milliseconds
        print(f"{name:<42}{cost.statements:>11}{cells}{ratio:>8.2f}  {'starts a run' if cost.fires else ''}")
    worst = max(cost.milliseconds for cost in large.values())
    ratio = max(cost.milliseconds / small[name].milliseconds for name, cost in large.items())
    print(f"worst {worst:.1f} ms (bar {BAR_MS:.0f}), ratio {ratio:.2f} (bar {BAR_RATIO:.0f})")
    if worst > BAR_MS or ratio > BAR_RATIO:
        sys.exit(1)


if __name__ == "__main__":
    main()
