"""The agents' own features of one day as columns; an agent that has too many costs itself the rarest, nobody else any."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feedback_pipeline.storage.named_numbers import NamedNumbers

Ints = npt.NDArray[np.int64]

MAX_CUSTOM_FEATURES: Final = 50
"""Most custom features of one agent on one day."""


@dataclass(frozen=True)
class CustomColumns:
    """Custom features of the outputs of one day.

    Attributes:
        columns: Features by name, in the order of the names; arrays (N,) over the outputs, null = missing.
        cut: By agent (its code) the names of the features that were too many, ascending.
    """

    columns: dict[str, pa.Array]
    cut: dict[int, list[str]]


def custom_columns(custom: NamedNumbers, rows: Ints, agent: Ints) -> CustomColumns:
    """Spread the custom features of some outputs over columns.

    Of each agent the features count that most of its outputs have, then by name; at most MAX_CUSTOM_FEATURES.

    Args:
        custom: Features of all outputs.
        rows: The outputs wanted (N,), ascending, without repetition.
        agent: Code of the agent of each output wanted (N,).
    """
    if not len(rows):
        return CustomColumns({}, {})
    place = np.minimum(np.searchsorted(rows, custom.row), len(rows) - 1)
    mine = rows[place] == custom.row
    entries, place = custom.keep(mine), place[mine]
    present, code = np.unique(entries.code, return_inverse=True)
    names = np.array(entries.names, dtype=object)[present]
    by_name = np.argsort(names)
    rank = np.empty(len(names), dtype=np.int64)
    rank[by_name] = np.arange(len(names))
    names = names[by_name]
    pairs, pair, frequency = np.unique(agent[place] * len(names) + rank[code], return_inverse=True, return_counts=True)
    owner, feature = np.divmod(pairs, max(len(names), 1))
    kept = _standing(owner, frequency) < MAX_CUSTOM_FEATURES
    cut = {int(code): names[feature[(owner == code) & ~kept]].tolist() for code in np.unique(owner[~kept])}
    used = kept[pair]
    return CustomColumns(_columns(names, rank[code][used], place[used], entries.value[used], len(rows)), cut)


def _standing(owner: Ints, frequency: Ints) -> Ints:
    """Place of each pair among those of its owner, the most frequent first, else in the order given."""
    order = np.lexsort((-frequency, owner))
    first = np.searchsorted(owner[order], owner[order])
    standing = np.empty(len(order), dtype=np.int64)
    standing[order] = np.arange(len(order)) - first
    return standing


def _columns(
    names: npt.NDArray[np.object_], feature: Ints, place: Ints, value: npt.NDArray[np.float64], size: int
) -> dict[str, pa.Array]:
    order = np.argsort(feature, kind="stable")
    columns = {}
    found, first = np.unique(feature[order], return_index=True)
    for index, part in zip(found, np.split(order, first[1:]), strict=True) if len(found) else ():
        values = np.full(size, np.nan)
        values[place[part]] = value[part]
        columns[str(names[index])] = pa.array(values, mask=np.isnan(values))
    return columns
