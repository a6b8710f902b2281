"""What a forecast rests on: how much worse it gets on later reviews when one column is shuffled.

Permutation importance (Breiman 2001; Fisher, Rudin & Dominici 2019), as scikit-learn's `permutation_importance` with the squared
error, of a model that was fitted on earlier reviews alone:

    d_i = mean over repeats of (y_i - f(x_i with column j of another row))^2 - (y_i - f(x_i))^2,      increase = mean of d_i

Its interval is t with C - 1 degrees of freedom over the C contents, n_c reviews each, with the standard error

    sqrt(C / (C - 1) sum_c (sum_{i in c} d_i - increase n_c)^2) / n.

The spread of the repeats alone would not do: it knows nothing of which reviews happened to come, and more than half of the
columns of pure noise that a model uses would seem to matter. Columns that say the same share what they are worth, so each of
them may look dispensable.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.quality_features import FeatureList
from feedback_pipeline.learning.quality_models_base import QualityModel
from feedback_pipeline.learning.quality_rows import QualityRows
from feedback_pipeline.learning.quality_validation import forward_chain
from feedback_pipeline.learning.subject import name_seeds

REPEATS: Final = 5
MOST_ROWS: Final = 5_000
IMPORTANCE_COLUMNS: Final = ("feature", "increase", "low", "high")
_TAIL: Final = 0.975


def forward_importance(build: Callable[[], QualityModel], rows: QualityRows, seed: int) -> pd.DataFrame:
    """Importance on the latest forward window, of a model fitted on the reviews before it.

    Args:
        build: Makes an unfitted model of `rows.features`.
        rows: Reviews with an overall score.
        seed: Of the shuffles.

    Returns:
        As `permutation_importance`; NaN everywhere where no window has anything before it.
    """
    folds = forward_chain(rows.moment, rows.content)
    if not folds:
        return _sorted(rows.features, np.full((len(rows.features.columns), 3), np.nan))
    earlier, later = folds[-1]
    model = build().fit(rows.X.iloc[earlier], rows.y[earlier], content=rows.content[earlier])
    return permutation_importance(model, rows.X.iloc[later], rows.y[later], rows.content[later], seed)


def permutation_importance(
    model: QualityModel,
    X: pd.DataFrame,
    y: Floats,
    content: Ints,
    seed: int,
    *,
    repeats: int = REPEATS,
    most_rows: int = MOST_ROWS,
) -> pd.DataFrame:
    """How much the mean squared error of a fitted model grows when one column is shuffled.

    A column's shuffles depend on its name, the seed and the rows as a set: not on the order of rows or columns.

    Args:
        model: Fitted, on none of these rows.
        X: Later rows; every column of the model's feature list is shuffled in turn.
        y: Their scores (M,); rows without one are left out.
        content: Content of each row (M,), the unit of the interval.
        seed: Of the shuffles, and of which rows are used where there are more than `most_rows`.
        repeats: Shuffles of each column.
        most_rows: Rows to use at most.

    Returns:
        feature, increase, low, high (points squared, 95 % interval), largest increase first; NaN without rows, and no interval
        with fewer than two contents.
    """
    X, y, content = _sample(model.features.select(X), y, content, seed, most_rows)
    names = model.features.columns
    if not len(y):
        return _sorted(model.features, np.full((len(names), 3), np.nan))
    stacked = X.iloc[np.tile(np.arange(len(y)), repeats)].reset_index(drop=True)
    _, cluster = np.unique(content, return_inverse=True)
    # The same rows at the same places as in the shuffled frames: what a column without influence changes is exactly nothing.
    loss = _losses(model, stacked, y)
    found = []
    for name, own in zip(names, name_seeds(np.array(names, dtype=object)), strict=True):
        places = np.random.default_rng([seed, int(own)]).permuted(np.tile(np.arange(len(y)), (repeats, 1)), axis=1)
        shuffled = stacked.assign(**{name: X[name].array[places.ravel()]})
        found.append(_mean_and_interval((_losses(model, shuffled, y) - loss).mean(axis=0), cluster))
    return _sorted(model.features, np.array(found))


def _sample(X: pd.DataFrame, y: Floats, content: Ints, seed: int, most: int) -> tuple[pd.DataFrame, Floats, Ints]:
    """The rows with a score in an order that is the data's own, a random part of them where there are too many."""
    keys = [content, y, *(_sortable(X[name]) for name in reversed(X.columns))]
    order = np.lexsort(keys)
    order = order[np.isfinite(y[order])]
    if len(order) > most:
        order = order[np.sort(np.random.default_rng([seed, most]).choice(len(order), most, replace=False))]
    return X.iloc[order].reset_index(drop=True), y[order], content[order]


def _sortable(column: pd.Series) -> npt.NDArray[np.float64] | npt.NDArray[np.intp]:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(pd.factorize(column, sort=True)[0], dtype=np.intp)


def _losses(model: QualityModel, stacked: pd.DataFrame, y: Floats) -> Floats:
    """Squared errors of each repeat (repeats, n)."""
    return np.asarray((model.predict(stacked).reshape(-1, len(y)) - y) ** 2, dtype=np.float64)


def _mean_and_interval(increase: Floats, cluster: Ints) -> tuple[float, float, float]:
    n, size = len(increase), np.bincount(cluster)
    contents = len(size)
    mean = float(increase.mean())
    if contents < 2:
        return mean, np.nan, np.nan
    off = group_sums(cluster, increase, contents) - mean * size
    error = float(np.sqrt(contents / (contents - 1.0) * (off @ off))) / n
    margin = float(special.stdtrit(contents - 1.0, _TAIL)) * error
    return mean, mean - margin, mean + margin


def _sorted(features: FeatureList, numbers: Floats) -> pd.DataFrame:
    frame = pd.DataFrame(numbers, columns=list(IMPORTANCE_COLUMNS[1:]))
    frame.insert(0, "feature", pd.Series(features.columns, dtype=object))
    return frame.sort_values(["increase", "feature"], ascending=[False, True], ignore_index=True)
