"""How well the candidates forecast later scores, over many seeds, and how long they take.

    python -m benchmarks.quality [--seeds 4] [--skip-speed]

Forward in time: four windows after the first half, whole contents. `share` is R2 over that of the oracle, which knows the planted
functions of the features, the agents' levels, the reviewers' severities and tastes, but not the hidden quality of an output.
"""

import argparse
import time
from functools import partial

import numpy as np

from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.quality_models import CANDIDATES, COMPARISON, eligible
from feedback_pipeline.learning.quality_models_threads import fastest_threads
from feedback_pipeline.learning.quality_validation import forward_baseline, forward_chain, forward_predictions
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.learning.quality_worlds import RANGE, QualityWorld, quality_world, r2

REVIEWERS = 40
LEAST_SHARE = {10_000: 0.90, 100_000: 0.95}
MOST_BELOW_RIDGE = 0.02
WORLDS: tuple[tuple[str, int, int, dict[str, object]], ...] = (
    ("tastes", 1_000, 20, {}),
    ("tastes", 10_000, 60, {}),
    ("no tastes", 1_000, 20, {"tastes": False}),
    ("no tastes", 10_000, 60, {"tastes": False}),
    ("no tastes, 5 reviewers", 10_000, 60, {"tastes": False, "reviewers": 5}),
    ("no tastes, one agent", 10_000, 1, {"tastes": False}),
    ("nothing but levels", 10_000, 60, {"tastes": False, "best_length": False, "effects": False}),
)
LARGE: tuple[str, int, int, dict[str, object]] = ("tastes", 100_000, 60, {})
MOST_SECONDS = {"fit of all": 60.0, "fit of stack": 15.0, "score 100k rows": 1.0, "score one row": 0.020}


def forward(world: QualityWorld, shuffled: int | None = None) -> dict[str, float]:
    """Forward R2 by candidate, and of the oracle; with a seed the training scores are shuffled."""
    rows = world.rows
    folds = forward_chain(rows.moment, rows.content)
    baseline = forward_baseline(rows.y, folds)
    found: dict[str, Floats] = {"oracle": world.oracle}
    for name in eligible(rows.n_outputs):
        if shuffled is None:
            found[name] = forward_predictions(partial(world.model, name), rows.X, rows.y, rows.content, folds)
            continue
        found[name] = np.full(len(rows.y), np.nan)
        stream = np.random.default_rng(shuffled)
        for train, test in folds:
            model = world.model(name).fit(rows.X.iloc[train], stream.permutation(rows.y[train]), content=rows.content[train])
            found[name][test] = model.predict(rows.X.iloc[test])
    return {name: r2(rows.y, prediction, baseline) for name, prediction in found.items()}


def world_of(outputs: int, agents: int, switches: dict[str, object], seed: int) -> QualityWorld:
    """A simulated world of about so many outputs."""
    settings = {"agents": agents, "executions": round(outputs / agents), "reviewers": REVIEWERS, "seed": seed} | switches
    return quality_world(WorldSpec(**settings))  # type: ignore[arg-type]


def accuracy(label: str, outputs: int, agents: int, switches: dict[str, object], seeds: int) -> None:
    """One block of the table: R2, share of the oracle, verdict."""
    found = [forward(world_of(outputs, agents, switches, seed)) for seed in range(1, seeds + 1)]
    print(f"{label}, {outputs} outputs, {agents} agents: oracle {np.mean([each['oracle'] for each in found]):.3f}")
    competing = [name for name in found[0] if name not in ("oracle", COMPARISON)]
    best = max(competing, key=lambda name: float(np.mean([each[name] for each in found])))
    for name in (name for name in found[0] if name != "oracle"):
        values = np.array([each[name] for each in found])
        shares = values / [each["oracle"] for each in found]
        below = np.array([each["ridge"] for each in found]) - values
        verdict = ""
        if name == best and outputs in LEAST_SHARE and not switches:
            verdict = f"best: >= {LEAST_SHARE[outputs]:.2f} {'pass' if shares.mean() >= LEAST_SHARE[outputs] else 'FAIL'}"
        elif name == best:
            passed = below.mean() <= MOST_BELOW_RIDGE
            verdict = f"best: >= ridge - {MOST_BELOW_RIDGE} {'pass' if passed else 'FAIL'}"
        print(f"  {name:<24} {values.mean():7.3f} {_error(values):7.4f}  share {shares.mean():6.3f}  {verdict}", flush=True)


def nothing_to_learn(seeds: int) -> None:
    """Forward R2 where the scores of the training rows are shuffled: whatever leaks would lift it."""
    found = [forward(world_of(3_000, 30, {}, seed), shuffled=seed) for seed in range(1, seeds + 1)]
    print("shuffled training scores, 3000 outputs")
    for name in (name for name in found[0] if name != "oracle"):
        values = np.array([each[name] for each in found])
        print(f"  {name:<24} {values.mean():7.4f} {_error(values):7.4f}", flush=True)


def speed() -> None:
    """Seconds to fit and to score at 100k rows."""
    world = quality_world(WorldSpec(agents=60, executions=833, reviewers=REVIEWERS, seed=1))
    rows = world.rows.take(np.arange(min(100_000, len(world.rows.y))))
    threads = fastest_threads(time.perf_counter, (1, 2))
    print(f"{len(rows.y)} rows, {threads} thread(s) measured to be fastest: seconds to fit, to score all, to score one row")
    total, stack, slowest, one = 0.0, 0.0, 0.0, 0.0
    for name in CANDIDATES:
        start = time.perf_counter()
        model = CANDIDATES[name](rows.features, RANGE, 0).set_params(threads=threads).fit(rows.X, rows.y, content=rows.content)
        fit = time.perf_counter() - start
        start = time.perf_counter()
        model.predict(rows.X)
        score = time.perf_counter() - start
        single = _median_seconds(partial(model.predict, rows.X[:1]))
        total += fit
        stack = fit if name == "stack" else stack
        if name != COMPARISON:
            slowest, one = max(slowest, score), max(one, single)
        print(f"  {name:<24} {fit:7.2f} {score:7.3f} {single:7.4f}", flush=True)
    measured = {"fit of all": total, "fit of stack": stack, "score 100k rows": slowest, "score one row": one}
    for label, seconds in measured.items():
        verdict = "pass" if seconds <= MOST_SECONDS[label] else "FAIL"
        print(f"  {label:<24} {seconds:7.3f} <= {MOST_SECONDS[label]:g} {verdict}")


def _median_seconds(call: partial[Floats], repeats: int = 50) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _error(values: Floats) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--skip-speed", action="store_true")
    options = parser.parse_args()
    print("forward R2 and its standard error over seeds")
    for label, outputs, agents, switches in WORLDS:
        accuracy(label, outputs, agents, switches, options.seeds)
    accuracy(*LARGE, 1)
    nothing_to_learn(options.seeds)
    if not options.skip_speed:
        speed()


if __name__ == "__main__":
    main()
