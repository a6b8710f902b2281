"""Does the loop close: 400 simulated shops whose agents apply a pattern that helps, a useless one and a harmful one.

Looked at every 50 executions; the bounds of every execution in between count. Exits with 1 where a bar is missed in any of the
worlds. `--picture FILE` also draws what the README shows.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.trial_states import ACTIVE, RETIRED
from feedback_pipeline.simulation.shop import EFFECTS, ShopRun, ShopSpec, run_shops

SEEDS: Final = 400
END: Final = 500
LEAST_ACTIVE: Final = 0.95
MOST_FALSELY_KEPT: Final = 0.05
MOST_FALSELY_RETIRED: Final = 0.03
HARM_GONE_AFTER: Final = 700
_AT_ONCE: Final = 50
_WORLDS: Final = ((0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.2, 0.0))  # drift of the base rate, share with a forecast
_PICTURED: Final = (0.1, 1.0)
_WINDOW: Final = 200
_STATES: Final = {ACTIVE: "kept", RETIRED: "retired"}
_COLOURS: Final = {"helps": "#2f6f9f", "useless": "#7b8794", "harms": "#c8743c"}


def shops(drift: float, predicted: float, seeds: int) -> list[ShopRun]:
    """All shops of one world, some at once."""
    each = [tuple(range(i, min(i + _AT_ONCE, seeds))) for i in range(0, seeds, _AT_ONCE)]
    return [run_shops(ShopSpec(some, drift=drift, predicted=predicted)) for some in each]


def joined(runs: list[ShopRun], name: str, axis: int = 0) -> npt.NDArray[np.generic]:
    """One field of all shops."""
    return np.concatenate([getattr(run, name) for run in runs], axis=axis)


def kept_after(run: ShopRun) -> npt.NDArray[np.intp]:
    """Executions after which the pattern that helps was kept, by shop; it is in each."""
    return np.array([run.executions[look] for look in (run.states[:, :, 0] == ACTIVE).argmax(axis=0)])


def typical(run: ShopRun) -> int:
    """The shop whose decisions come closest to the medians of all."""
    kept, gone = kept_after(run), run.decided_at[:, 2]
    away = np.abs(np.log(kept / np.median(kept))) + np.abs(np.log(gone / np.median(gone)))
    return int(np.argmin(away))


def missed(runs: list[ShopRun]) -> list[str]:
    """The bars that are missed, in words."""
    states, decided, ever = joined(runs, "states", axis=1), joined(runs, "decided_at"), joined(runs, "ever_active")
    helps, useless, harms = range(len(EFFECTS))
    retired = (states == RETIRED).any(axis=0)
    # One that is never retired counts as retired after all the others.
    gone = float(np.median(np.where(retired[:, harms], decided[:, harms], np.inf)))
    with_it, without = (joined(runs, name)[:, -END:].mean() for name in ("with_learning", "without"))
    bars = (
        ("the useful one is active at the end in", (states[-1, :, helps] == ACTIVE).mean(), LEAST_ACTIVE, True),
        ("the useful one is ever retired in", retired[:, helps].mean(), MOST_FALSELY_RETIRED, False),
        ("the useless one is ever active in", ever[:, useless].mean(), MOST_FALSELY_KEPT, False),
    )
    rates = [f"{what} {rate:.1%}, bar {bar:.0%}" for what, rate, bar, least in bars if (rate < bar if least else rate > bar)]
    harm = f"the harmful one is retired by a median of {gone:,.0f} executions, bar {HARM_GONE_AFTER:,}"
    gain = f"approval at the end is {with_it:.1%} with learning, {without:.1%} without"
    return [*rates, *([harm] if gone > HARM_GONE_AFTER else []), *([gain] if with_it <= without else [])]


def report(drift: float, predicted: float, runs: list[ShopRun]) -> None:
    """Prints what became of the three patterns, and what the shops gained."""
    states, decided = joined(runs, "states", axis=1), joined(runs, "decided_at")
    ever = joined(runs, "ever_active")
    of_all = f"{states.shape[1]} shops of {runs[0].executions[-1]:,} executions, forecasts of {predicted:.0%}"
    print(f"\nbase rate moves by {drift:.1f} up and down; {of_all}")
    for k, (name, effect) in enumerate(EFFECTS.items()):
        of = states[:, :, k]
        retired = (of == RETIRED).any(axis=0)
        median = f", median {np.median(decided[retired, k]):,.0f} executions" if retired.any() else ""
        at_end, once = (of[-1] == ACTIVE).mean(), ever[:, k].mean()
        print(
            f"  {name:8} {effect:+.2f}: active at the end {at_end:6.1%}, ever {once:6.1%}, retired {retired.mean():6.1%}{median}"
        )
    print(f"  helps: kept after a median of {np.median(np.concatenate([kept_after(run) for run in runs])):,.0f} executions")
    with_it, without = (joined(runs, name)[:, -END:].mean(axis=1) for name in ("with_learning", "without"))
    gain = (with_it - without).astype(float)
    half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    print(
        f"  approval of the last {END} executions: {without.mean():.1%} without learning, {with_it.mean():.1%} with; "
        f"gain {100 * gain.mean():+.2f} points [{100 * (gain.mean() - half):.2f}, {100 * (gain.mean() + half):.2f}], "
        f"above 0 in {(gain > 0).mean():.1%} of the shops"
    )


def draw(runs: list[ShopRun], file: Path) -> None:
    """The README's picture: approval with and without learning over all shops, and the three trials of one of them."""
    from matplotlib.figure import Figure

    with_it, without = (joined(runs, name).astype(float) for name in ("with_learning", "without"))
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    for values, name, colour in ((with_it, "with learning", "#2f6f9f"), (without, "without", "#7b8794")):
        smooth = np.array([np.convolve(row, np.ones(_WINDOW) / _WINDOW, mode="valid") for row in values])
        x, mean = np.arange(_WINDOW, values.shape[1] + 1), smooth.mean(axis=0)
        half = 1.96 * smooth.std(axis=0, ddof=1) / np.sqrt(len(smooth))
        left.fill_between(x, 100 * (mean - half), 100 * (mean + half), color=colour, alpha=0.2, linewidth=0)
        left.plot(x, 100 * mean, color=colour, linewidth=1.6, label=name)
    left.set_title(f"Approved of the last {_WINDOW} executions, mean of {len(with_it)} simulated shops", fontsize=10, loc="left")
    left.set_ylabel("approved [%]", fontsize=9)
    left.legend(frameon=False, fontsize=9, loc="upper left")
    run, shop = runs[0], typical(runs[0])
    looks = run.last.looks
    right.hlines(0, 0, run.executions[-1], color="#1f2933", linewidth=0.9)
    for k, (name, effect) in enumerate(EFFECTS.items()):
        path = looks[looks["trial_row"] == shop * len(EFFECTS) + k]
        state = run.states[-1, shop, k]
        right.fill_between(path["n"], 100 * path["low"], 100 * path["high"], color=_COLOURS[name], alpha=0.13, linewidth=0)
        right.plot(path["n"], 100 * path["uplift"], color=_COLOURS[name], linewidth=1.6)
        place = (path["n"].iloc[-1], 100 * path["uplift"].iloc[-1])
        said = f" {name} (true {100 * effect:+.0f}): {_STATES[state]} at {run.decided_at[shop, k]:,}"
        right.annotate(said, place, color=_COLOURS[name], fontsize=8.5, va="bottom", ha="left")
    right.set_ylim(-32, 32)
    right.set_xlim(0, run.executions[-1] * 1.45)
    right.set_xticks(range(0, run.executions[-1] + 1, 1000))
    right.set_title("A typical one: uplift of each pattern, with bounds that hold at every moment", fontsize=10, loc="left")
    right.set_ylabel("approval with it less without [points]", fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("executions", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.savefig(file, metadata={"Software": None})


def main() -> None:
    """Prints what came out; draws the picture where asked; exits with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw the picture of the README")
    given = parser.parse_args()
    failed = False
    for drift, predicted in _WORLDS:
        runs = shops(drift, predicted, given.seeds)
        report(drift, predicted, runs)
        for bar in missed(runs):
            print(f"  MISSED: {bar}")
            failed = True
        if (drift, predicted) == _PICTURED and given.picture is not None:
            draw(runs, given.picture)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
