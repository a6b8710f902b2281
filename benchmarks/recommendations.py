"""Recommendations in simulated worlds with known truth, over many seeds (`feedback_pipeline_tests.learning.advice_worlds`).

    python -m benchmarks.recommendations [--seeds 6]

How often nothing is advised where there is nothing, how often the planted threshold and the strongest planted feature are among
the first three, and what recommending costs.
"""

import argparse
import time

import numpy as np
import pandas as pd

from feedback_pipeline.learning.recommendations import recommend
from feedback_pipeline.simulation.spec import STEP_POINTS, WorldSpec
from feedback_pipeline_tests.learning.advice_worlds import PLANTED_STEP, null_share, planted_hits
from feedback_pipeline_tests.worlds import advice_of, learn


def main() -> None:
    """Print both tables and what making recommendations costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    seeds = range(1, parser.parse_args().seeds + 1)
    shares = [null_share(seed) for seed in seeds]
    each = ", ".join(f"{share:.3f}" for share in shares)
    print(f"null worlds: {np.mean(shares):.3f} of the agents have a recommendation (by seed: {each})")
    print(f"{'step':>5} {'tastes':>7} {'agents':>7} {'threshold':>10} {'published cut':>14} {'strongest':>10} {'both':>6}")
    for step in (PLANTED_STEP, STEP_POINTS):
        for tastes in (True, False):
            found = pd.concat([planted_hits(seed, step, tastes=tastes) for seed in seeds])
            threshold, cut, strongest, both = found.mean()
            print(f"{step:>5} {tastes!s:>7} {len(found):>7} {threshold:>10.2f} {cut:>14.2f} {strongest:>10.2f} {both:>6.2f}")
    evidence = advice_of(learn(WorldSpec(agents=1000, executions=100, reviewers=200, seed=1)))
    start = time.perf_counter()
    recommended, _ = recommend(evidence)
    print(f"recommendations of 1,000 agents: {len(recommended)} in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
