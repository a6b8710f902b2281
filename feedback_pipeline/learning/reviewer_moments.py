"""What the mixed model of reviewers needs of the rows: sums per reviewer that can be added and subtracted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints

_LONGEST_SEGMENT = 4096
_BATCH_ROWS = 32_768
_PADDING = 1.3


@dataclass(frozen=True)
class RowDesign:
    """Rows of a mixed model whose personal columns are some of its population columns.

    Attributes:
        columns: Population columns of each unit (N, P), any float type; a unit is an output, or the row itself.
        unit: Unit of each row (M,).
        reviewer: Reviewer of each row (M,), in 0..n_reviewers-1.
        n_reviewers: R.
        personal: Positions of the personal columns among the P (Q,).
    """

    columns: npt.NDArray[np.floating]
    unit: Ints
    reviewer: Ints
    n_reviewers: int
    personal: Ints

    def only(self, rows: npt.NDArray[np.bool_]) -> "RowDesign":
        """The rows (M,) alone, with the same reviewers and columns."""
        return RowDesign(self.columns, self.unit[rows], self.reviewer[rows], self.n_reviewers, self.personal)

    def with_personal(self, personal: Ints) -> "RowDesign":
        """The same rows with other personal columns."""
        return RowDesign(self.columns, self.unit, self.reviewer, self.n_reviewers, personal)

    def linear(self, population: Floats, personal: Floats) -> Floats:
        """X b + W u of each row (M,), for b (P,) and u (R, Q); a reviewer of -1 has u = 0."""
        value = (self.columns @ population.astype(self.columns.dtype)).astype(np.float64)[self.unit]
        known = np.flatnonzero(self.reviewer >= 0)
        for rows in np.array_split(known, max(len(known) // (4 * _BATCH_ROWS), 1)):
            own = self.columns[self.unit[rows][:, None], self.personal]
            value[rows] += np.einsum("mq,mq->m", own, personal[self.reviewer[rows]])
        return value


@dataclass(frozen=True)
class ReviewerMoments:
    """Sufficient statistics of weighted rows y = X b + W u_r + e; W is made of columns of X.

    Attributes:
        rows: Rows of each reviewer (R,).
        wx: W'X of each reviewer (R, Q, P).
        wy: W'y of each reviewer (R, Q).
        xx: X'X (P, P).
        xy: X'y (P,).
        yy: y'y.
        personal: Positions of the columns of W in X (Q,).
    """

    rows: Floats
    wx: Floats
    wy: Floats
    xx: Floats
    xy: Floats
    yy: float
    personal: Ints

    @property
    def ww(self) -> Floats:
        """W'W of each reviewer (R, Q, Q)."""
        return self.wx[:, :, self.personal]

    @property
    def n_rows(self) -> float:
        """Rows in all."""
        return float(self.rows.sum())

    def __add__(self, other: "ReviewerMoments") -> "ReviewerMoments":
        """Moments of both sets of rows."""
        return self._combined(other, 1.0)

    def __sub__(self, other: "ReviewerMoments") -> "ReviewerMoments":
        """Moments without the rows of `other`."""
        return self._combined(other, -1.0)

    def _combined(self, other: "ReviewerMoments", sign: float) -> "ReviewerMoments":
        if self.wx.shape != other.wx.shape or not np.array_equal(self.personal, other.personal):
            raise LearningError("moments of different designs cannot be combined; build both from one design")
        return ReviewerMoments(
            self.rows + sign * other.rows,
            self.wx + sign * other.wx,
            self.wy + sign * other.wy,
            self.xx + sign * other.xx,
            self.xy + sign * other.xy,
            self.yy + sign * other.yy,
            self.personal,
        )

    def with_personal(self, positions: Ints) -> "ReviewerMoments":
        """The same rows with the personal columns at these positions of W alone."""
        return ReviewerMoments(
            self.rows, self.wx[:, positions], self.wy[:, positions], self.xx, self.xy, self.yy, self.personal[positions]
        )


def moments_of(design: RowDesign, response: Floats, weight: Floats | None = None) -> ReviewerMoments:
    """Sum the rows of each reviewer.

    Args:
        design: M rows, every reviewer known.
        response: y (M,), finite.
        weight: Weights (M,), 1 when left out.

    Raises:
        LearningError: a response or a weight is not finite, or a reviewer is unknown.
    """
    if not np.isfinite(response).all() or (weight is not None and not np.isfinite(weight).all()):
        raise LearningError("the reviewer model needs finite responses; drop missing scores first")
    if len(design.reviewer) and design.reviewer.min() < 0:
        raise LearningError("the reviewer model needs known reviewers; drop reviews without a reviewer first")
    n_columns, q = design.columns.shape[1], len(design.personal)
    wx = np.zeros((design.n_reviewers, q, n_columns))
    wy = np.zeros((design.n_reviewers, q))
    xx, xy = np.zeros((n_columns, n_columns)), np.zeros(n_columns)
    # On a busy machine the threads of many small products wait for each other longer than one thread works.
    with threadpool_limits(limits=1, user_api="blas"):
        for rows, inside, owner in _batches(design.reviewer):
            x = design.columns[design.unit[rows]].astype(np.float64)
            x[~inside] = 0.0
            y = response[rows] * inside
            weighted = x if weight is None else x * weight[rows][:, :, None]
            flat = x.reshape(-1, n_columns)
            flat_weighted = weighted.reshape(-1, n_columns)
            xx += flat_weighted.T @ flat
            xy += flat_weighted.T @ y.ravel()
            own = weighted[:, :, design.personal].transpose(0, 2, 1)
            np.add.at(wx, owner, own @ x)
            np.add.at(wy, owner, (own @ y[:, :, None])[:, :, 0])
    squares = response * response
    return ReviewerMoments(
        np.bincount(design.reviewer, minlength=design.n_reviewers).astype(np.float64),
        wx,
        wy,
        xx,
        xy,
        float(squares.sum() if weight is None else squares @ weight),
        design.personal,
    )


def _batches(reviewer: Ints) -> Iterator[tuple[Ints, npt.NDArray[np.bool_], Ints]]:
    """Rows of reviewers with about as many rows, as rectangles: rows (B, m), which are real (B, m), their reviewers (B,).

    Reviewers with very many rows are cut in segments, so a rectangle is never much larger than the rows in it.
    """
    order = np.argsort(reviewer, kind="stable").astype(np.intp)
    count = np.bincount(reviewer)
    pieces = -(-count // _LONGEST_SEGMENT)
    owner = np.repeat(np.arange(len(count)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = (np.cumsum(count) - count)[owner] + piece * _LONGEST_SEGMENT
    length = np.minimum(count[owner] - piece * _LONGEST_SEGMENT, _LONGEST_SEGMENT)
    size_class = np.ceil(np.log(length) / np.log(_PADDING)).astype(np.intp)
    for size in np.unique(size_class):
        members = np.flatnonzero(size_class == size)
        widest = int(length[members].max())
        for part in np.array_split(members, max(-(-len(members) * widest // _BATCH_ROWS), 1)):
            offset = np.arange(widest)
            inside = offset < length[part][:, None]
            rows = order[np.where(inside, start[part][:, None] + offset, start[part][:, None])]
            yield rows, inside, owner[part]
