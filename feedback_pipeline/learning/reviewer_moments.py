"""What the mixed model of reviewers needs of the rows: sums per reviewer that can be added and subtracted."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.panel import Floats, Ints, group_sums

_BLOCK_ROWS = 8192
_PREDICTED_ROWS = 131_072


@dataclass(frozen=True)
class RowDesign:
    """Rows of a mixed model whose personal columns are some of its population columns, all of about unit size.

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
        for rows in np.array_split(known, max(len(known) // (_PREDICTED_ROWS), 1)):
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
        LearningError: a response, a weight or a column is not finite, or a reviewer is unknown.
    """
    weight = np.ones(len(response)) if weight is None else weight
    if not (np.isfinite(response).all() and np.isfinite(weight).all()):
        raise LearningError("the reviewer model needs finite responses; drop missing scores first")
    if len(design.reviewer) and design.reviewer.min() < 0:
        raise LearningError("the reviewer model needs known reviewers; drop reviews without a reviewer first")
    # The threads of many small products wait for each other longer than one thread works.
    with threadpool_limits(limits=1, user_api="blas"):
        xx, xy = _over_units(design, response, weight)
        if not np.isfinite(xx).all():
            raise LearningError("the reviewer model needs finite features; impute missing ones first")
        wx, wy = _by_reviewer(design, response, weight)
    rows = np.bincount(design.reviewer, minlength=design.n_reviewers).astype(np.float64)
    return ReviewerMoments(rows, wx, wy, xx, xy, float((weight * response) @ response), design.personal)


def _over_units(design: RowDesign, response: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """X'X and X'y; the rows of a unit have equal columns, so their weights and responses are summed first."""
    n_units, n_columns = design.columns.shape
    unit_weight = group_sums(design.unit, weight, n_units)
    unit_response = group_sums(design.unit, weight * response, n_units)
    used = np.flatnonzero(np.bincount(design.unit, minlength=n_units))
    xx, xy = np.zeros((n_columns, n_columns)), np.zeros(n_columns)
    for start in range(0, len(used), _BLOCK_ROWS):
        units = used[start : start + _BLOCK_ROWS]
        x = design.columns[units].astype(np.float64)
        xx += (x * unit_weight[units, None]).T @ x
        xy += unit_response[units] @ x
    return xx, xy


def _by_reviewer(design: RowDesign, response: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """W'X and W'y of each reviewer: the rows, sorted by reviewer, in blocks, one product for each reviewer of a block."""
    wx = np.zeros((design.n_reviewers, len(design.personal), design.columns.shape[1]))
    wy = np.zeros(wx.shape[:2])
    order = np.argsort(design.reviewer, kind="stable")
    for start in range(0, len(order), _BLOCK_ROWS):
        rows = order[start : start + _BLOCK_ROWS]
        x = design.columns[design.unit[rows]].astype(np.float64)
        own = (x[:, design.personal] * weight[rows, None]).T
        owners, first = np.unique(design.reviewer[rows], return_index=True)
        wy[owners] += np.add.reduceat(own * response[rows], first, axis=1).T
        bounds = [*first.tolist(), len(rows)]
        for i, reviewer in enumerate(owners.tolist()):
            several = slice(bounds[i], bounds[i + 1])
            wx[reviewer] += own[:, several] @ x[several]
    return wx, wy
