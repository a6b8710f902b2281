"""Average ranks within groups, with missing values deleted pair by pair, from one sort per column."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.panel import Floats, Ints

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SortedColumn:
    """One column sorted within contiguous groups, with the bounds of its ties.

    Attributes:
        order: Row positions sorted by (group, value) (N,); missing values come last in their group.
        tie_start, tie_end: Bounds in the sorted order of the tie each sorted row belongs to (N,).
        group_start: First position of the group of each sorted row (N,).
    """

    order: Ints
    tie_start: Ints
    tie_end: Ints
    group_start: Ints

    @classmethod
    def of(cls, values: Floats, group: Ints, starts: Ints) -> "SortedColumn":
        """Sort `values` (N,) within ascending `group` (N,), whose groups begin at `starts`."""
        by_value = np.argsort(values)
        # A stable sort of small unsigned integers is a radix sort: linear.
        code = group.astype(np.uint16) if len(starts) and group[-1] < np.iinfo(np.uint16).max else group
        order = by_value[np.argsort(code[by_value], kind="stable")]
        ordered = values[order]
        first = np.empty(len(values), dtype=bool)
        first[:1] = True
        first[1:] = ordered[1:] != ordered[:-1]
        first[starts] = True
        tie = np.flatnonzero(first)
        length = np.diff(tie, append=len(values))
        group_length = np.diff(starts, append=len(values))
        return cls(order, np.repeat(tie, length), np.repeat(tie + length, length), np.repeat(starts, group_length))

    def ranks(self, present: Mask) -> tuple[Floats, Floats]:
        """Average ranks of the column among the present rows of each group, once for every column of `present`.

        Args:
            present: Rows that count, (N, C); a missing value of this column must not be present.

        Returns:
            Ranks (N, C), counted from 1 within the group and 0 where absent, and the sizes of the ties they belong to (N, C).
        """
        counted = np.zeros((len(present) + 1, present.shape[1]), dtype=np.float64)
        ordered = present[self.order]
        np.cumsum(ordered, axis=0, out=counted[1:])
        below = counted[self.tie_start]
        tied = counted[self.tie_end] - below
        rank = (below - counted[self.group_start] + 0.5 * (tied + 1.0)) * ordered
        ranks, ties = np.empty_like(rank), np.empty_like(tied)
        ranks[self.order] = rank
        ties[self.order] = tied * ordered
        return ranks, ties
