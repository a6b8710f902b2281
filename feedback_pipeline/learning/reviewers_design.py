"""The columns of the reviewer model: features of outputs on one scale, curves, levels of categories.

The length has a parabola, of which every reviewer has an own one; the curve of every other feature is a broken line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.features import CATEGORIES
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.reviewers import FIXED

LENGTH: Final = "word_count"
PERSONAL_CATEGORIES: Final = ("tone", "structure")

_SKEWED = 1.0
_FURTHEST = 4.0  # standard deviations; a wild value tells no more than a far one
_REPEATS_LENGTH = 0.9
_MOST_LEVELS = 30
_LEAST_FLOOR = 0.01
_KNOT_SHARES = (1 / 3, 2 / 3)

ColumnKind = Literal["intercept", "slope", "square", "bend", "missing", "level"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        kind: intercept, slope (the standard score z), square (z^2 - 1), bend (z above a knot), missing (1 where the feature is)
            or level (1 where a category has it).
        feature: Feature or category it is made of.
        level: Level of the category.
        knot: Standard score at which the line bends.
    """

    kind: ColumnKind
    feature: str = ""
    level: str = ""
    knot: float = 0.0


@dataclass(frozen=True)
class Scale:
    """How a numeric feature becomes a standard score.

    Attributes:
        feature: Name.
        logarithm: Whether its logarithm is taken first.
        floor: Least value the logarithm is taken of.
        centre: Mean; spread: standard deviation, after the logarithm.
        low: Standard score of the observed 1st percentile; high: of the 99th.
        knots: Standard scores where the curve may bend; none for the length.
        missing: Whether some output lacks it.
    """

    feature: str
    logarithm: bool
    floor: float
    centre: float
    spread: float
    low: float
    high: float
    knots: tuple[float, ...]
    missing: bool

    def standard(self, value: Floats) -> Floats:
        """Standard scores, within 4 of 0; NaN stays NaN."""
        moved = np.log(np.maximum(value, self.floor)) if self.logarithm else value
        return np.clip((moved - self.centre) / self.spread, -_FURTHEST, _FURTHEST)

    def value(self, standard: Floats) -> Floats:
        """The feature's value at a standard score."""
        moved = self.centre + self.spread * standard
        return np.exp(moved) if self.logarithm else moved


@dataclass(frozen=True)
class Encoding:
    """From the outputs of a panel to the columns of the model; the same outputs give the same columns at any time.

    A missing number is imputed by the mean (standard score 0) and marked by a column of its own; a missing or rare level of a
    category is no level: its row has 0 in all of them. Features that hardly vary, and numbers that repeat the length
    (|r| > .9 with it, as the number of sentences does), are left out: the effect of length must not be shared out.

    Attributes:
        scales: Numeric features used.
        columns: The model's columns, in order (P).
    """

    scales: tuple[Scale, ...]
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, outputs: pd.DataFrame, numeric: Sequence[str], categories: Sequence[str] = CATEGORIES) -> "Encoding":
        """Learn scales and levels from outputs.

        Args:
            outputs: One row per output; absent columns are as if always missing.
            numeric: Names of the numeric features that may be used.
            categories: Names of the categories that may be used.
        """
        found = [_scale(outputs, name) for name in numeric if name in outputs]
        scales = _without_repeats([scale for scale in found if scale is not None], outputs)
        columns = [Column("intercept")]
        columns += [Column("slope", scale.feature) for scale in scales]
        columns += [Column("square", scale.feature) for scale in scales if scale.feature == LENGTH]
        columns += [Column("bend", scale.feature, knot=knot) for scale in scales for knot in scale.knots]
        columns += [Column("missing", scale.feature) for scale in scales if scale.missing]
        for name in categories:
            columns += [Column("level", name, level) for level in _levels(outputs, name)]
        return cls(tuple(scales), tuple(columns))

    @property
    def group(self) -> Ints:
        """Prior group of each column (P,): slopes, the square, bends, missing marks, and each category on its own."""
        keys = [(column.kind, column.feature if column.kind == "level" else "") for column in self.columns]
        names = [key for key in dict.fromkeys(keys) if key != ("intercept", "")]
        return np.array([names.index(key) if key in names else FIXED for key in keys], dtype=np.intp)

    @property
    def personal(self) -> Ints:
        """Columns in which reviewers differ: intercept first, slopes, the square of the length, levels of tone and structure."""
        own = [
            i
            for i, column in enumerate(self.columns)
            if column.kind in ("intercept", "slope", "square")
            or (column.kind == "level" and column.feature in PERSONAL_CATEGORIES)
        ]
        return np.array(own, dtype=np.intp)

    @property
    def personal_group(self) -> Ints:
        """Columns in which reviewers differ equally much (Q,): the levels of a category; every other column on its own."""
        own = [self.columns[i] for i in self.personal]
        keys = [(column.kind, column.feature) for column in own]
        return np.array([list(dict.fromkeys(keys)).index(key) for key in keys], dtype=np.intp)

    def scale(self, feature: str) -> Scale | None:
        """The scale of a feature, None where it is not used."""
        return next((scale for scale in self.scales if scale.feature == feature), None)

    def positions(self, kind: ColumnKind, feature: str) -> list[int]:
        """Where the columns of this kind and feature stand."""
        return [i for i, column in enumerate(self.columns) if column.kind == kind and column.feature == feature]

    def encode(self, outputs: pd.DataFrame) -> npt.NDArray[np.float32]:
        """The columns of N outputs (N, P)."""
        encoded = np.zeros((len(outputs), len(self.columns)), dtype=np.float32)
        standard = {scale.feature: scale.standard(_numbers(outputs, scale.feature)) for scale in self.scales}
        for i, column in enumerate(self.columns):
            if column.kind == "intercept":
                encoded[:, i] = 1.0
            elif column.kind == "level" and column.feature in outputs:
                encoded[:, i] = (outputs[column.feature] == column.level).to_numpy(dtype=bool, na_value=False)
            elif column.kind != "level":
                encoded[:, i] = _curve(column, standard[column.feature])
        return encoded


