"""How good forecasts were: R2, RMSE, MAE and Spearman, with intervals by resampling whole contents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.subject import name_seeds

DRAWS: Final = 200
_BLOCK: Final = 4_000_000
_LEAST_CONTENTS: Final = 2


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Metrics:
    """Of forecasts against the scores that came.

    Attributes:
        r2: 1 - sum (y - prediction)^2 / sum (y - baseline)^2; undefined where the baseline is never wrong.
        rmse, mae: Points.
        spearman: Rank correlation; undefined where all predictions or all scores are equal.
        n: Reviews; n_contents: contents they are about.
        reason: Why nothing is defined, or None.
    """

    r2: Estimate
    rmse: Estimate
    mae: Estimate
    spearman: Estimate
    n: int
    n_contents: int
    reason: str | None

    def document(self) -> dict[str, float | int | str | None]:
        """Flat: r2, r2_low, r2_high, ... , n, n_contents, reason."""
        flat: dict[str, float | int | str | None] = {}
        for name in METRICS:
            estimate = getattr(self, name)
            flat |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return flat | {"n": self.n, "n_contents": self.n_contents, "reason": self.reason}


METRICS: Final = ("r2", "rmse", "mae", "spearman")
_UNDEFINED: Final = Estimate(np.nan, np.nan, np.nan)
_NOTHING: Final = Metrics(_UNDEFINED, _UNDEFINED, _UNDEFINED, _UNDEFINED, 0, 0, "no forecast has met its review yet")


def metrics(
    y: Floats, prediction: Floats, content: Ints, baseline: Floats, seed: int | Sequence[int], draws: int = DRAWS
) -> Metrics:
    """Compare forecasts with scores; the bootstrap draws contents with replacement (percentile intervals).

    Args:
        y: Scores (M,).
        prediction: Forecasts (M,); rows where one is NaN are left out.
        content: Content of each row (M,), the unit of resampling.
        baseline: What would be said without a model, the mean of the training rows (M,).
        seed: Of the bootstrap.
        draws: Of the bootstrap.
    """
    rows = np.isfinite(prediction) & np.isfinite(y)
    y, prediction, baseline = y[rows], prediction[rows], baseline[rows]
    contents, place = np.unique(content[rows], return_inverse=True)
    if not len(y):
        return _NOTHING
    loss = np.column_stack([(y - prediction) ** 2, (y - baseline) ** 2, np.abs(y - prediction), np.ones(len(y))])
    sums = np.zeros((len(contents), loss.shape[1]))
    np.add.at(sums, place, loss)
    ranks = _Ranks.of(y), _Ranks.of(prediction)
    value = np.append(_from_sums(sums.sum(axis=0)[None]), _spearman(*ranks, np.ones((1, len(y)))), axis=1)[0]
    drawn = _drawn(sums, place, ranks, np.random.default_rng(seed), draws)
    low, high = np.full((2, len(METRICS)), np.nan)
    if len(contents) >= _LEAST_CONTENTS:
        for i in range(len(METRICS)):
            known = drawn[np.isfinite(drawn[:, i]), i]
            if np.isfinite(value[i]) and len(known):
                low[i], high[i] = np.quantile(known, [0.025, 0.975])
    estimates = (Estimate(float(v), float(lo), float(hi)) for v, lo, hi in zip(value, low, high, strict=True))
    return Metrics(**dict(zip(METRICS, estimates, strict=True)), n=len(y), n_contents=len(contents), reason=None)


def metrics_by_agent(y: Floats, prediction: Floats, content: Ints, baseline: Floats, agent: pd.Series, seed: int) -> pd.DataFrame:
    """One row per agent with a forecast: agent_name and the flat metrics; an agent's draws do not depend on the others."""
    rows = np.isfinite(prediction) & np.isfinite(y)
    code, names = pd.factorize(agent.to_numpy(dtype=object)[rows], sort=True)
    order = np.argsort(code, kind="stable")
    parts = np.split(np.flatnonzero(rows)[order], np.cumsum(np.bincount(code, minlength=len(names)))[:-1]) if len(names) else []
    seeds = name_seeds(np.asarray(names, dtype=object))
    documents = [
        {"agent_name": name} | metrics(y[part], prediction[part], content[part], baseline[part], [seed, int(own)]).document()
        for name, part, own in zip(names, parts, seeds, strict=True)
    ]
    return pd.DataFrame(documents, columns=["agent_name", *_NOTHING.document()])


@dataclass(frozen=True)
class _Ranks:
    """Rows in order of a value, with its ties, so that ranks under any weights are a running sum.

    Attributes:
        order: Rows sorted by value (n,); starts: where each tied group begins in it (g,).
        group: Tied group of each row (n,).
    """

    order: Ints
    starts: Ints
    group: Ints

    @classmethod
    def of(cls, value: Floats) -> "_Ranks":
        order = np.argsort(value, kind="stable")
        new = np.diff(value[order], prepend=np.nan) != 0.0
        group = np.empty(len(value), dtype=np.intp)
        group[order] = np.cumsum(new) - 1
        return cls(order, np.flatnonzero(new), group)

    def under(self, weight: Floats) -> Floats:
        """Mean rank of each row when row i is there weight[b, i] times, (B, n) -> (B, n)."""
        size = np.add.reduceat(weight[:, self.order], self.starts, axis=1)
        middle: Floats = np.cumsum(size, axis=1) - (size - 1.0) / 2.0
        return middle[:, self.group]


def _spearman(first: _Ranks, second: _Ranks, weight: Floats) -> Floats:
    """Rank correlation under each row of weights (B, n) -> (B, 1), NaN where one side is constant."""
    middle = (weight.sum(axis=1, keepdims=True) + 1.0) / 2.0
    x, y = first.under(weight) - middle, second.under(weight) - middle
    xy, xx, yy = ((weight * a * b).sum(axis=1) for a, b in ((x, y), (x, x), (y, y)))
    scale = np.sqrt(xx * yy)
    correlation: Floats = np.divide(xy, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return correlation[:, None]


def _from_sums(sums: Floats) -> Floats:
    """R2, RMSE and MAE from sums of squared error, baseline's squared error, absolute error, rows: (B, 4) -> (B, 3)."""
    square, baseline, absolute, rows = sums.T
    unexplained = np.divide(square, baseline, out=np.full(len(square), np.nan), where=baseline > 0)
    return np.column_stack([1.0 - unexplained, np.sqrt(square / rows), absolute / rows])


def _drawn(sums: Floats, place: Ints, ranks: tuple[_Ranks, _Ranks], stream: np.random.Generator, draws: int) -> Floats:
    """The four metrics of each draw of contents (draws, 4)."""
    n = len(sums)
    at_once = max(_BLOCK // max(len(place), 1), 1)
    parts = []
    for first in range(0, draws, at_once):
        size = min(at_once, draws - first)
        picked = stream.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(picked.ravel(), minlength=n * size).reshape(size, n).astype(np.float64)
        parts.append(np.append(_from_sums(times @ sums), _spearman(*ranks, times[:, place]), axis=1))
    return np.concatenate(parts)
