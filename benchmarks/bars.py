"""False findings, power, coverage and calibration of the published correlations in simulated worlds, over many seeds.

    python -m benchmarks.bars [--seeds 24]

60 agents, 40 reviewers. Null worlds have no effects and no tastes. In planted worlds a finding is false when the true correlation
is below .02 or has the other sign; power counts true correlations of .2 and more.
"""

import argparse

import numpy as np

from feedback_pipeline.learning.adjustment import adjust
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.findings import find
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline.simulation.truth import true_correlations
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline_tests.worlds import BOUNDS, learn, panel_of, subject_of, with_truth

SEVEN = ("duration_ms", "input_tokens", "output_tokens", "cost", "confidence_score", "alternatives_count", "reasoning_length")
AGENTS, REVIEWERS = 60, 40


def null_worlds(seeds: int) -> None:
    """False findings per agent and share of agents with any, seven features x four aspects."""
    print(f"{'null n':>7} {'false per agent':>16} {'+-':>6} {'agents with any':>16} {'p < .05':>8}")
    for n in (20, 50, 200, 1000):
        false, any_false, level = [], [], []
        for seed in range(1, (seeds if n < 1000 else max(seeds // 6, 1)) + 1):
            world = simulate(WorldSpec(agents=AGENTS, executions=n, reviewers=REVIEWERS, seed=seed, effects=False, tastes=False))
            panel = panel_of(world)
            findings = find(subject_of(panel, adjust(panel, BOUNDS), SEVEN))
            own = findings[findings["agent_name"] != FLEET]
            published = own[own["published"]]
            false.append(len(published) / AGENTS)
            any_false.append(published["agent_name"].nunique() / AGENTS)
            level.append(float((own["p_value"] < 0.05).mean()))
        error = np.std(false, ddof=1) / np.sqrt(len(false)) if len(false) > 1 else np.nan
        print(f"{n:>7} {np.mean(false):>16.3f} {error:>6.3f} {np.mean(any_false):>16.3f} {np.mean(level):>8.3f}")


def planted_worlds(seeds: int) -> None:
    """False discovery proportion, power, coverage of the 95 % intervals, right signs among confidence >= .95."""
    print(f"{'planted n':>10} {'FDP':>6} {'power':>6} {'coverage':>9} {'sure: right sign':>17} {'rmse r':>7} {'shrunk':>7}")
    for n in (50, 200, 1000):
        rows = []
        for seed in range(1, max(seeds // 6, 1) + 1):
            learned = learn(WorldSpec(agents=AGENTS, executions=n, reviewers=REVIEWERS, seed=seed))
            found = with_truth(find(learned.subject), true_correlations(learned.world))
            known, published = found[found["r"].notna()], found[found["published"]]
            wrong = (published["rho"].abs() < 0.02) | (np.sign(published["rho"]) != np.sign(published["r"]))
            sure = known[known["confidence"] >= 0.95]
            rows.append(
                (
                    wrong.mean(),
                    found.loc[found["rho"].abs() >= 0.2, "published"].mean(),
                    ((known["ci_low"] <= known["rho"]) & (known["rho"] <= known["ci_high"])).mean(),
                    (np.sign(sure["rho"]) == np.sign(sure["r"])).mean(),
                    (known["r"] - known["rho"]).pow(2).mean() ** 0.5,
                    (known["r_shrunk"] - known["rho"]).pow(2).mean() ** 0.5,
                )
            )
        fdp, power, coverage, right, raw, shrunk = np.mean(rows, axis=0)
        print(f"{n:>10} {fdp:>6.3f} {power:>6.3f} {coverage:>9.3f} {right:>17.3f} {raw:>7.3f} {shrunk:>7.3f}")


def main() -> None:
    """Run both sweeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24)
    options = parser.parse_args()
    null_worlds(options.seeds)
    planted_worlds(options.seeds)


if __name__ == "__main__":
    main()
