"""Whether reviewers agree at all: Krippendorff's alpha, per aspect and for the decision, before and after severity is removed.

alpha = 1 - observed / expected disagreement. Both are functions of sums over outputs, so a bootstrap over outputs is one
matrix product. For the ordinal level the distance of two values is the squared difference of their mid-ranks among all
pairable values, so what has to be summed is the coincidence matrix of the values.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from feedback_pipeline.learning.adjustment import Adjustment
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.panel import UNKNOWN_REVIEWER, Floats, Ints, Panel

DECISION = "decision"
ORDINAL_CODES = {"reject": 0.0, "request_changes": 1.0, "approve": 2.0}

NO_REVIEWS = "undefined: no reviews"
NO_OVERLAP = "undefined: no output has two reviewers"
ALL_EQUAL = "undefined: all values are equal"
TOO_FEW = "interval undefined: fewer than 10 outputs with different contents have two reviewers"
UNSTABLE = "interval undefined: nearly all values are equal"
DECISIONS_HAVE_NO_SEVERITY = "severity is estimated from scores, not from decisions"

_LEAST_UNITS = 10
_MOST_UNITS = 1000
_LEVEL = 0.95
_DEFINED_SHARE = 0.9
# Of the largest deviation, squared: what rounding leaves of values that are all equal.
_LEAST_VARIANCE = 1e-13
_ROUNDING = 1e-9

_COLUMNS: dict[str, type] = {
    "group": int,
    "aspect": object,
    "alpha": float,
    "ci_low": float,
    "ci_high": float,
    "alpha_adjusted": float,
    "adjusted_ci_low": float,
    "adjusted_ci_high": float,
    "n_outputs": int,
    "n_reviewers": int,
    "reason": object,
    "adjusted_reason": object,
}

Alpha = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Ratings:
    """One value per output and known reviewer: the mean over the reviewer's stages.

    Attributes:
        output: Output code (P,), ascending.
        reviewer: Reviewer code (P,).
        last_review: Row of the pair's last review in the panel (P,).
        values: (P, K), NaN where the reviewer gave none.
    """

    output: Ints
    reviewer: Ints
    last_review: Ints
    values: Floats


def reviewer_ratings(panel: Panel, values: Floats) -> Ratings:
    """Average the values of a panel's reviews (M, K) over the stages of each output and reviewer.

    Reviews of unknown reviewers are left out: nobody knows whether two of them are two people.
    """
    known = np.flatnonzero(panel.review_reviewer != UNKNOWN_REVIEWER)
    moment = panel.reviews["reviewed_at"].astype(np.int64).to_numpy(dtype=np.int64)[known]
    rows = known[np.lexsort((moment, panel.review_reviewer[known], panel.review_output[known]))]
    output, reviewer = panel.review_output[rows], panel.review_reviewer[rows]
    new = np.diff(output, prepend=-1) != 0
    new[1:] |= reviewer[1:] != reviewer[:-1]
    starts = np.flatnonzero(new)
    last = np.append(starts[1:], len(rows)) - 1 if len(rows) else starts
    given = ~np.isnan(values[rows])
    if not len(rows):
        return Ratings(output, reviewer, rows, np.empty((0, values.shape[1])))
    count = np.add.reduceat(given, starts, axis=0, dtype=np.float64)
    total = np.add.reduceat(np.where(given, values[rows], 0.0), starts, axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return Ratings(output[starts], reviewer[starts], rows[last], mean)


def interval_sums(values: Floats, output: Ints, n_outputs: int) -> Floats:
    """What interval alpha sums over outputs: values, their sum, their squares, disagreement within the output (n_outputs, 4).

    Args:
        values: Finite values (P,); outputs with a single value add nothing.
        output: Output of each value (P,).
        n_outputs: Length of the result.
    """
    if len(values):
        values = values - values.mean()
        largest = float(np.abs(values).max())
        values = values / largest if largest > 0.0 else values
    count = np.bincount(output, minlength=n_outputs).astype(np.float64)
    total = np.bincount(output, weights=values, minlength=n_outputs)
    squares = np.bincount(output, weights=values**2, minlength=n_outputs)
    # From deviations, because count * squares - total ** 2 loses what small disagreements leave.
    deviation = values - (total / np.maximum(count, 1.0))[output]
    within = np.bincount(output, weights=deviation**2, minlength=n_outputs)
    disagreement = count * within / np.maximum(count - 1.0, 1.0)
    sums: Floats = np.column_stack([count, total, squares, disagreement]) * (count > 1.0)[:, None]
    return sums


def interval_alpha(sums: Floats) -> Floats:
    """Krippendorff's alpha at the interval level from summed `interval_sums` (..., 4); NaN where all values are equal."""
    count, total, squares, disagreement = np.moveaxis(sums, -1, 0)
    spread = count * squares - total**2
    return _alpha((count - 1.0) * disagreement, spread, spread > _LEAST_VARIANCE * count**2)


