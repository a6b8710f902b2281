"""Krippendorff's alpha = 1 - observed / expected disagreement, as a function of sums over outputs.

Sums make a bootstrap over outputs one matrix product, and alpha exact where values are too many to be tabulated: adjusted
scores are nearly all different. For the ordinal level the distance of two values is the squared difference of their
mid-ranks among all pairable values, so what has to be summed is the coincidence matrix of the values.

Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011).
"""

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.panel import Floats, Ints, group_sums

# Of the largest deviation, squared: what rounding leaves of values that are all equal.
_LEAST_VARIANCE = 1e-13
# Of the largest value: values that differ by less are equal but for rounding.
_ROUNDING = 1e-9


def interval_sums(values: Floats, output: Ints, n_outputs: int) -> Floats:
    """What interval alpha sums over outputs: values, their sum, their squares, disagreement within the output (n_outputs, 4).

    Args:
        values: Finite values (P,); outputs with a single value add nothing.
        output: Output of each value (P,).
        n_outputs: Length of the result.
    """
    values = _standardised(values)
    count = np.bincount(output, minlength=n_outputs).astype(np.float64)
    total = group_sums(output, values, n_outputs)
    squares = group_sums(output, values**2, n_outputs)
    # From deviations, because count * squares - total ** 2 loses what small disagreements leave.
    deviation = values - (total / np.maximum(count, 1.0))[output]
    within = group_sums(output, deviation**2, n_outputs)
    disagreement = count * within / np.maximum(count - 1.0, 1.0)
    sums: Floats = np.column_stack([count, total, squares, disagreement]) * (count > 1.0)[:, None]
    return sums


def _standardised(values: Floats) -> Floats:
    """Deviations from the mean, the largest 1; all 0 where values differ by nothing but rounding. Alpha does not change."""
    if not len(values):
        return values
    deviation = values - values.mean()
    largest = float(np.abs(deviation).max())
    equal = largest <= _ROUNDING * float(np.abs(values).max())
    return np.zeros(len(values)) if equal else deviation / largest


def interval_alpha(sums: Floats) -> Floats:
    """Alpha at the interval level from summed `interval_sums` (..., 4); NaN where all values are equal."""
    count, total, squares, disagreement = np.moveaxis(sums, -1, 0)
    spread = count * squares - total**2
    return _alpha((count - 1.0) * disagreement, spread, spread > _LEAST_VARIANCE * count**2)


def ordinal_sums(values: Floats, output: Ints, n_outputs: int) -> Floats:
    """Coincidence matrix of the V distinct values within each output, flattened (n_outputs, V * V).

    Args:
        values: Finite values (P,) of a few kinds, their order is what counts; outputs with a single value add nothing.
        output: Output of each value (P,).
        n_outputs: Length of the result.
    """
    domain, code = np.unique(values, return_inverse=True)
    n_values = len(domain)
    counts = np.bincount(output * n_values + code, minlength=n_outputs * n_values).reshape(n_outputs, n_values).astype(np.float64)
    size = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs -= counts[:, :, None] * np.eye(n_values)
    pairs *= np.where(size > 1.0, 1.0 / np.maximum(size - 1.0, 1.0), 0.0)[:, None, None]
    return pairs.reshape(n_outputs, n_values**2)


def ordinal_alpha(sums: Floats) -> Floats:
    """Alpha at the ordinal level from summed `ordinal_sums` (..., V * V); NaN where all values are equal."""
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
