"""Average ranks within groups, with missing values deleted pair by pair, from one sort per column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from feedback_pipeline.learning.panel import Floats, Ints

Mask = npt.NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class GroupRows:
    """Rows of contiguous groups, and sums over them.

    Attributes:
        code: Group of each row (n,), ascending.
        present: The groups that have rows (g,).
        starts: Their first rows (g,).
        place: Place of each row's group among them (n,).
    """

    code: Ints
    present: Ints
    starts: Ints
    place: Ints

    @classmethod
    def of(cls, code: Ints) -> "GroupRows":
        """Find the groups of ascending codes."""
        present, starts, place = np.unique(code, return_index=True, return_inverse=True)
        return cls(code, present, starts, place)

    def sum(self, values: Floats) -> Floats:
        """Sums over each group, (C, n) -> (C, g)."""
        total: Floats = np.add.reduceat(values, self.starts, axis=1)
        return total

    def max(self, values: Floats) -> Floats:
        """Largest value of each group, (C, n) -> (C, g)."""
        largest: Floats = np.maximum.reduceat(values, self.starts, axis=1)
        return largest

    def spread(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """The group's value for each row, (C, g) -> (C, n)."""
        rows: npt.NDArray[Number] = values[:, self.place]
        return rows


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
        """Average ranks of the column among the present rows of each group, once for every row of `present`.

        Args:
            present: Rows that count, (C, n); a missing value of this column must not be present.

        Returns:
            Ranks (C, n), counted from 1 within the group and 0 where absent, and the sizes of the ties they belong to (C, n).
        """
        ranks, ties = np.empty(present.shape), np.empty(present.shape)
        if present.all():
            below, tied = self.tie_start.astype(np.float64), (self.tie_end - self.tie_start).astype(np.float64)
            ranks[:, self.order] = below - self.group_start + 0.5 * (tied + 1.0)
            ties[:, self.order] = tied
            return ranks, ties
        ordered = present[:, self.order]
        counted = np.zeros((len(present), present.shape[1] + 1))
        np.cumsum(ordered, axis=1, out=counted[:, 1:])
        below = counted[:, self.tie_start]
        tied = counted[:, self.tie_end] - below
        ranks[:, self.order] = (below - counted[:, self.group_start] + 0.5 * (tied + 1.0)) * ordered
        ties[:, self.order] = tied * ordered
        return ranks, ties


@dataclass(frozen=True)
class Standardised:
    """One side of an aspect's correlations: centred ranks and values of each pair, (J, n), or (1, n) where all pairs share them.

    Attributes:
        rank: Ranks less their mean, 0 where absent; ss: their sums of squares per group.
        value: Values less their mean, 0 where absent; value_ss: their sums of squares per group.
        tie: Size of the largest tie per group.
    """

    rank: Floats
    ss: Floats
    value: Floats
    value_ss: Floats
    tie: Floats

    @classmethod
    def of(cls, columns: Sequence[SortedColumn], values: Floats, present: Mask, groups: GroupRows) -> "Standardised":
        """Rank each column under its mask; with one column, that column under every mask.

        Args:
            columns: C sorted columns.
            values: Their values (C, n).
            present: Masks (C, n), or (J, n) with C = 1.
            groups: The groups of the n rows.
        """
        if len(columns) == 1:
            rank, tie = columns[0].ranks(present)
        else:
            ranked = [column.ranks(mask[None]) for column, mask in zip(columns, present, strict=True)]
            rank, tie = (np.concatenate(parts) for parts in zip(*ranked, strict=True))
        n = groups.sum(present.astype(np.float64))
        rank -= groups.spread(0.5 * (n + 1.0)) * present
        value = np.where(present, values, 0.0)
        value -= groups.spread(groups.sum(value) / np.maximum(n, 1.0)) * present
        return cls(rank, groups.sum(rank * rank), value, groups.sum(value * value), groups.max(tie))