def ordinal_sums(values: Floats, output: Ints, n_outputs: int) -> Floats:
    """Coincidence matrix of the V distinct values within each output, flattened (n_outputs, V * V).

    Args:
        values: Finite values (P,), their order is what counts; outputs with a single value add nothing.
        output: Output of each value (P,).
        n_outputs: Length of the result.
    """
    domain, code = np.unique(values, return_inverse=True)
    counts = np.zeros((n_outputs, len(domain)))
    np.add.at(counts, (output, code), 1.0)
    size = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs -= counts[:, :, None] * np.eye(len(domain))
    pairs *= np.where(size > 1.0, 1.0 / np.maximum(size - 1.0, 1.0), 0.0)[:, None, None]
    return pairs.reshape(n_outputs, len(domain) ** 2)


def ordinal_alpha(sums: Floats) -> Floats:
    """Krippendorff's alpha at the ordinal level from summed `ordinal_sums` (..., V * V); NaN where all values are equal."""
    n_values = round(sums.shape[-1] ** 0.5)
    pairs = sums.reshape(*sums.shape[:-1], n_values, n_values)
    count = pairs.sum(axis=-1)
    n = count.sum(axis=-1)
    rank = np.cumsum(count, axis=-1) - count / 2.0 - n[..., None] / 2.0
    squares = (count * rank**2).sum(axis=-1)
    total = (count * rank).sum(axis=-1)
    observed = squares - np.einsum("...c,...ck,...k->...", rank, pairs, rank)
    spread = n * squares - total**2
    return _alpha((n - 1.0) * observed, spread, spread > _LEAST_VARIANCE * n**4)


def _alpha(observed: Floats, expected: Floats, defined: npt.NDArray[np.bool_]) -> Floats:
    ratio: Floats = np.divide(observed, expected, out=np.full(np.shape(expected), np.nan), where=defined)
    return np.asarray(1.0 - ratio)


