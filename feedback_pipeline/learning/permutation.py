"""Exact-null p-values for correlations of heavily tied ranks, where t is not trusted."""

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.panel import Floats, Ints

_ROUNDS = 999
_MAX_CELLS = 4_000_000


def permutation_p_values(
    x: Floats,
    y: Floats,
    present: npt.NDArray[np.bool_],
    starts: Ints,
    wanted: npt.NDArray[np.bool_],
    keys: Ints,
    *,
    seed: tuple[int, ...],
) -> Floats:
    """Two-sided permutation p of sum(x y), (count at least as extreme + 1) / (rounds + 1), for the wanted (group, column) pairs.

    Args:
        x: Centred ranks of the features (J, N), 0 where absent; groups are contiguous.
        y: Centred ranks of the score among the rows of each pair (J, N), or (1, N) where all share them.
        present: Rows that count in each pair (J, N).
        starts: First row of each group (G,).
        wanted: Pairs to compute (J, G).
        keys: A stable number for each group (G,), part of the seed.
        seed: Further parts of the seed.

    Returns:
        p-values in the order of np.nonzero(wanted).
    """
    ends = np.append(starts[1:], x.shape[1])
    y = np.broadcast_to(y, x.shape)
    p_values = np.full(wanted.shape, np.nan)
    # One pass per agent that has tied columns: its permutations are shared by the columns with the same present rows.
    for g in np.flatnonzero(wanted.any(axis=0)):
        rows = slice(int(starts[g]), int(ends[g]))
        columns = np.flatnonzero(wanted[:, g])
        p_values[columns, g] = _group_p_values(
            x[columns, rows].T, y[columns, rows].T, present[columns, rows].T, (*seed, int(keys[g]))
        )
    return p_values[wanted]


def _group_p_values(x: Floats, y: Floats, present: npt.NDArray[np.bool_], seed: tuple[int, ...]) -> Floats:
    result = np.empty(x.shape[1])
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        rows, columns = patterns[:, pattern], np.flatnonzero(which.ravel() == pattern)
        rng = np.random.default_rng((*seed, int(rows.sum())))
        result[columns] = _shared_p_values(x[np.ix_(rows, columns)], y[rows][:, columns[0]], rng)
    return result


def _shared_p_values(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """Test every column of x (n, c) against one y (n,): columns with the same rows have the same y ranks."""
    observed = np.abs(y @ x)
    tolerance = 1e-9 * np.sqrt((x * x).sum(axis=0) * (y @ y))
    extreme = np.zeros(x.shape[1])
    batch = max(min(_MAX_CELLS // len(y), _ROUNDS), 1)
    for done in range(0, _ROUNDS, batch):
        shuffled = rng.permuted(np.broadcast_to(y, (min(batch, _ROUNDS - done), len(y))), axis=1)
        extreme += (np.abs(shuffled @ x) >= observed - tolerance).sum(axis=0)
    p: Floats = (extreme + 1.0) / (_ROUNDS + 1.0)
    return p
