"""Honest error bars of forecasts: split conformal intervals that follow the errors of the latest reviews.

The residuals of past forecasts (review less forecast, each forecast made before its review) are walked in order of time, in
blocks. Before each block

    centre  m = median of the latest residuals
    width   q = the ceil((n + 1)(1 - alpha))-th smallest of the latest |residual - m|, each with the m of its own time

and the next reviews are expected within forecast + m -+ q: absolute-residual split conformal (Lei et al. 2018), recentred. After
the block the level adapts, alpha += .1 (target - share missed) (adaptive conformal inference, Gibbs & Candes 2021), so the
share of reviews inside stays near 1 - target while scores drift. Residuals of rows the model was fitted on are too small:
with them nothing here holds.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.panel import Floats, Ints

TARGET = 0.1
"""Share of reviews that may lie outside."""
MIN_ROWS = 50
WINDOW = 300
"""Residuals the centre and the width rest on; whole blocks, so a few more."""
BLOCK = 25
"""Residuals after which the level adapts; reviews of one moment stay together."""
RATE = 0.1
LEAST_ALPHA, MOST_ALPHA = 0.02, 0.5
"""Where the adapted level stays: with 50 rows, .02 is the least that still has a finite interval."""

Moments = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Conformal:
    """What is needed for the interval of a new forecast.

    Attributes:
        centre: Points by which reviews lie above their forecasts of late; NaN where there is no interval.
        width: Half the width of the interval, points; NaN where there is none.
        alpha: The level the width was read at, after adapting.
        target: Share of reviews that may lie outside.
        n: Past forecasts with a review.
        reason: Why there is no interval, or None.
    """

    centre: float
    width: float
    alpha: float
    target: float
    n: int
    reason: str | None

    @classmethod
    def of(cls, residual: Floats, moment: Moments, alpha: float = TARGET) -> "Conformal":
        """Learn from past residuals.

        Args:
            residual: Review less the forecast made before it (M,), NaN where there was none.
            moment: When the review was given (M,), any unit; the order of the rows does not matter.
            alpha: Share of reviews that may lie outside.
        """
        known = np.isfinite(residual)
        n = int(known.sum())
        if n < MIN_ROWS:
            reason = f"{n} reviews of earlier forecasts; an interval needs {MIN_ROWS}"
            return cls(math.nan, math.nan, alpha, alpha, n, reason)
        walk = _walk(*_blocks(residual[known], moment[known]), alpha)
        return cls(walk.next_centre, walk.next_width, walk.next_alpha, alpha, n, None)

    def expected(self, prediction: Floats, bounds: tuple[float, float]) -> Floats:
        """The middle of each interval before it is clipped, itself clipped: the forecast, recentred (M,)."""
        return np.asarray(np.clip(prediction + self.centre, *bounds), dtype=np.float64)

    def interval(self, prediction: Floats, bounds: tuple[float, float]) -> tuple[Floats, Floats]:
        """Where the reviews of new forecasts (M,) will lie, clipped to the scale; NaN where there is no interval."""
        middle = prediction + self.centre
        return np.clip(middle - self.width, *bounds), np.clip(middle + self.width, *bounds)


@dataclass(frozen=True)
class ForwardIntervals:
    """The interval each past forecast had when its review came (M,); NaN before there were enough residuals.

    Attributes:
        centre: Points above the forecast where the interval's middle lay.
        width: Half its width.
    """

    centre: Floats
    width: Floats

    def inside(self, residual: Floats) -> Floats:
        """1 where the review lay inside, 0 outside, NaN without interval or residual (M,)."""
        distance = np.abs(residual - self.centre)
        return np.where(np.isnan(distance) | np.isnan(self.width), np.nan, (distance <= self.width).astype(np.float64))


def forward_intervals(residual: Floats, moment: Moments, alpha: float = TARGET) -> ForwardIntervals:
    """Replay the past: the interval of each residual from those before it; arguments as for `Conformal.of`."""
    known = np.flatnonzero(np.isfinite(residual))
    centre, width = np.full(len(residual), np.nan), np.full(len(residual), np.nan)
    if len(known):
        order = np.lexsort((residual[known], moment[known]))
        ordered, starts = _blocks(residual[known], moment[known])
        walk = _walk(ordered, starts, alpha)
        sizes = np.diff(starts, append=len(ordered))
        centre[known[order]], width[known[order]] = np.repeat(walk.centre, sizes), np.repeat(walk.width, sizes)
    return ForwardIntervals(centre, width)


@dataclass(frozen=True)
class Coverage:
    """Share of reviews inside their interval.

    Attributes:
        overall: Of all rows; NaN without any.
        quartiles: By quartile of the forecast, lowest first (4,); NaN where a quartile is empty.
        n: Rows with an interval.
        n_quartiles: Those of each quartile (4,).
    """

    overall: float
    quartiles: Floats
    n: int
    n_quartiles: Ints


def coverage(inside: Floats, prediction: Floats) -> Coverage:
    """Coverage of `inside` (M,; 1, 0, NaN = not counted) overall and by quartile of `prediction` (M,)."""
    rows = np.isfinite(inside) & np.isfinite(prediction)
    value, by = inside[rows], prediction[rows]
    if not len(value):
        return Coverage(math.nan, np.full(4, np.nan), 0, np.zeros(4, dtype=np.intp))
    quartile = np.searchsorted(np.quantile(by, [0.25, 0.5, 0.75]), by, side="left")
    n = np.bincount(quartile, minlength=4)
    hits = np.bincount(quartile, weights=value, minlength=4)
    shares = np.divide(hits, n, out=np.full(4, np.nan), where=n > 0)
    return Coverage(float(value.mean()), shares, len(value), n)


def split_width(distance: Floats, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest of n absolute residuals; infinite where n is too small for alpha."""
    n = len(distance)
    # Rounding must not turn 51 x .98 = 49.98 or 100 x .9 = 90.00000000000001 into the next rank.
    rank = math.ceil((n + 1) * (1.0 - alpha) - 1e-9)
    if rank > n:
        return math.inf
    place = max(rank, 1) - 1
    return float(np.partition(distance, place)[place])


