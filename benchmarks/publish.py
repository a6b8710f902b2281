"""Seconds to publish a learning run of many agents on the embedded Postgres with its default settings, and the rows per table.

    python -m benchmarks.publish [--agents 1000] [--runs 3]

Per agent 68 tested pairs, 30 published patterns of all kinds (12 correlations) that rest on 100 reviews, 60 candidates that are
not published, 5 recommendations, 40 segments, 20 rows of the next allocation; 300 reviewers. The first run is all new rows, later
ones find most of the patterns again.
"""

import argparse
import tempfile
import time
from pathlib import Path

from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline_tests.storage.publications import publication

BAR_S = 3.0
SIZES = {
    **{"pairs": 68, "correlations": 12, "patterns": 18, "candidates": 60, "recommendations": 5, "segments": 40, "arms": 20},
    **{"reviews": 100, "reviewers": 300},
}


def main() -> None:
    """Publish some runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, EmbeddedPostgres(Path(folder)).hold() as server:
        database = server.sibling("publish")
        migrate(database)
        publish_run(database.sibling("publish"), publication(1))
        for number in range(options.runs):
            run = publication(options.agents, seed=number + 2, tick=number, **SIZES)
            start = time.perf_counter()
            counts = publish_run(database, run)
            seconds = time.perf_counter() - start
            print(f"run {number + 1} of {options.agents:,} agents: {seconds:.2f} s (bar {BAR_S:.1f} s)", flush=True)
        for table, rows in counts.items():
            print(f"  {table:<30} {rows:>8,}")


if __name__ == "__main__":
    main()
