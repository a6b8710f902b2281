"""Row by row against in sets: seconds and peak memory from the database to published findings, side by side in one process.

    python -m benchmarks.learn [--reviews 1000 10000 100000] [--million]

The baseline joins decisions with reviews, keeps a dict per row and loops over pairs. Both sides learn the same seven features of
the same shop; Dagster's own overhead is left out on both.
"""

import argparse
import gc
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psycopg

from benchmarks.row_by_row import FEATURES, agents_of, empty_findings, read_rows, row_correlations, row_features, store_rows
from benchmarks.shop import fill_shop
from feedback_pipeline.learning.adjustment import adjust
from feedback_pipeline.learning.correlations import correlate
from feedback_pipeline.learning.pooling import q_values
from feedback_pipeline.learning.reviewer_results import learn_reviewers
from feedback_pipeline.learning_pass.correlations import learn_correlations, read_subject
from feedback_pipeline.learning_pass.inputs import adjusted_panel, open_store
from feedback_pipeline.learning_pass.patterns import learn_patterns
from feedback_pipeline.learning_pass.publication import publish
from feedback_pipeline.learning_pass.reviewers import learn_preference_models
from feedback_pipeline.learning_pass.strategy import learn_strategy
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.copying import copy_table
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.extraction import extract, pending_days
from feedback_pipeline.storage.extraction_sql import OUTPUTS, REVIEWS, ExtractionQueries
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.installation import set_lookback
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.source_columns import source_columns

T = TypeVar("T")
FIRST = date(2026, 1, 1)
TODAY = date(2026, 12, 31)
NOW = datetime(2026, 12, 31, tzinfo=UTC)
STAGES = ("read", "features", "correlations", "publish")


class Clock:
    """Seconds and peak memory (MB above the start) of named stages, and the highest memory of the process."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self.peak = 0.0

    def run(self, stage: str, work: Callable[[], T]) -> T:
        """Run `work` and add its cost to `stage`."""
        gc.collect()
        _reset_peak()
        before, start = _peak_mb(), time.perf_counter()
        result = work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.memory[stage] = max(self.memory.get(stage, 0.0), _peak_mb() - before)
        self.peak = max(self.peak, _peak_mb())
        return result

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def _reset_peak() -> None:
    """Let the kernel forget the highest memory use so far (Linux; elsewhere the peak only grows)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def baseline(database: Database) -> Clock:
    """Learn row by row, one agent after the other."""
    clock, findings = Clock(), empty_findings()
    rows = {}
    with database.connect() as connection:
        names = agents_of(database)
        rows = clock.run("read", lambda: {name: read_rows(connection, name) for name in names})
        features = clock.run("features", lambda: {name: row_features(rows[name]) for name in names})
        found = clock.run("correlations", lambda: {name: row_correlations(rows[name], features[name]) for name in names})
        findings.update(found)
        clock.run("publish", lambda: store_rows(connection, findings))
    return clock


def ours(database: Database, store: FeatureStore, settings: Settings) -> tuple[Clock, float]:
    """Learn in sets; also the seconds of the correlations alone, without reading and writing artifacts.

    What is learned of the reviewers, and patterns, words, segments, have no counterpart in the loop; they stand apart, as the
    stages `reviewers` and `advice`.
    """
    clock = Clock()
    with database.connect() as connection:
        days = pending_days(connection, store, settings, today=TODAY)
    clock.run("read", lambda: extract(database, store, settings, days, today=TODAY, with_texts=False))
    clock.run("features", lambda: learn_preference_models(database, store, settings, now=NOW))
    panel = adjusted_panel(store)[1]
    adjustment = adjust(panel, settings.score_bounds)
    clock.run("reviewers", lambda: learn_reviewers(panel, adjustment, settings.score_bounds, settings.seed))
    clock.seconds["features"] -= clock.seconds["reviewers"]
    pure = _time_correlations(store, settings)
    clock.run("correlations", lambda: learn_correlations(store, settings, only=FEATURES))
    clock.run("advice", lambda: learn_patterns(database, store, settings))
    clock.run("advice", lambda: learn_strategy(store, settings))
    clock.run("publish", lambda: publish(database, store, settings, dagster_run_id=None, now=NOW))
    return clock, pure


def _time_correlations(store: FeatureStore, settings: Settings) -> float:
    """What the baseline's stage computes, and more: r, both p-values, interval and q of every pair of every agent."""
    design = read_subject(store, settings, only=FEATURES).design
    start = time.perf_counter()
    found = correlate(design)
    found.interval()
    q_values(found.p_value.reshape(len(design.names), -1))
    return time.perf_counter() - start


