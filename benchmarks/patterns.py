"""How fast decision patterns are found, and how true: cuts, lifts and rules in planted and in null worlds, over many seeds.

    OMP_NUM_THREADS=1 python -m benchmarks.patterns [--seeds 200]

Cuts: approval rises by 1.3 on the logit scale where a Beta(5, 2) feature is above .85, other logit noise sd 1. Rules: approval
rises by .30 where two of seven features are both above a half.
"""

import argparse
import time

import numpy as np
import pandas as pd

from feedback_pipeline.learning.patterns import find_patterns
from feedback_pipeline.learning.rules import find_rule
from feedback_pipeline.learning.threshold_lift import folds
from feedback_pipeline.learning.thresholds import find_thresholds
from feedback_pipeline.simulation.spec import FEATURES, WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline_tests.learning.pattern_worlds import planted_and, planted_step, points_of
from feedback_pipeline_tests.worlds import BOUNDS, panel_of

_PUBLISHED = ("confidence_score", "word_count", "readability", "alternatives_count")


def seconds(outputs: int) -> None:
    """Wall and processor seconds of find_patterns, fourteen features, without and with three decision points."""
    print(f"{'agents':>7} {'outputs each':>13} {'wall s':>7} {'cpu s':>6} {'with points':>12} {'cpu s':>6} {'candidates':>11}")
    for agents in (50, 200, 1000):
        world = simulate(WorldSpec(agents=agents, executions=outputs // agents, reviewers=40))
        panel, points = panel_of(world), points_of(world)
        published = dict.fromkeys(panel.agents, _PUBLISHED)
        taken: list[float] = []
        for measured in (points.iloc[:0], points):
            wall, processor = time.perf_counter(), time.process_time()
            patterns, _ = find_patterns(panel, measured, BOUNDS, FEATURES, published, 1)
            taken += [time.perf_counter() - wall, time.process_time() - processor]
        print(
            f"{agents:>7} {outputs // agents:>13} {taken[0]:>7.2f} {taken[1]:>6.2f} {taken[2]:>12.2f} {taken[3]:>6.2f}"
            f" {len(patterns):>11}"
        )


def cuts(seeds: int) -> None:
    """Error of the cut, power, null rate, published share and lifts."""
    head = f"{'n':>6} {'cut MAE':>8} {'p < .05':>8} {'null':>6} {'published':>10} {'null':>6} {'cover':>6}"
    print(f"{head} {'lift naive':>11} {'honest':>7} {'true':>6}")
    for n in (50, 100, 200, 500, 2000):
        x, y, group, true = planted_step(n, seeds, 1.3, 1)
        found = find_thresholds(x, y, group, np.arange(seeds), seed=1)
        x0, y0, group0, _ = planted_step(n, seeds, 0.0, 2)
        null = find_thresholds(x0, y0, group0, np.arange(seeds), seed=1)
        above = x[:, 0] > found.cut[group, 0]
        won = [np.bincount(group[side], y[side], seeds) / np.bincount(group[side], minlength=seeds) for side in (above, ~above)]
        cover = ((found.cut_low <= 0.85) & (found.cut_high >= 0.85))[np.isfinite(found.cut_low)].mean()
        print(
            f"{n:>6} {np.nanmean(np.abs(found.cut - 0.85)):>8.3f} {(found.p_value < 0.05).mean():>8.3f}"
            f" {(null.p_value < 0.05).mean():>6.3f} {pd.isna(found.reason).mean():>10.3f} {pd.isna(null.reason).mean():>6.3f}"
            f" {cover:>6.3f} {np.nanmean(np.abs(won[0] - won[1])):>11.3f} {np.nanmean(found.lift):>7.3f} {true:>6.3f}"
        )


def rules(seeds: int) -> None:
    """Share of rules kept and their cross-fitted lift, planted and null."""
    print(f"{'rules n':>8} {'kept':>6} {'lift':>6} {'null kept':>10} {'lift':>6}")
    names = [f"x{j}" for j in range(7)]
    for n in (300, 1000, 5000):
        line = []
        for lift in (0.3, 0.0):
            x, y = planted_and(n, seeds, lift, n)
            found = [
                find_rule(x[w], y[w], np.zeros(n, dtype=np.intp), folds(np.arange(n), 5, (1, w)), names) for w in range(seeds)
            ]
            kept = [rule is not None and rule.kept for rule in found]
            line += [np.mean(kept), np.mean([rule.lift["lift"] for rule in found if rule is not None])]
        print(f"{n:>8} {line[0]:>6.3f} {line[1]:>6.3f} {line[2]:>10.3f} {line[3]:>6.3f}")


def main() -> None:
    """Run all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--outputs", type=int, default=100_000)
    options = parser.parse_args()
    seconds(options.outputs)
    cuts(options.seeds)
    rules(options.seeds)


if __name__ == "__main__":
    main()