def agreement(panel: Panel, adjustment: Adjustment, *, seed: int = 0, rounds: int = 1000) -> pd.DataFrame:
    """Krippendorff's alpha of every agent and of all together, per aspect (interval) and for the decision (ordinal).

    Args:
        panel: Deduplicated reviews.
        adjustment: Scores of the same panel before and after severity is removed.
        seed: Of the bootstrap over outputs; outputs of one content are drawn together.
        rounds: Bootstrap samples.

    Returns:
        One row per agent ('*' = all, first) and aspect (`overall` and `decision` last): agent_name, aspect; alpha with ci_low,
        ci_high and alpha_adjusted with adjusted_ci_low, adjusted_ci_high (95 %, percentiles), NaN where undefined; n_outputs
        with two or more reviewers, n_reviewers who gave a value; reason and adjusted_reason for what is undefined, or None.
    """
    decision = panel.reviews["decision"].map(ORDINAL_CODES).to_numpy(dtype=np.float64, na_value=np.nan)
    n_aspects = len(adjustment.aspects)
    ratings = reviewer_ratings(panel, np.column_stack([adjustment.raw, adjustment.adjusted, decision]))
    measured = [(aspect, [k, n_aspects + k]) for k, aspect in enumerate(adjustment.aspects)] + [(DECISION, [2 * n_aspects])]
    bootstrap, overlap = _Bootstrap(seed, rounds), None
    rows: list[dict[str, object]] = []
    # More threads than one would add the same numbers in another order, and wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        for aspect, columns in measured:
            given = ~np.isnan(ratings.values[:, columns[0]])
            if overlap is None or not np.array_equal(given, overlap.given):
                # Aspects that the same reviews score share what overlaps.
                overlap = _Overlap.of(panel, ratings, given, seed)
            rows += _Measure.of(aspect, ratings.values[:, columns], overlap).rows(bootstrap)
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in _COLUMNS.items()})
    frame = frame.sort_values("group", kind="stable", ignore_index=True)
    frame.insert(0, "agent_name", np.append(np.array([FLEET], dtype=object), panel.agents)[frame.pop("group")])
    return frame


@dataclass(frozen=True)
class _Group:
    """The shared outputs of one agent, or of all."""

    outputs: slice  # among the shared outputs
    n_reviewers: int  # who gave a value, to shared outputs or not
    order: Ints  # of the group's outputs by what is resampled
    starts: Ints  # where each of those begins in that order
    n_units: int  # contents

    @classmethod
    def of(cls, outputs: slice, n_reviewers: int, content: Ints, seed: int) -> "_Group":
        unit = np.unique(content[outputs], return_inverse=True)[1]
        n_units = int(unit.max(initial=-1)) + 1
        if n_units > _MOST_UNITS:
            # Sums of random blocks vary like sums of contents, at a cost that does not grow with the data.
            unit = np.random.default_rng((seed, n_units)).permutation(n_units)[unit] % _MOST_UNITS
        order = np.argsort(unit, kind="stable")
        return cls(outputs, n_reviewers, order, np.flatnonzero(np.diff(unit[order], prepend=-1)), n_units)


