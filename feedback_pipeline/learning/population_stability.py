"""Whether new outputs still look like those the model was fitted on: the population stability index of each feature.

    PSI = sum over bins (recent - reference) ln(recent / reference)       of the shares of rows in each bin

A numeric feature has ten bins between the reference's deciles (a value that alone holds a twentieth of the reference is a
bin of its own), a category one for each of its nine commonest levels and one for the rest; missing is a bin. Each bin's count
gets half a row, so that an empty one gives no infinite index. Without any change PSI is near (bins - 1)(1 / n + 1 / m): with
fewer than 200 rows on either side the index says nothing. It is a warning, no reason to refit.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints

BINS = 10
MIN_ROWS = 200
WARNING = 0.2
_ATOM = 0.05
_HALF = 0.5


def psi(reference: Floats, recent: Floats) -> float:
    """Population stability index of a numeric feature, NaN or infinite = missing; NaN where a side has no row."""
    if not len(reference) or not len(recent):
        return math.nan
    known = reference[np.isfinite(reference)]
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)) if len(known) else np.empty(0)
    held = np.searchsorted(np.sort(known), edges, side="right") - np.searchsorted(np.sort(known), edges, side="left")
    # The atom itself and what lies below it are cut apart by its neighbour in floating point.
    atoms = edges[held >= _ATOM * len(known)]
    cuts = np.union1d(edges, np.nextafter(atoms, -np.inf))
    return _index(*(_counts(_numeric_bins(side, cuts), len(cuts) + 2) for side in (reference, recent)))


def psi_categories(reference: pd.Series, recent: pd.Series) -> float:
    """Population stability index of a category, None = missing; NaN where a side has no row."""
    if not len(reference) or not len(recent):
        return math.nan
    counted = reference.dropna().astype(str).value_counts()
    # Ties by name: the order of rows decides nothing.
    common = sorted(counted.index, key=lambda level: (-int(counted[level]), level))[: BINS - 1]
    index = pd.Index(common)
    return _index(*(_counts(_category_bins(side, index), len(common) + 2) for side in (reference, recent)))


def stability(reference: pd.DataFrame, recent: pd.DataFrame, numeric: Sequence[str], categories: Sequence[str]) -> pd.DataFrame:
    """Index of each feature: columns feature, psi, n_reference, n_recent, warning, reason; psi is NaN with its reason.

    Args:
        reference: Rows the model was fitted on.
        recent: New rows.
        numeric: Names of the numeric features, columns of both.
        categories: Names of the categories.
    """
    thin = _too_thin(len(reference), len(recent))
    features = [*numeric, *categories]
    reasons = [thin or _without_values(reference[name], recent[name]) for name in features]
    index = [
        math.nan if reason else _of(reference[name], recent[name], place < len(numeric))
        for place, (name, reason) in enumerate(zip(features, reasons, strict=True))
    ]
    frame = pd.DataFrame({"feature": pd.Series(features, dtype=object), "psi": np.array(index, dtype=np.float64)})
    frame["n_reference"], frame["n_recent"] = len(reference), len(recent)
    frame["warning"] = frame["psi"] > WARNING
    frame["reason"] = pd.Series(reasons, dtype=object)
    return frame


def _without_values(reference: pd.Series, recent: pd.Series) -> str | None:
    return None if reference.notna().any() or recent.notna().any() else "no value on either side"


def _of(reference: pd.Series, recent: pd.Series, numeric: bool) -> float:
    if not numeric:
        return psi_categories(reference, recent)
    return psi(*(side.to_numpy(dtype=np.float64, na_value=np.nan) for side in (reference, recent)))


def _too_thin(reference: int, recent: int) -> str | None:
    if reference >= MIN_ROWS and recent >= MIN_ROWS:
        return None
    return f"{reference} rows to compare with and {recent} new ones; the index needs {MIN_ROWS} of each"


def _numeric_bins(values: Floats, cuts: Floats) -> Ints:
    return np.where(np.isfinite(values), np.searchsorted(cuts, values, side="left"), len(cuts) + 1).astype(np.intp)


def _category_bins(values: pd.Series, common: pd.Index) -> Ints:
    missing = values.isna().to_numpy()
    code = common.get_indexer(pd.Index(values.astype(str)))
    return np.where(missing, len(common) + 1, np.where(code < 0, len(common), code)).astype(np.intp)


def _counts(where: Ints, bins: int) -> Floats:
    return np.bincount(where, minlength=bins).astype(np.float64)


def _index(reference: Floats, recent: Floats) -> float:
    used = (reference > 0) | (recent > 0)
    shares = [(side[used] + _HALF) / (side.sum() + _HALF * used.sum()) for side in (reference, recent)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
