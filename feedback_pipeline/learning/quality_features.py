"""Which columns a forecast is made from, and the check that none of them is the verdict itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.features import CATEGORIES, numeric_columns
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

AGENT: Final = "agent_name"
REVIEWER: Final = "reviewer_id"

_TOO_CLOSE: Final = 0.999
_LEAST_ROWS: Final = 20
_SPREAD_ROWS: Final = 2  # rows a level of a category needs on average before its means say anything


@dataclass(frozen=True)
class FeatureList:
    """The features a model may use; agent and reviewer come on top.

    Attributes:
        numeric: Columns of numbers, NaN = missing.
        categories: Columns of short texts, None = missing.
    """

    numeric: tuple[str, ...]
    categories: tuple[str, ...]

    @classmethod
    def of(cls, columns: Iterable[str]) -> "FeatureList":
        """The features among the columns of a feature table: numbers, custom ones last, and categories."""
        present = set(columns) - {REVIEWER}
        numbers = [name for name in numeric_columns(present) if name not in CATEGORIES]
        return cls(tuple(numbers), tuple(name for name in CATEGORIES if name in present))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column a model needs: numbers, categories, agent, reviewer."""
        return (*self.numeric, *self.categories, AGENT, REVIEWER)

    def without(self, names: Iterable[str]) -> "FeatureList":
        """The list without these features."""
        dropped = set(names)
        return FeatureList(
            tuple(name for name in self.numeric if name not in dropped),
            tuple(name for name in self.categories if name not in dropped),
        )

    def select(self, X: pd.DataFrame) -> pd.DataFrame:
        """The columns a model needs, in the list's order, whatever the order of X.

        Raises:
            LearningError: X lacks a column; the message names every one.
        """
        missing = [name for name in self.columns if name not in X]
        if missing:
            raise LearningError(
                f"the quality model needs the column(s) {', '.join(missing)}; "
                "add them, with NaN or None where a value is not known"
            )
        return X[list(self.columns)]


def leaking_features(X: pd.DataFrame, y: Floats, content: Ints | None = None) -> tuple[str, ...]:
    """Features that repeat the score and so can be known only after the review: |r| > .999, by name.

    r is the larger of Pearson's and Spearman's correlation over the rows where both are known; of a category it is the root of
    epsilon squared, 1 - (within-level mean square / total mean square) (Kelley 1935), so that many levels alone explain nothing.
    With `content` the mean score of each content is tried as well: a column of the outputs may hold that.

    Args:
        X: Features, one row per review; agent and reviewer are not looked at.
        y: Scores (M,).
        content: Content of each row (M,).
    """
    targets = [y]
    if content is not None and len(y):
        n = int(content.max()) + 1
        known = np.isfinite(y)
        count = np.bincount(content[known], minlength=n)
        total = group_sums(content[known], y[known], n)
        targets.append(np.divide(total, count, out=np.full(n, np.nan), where=count > 0)[content])
    names = [name for name in X.columns if name not in (AGENT, REVIEWER)]
    return tuple(name for name in names if any(_closeness(X[name], target) > _TOO_CLOSE for target in targets))


def _closeness(column: pd.Series, y: Floats) -> float:
    """How nearly a column gives the score, 0..1; 0 where that cannot be told."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _numeric_closeness(column.to_numpy(dtype=np.float64, na_value=np.nan), y)
    return _category_closeness(column, y)


def _numeric_closeness(value: Floats, y: Floats) -> float:
    both = np.isfinite(value) & np.isfinite(y)
    if both.sum() < _LEAST_ROWS:
        return 0.0
    pair = pd.DataFrame({"value": value[both], "y": y[both]})
    # Brought to size first: the squares of huge values are no numbers.
    pair["value"] /= max(float(pair["value"].abs().max()), 1e-300)
    if pair["value"].nunique() < 2 or pair["y"].nunique() < 2:
        return 0.0
    ranks = pair.rank()
    found = [abs(float(np.corrcoef(each["value"], each["y"])[0, 1])) for each in (pair, ranks)]
    return float(np.nanmax([*found, 0.0]))


def _category_closeness(column: pd.Series, y: Floats) -> float:
    known = column.notna().to_numpy() & np.isfinite(y)
    code, levels = pd.factorize(column[known])
    value = y[known]
    if len(value) < max(_LEAST_ROWS, _SPREAD_ROWS * len(levels)) or len(levels) < 2 or np.ptp(value) == 0:
        return 0.0
    mean = group_sums(code, value, len(levels)) / np.bincount(code, minlength=len(levels))
    within = float(((value - mean[code]) ** 2).sum()) / (len(value) - len(levels))
    total = float(((value - value.mean()) ** 2).sum()) / (len(value) - 1)
    return float(np.sqrt(max(1.0 - within / total, 0.0)))