@dataclass(frozen=True)
class _Overlap:
    """The outputs that two or more people gave a value, and the ratings of those outputs."""

    given: npt.NDArray[np.bool_]  # ratings with a value (P,)
    rating: Ints  # ratings of shared outputs
    output: Ints  # dense code of each such rating's output
    n_outputs: int
    groups: tuple[_Group, ...]  # all agents together, then each

    @classmethod
    def of(cls, panel: Panel, ratings: Ratings, given: npt.NDArray[np.bool_], seed: int) -> "_Overlap":
        output, reviewer = ratings.output[given], ratings.reviewer[given]
        n_agents, n_reviewers, n_outputs = len(panel.agents), max(len(panel.reviewers), 1), len(panel.outputs)
        pairs = np.unique(panel.output_agent[output] * n_reviewers + reviewer)
        seen = [len(np.unique(reviewer)), *np.bincount(pairs // n_reviewers, minlength=n_agents).tolist()]
        shared = np.flatnonzero(np.bincount(output, minlength=n_outputs) > 1)
        place = np.full(n_outputs, -1)
        place[shared] = np.arange(len(shared))
        kept = place[output] >= 0
        content = panel.output_content[shared]
        content = np.where(content >= 0, content, n_outputs + shared)
        bounds = np.searchsorted(panel.output_agent[shared], np.arange(n_agents + 1))
        slices = [slice(0, len(shared)), *(slice(*pair) for pair in itertools.pairwise(bounds.tolist()))]
        groups = tuple(_Group.of(outputs, n, content, seed) for outputs, n in zip(slices, seen, strict=True))
        return cls(given, np.flatnonzero(given)[kept], place[output[kept]], len(shared), groups)


@dataclass(frozen=True)
class _Measure:
    """What one aspect adds up over the outputs that two or more people reviewed."""

    aspect: str
    overlap: _Overlap
    alpha: Alpha
    sums: tuple[Floats, ...]  # raw and, for scores, adjusted: (U, D) each

    @classmethod
    def of(cls, aspect: str, values: Floats, overlap: _Overlap) -> "_Measure":
        # Scores come before and after adjustment, decisions as they are.
        build, alpha = (interval_sums, interval_alpha) if values.shape[1] == 2 else (ordinal_sums, ordinal_alpha)
        columns = _without_rounding(values[overlap.rating]).T
        return cls(aspect, overlap, alpha, tuple(build(column, overlap.output, overlap.n_outputs) for column in columns))

    def rows(self, bootstrap: "_Bootstrap") -> Iterator[dict[str, object]]:
        """A row for all agents, group 0, and one per agent."""
        for place, group in enumerate(self.overlap.groups):
            raw, *adjusted = (bootstrap.estimate(sums[group.outputs], group, self.alpha) for sums in self.sums)
            after = adjusted[0] if adjusted else _Estimate(reason=DECISIONS_HAVE_NO_SEVERITY)
            if adjusted and np.isnan(raw.alpha):
                # Of values that are all equal, removing severity would leave nothing but the severities.
                after = raw
            yield {
                "group": place,
                "aspect": self.aspect,
                "alpha": raw.alpha,
                "ci_low": raw.low,
                "ci_high": raw.high,
                "alpha_adjusted": after.alpha,
                "adjusted_ci_low": after.low,
                "adjusted_ci_high": after.high,
                "n_outputs": len(group.order),
                "n_reviewers": group.n_reviewers,
                "reason": raw.reason,
                "adjusted_reason": after.reason,
            }


@dataclass(frozen=True)
class _Estimate:
    alpha: float = np.nan
    low: float = np.nan
    high: float = np.nan
    reason: str | None = None


def _without_rounding(values: Floats) -> Floats:
    """Columns whose values differ by nothing but rounding become constant: rounding must not look like disagreement."""
    if not len(values):
        return values
    equal = np.ptp(values, axis=0) <= _ROUNDING * np.abs(values).max(axis=0)
    return np.where(equal, values[0], values)


class _Bootstrap:
    """Resamples sums over outputs; groups with equally many units share their draws, so no group depends on another."""

    def __init__(self, seed: int, rounds: int) -> None:
        self._seed, self._rounds = seed, rounds
        self._draws = lru_cache(maxsize=4)(self._draw)

    def estimate(self, sums: Floats, group: _Group, alpha: Alpha) -> _Estimate:
        """Alpha of a group's summed outputs with its percentile interval, or the reason why not."""
        if not len(sums):
            return _Estimate(reason=NO_OVERLAP if group.n_reviewers else NO_REVIEWS)
        value = float(alpha(sums.sum(axis=0)))
        if np.isnan(value):
            return _Estimate(reason=ALL_EQUAL)
        if group.n_units < _LEAST_UNITS:
            return _Estimate(value, reason=TOO_FEW)
        blocks = np.add.reduceat(sums[group.order], group.starts, axis=0)
        found = alpha(self._draws(len(blocks)) @ blocks)
        found = found[~np.isnan(found)]
        if len(found) < _DEFINED_SHARE * self._rounds:
            return _Estimate(value, reason=UNSTABLE)
        low, high = np.quantile(found, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        return _Estimate(value, float(low), float(high))

    def _draw(self, n_units: int) -> Floats:
        rng = np.random.default_rng((self._seed, n_units, self._rounds))
        drawn = rng.integers(0, n_units, (self._rounds, n_units)) + np.arange(self._rounds)[:, None] * n_units
        return np.bincount(drawn.ravel(), minlength=self._rounds * n_units).reshape(self._rounds, n_units).astype(np.float64)
