"""A shop whose agents apply what they learned: executions in sequence, with known effects of three patterns.

Many shops at once, one a seed. Everything that does not depend on what is applied (the base rate, how good each output would be,
who would approve it) is drawn once a seed, so that the same shop can be run with learning and without.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.effectiveness import Effects, measure
from feedback_pipeline.learning.holdout import assign, salt_of
from feedback_pipeline.learning.trial_states import ACTIVE, PROBATION, reason, share_applied

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
EFFECTS: Final = {"helps": 0.10, "useless": 0.0, "harms": -0.10}
_BASE: Final = 0.5
_PREDICTOR_SD: Final = 0.22
_SPREAD: Final = _PREDICTOR_SD * 3.0**0.5  # half the width of a uniform distribution with this sd


@dataclass(frozen=True)
class ShopSpec:
    """One kind of shop.

    Attributes:
        seeds: Which shops, one each.
        executions: Of each shop.
        effects: True uplift in approval of each pattern, by name.
        drift: The base rate moves by this much up and down: one wave of random phase, 1 to 3 times over the executions.
        look_every: Executions between two looks at the trials; what they decide holds from then on.
        predicted: Share of the executions with a forecast of their quality.
    """

    seeds: tuple[int, ...]
    executions: int = 4000
    effects: tuple[tuple[str, float], ...] = tuple(EFFECTS.items())
    drift: float = 0.1
    look_every: int = 50
    predicted: float = 1.0


@dataclass(frozen=True)
class ShopRun:
    """What came of S shops with N executions and K patterns.

    Attributes:
        with_learning: Whether each output was approved (S, N), patterns applied as their trials say.
        without: The same outputs with no pattern applied (S, N).
        states: State of each trial after each look (looks, S, K).
        executions: Executions at each look (looks,).
        decided_at: Executions after which the last state was reached (S, K), 0 = none was.
        ever_active: Whether a trial was ever active (S, K).
        last: The last look of all: rows are trials, shop by shop.
    """

    with_learning: Bools
    without: Bools
    states: npt.NDArray[np.object_]
    executions: Ints
    decided_at: Ints
    ever_active: Bools
    last: Effects


@dataclass(frozen=True)
class _Chances:
    """What is drawn once a seed, (S, N) each: quality of the output, base rate, luck of the review, forecast (NaN = none)."""

    quality: Floats
    base: Floats
    luck: Floats
    forecast: Floats

    def approved(self, executions: Ints, uplift: Floats) -> Bools:
        """Whether each of these outputs is approved where the patterns applied are worth that much."""
        chance = self.base[:, executions] + self.quality[:, executions] + uplift
        return self.luck[:, executions] < np.clip(chance, 0.0, 1.0)


def run_shops(spec: ShopSpec) -> ShopRun:
    """Let every shop work through its executions, looking at its trials now and then."""
    chances = _chances(spec)
    shops, length = chances.luck.shape
    effects = np.array([effect for _, effect in spec.effects])
    patterns = len(effects)
    trials = _fresh_trials(shops * patterns)
    log: list[pd.DataFrame] = []
    approved = np.zeros((shops, length), dtype=bool)
    states, looks = [], range(spec.look_every, length + 1, spec.look_every)
    decided_at = np.zeros(len(trials), dtype=np.intp)
    ever_active = np.zeros(len(trials), dtype=bool)
    for end in looks:
        block = np.arange(end - spec.look_every, end)
        share = trials["p_on"].to_numpy(np.float64).reshape(shops, patterns)
        applied = _assigned(spec, block, share)
        approved[:, block] = chances.approved(block, applied @ effects)
        log.append(_logged(applied, share, chances.forecast[:, block], approved[:, block], block))
        found = measure(pd.concat(log, ignore_index=True), trials)
        changed_at = found.effects["changed_at"].to_numpy(np.intp)
        decided_at = np.where(changed_at > 0, changed_at, decided_at)
        trials = found.effects[["state", "p_on", "n", "reason"]]
        ever_active |= (trials["state"] == ACTIVE).to_numpy()
        states.append(trials["state"].to_numpy(object).reshape(shops, patterns))
    return ShopRun(
        with_learning=approved,
        without=chances.approved(np.arange(length), np.zeros((shops, length))),
        states=np.array(states),
        executions=np.array(looks, dtype=np.intp),
        decided_at=decided_at.reshape(shops, patterns),
        ever_active=ever_active.reshape(shops, patterns),
        last=found,
    )


def _chances(spec: ShopSpec) -> _Chances:
    drawn = [_of_seed(spec, seed) for seed in spec.seeds]
    return _Chances(*(np.array(each) for each in zip(*drawn, strict=True)))


def _of_seed(spec: ShopSpec, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    generator, n = np.random.default_rng(seed), spec.executions
    phase, waves = generator.uniform(0, 2 * np.pi), generator.uniform(1, 3)
    base = _BASE + spec.drift * np.sin(phase + 2 * np.pi * waves * np.arange(n) / n)
    quality, luck = generator.uniform(-_SPREAD, _SPREAD, n), generator.uniform(0, 1, n)
    # The forecast knows the output, not the drift.
    forecast = np.where(generator.uniform(0, 1, n) < spec.predicted, _BASE + quality, np.nan)
    return quality, base, luck, forecast


def _fresh_trials(count: int) -> pd.DataFrame:
    fresh = {"state": PROBATION, "p_on": share_applied(PROBATION), "n": 0}
    return pd.DataFrame(fresh | {"reason": reason(PROBATION, 0, np.nan, np.nan, np.nan)}, index=range(count))


def _assigned(spec: ShopSpec, block: Ints, share: Floats) -> Bools:
    """Which patterns each execution of the block applies (S, B, K), as an agent would decide it."""
    applied = np.zeros((len(spec.seeds), len(block), len(spec.effects)), dtype=bool)
    for shop, seed in enumerate(spec.seeds):
        salt = salt_of(f"shop {seed}", 1)
        for k, (name, _) in enumerate(spec.effects):
            if share[shop, k] > 0:
                applied[shop, :, k] = [assign(salt, name, str(execution), share[shop, k]) for execution in block.tolist()]
    return applied


def _logged(applied: Bools, share: Floats, forecast: Floats, approved: Bools, block: Ints) -> pd.DataFrame:
    """The applications of the block as `measure` reads them; nothing is logged of a pattern that is not on trial."""
    shop, place, pattern = np.nonzero(np.broadcast_to(share[:, None, :] > 0, applied.shape))
    return pd.DataFrame(
        {
            "trial_row": shop * share.shape[1] + pattern,
            "execution_id": block[place],
            "applied": applied[shop, place, pattern],
            "propensity": share[shop, pattern],
            "predicted_quality": forecast[shop, place],
            "approved": approved[shop, place].astype(np.float64),
            "decided_at": block[place],
        }
    )