def copy_limit(database: Database, days: list[date]) -> tuple[float, float]:
    """Seconds to drain COPY (FORMAT binary) of the extraction's queries to nothing, and to read them."""
    with database.snapshot() as connection:
        queries = ExtractionQueries(source_columns(connection), days)
        tables = [(queries.reviews(), REVIEWS), (queries.outputs(), OUTPUTS)]
        drained = read = 0.0
        for query, schema in tables:
            start = time.perf_counter()
            statement = psycopg.sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for _ in copy:
                    pass
            drained += time.perf_counter() - start
            start = time.perf_counter()
            copy_table(connection, query, schema)
            read += time.perf_counter() - start
    return drained, read


@contextmanager
def shop(server: EmbeddedPostgres, root: Path, reviews: int, days: int) -> Iterator[tuple[Database, FeatureStore, Settings]]:
    """A fresh migrated database with a shop of `reviews` reviews, and an empty feature store."""
    with server.hold() as main:
        database = main.sibling(f"shop_{reviews}")
        migrate(database)
        fill_shop(database, reviews=reviews, days=days)
        with database.connect() as connection:
            set_lookback(connection, None)
        settings = Settings(home=root, database_url=None, store_url=str(root / f"store_{reviews}"), first_day=FIRST)
        yield database, open_store(database, settings), settings


def compare(server: EmbeddedPostgres, root: Path, sizes: list[int]) -> None:
    """Print one line per stage and size."""
    print(f"{'reviews':>8} {'stage':<13} {'row by row s':>12} {'MB':>6} {'in sets s':>10} {'MB':>6} {'ratio':>7}")
    for reviews in sizes:
        with shop(server, root, reviews, days=60) as (database, store, settings):
            learned, pure = ours(database, store, settings)
            loop = baseline(database)
            for stage in STAGES:
                _line(reviews, stage, loop.seconds[stage], loop.memory[stage], learned.seconds[stage], learned.memory[stage])
            reviewers = learned.seconds["reviewers"]
            advice = learned.seconds["advice"]
            whole = learned.total - reviewers - advice
            _line(reviews, "whole path", loop.total, max(loop.memory.values()), whole, max(learned.memory.values()))
            print(f"{reviews:>8} reviewers, which the loop knows nothing of: {reviewers:.2f} s more")
            print(f"{reviews:>8} patterns, words and segments, likewise: {advice:.2f} s more")
            print(
                f"{reviews:>8} correlations alone (no artifact read or written): {pure:.3f} s,"
                f" ratio {loop.seconds['correlations'] / pure:.0f}"
            )
            with database.connect() as connection:
                days = [FIRST + timedelta(days=i) for i in range(60)]
                connection.execute("SELECT 1")
            drained, read = copy_limit(database, days)
            print(f"{reviews:>8} read {read:.2f} s, COPY of the same queries drained {drained:.2f} s, ratio {read / drained:.2f}")


def _line(reviews: int, stage: str, loop: float, loop_mb: float, sets: float, sets_mb: float) -> None:
    print(f"{reviews:>8} {stage:<13} {loop:>12.3f} {loop_mb:>6.0f} {sets:>10.3f} {sets_mb:>6.0f} {loop / sets:>7.1f}")


def million(server: EmbeddedPostgres, root: Path) -> None:
    """One day of 1M reviews against its share of the whole, texts included, and the peak memory."""
    with shop(server, root, 1_000_000, days=40) as (database, store, settings):
        clock = Clock()
        days = [FIRST + timedelta(days=i) for i in range(40)]
        clock.run("one day", lambda: extract(database, store, settings, days[20:21], today=TODAY))
        clock.run("the other 39 days", lambda: extract(database, store, settings, days, today=TODAY))
        for stage in clock.seconds:
            print(f" 1000000 extraction of {stage}: {clock.seconds[stage]:.2f} s, {clock.memory[stage]:.0f} MB")
        share = clock.seconds["one day"] / (clock.total / len(days))
        print(f" 1000000 one day took {share:.2f} times its share of the whole")
        rest = Clock()
        rest.run("preference models", lambda: learn_preference_models(database, store, settings, now=NOW))
        rest.run("correlations", lambda: learn_correlations(store, settings))
        rest.run("patterns", lambda: learn_patterns(database, store, settings))
        rest.run("strategy", lambda: learn_strategy(store, settings))
        rest.run("publish", lambda: publish(database, store, settings, dagster_run_id=None, now=NOW))
        for stage in rest.seconds:
            print(f" 1000000 {stage}: {rest.seconds[stage]:.2f} s, {rest.memory[stage]:.0f} MB")
        print(f" 1000000 peak memory of the process {max(clock.peak, rest.peak):.0f} MB")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reviews", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--million", action="store_true", help="also extract and learn 1M reviews")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        server = EmbeddedPostgres(root)
        with server.hold():
            # Both sides pay for imports and first calls here.
            with shop(server, root, 200, days=60) as (database, store, settings), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                ours(database, store, settings)
                baseline(database)
            compare(server, root, options.reviews)
            if options.million:
                million(server, root)


if __name__ == "__main__":
    main()
