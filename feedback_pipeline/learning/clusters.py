"""Variance of a correlation when outputs share contents and reviewers: the sandwich clustered two ways."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from feedback_pipeline.learning.panel import Floats, Ints, group_sums
from feedback_pipeline.learning.ranks import GroupRows, Mask


@dataclass(frozen=True)
class RobustVariance:
    """Variances of r and the clusters they rest on, arrays (J, groups).

    Attributes:
        total: max(V_content + V_reviewer - V_row, V_content, V_reviewer); by_content: V_content alone.
        n_reviewers: Known reviewers; n_contents: contents.
    """

    total: Floats
    by_content: Floats
    n_reviewers: Ints
    n_contents: Ints


@dataclass(frozen=True)
class Clusters:
    """Which content each output belongs to and which (group, reviewer) cell each review belongs to.

    Attributes:
        review_order: Reviews sorted by cell (M,); cell_bounds: where each cell begins in that order (cells + 1,).
        output: Output of each review in that order (M,).
        cell_starts: First cell of each group that has reviews; cell_group: that group's place among the groups.
        cell_known: 1 where the reviewer of the cell is known (cells,).
        content_order: Outputs sorted by group and content, None where every output has a content of its own.
        content_starts: Where each content begins in that order; group_content_starts: first content of each group.
        scores: Output scores (n, K); review_scores: review scores in review_order (M, K).
    """

    groups: GroupRows
    review_order: Ints
    cell_bounds: Ints
    output: Ints
    cell_starts: Ints
    cell_group: Ints
    cell_known: Ints
    content_order: Ints | None
    content_starts: Ints
    group_content_starts: Ints
    scores: Floats
    review_scores: Floats

    @classmethod
    def of(
        cls, groups: GroupRows, content: Ints, output: Ints, reviewer: Ints, scores: Floats, review_scores: Floats
    ) -> "Clusters":
        """Sort the reviews by cell and the outputs by content; a review of an unknown reviewer is a cell of its own."""
        known = reviewer >= 0
        n_clusters = int(reviewer.max(initial=-1)) + 1
        cluster = np.where(known, reviewer, n_clusters + np.arange(len(reviewer)))
        review_group = groups.code[output]
        key = review_group * (n_clusters + len(reviewer)) + cluster
        order = np.argsort(key, kind="stable")
        heads = _heads(key[order])
        cell_group = review_group[order][heads]
        cell_starts = np.flatnonzero(np.diff(cell_group, prepend=-1))

        # Ascending contents are all different: the usual case needs no sort.
        unique = bool((np.diff(content) > 0).all())
        by_content = np.arange(len(content)) if unique else np.lexsort((content, groups.code))
        content_heads = _heads(content[by_content], groups.code[by_content])
        return cls(
            groups,
            order,
            np.append(heads, len(order)),
            output[order],
            cell_starts,
            np.searchsorted(groups.present, cell_group[cell_starts]),
            known[order][heads].astype(np.intp),
            None if unique else by_content,
            content_heads,
            np.searchsorted(groups.code[by_content][content_heads], groups.present),
            scores,
            review_scores[order],
        )

    def variance(self, zx: Floats, zy: Floats, r: Floats, n: Floats, present: Mask, aspect: int) -> RobustVariance:
        """Variance of the correlations r of one aspect.

        The influence of an output, psi = zx zy - r (zx^2 + zy^2) / 2, is shared out to its m reviews: each gets
        (psi + zx d / sd) / m with d its deviation from the output's mean, so that the shares add up to psi.

        Args:
            zx: Standardised ranks of the features (J, n), 0 where absent.
            zy: Of the score (J, n), or (1, n) where all pairs share them.
            r: Correlations (J, groups), NaN where undefined.
            n: Outputs of each pair (J, groups).
            present: Outputs of each pair (J, n).
            aspect: Which column of the scores.
        """
        zx_square = zx * zx
        psi = zx_square + zy * zy
        psi *= self.groups.spread(-0.5 * np.nan_to_num(r))
        psi += zx * zy
        if not present.all():
            psi *= present
        own = self.review_scores[:, aspect]
        given = ~np.isnan(own)
        reviews = group_sums(self.output, given.astype(np.float64), psi.shape[1])
        share = 1.0 / np.maximum(reviews, 1.0)
        deviation = np.where(given, own - self.scores[self.output, aspect], 0.0)
        unit = share * self._inverse_spread(aspect)

        by_reviewer, n_reviewers = self._by_reviewer(psi, zx, share[self.output] * given, deviation * unit[self.output], present)
        squared_deviation = group_sums(self.output, deviation**2, psi.shape[1]) * unit**2
        by_row = self.groups.sum(psi * psi * share + zx_square * squared_deviation)
        by_content, n_contents = self._by_content(psi, present)
        size = np.maximum(n, 1.0) ** 2
        total = np.maximum(by_content + by_reviewer - by_row, np.maximum(by_content, by_reviewer))
        return RobustVariance(total / size, by_content / size, n_reviewers, n_contents)

    def _by_reviewer(self, psi: Floats, zx: Floats, equal: Floats, tilt: Floats, present: Mask) -> tuple[Floats, Ints]:
        """Sums over the cells of each group of their squared influence, and the known reviewers (J, groups)."""
        shape = (len(self.cell_bounds) - 1, psi.shape[1])
        by_reviewer = np.zeros((len(psi), len(self.groups.starts)))
        n_reviewers = np.zeros(by_reviewer.shape, dtype=np.intp)
        if not shape[0]:
            return by_reviewer, n_reviewers
        weights = sparse.csr_array((equal, self.output, self.cell_bounds), shape=shape)
        tilts = sparse.csr_array((tilt, self.output, self.cell_bounds), shape=shape)
        influence = np.asarray(weights @ psi.T + tilts @ zx.T)
        by_reviewer[:, self.cell_group] = np.add.reduceat(influence**2, self.cell_starts, axis=0).T
        seen = present[:1] if present.all() else present
        covers = (np.asarray(weights @ seen.T.astype(np.float64)) > 0) * self.cell_known[:, None]
        n_reviewers[:, self.cell_group] = np.add.reduceat(covers, self.cell_starts, axis=0).T
        return by_reviewer, n_reviewers

    def _inverse_spread(self, aspect: int) -> Floats:
        """One over the standard deviation of the output scores of each output's group (n,), 0 where they do not differ."""
        score = self.scores[None, :, aspect]
        present = ~np.isnan(score)
        n = np.maximum(self.groups.sum(present.astype(np.float64)), 1.0)
        value = np.where(present, score, 0.0)
        residual = (value - self.groups.spread(self.groups.sum(value) / n)) * present
        spread = np.sqrt(self.groups.sum(residual**2) / n)
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
        rows: Floats = self.groups.spread(inverse)[0]
        return rows

    def _by_content(self, psi: Floats, present: Mask) -> tuple[Floats, Ints]:
        """Sum over contents of their squared influence, and the number of contents (J, groups)."""
        if self.content_order is None:
            return self.groups.sum(psi * psi), np.add.reduceat(present.astype(np.intp), self.groups.starts, axis=1)
        summed = np.add.reduceat(psi[:, self.content_order], self.content_starts, axis=1)
        seen = np.logical_or.reduceat(present[:, self.content_order], self.content_starts, axis=1).astype(np.intp)
        by_content: Floats = np.add.reduceat(summed**2, self.group_content_starts, axis=1)
        return by_content, np.add.reduceat(seen, self.group_content_starts, axis=1)


def _heads(*ordered: Ints) -> Ints:
    """Positions where any of the keys, in sorted order, differs from the row before."""
    head = np.ones(len(ordered[0]), dtype=bool)
    head[1:] = False
    for key in ordered:
        head[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(head)