def _curve(column: Column, standard: Floats) -> Floats:
    """What a column makes of a feature's standard scores (N,); a missing one is as good as the mean."""
    absent = np.isnan(standard)
    if column.kind == "missing":
        return absent.astype(np.float64)
    value = standard
    if column.kind == "square":
        value = standard**2 - 1.0
    elif column.kind == "bend":
        value = np.maximum(standard - column.knot, 0.0)
    return np.where(absent, 0.0, value)


def _numbers(outputs: pd.DataFrame, name: str) -> Floats:
    if name not in outputs:
        return np.full(len(outputs), np.nan)
    value = outputs[name].to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    value[np.isinf(value)] = np.nan
    return value


def _scale(outputs: pd.DataFrame, name: str) -> Scale | None:
    value = _numbers(outputs, name)
    known = value[~np.isnan(value)]
    if len(known) < 2 or known.min() == known.max():
        return None
    # Huge values are brought to size before they are squared and cubed.
    shaped = (known - np.median(known)) / max(float(np.abs(known - np.median(known)).max()), 1e-300)
    skew = float(((shaped - shaped.mean()) ** 3).mean() / max(float(shaped.std()) ** 3, 1e-300))
    positive = known[known > 0]
    logarithm = name == LENGTH or (known.min() >= 0 and skew > _SKEWED and len(positive) > len(known) / 2)
    if logarithm and not len(positive):
        return None
    floor = max(_LEAST_FLOOR * float(np.median(positive)), 1e-300) if logarithm else 0.0
    moved = np.log(np.maximum(known, floor)) if logarithm else known
    centre, spread = float(moved.mean()), float(moved.std())
    if not np.isfinite(spread) or spread <= 1e-12 * (1e-300 + abs(centre)):
        return None
    standard = np.clip((moved - centre) / spread, -_FURTHEST, _FURTHEST)
    low, high = np.quantile(standard, [0.01, 0.99])
    knots = () if name == LENGTH else tuple(float(knot) for knot in np.unique(np.quantile(standard, _KNOT_SHARES)))
    return Scale(name, logarithm, floor, centre, spread, float(low), float(high), knots, bool(np.isnan(value).any()))


def _without_repeats(scales: list[Scale], outputs: pd.DataFrame) -> list[Scale]:
    length = next((scale for scale in scales if scale.feature == LENGTH), None)
    if length is None:
        return scales
    of_length = length.standard(_numbers(outputs, LENGTH))
    return [scale for scale in scales if scale is length or not _repeats(scale, outputs, of_length)]


def _repeats(scale: Scale, outputs: pd.DataFrame, of_length: Floats) -> bool:
    standard = scale.standard(_numbers(outputs, scale.feature))
    both = ~np.isnan(standard) & ~np.isnan(of_length)
    if both.sum() < 3 or standard[both].std() == 0 or of_length[both].std() == 0:
        return False
    return bool(abs(np.corrcoef(standard[both], of_length[both])[0, 1]) > _REPEATS_LENGTH)


def _levels(outputs: pd.DataFrame, name: str) -> list[str]:
    """The most frequent levels, by name; none where there is only one."""
    if name not in outputs:
        return []
    counts = outputs[name].dropna().astype(str).value_counts()
    ordered = sorted(counts.index, key=lambda level: (-int(counts[level]), level))
    return sorted(ordered[:_MOST_LEVELS]) if len(ordered) > 1 else []
