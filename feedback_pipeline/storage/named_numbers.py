"""Lists of names and numbers that travel as two texts a row: scores by aspect, custom features by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feedback_pipeline.learning.features import LARGEST_NUMBER, is_aspect_name, is_custom_feature_name
from feedback_pipeline.storage.extraction_sql import SEPARATOR
from feedback_pipeline.storage.ledger import Reason
from feedback_pipeline.storage.refusals import Refusals

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NamedNumbers:
    """Numbers with names, in long form.

    Attributes:
        row: Row of each entry (E,), ascending.
        code: Position of its name in `names` (E,).
        value: The number (E,), NaN or infinite where there is none.
        names: Distinct names.
    """

    row: npt.NDArray[np.int64]
    code: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    names: list[str]

    def keep(self, mask: Flags) -> "NamedNumbers":
        """Return the entries of a mask (E,)."""
        return NamedNumbers(self.row[mask], self.code[mask], self.value[mask], self.names)

    def labels(self) -> pa.Array:
        """Name of each entry (E,)."""
        return pa.array(self.names, pa.string()).take(pa.array(self.code))

    def lists(self, size: int) -> tuple[pa.ListArray, pa.ListArray]:
        """Return names and numbers as parallel lists, one pair of lists for each of `size` rows."""
        offsets = pa.array(np.concatenate([[0], np.cumsum(np.bincount(self.row, minlength=size))]), pa.int32())
        return pa.ListArray.from_arrays(offsets, self.labels()), pa.ListArray.from_arrays(offsets, pa.array(self.value))


def split_named_numbers(names: pa.ChunkedArray, values: pa.ChunkedArray) -> NamedNumbers:
    """Split two text columns with as many separators in each row."""
    parts = [pc.split_pattern(column.combine_chunks(), SEPARATOR) for column in (names, values)]
    lengths = pc.fill_null(pc.list_value_length(parts[0]), 0).to_numpy()
    encoded = pc.dictionary_encode(parts[0].flatten())
    return NamedNumbers(
        row=np.repeat(np.arange(len(lengths)), lengths),
        code=encoded.indices.to_numpy().astype(np.int64),
        value=pc.cast(parts[1].flatten(), pa.float64()).to_numpy(zero_copy_only=False),
        names=encoded.dictionary.to_pylist(),
    )


def usable_scores(
    scores: NamedNumbers, ids: pa.Array, bounds: Mapping[str, tuple[float, float]], refusals: Refusals
) -> NamedNumbers:
    """Keep the scores with a usable aspect name that are numbers within the bounds of their aspect; the others are refused."""
    named = _named(scores, ids, is_aspect_name, "review_feedback", refusals)
    numbers = _kept(named, ~np.isnan(named.value), ids, "review_feedback", Reason.NOT_A_NUMBER, refusals)
    limits = np.array([bounds.get(name, bounds["*"]) for name in numbers.names], dtype=float).reshape(-1, 2)[numbers.code]
    inside = (numbers.value >= limits[:, 0]) & (numbers.value <= limits[:, 1])
    return _kept(numbers, inside, ids, "review_feedback", Reason.SCORE_OUT_OF_BOUNDS, refusals)


def usable_custom_features(features: NamedNumbers, ids: pa.Array, refusals: Refusals) -> NamedNumbers:
    """Keep the custom features with a usable name and a number that is not too large; the others are refused."""
    named = _named(features, ids, is_custom_feature_name, "agent_performance", refusals)
    usable = np.abs(named.value) <= LARGEST_NUMBER
    return _kept(named, usable, ids, "agent_performance", Reason.NUMBER_OUT_OF_BOUNDS, refusals)


def _named(entries: NamedNumbers, ids: pa.Array, usable: Callable[[str], bool], source: str, refusals: Refusals) -> NamedNumbers:
    good = np.array([usable(name) for name in entries.names], dtype=bool)[entries.code]
    return _kept(entries, good, ids, source, Reason.UNUSABLE_NAME, refusals)


def _kept(entries: NamedNumbers, good: Flags, ids: pa.Array, source: str, reason: Reason, refusals: Refusals) -> NamedNumbers:
    """Keep the good entries and refuse the others, each under its name."""
    bad = entries.keep(~good)
    refusals.add(source, ids.take(pa.array(bad.row)), reason, bad.labels())
    return entries.keep(good)
