"""Forward validation: what would have been forecast before each review was given."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.quality_features import REVIEWER
from feedback_pipeline.learning.quality_models_base import QualityModel, content_folds

Fold = tuple[Ints, Ints]
Build = Callable[[], QualityModel]

_INITIAL: Final = 0.5


def forward_chain(moment: npt.NDArray[np.int64], content: Ints, n_windows: int = 4) -> list[Fold]:
    """Windows of about equal numbers of reviews after the first half, each with everything before it to learn from.

    A content that is reviewed in a window or later is not learned from; reviews of the same moment stay together. A window with
    nothing before it is left out, so there may be fewer.

    Args:
        moment: When each review was given (M,).
        content: Content of each review (M,).
        n_windows: Windows.

    Returns:
        (training rows, test rows) of each window, ascending row numbers.
    """
    ordered = np.sort(moment)
    n = len(ordered)
    cuts = np.rint(n * (_INITIAL + (1.0 - _INITIAL) * np.arange(n_windows) / n_windows)).astype(np.intp)
    starts = np.unique(ordered[cuts[cuts < n]])
    if not len(starts):
        return []
    contents, place = np.unique(content, return_inverse=True)
    last = np.full(len(contents), np.iinfo(np.int64).min)
    np.maximum.at(last, place, moment)
    folds = []
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        test = np.flatnonzero((moment >= start) & (True if end is None else moment < end))
        train = np.flatnonzero(last[place] < start)
        if len(train):
            folds.append((train, test))
    return folds


def grouped_folds(content: Ints, n_folds: int, seed: int) -> list[Fold]:
    """Whole contents in or out, at random: for data whose order in time means nothing."""
    fold = content_folds(content, n_folds, seed)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]


def forward_predictions(build: Build, X: pd.DataFrame, y: Floats, content: Ints, folds: list[Fold]) -> Floats:
    """Prediction of each row by a model fitted on the training rows of its fold (M,), NaN where no fold tests it."""
    return forward_forecasts(build, X, y, content, folds)[0]


def forward_forecasts(build: Build, X: pd.DataFrame, y: Floats, content: Ints, folds: list[Fold]) -> tuple[Floats, Floats]:
    """Forecast each row by a model fitted on the training rows of its fold, knowing the reviewer and not knowing them.

    Returns:
        For the reviewer, and for the average reviewer, (M,) each; NaN where no fold tests the row.

    Args:
        build: Makes an unfitted model.
        X: Features, one row per review.
        y: Scores (M,).
        content: Content of each row (M,).
        folds: From `forward_chain` or `grouped_folds`.
    """
    prediction, consensus = np.full(len(y), np.nan), np.full(len(y), np.nan)
    nobody = X.assign(**{REVIEWER: pd.Series([None] * len(X), index=X.index, dtype=object)})
    for train, test in folds:
        model = build().fit(X.iloc[train], y[train], content=content[train])
        prediction[test] = model.predict(X.iloc[test])
        consensus[test] = model.predict(nobody.iloc[test])
    return prediction, consensus


def forward_baseline(y: Floats, folds: list[Fold]) -> Floats:
    """Mean score of the training rows of each row's fold (M,), NaN where no fold tests it."""
    baseline = np.full(len(y), np.nan)
    for train, test in folds:
        baseline[test] = y[train].mean()
    return baseline


def least_loss(builds: Mapping[str, Build], X: pd.DataFrame, y: Floats, content: Ints, folds: list[Fold]) -> str:
    """Name of the candidate with the least mean squared error on the folds; ties go to the earlier one.

    Raises:
        ValueError: there is no candidate.
    """
    loss = {name: _squared(forward_predictions(build, X, y, content, folds) - y) for name, build in builds.items()}
    return min(loss, key=loss.__getitem__)


def _squared(error: Floats) -> float:
    return float(np.nanmean(error**2))