@dataclass(frozen=True)
class _Walk:
    """Centre and width of each block (B,), and those of the reviews to come."""

    centre: Floats
    width: Floats
    next_centre: float
    next_width: float
    next_alpha: float


def _blocks(residual: Floats, moment: Moments) -> tuple[Floats, Ints]:
    """Residuals in order of time and the first row of each block; what happened in one moment is one block's."""
    order = np.lexsort((residual, moment))
    ordered = moment[order]
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    start_of_moment = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    _, starts = np.unique(start_of_moment // BLOCK, return_index=True)
    return residual[order], starts.astype(np.intp)


def _walk(residual: Floats, starts: Ints, target: float) -> _Walk:
    """Walk the blocks; `residual` (n,) in order of time, at least one."""
    ends = np.append(starts[1:], len(residual))
    distance = np.empty(len(residual))
    centre, width = np.full(len(starts), np.nan), np.full(len(starts), np.nan)
    alpha = target
    for block, (begin, end) in enumerate(zip(starts, ends, strict=True)):
        own = residual[begin:end]
        since = _window_start(starts, begin)
        if begin == 0:
            distance[:end] = np.abs(own - np.median(own))  # nothing came before: its own median
            continue
        middle = float(np.median(residual[since:begin]))
        distance[begin:end] = np.abs(own - middle)
        if begin >= MIN_ROWS:
            centre[block], width[block] = middle, split_width(distance[since:begin], alpha)
            missed = float(np.mean(distance[begin:end] > width[block]))
            step = RATE * min(len(own) / BLOCK, 1.0)
            alpha = min(max(alpha + step * (target - missed), LEAST_ALPHA), MOST_ALPHA)
    since = _window_start(starts, len(residual))
    return _Walk(centre, width, float(np.median(residual[since:])), split_width(distance[since:], alpha), alpha)


def _window_start(starts: Ints, end: int) -> int:
    """First row of the shortest run of whole blocks before `end` with at least WINDOW rows; 0 where there are fewer."""
    return int(starts[max(int(np.searchsorted(starts, end - WINDOW, side="right")) - 1, 0)])
