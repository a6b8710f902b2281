"""Terms that go with good or bad judgements: false and missed words over many seeds, and the time for 100,000 texts.

    python -m benchmarks.terms [--seeds 24] [--documents 100000] [--agents 50]

Worlds of `simulation.term_texts`: texts of 60 words, 8 good and 8 bad words of .6 points each, words that come in bursts, better
texts longer, 40 reviewers of different severity. The embedded Postgres serves the reading.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from feedback_pipeline.learning.term_lists import term_families
from feedback_pipeline.learning.term_patterns import find_terms
from feedback_pipeline.learning.terms import tested_terms
from feedback_pipeline.simulation.term_texts import TermSpec, TermWorld, simulate_terms
from feedback_pipeline.storage.embedded import EmbeddedPostgres
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline.storage.term_texts import read_term_texts
from feedback_pipeline.storage.tokens import Tokens
from feedback_pipeline_tests.term_worlds import BOUNDS, panel_of, reasoning_of, write


def found_and_false(world: TermWorld, *, strata: bool = True) -> tuple[int, float, float]:
    """Terms found with q <= .10 of the one agent, share of false ones, share of planted ones found with the right sign."""
    panel = panel_of(world)
    family = next(term_families(panel, reasoning_of(world, panel), BOUNDS))
    (arrangement,) = family.arrangements(fleet=True)
    lists = arrangement.lists()
    if not strata:
        lists.stratum[:] = 0
    tested = tested_terms(lists, family.outcomes[0].choices[0][2][:, None])
    found = tested.q_value[:, 0] <= 0.1
    terms, good = family.documents.presence.vocabulary[tested.term[found]], tested.effect[found, 0] > 0
    right = int((np.isin(terms, world.good) & good).sum() + (np.isin(terms, world.bad) & ~good).sum())
    n = int(found.sum())
    return n, (n - right) / max(n, 1), right / len(world.good + world.bad)


def bars(seeds: int) -> None:
    """The table of methods: found, FDR, recall, with and without length strata."""
    print(f"{'documents':>10} {'strata':>7} {'found':>7} {'FDR':>6} {'+-':>6} {'recall':>7}")
    for n in (200, 300, 1_000, 3_000, 10_000):
        for strata in (True, False):
            rows = [
                found_and_false(simulate_terms(TermSpec(documents=n, seed=seed)), strata=strata)
                for seed in range(1, (seeds if n <= 3_000 else max(seeds // 4, 2)) + 1)
            ]
            found, fdr, recall = np.mean(rows, axis=0)
            error = np.std([row[1] for row in rows], ddof=1) / np.sqrt(len(rows))
            print(f"{n:>10} {'yes' if strata else 'no':>7} {found:>7.1f} {fdr:>6.3f} {error:>6.3f} {recall:>7.3f}")


def _timed(name: str, step: Callable[[], object]) -> float:
    start, worked = time.perf_counter(), time.process_time()
    step()
    seconds = time.perf_counter() - start
    print(f"  {name:<32} {seconds:6.2f} s, {time.process_time() - worked:6.2f} s of the processor")
    return seconds


def speed(documents: int, agents: int) -> None:
    """Seconds for texts in memory, and with the reading from Postgres."""
    world = simulate_terms(TermSpec(documents=documents, agents=agents, seed=1))
    panel = panel_of(world)
    print(f"{documents:,} texts of {np.mean([text.count(' ') + 1 for text in world.texts]):.0f} words, {agents} agents")
    array, tokens = pa.array(world.texts, pa.large_string()), Tokens()
    spent = _timed("words of the texts", lambda: tokens.add(array))
    spent += _timed("which text has which word", lambda: tokens.presence(np.arange(documents), documents, 5))
    texts = reasoning_of(world, panel)
    spent += _timed("tests, patterns, documents", lambda: find_terms(panel, texts, BOUNDS))
    print(f"  {'in all, texts in memory':<32} {spent:6.2f} s")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, EmbeddedPostgres(Path(folder)).hold() as server:
        migrate(server)
        with server.connect() as connection:
            write(connection, panel, reasonings=((i, "draft", text) for i, text in enumerate(world.texts)))
        with server.connect(autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        with server.connect() as connection:
            _timed("read from Postgres, and words", lambda: read_term_texts(connection, panel, seed=0, cap=documents))


def main() -> None:
    """Print both; without seeds the speed alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--agents", type=int, default=50)
    options = parser.parse_args()
    speed(options.documents, options.agents)
    if options.seeds:
        bars(options.seeds)


if __name__ == "__main__":
    main()
