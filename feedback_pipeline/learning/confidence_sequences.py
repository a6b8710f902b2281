"""Bounds of an effect that hold at every moment at once, so that it may be watched continuously.

The effect is a difference in means between executions that were assigned at random with known probabilities. Each execution gives
one pseudo-outcome (augmented inverse propensity weighting) whose expectation is the effect, whatever the baseline it is compared
with; a good baseline makes it less noisy. The asymptotic confidence sequence around its running mean is that of Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas (2021), tightest at `TIGHTEST_AT` executions.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.trial_states import FIRST_LOOK

ALPHA: Final = 0.05
TIGHTEST_AT: Final = 800
RHO2: Final = (-2.0 * math.log(ALPHA) + math.log(1.0 - 2.0 * math.log(ALPHA))) / TIGHTEST_AT
_NO_EARLIER_OUTCOME: Final = 0.5


@dataclass(frozen=True)
class Sequences:
    """Running estimates, one row per execution in the order of the input.

    Attributes:
        n: Executions of the group so far (N,), from 1.
        effect: Their mean pseudo-outcome (N,).
        low, high: The bounds (N,); NaN before `FIRST_LOOK` executions, and until both kinds of execution have been seen.
    """

    n: Ints
    effect: Floats
    low: Floats
    high: Floats


def half_width(n: Floats, sd: Floats) -> Floats:
    """Half width of the confidence sequence after n observations with this standard deviation, arrays of one shape.

    sqrt(2 (n rho^2 + 1) / (n^2 rho^2) ln(sqrt(n rho^2 + 1) / alpha)) sd
    """
    grown = n * RHO2 + 1.0
    width: Floats = np.sqrt(2.0 * grown / (n * n * RHO2) * np.log(np.sqrt(grown) / ALPHA)) * sd
    return width


def pseudo_outcomes(
    group: Ints, outcome: Floats, applied: npt.NDArray[np.bool_], propensity: Floats, predicted: Floats
) -> Floats:
    """One number per execution whose expectation is the effect: z (outcome - baseline), z = 1/p applied, -1/(1 - p) held out.

    The baseline is what was expected: the prediction frozen before the outcome (CUPED), corrected by the mean by which outcomes
    of earlier executions of the group differed from theirs. Without a prediction it is the running mean of the outcomes of the
    group's earlier executions, .5 where there is none. Either is known before the outcome, which keeps the mean unbiased.

    Args:
        group: Trial of each execution (N,); the rows of a trial in the order in which they were decided.
        outcome: 1 approved, 0 not (N,).
        applied: Whether the pattern was applied (N,).
        propensity: Probability with which it was (N,), between 0 and 1.
        predicted: Expected outcome (N,), NaN = none.
    """
    known = ~np.isnan(predicted)
    off = np.where(known, outcome - predicted, 0.0)
    drift = _mean_before(group, off, known.astype(np.float64), 0.0)
    level = _mean_before(group, outcome, np.ones(len(outcome)), _NO_EARLIER_OUTCOME)
    baseline = np.where(known, np.where(known, predicted, 0.0) + drift, level)
    z = np.where(applied, 1.0 / propensity, -1.0 / (1.0 - propensity))
    return z * (outcome - baseline)


def confidence_sequences(group: Ints, pseudo: Floats, applied: npt.NDArray[np.bool_]) -> Sequences:
    """Bounds of the effect of every group after each of its executions.

    Args:
        group: Trial of each execution (N,), in order within each trial.
        pseudo: Pseudo-outcomes (N,).
        applied: Whether the pattern was applied (N,).
    """
    n = _running(group, np.ones(len(pseudo)))
    effect = _running(group, pseudo) / n
    # Around a first value: a variance out of squares loses its digits where the mean is far from 0.
    first = _first_of_group(group, pseudo)
    shifted = pseudo - first
    spread = _running(group, shifted * shifted) - n * (effect - first) ** 2
    sd = np.sqrt(np.maximum(spread, 0.0) / np.maximum(n - 1.0, 1.0))
    on = _running(group, applied.astype(np.float64))
    half = np.where((n >= FIRST_LOOK) & (on > 0) & (on < n), half_width(n, sd), np.nan)
    return Sequences(n.astype(np.intp), effect, effect - half, effect + half)


def _running(group: Ints, values: Floats) -> Floats:
    """Sum of the values of the group up to and with each row."""
    return _floats(pd.Series(values).groupby(group, sort=False).cumsum())


def _first_of_group(group: Ints, values: Floats) -> Floats:
    return _floats(pd.Series(values).groupby(group, sort=False).transform("first"))


def _floats(column: "pd.Series[float]") -> Floats:
    values: Floats = np.asarray(column, dtype=np.float64)
    return values


def _mean_before(group: Ints, values: Floats, weight: Floats, otherwise: float) -> Floats:
    """Weighted mean of the earlier rows of the group; another value where there is none."""
    count = _running(group, weight) - weight
    total = _running(group, values * weight) - values * weight
    mean: Floats = np.divide(total, count, out=np.full(len(values), otherwise), where=count > 0)
    return mean
