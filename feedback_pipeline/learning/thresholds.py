"""From which value of a feature on outputs are approved more often: the best cut, whether it is real, and what it is worth.

A feature is put into at most 32 quantile bins, and everything is computed from the counts by stratum (outputs judged by the same
reviewers), outcome and bin. The test is one of the largest likelihood ratio over all cuts, so looking for the cut costs nothing
in honesty; the lift comes from cuts that were found without the outputs it is measured on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import isotonic_regression

from feedback_pipeline.learning.effects import CONFOUNDED, CONSTANT, INSUFFICIENT_DATA, MIN_CLASS, MIN_OUTPUTS, ONE_CLASS
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.pooling import q_values
from feedback_pipeline.learning.threshold_lift import FOLDS, cross_fitted, folds, widened
from feedback_pipeline.learning.threshold_scan import Binned, allowed, margins, quantile_bins, scan
from feedback_pipeline.learning.threshold_tests import bootstrapped, p_values

MIN_PUBLISHED: Final = 100
MAX_Q: Final = 0.10
MIN_STABILITY: Final = 0.6
_BATCH = 128  # features


@dataclass(frozen=True)
class Thresholds:
    """The best cut of each group and feature (G, J); NaN where it is undefined.

    Attributes:
        cut: Value that separates the sides; cut_low, cut_high: 95 % bootstrap interval widened to the edges of the bins (NaN
            where p > .10).
        direction: +1 where values above the cut are approved more often, -1 where those below are, 0 where undefined.
        g2: Likelihood-ratio statistic of the cut; p_value: of its maximum over all cuts; q_value: Benjamini-Hochberg in a group.
        lift: Cross-fitted approval share of the good side less the bad side's; lift_se; lift_low, lift_high: 95 % interval,
            Newcombe's, no narrower than the test allows (`widened`).
        good_rate, bad_rate: The two shares; n_good, n_bad: outputs on each side.
        accuracy: Cross-fitted share of outputs on the right side: approved on the good one, not approved on the bad one.
        approval: Share of approved outputs.
        stability: Share of bootstrap cuts within 2 bins of the cut (NaN where p > .10).
        n: Outputs used.
        reason: Why there is no published cut, or None.
    """

    cut: Floats
    cut_low: Floats
    cut_high: Floats
    direction: Floats
    g2: Floats
    p_value: Floats
    q_value: Floats
    lift: Floats
    lift_se: Floats
    lift_low: Floats
    lift_high: Floats
    good_rate: Floats
    bad_rate: Floats
    n_good: Floats
    n_bad: Floats
    accuracy: Floats
    approval: Floats
    stability: Floats
    n: Floats
    reason: npt.NDArray[np.object_]


def find_thresholds(
    features: Floats,
    approved: Floats,
    group: Ints,
    names: Ints,
    *,
    seed: int,
    stratum: Ints | None = None,
    content: Ints | None = None,
) -> Thresholds:
    """Find and test the best cut of every feature in every group.

    A cut is published with q <= .10, n >= 100, the lift's interval above 0 and at least 60 % of bootstrap cuts within 2 bins.

    Args:
        features: Values (N, J); what is not finite is missing.
        approved: 1, 0, or NaN without a decision (N,).
        group: Group of each output (N,), 0..G - 1.
        names: A stable number of each group (G,), part of the seed: results do not depend on which other groups there are.
        seed: Seed of all resampling.
        stratum: Code of each output (N,), told apart within groups. None = one stratum.
        content: Code of each output's content (N,): outputs of one content share a fold. None = each its own.
    """
    shape = (len(names), features.shape[1])
    found = {f.name: np.full(shape, np.nan) for f in fields(Thresholds) if f.name != "reason"}
    found["direction"][:] = found["n"][:] = 0.0
    reason = np.full(shape, None, dtype=object)
    stratum = np.zeros_like(group) if stratum is None else stratum
    content = np.arange(len(group)) if content is None else content
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(names) + 1))
    batch: list[_Member] = []
    for g, name in enumerate(names):
        rows = order[bounds[g] : bounds[g + 1]]
        own = features[rows], approved[rows], stratum[rows], content[rows]
        for columns, n, why, binned in _members(*own, (seed, int(name))):
            found["n"][g, columns], reason[g, columns] = n, why
            if binned is not None:
                batch.append(_Member(binned, g, columns[pd.isna(why)], (seed, int(name), n)))
        if sum(len(member.columns) for member in batch) >= _BATCH or g == len(names) - 1:
            _fill(found, batch)
            batch = []
    return why_unpublished(Thresholds(**found, reason=reason), q_values(found["p_value"]))


def why_unpublished(found: Thresholds, q_value: Floats) -> Thresholds:
    """The cuts with these q-values (G, J) and why each is not published: it is undefined, else the first rule it fails."""
    reason = found.reason.copy()
    reason[~np.isnan(found.p_value)] = None
    for why, fails in (
        (f"fewer than {MIN_PUBLISHED} outputs", found.n < MIN_PUBLISHED),
        (f"could be chance: q above {MAX_Q:.2f}", ~(q_value <= MAX_Q)),
        ("lift not above 0 on outputs the cut was not chosen from", ~(found.lift_low > 0)),
        ("the cut moves from sample to sample", ~(found.stability >= MIN_STABILITY)),
    ):
        reason[pd.isna(reason) & fails] = why
    return replace(found, q_value=q_value, reason=reason)


def approval_curve(feature: Floats, approved: Floats, direction: int) -> tuple[Floats, Floats, Floats, Ints]:
    """Approval over the quantile bins: bin means, monotone shares, observed shares, outputs; direction +1 rises.

    Args:
        feature: Values (N,), finite.
        approved: 1 or 0 (N,).
        direction: +1 or -1.
    """
    bins = quantile_bins(feature)
    n = np.bincount(bins)
    if not len(n):
        return np.empty(0), np.empty(0), np.empty(0), n
    observed = np.asarray(np.bincount(bins, approved) / n, dtype=np.float64)
    fit = isotonic_regression(observed, weights=n, increasing=direction > 0)
    # Means of shares of the values: their sum may overflow.
    mean = np.asarray(np.bincount(bins, feature / n[bins]), dtype=np.float64)
    return mean, np.asarray(fit.x, dtype=np.float64), observed, n


@dataclass(frozen=True)
class _Member:
    """Testable features of one group that have the same outputs; `columns` says which, `group` whose."""

    binned: Binned
    group: int
    columns: Ints
    seed: tuple[int, ...]


def _members(
    features: Floats, approved: Floats, stratum: Ints, content: Ints, seed: tuple[int, ...]
) -> Iterator[tuple[Ints, int, npt.NDArray[np.object_], Binned | None]]:
    """Columns of one group that have the same outputs, how many, why a column cannot be tested, and those that can."""
    fold = folds(content, FOLDS, seed)
    for columns, known in _alike(np.isfinite(features) & np.isfinite(approved)[:, None]):
        y = approved[known].astype(np.intp)
        binned, why = _binned(features[np.ix_(known, columns)].T, y, stratum[known], fold[known])
        yield columns, len(y), why, binned


def _alike(present: npt.NDArray[np.bool_]) -> Iterator[tuple[Ints, npt.NDArray[np.bool_]]]:
    """Columns that have the same present rows, and those rows."""
    if present.all():
        if present.shape[1]:
            yield np.arange(present.shape[1]), np.ones(len(present), dtype=bool)
        return
    alike: dict[bytes, list[int]] = {}
    for column in range(present.shape[1]):
        alike.setdefault(present[:, column].tobytes(), []).append(column)
    for columns in alike.values():
        yield np.array(columns), present[:, columns[0]]


def _binned(x: Floats, y: Ints, stratum: Ints, fold: Ints) -> tuple[Binned | None, npt.NDArray[np.object_]]:
    """The testable ones of features (J, n) with the same outputs, and why the others are not (J,)."""
    if len(y) < MIN_OUTPUTS or min(y.sum(), len(y) - y.sum()) < MIN_CLASS:
        why = INSUFFICIENT_DATA if len(y) < MIN_OUTPUTS else ONE_CLASS
        return None, np.full(len(x), why, dtype=object)
    # Strata that all approve or all reject say nothing about a feature within them.
    _, own = np.unique(stratum, return_inverse=True)
    wins, size = np.bincount(own, y), np.bincount(own)
    mixed = ((wins > 0) & (wins < size))[own]
    if not mixed.any():
        return None, np.full(len(x), CONFOUNDED, dtype=object)
    binned = Binned.of(x[:, mixed], y[mixed], own[mixed], fold[mixed])
    usable = np.asarray(allowed(binned.per_bin()).any(axis=1))
    reason = np.full(len(x), None, dtype=object)
    reason[~usable] = CONSTANT
    return (binned.select(usable) if usable.any() else None), reason


def _fill(found: dict[str, Floats], batch: Sequence[_Member]) -> None:
    """Write the cuts of all members of a batch to their places."""
    if not batch:
        return
    sizes = [len(member.columns) for member in batch]
    at = np.repeat([member.group for member in batch], sizes), np.concatenate([member.columns for member in batch])
    for name, values in _tested([member.binned for member in batch], [member.seed for member in batch]).items():
        found[name][at] = values


def _tested(batch: Sequence[Binned], seeds: Sequence[tuple[int, ...]]) -> dict[str, Floats]:
    n, total, wins = margins(batch)
    rows = np.arange(len(n))
    g2, sign = scan(n, wins, np.concatenate([binned.per_bin(binned.residual) for binned in batch]))
    best = np.argmax(g2, axis=1)
    p_value = p_values(batch, g2[rows, best], seeds)
    edges = np.concatenate([binned.edges for binned in batch])
    result = {"cut": edges[rows, best + 1], "direction": sign[rows, best], "g2": g2[rows, best], "p_value": p_value}
    result |= widened(cross_fitted(batch), p_value) | {"approval": wins / total[:, 0], "n": total[:, 0]}
    clear = p_value <= MAX_Q
    if clear.any():
        parts = np.split(clear, np.cumsum([len(binned.bins) for binned in batch])[:-1])
        kept = [(binned.select(part), (*seed, 1)) for binned, part, seed in zip(batch, parts, seeds, strict=True) if part.any()]
        for name, values in bootstrapped([one for one, _ in kept], best[clear], [seed for _, seed in kept]).items():
            result[name] = np.full(len(n), np.nan)
            result[name][clear] = values
    return result
