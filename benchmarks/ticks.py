"""What one look of the sensor costs the database: 10,000 and 1,000,000 reviews, few and thousands of pending changes.

    python -m benchmarks.ticks [--reviews 10000 1000000]

Every statement that a tick sends is explained with ANALYZE; the times are those of the server, planning included, the best of
twenty: other work on the machine is not its cost.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shop import fill_shop
from feedback_pipeline.learning.trigger import Policy
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.trigger_book import Entry, note_decision
from feedback_pipeline.storage.triggers import read_pending

AGENTS, REPEATS, BAR_MS, BAR_RATIO = 1000, 20, 25.0, 2.0
PENDING = {
    "nothing pending": "",
    "20 reviews pending": "UPDATE review_feedback SET comments = 'new' WHERE id IN (SELECT id FROM review_feedback LIMIT 20)",
    "900 reviews pending": "UPDATE review_feedback SET comments = 'new' WHERE id IN (SELECT id FROM review_feedback LIMIT 900)",
    "5,000 reviews pending": "UPDATE review_feedback SET comments = 'new' "
    "WHERE id IN (SELECT id FROM review_feedback LIMIT 5000)",
    "5,000 reviews deleted": "DELETE FROM review_feedback WHERE id IN (SELECT id FROM review_feedback LIMIT 5000)",
    "20 reviews and 20,000 executions pending": "UPDATE review_feedback SET comments = 'new' WHERE id IN (SELECT id FROM "
    "review_feedback LIMIT 20); INSERT INTO agent_performance (agent_name, execution_id) "
    "SELECT 'agent-0001', 'new ' || n FROM generate_series(1, 20000) AS n",
}


@dataclass
class Explained:
    """A connection that explains what it is asked, and answers it."""

    connection: Connection
    plans: list[dict[str, Any]] = field(default_factory=list)

    def execute(self, query: Any, parameters: Any = None) -> Any:
        """The answer; beside it the plan with its times."""
        text = query.as_string(self.connection) if hasattr(query, "as_string") else query
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}"
        row = self.connection.execute(explain.encode(), parameters).fetchone()
        assert row is not None
        self.plans.append(row[0][0])
        return self.connection.execute(text.encode(), parameters)

    @property
    def milliseconds(self) -> float:
        """Planning and execution of all statements."""
        return sum(float(plan["Planning Time"]) + float(plan["Execution Time"]) for plan in self.plans)

    @property
    def blocks(self) -> int:
        """Blocks looked at."""
        return sum(int(plan["Plan"]["Shared Hit Blocks"]) + int(plan["Plan"]["Shared Read Blocks"]) for plan in self.plans)


def tick(database: Database) -> tuple[float, int]:
    """Milliseconds and blocks of the best of some ticks: reading what is pending, and looking up the last decision."""
    found = []
    for _ in range(REPEATS):
        with database.snapshot() as connection:
            explained = Explained(connection)
            state = read_pending(explained, Policy())  # type: ignore[arg-type]
        with database.connect() as connection:
            note_decision(connection, Entry("waiting", "", state.pending.batch_id, None, state.pending.counts))
        with database.connect() as connection:
            explained.connection = connection
            note_decision(explained, Entry("waiting", "", state.pending.batch_id, None, state.pending.counts))  # type: ignore[arg-type]
        found.append((explained.milliseconds, explained.blocks))
    return min(found)


@contextmanager
def pending(database: Database, statement: str) -> Iterator[None]:
    """Changes that are pending for the block."""
    with database.connect() as connection:
        if statement:
            connection.execute(statement.encode())
    yield
    with database.connect(autocommit=True) as connection:
        connection.execute("DELETE FROM feedback_changes")
        connection.execute("VACUUM feedback_changes")


def measure(server: Database, reviews: int) -> dict[str, tuple[float, int]]:
    """Cost of a tick by what is pending."""
    database = server.sibling(f"ticks_{reviews}")
    migrate(database)
    fill_shop(database, reviews=reviews, agents=AGENTS)
    costs = {}
    for name, statement in PENDING.items():
        with pending(database, statement):
            costs[name] = tick(database)
    return costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, nargs="+", default=[10_000, 1_000_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, EmbeddedPostgres(Path(folder)).hold() as server:
        costs = {reviews: measure(server, reviews) for reviews in options.reviews}
    small, large = options.reviews[0], options.reviews[-1]
    print(f"{'':<42}" + "".join(f"{reviews:>16,}" for reviews in options.reviews) + f"{'ratio':>8}")
    for name in PENDING:
        cells = "".join(f"{costs[reviews][name][0]:>9.2f} ms{costs[reviews][name][1]:>5}" for reviews in options.reviews)
        print(f"{name:<42}{cells}{costs[large][name][0] / costs[small][name][0]:>8.2f}")
    worst = max(cost for cost, _ in costs[large].values())
    ratio = max(costs[large][name][0] / costs[small][name][0] for name in PENDING)
    print(f"worst {worst:.1f} ms (bar {BAR_MS:.0f}), ratio {ratio:.2f} (bar {BAR_RATIO:.0f})")


if __name__ == "__main__":
    main()
