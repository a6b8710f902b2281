"""Which properties of an output go with its scores: every agent x feature x aspect in one vectorised pass.

Unit of analysis: one row per output; y is the mean of its severity-adjusted scores. Spearman with Pearson beside it; pairwise
deletion. Two tests: t with n - 2 degrees of freedom on outputs, and the sandwich clustered two ways by content and reviewer
(Cameron, Gelbach & Miller 2011) on the influence function of r; the larger p counts, since a personal taste shared by a few
reviewers is not a property of the agent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse, special

from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.permutation import permutation_p_values
from feedback_pipeline.learning.ranks import Mask, SortedColumn

MIN_TESTED = 10  # outputs: below, nothing is tested
MIN_REVIEWERS = 5  # below, reviewer clusters cannot carry a test
SPEARMAN_VARIANCE = 1.06  # of atanh(r), times n - 3 (Fieller, Hartley & Pearson 1957)
MAX_R = 0.999  # |r| = 1 is clipped here before atanh
_BLOCK_CELLS = 80_000  # near the second-level cache; measured 1.4 x faster than one block


@dataclass(frozen=True)
class Design:
    """Outputs and reviews to correlate, in canonical order.

    Attributes:
        group: Agent code of each output (N,), ascending from 0; G groups.
        content: Content code of each output (N,): outputs of one content are not independent.
        features: (N, J), NaN = missing.
        scores: Mean adjusted score of each output (N, K), NaN = missing.
        review_output: Output of each review (M,), ascending.
        review_reviewer: Reviewer code of each review (M,), -1 = unknown.
        review_scores: Adjusted score of each review (M, K), NaN = missing.
        names: Stable seed of each group (G,): permutations must not depend on which other groups are present.
        seed: Seed of the permutations.
    """

    group: Ints
    content: Ints
    features: Floats
    scores: Floats
    review_output: Ints
    review_reviewer: Ints
    review_scores: Floats
    names: Ints
    seed: int = 0


@dataclass(frozen=True)
class Correlations:
    """Results, each an array (G, J, K); NaN where undefined.

    Attributes:
        n: Outputs with both values.
        n_reviewers: Known reviewers among their reviews.
        r: Spearman correlation; r_pearson: Pearson.
        p_value: The larger of the output-level and the reviewer-robust p.
        z_variance: Variance of atanh(r): 1.06 / (n - 3), or the robust one if larger.
        z_df: Degrees of freedom of that variance (infinite for the classical one).
        permuted: Whether the output-level p is a permutation p.
        constant_feature, constant_score: Whether r is undefined because of it.
    """

    n: Ints
    n_reviewers: Ints
    r: Floats
    r_pearson: Floats
    p_value: Floats
    z_variance: Floats
    z_df: Floats
    permuted: Mask
    constant_feature: Mask
    constant_score: Mask

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Confidence interval of r: tanh(atanh(r) -+ t * sd), t with the variance's degrees of freedom."""
        z = np.arctanh(np.clip(self.r, -MAX_R, MAX_R))
        quantile = special.ndtri(0.5 + level / 2)
        finite = np.isfinite(self.z_df)
        width = np.where(finite, special.stdtrit(np.where(finite, self.z_df, 1.0), 0.5 + level / 2), quantile)
        half = width * np.sqrt(self.z_variance)
        return np.tanh(z - half), np.tanh(z + half)


def correlate(design: Design) -> Correlations:
    """Correlate every feature with every aspect within every group.

    The work goes in blocks of whole groups so that memory stays bounded; no block changes a number.
    """
    n_groups, (n_features, n_aspects) = len(design.names), (design.features.shape[1], design.scores.shape[1])
    shape = (n_groups, n_features, n_aspects)
    arrays = {name: np.full(shape, np.nan) for name in ("r", "r_pearson", "p_value", "z_variance", "z_df")}
    counts = {name: np.zeros(shape, dtype=np.intp) for name in ("n", "n_reviewers")}
    flags = {name: np.zeros(shape, dtype=bool) for name in ("permuted", "constant_feature", "constant_score")}
    result = Correlations(
        counts["n"],
        counts["n_reviewers"],
        arrays["r"],
        arrays["r_pearson"],
        arrays["p_value"],
        arrays["z_variance"],
        arrays["z_df"],
        flags["permuted"],
        flags["constant_feature"],
        flags["constant_score"],
    )
    with_data = np.flatnonzero(np.isfinite(design.features).any(axis=0))
    design = replace(design, features=design.features[:, with_data])
    for first, last in _blocks(design.group, n_groups, len(with_data)):
        _Block.of(design, first, last).fill(result, with_data)
    return result


def _blocks(group: Ints, n_groups: int, n_features: int) -> Iterator[tuple[int, int]]:
    """Ranges of groups whose rows x features stay near _BLOCK_CELLS."""
    ends = np.searchsorted(group, np.arange(n_groups), side="right")
    first = 0
    while first < n_groups:
        done = ends[first - 1] if first else 0
        last = int(np.searchsorted(ends, done + max(_BLOCK_CELLS // max(n_features, 1), 1), side="right"))
        last = min(max(last, first + 1), n_groups)
        yield first, last
        first = last


@dataclass(frozen=True)
class _Block:
    """Some whole groups of a design, with what every aspect shares."""

    design: Design
    groups: slice
    rows: slice
    reviews: slice
    group: Ints
    present_groups: Ints
    starts: Ints
    features: Floats
    has_feature: Mask
    sorted_features: tuple[SortedColumn, ...]
    cell: Ints  # (group, reviewer) of each review, dense
    cell_group: Ints  # group of each cell
    cell_known: Ints  # 1 where the cell's reviewer is known

    @classmethod
    def of(cls, design: Design, first: int, last: int) -> "_Block":
        begin, end = np.searchsorted(design.group, [first, last])
        group = design.group[begin:end] - first
        present_groups, starts = np.unique(group, return_index=True)
        features = _scaled(design.features[begin:end], group, starts)
        columns = tuple(SortedColumn.of(features[:, j], group, starts) for j in range(features.shape[1]))
        review_begin, review_end = np.searchsorted(design.review_output, [begin, end])
        reviewer = design.review_reviewer[review_begin:review_end]
        # A review of an unknown reviewer is a cluster of its own.
        reviewer = np.where(reviewer >= 0, reviewer, -1 - np.arange(len(reviewer)))
        review_group = group[design.review_output[review_begin:review_end] - begin]
        order = np.lexsort((reviewer, review_group))
        fresh = np.ones(len(order), dtype=bool)
        fresh[1:] = (np.diff(reviewer[order]) != 0) | (np.diff(review_group[order]) != 0)
        cell = np.empty(len(order), dtype=np.intp)
        cell[order] = np.cumsum(fresh) - 1
        heads = order[fresh]
        return cls(
            design,
            slice(first, last),
            slice(int(begin), int(end)),
            slice(int(review_begin), int(review_end)),
            group,
            present_groups,
            starts,
            features,
            ~np.isnan(features),
            columns,
            cell,
            review_group[heads],
            (reviewer[heads] >= 0).astype(np.intp),
        )

    def fill(self, result: Correlations, columns: Ints) -> None:
        """Write the results of this block; `columns` are the places of its features in the result."""
        for aspect in range(self.design.scores.shape[1]):
            if len(self.starts):
                self._fill_aspect(result, columns, aspect)

    def _sum(self, values: Floats) -> Floats:
        total: Floats = np.add.reduceat(values, self.starts, axis=0)
        return total

    def _fill_aspect(self, result: Correlations, columns: Ints, aspect: int) -> None:
        score = _scaled(self.design.scores[self.rows, aspect : aspect + 1], self.group, self.starts)[:, 0]
        present = self.has_feature & ~np.isnan(score)[:, None]
        n = self._sum(present.astype(np.float64))
        x_rank, x_ties = self._feature_ranks(present)
        y_rank, y_ties = SortedColumn.of(score, self.group, self.starts).ranks(present)
        center = 0.5 * (n + 1.0)[self.group] * present
        x_rank, y_rank = x_rank - center, y_rank - center
        xx, yy = self._sum(x_rank * x_rank), self._sum(y_rank * y_rank)
        defined = (xx > 0) & (yy > 0)
        r = _ratio(self._sum(x_rank * y_rank), np.sqrt(xx * yy), defined)

        zx = x_rank * _ratio(np.sqrt(n), np.sqrt(xx), defined, 0.0)[self.group]
        zy = y_rank * _ratio(np.sqrt(n), np.sqrt(yy), defined, 0.0)[self.group]
        variance, content_variance, n_reviewers, n_clusters = self._robust_variance(zx, zy, r, n, present, score, aspect)
        groups = self.present_groups + self.groups.start

        tested = defined & (n >= MIN_TESTED)
        p_output = _t_test(r, n)
        tie_share = np.maximum(_max(x_ties, self.starts), _max(y_ties, self.starts))
        permute = tested & needs_permutation(n, tie_share)
        if permute.any():
            keys = self.design.names[groups]
            p_output[permute] = permutation_p_values(
                x_rank, y_rank, present, self.starts, permute, keys, seed=(self.design.seed, aspect)
            )
        enough = n_reviewers >= MIN_REVIEWERS
        df = np.minimum(n_reviewers, n_clusters) - 1.0
        statistic = _ratio(r, np.sqrt(variance), enough & (variance > 0))
        p_robust = 2.0 * special.stdtr(np.maximum(df, 1.0), -np.abs(statistic))
        p_value = np.where(enough & np.isfinite(p_robust), np.fmax(p_output, p_robust), p_output)

        classical = SPEARMAN_VARIANCE / np.maximum(n - 3.0, 1.0)
        robust = np.where(enough, variance, content_variance) / (1.0 - np.clip(r, -MAX_R, MAX_R) ** 2) ** 2
        larger = robust > classical
        at = (groups[:, None], columns[None, :], aspect)
        result.n[at] = n
        result.n_reviewers[at] = n_reviewers
        result.r[at] = r
        result.r_pearson[at] = self._pearson(score, present, n)
        result.p_value[at] = np.where(tested, p_value, np.nan)
        result.z_variance[at] = np.where(defined & (n > 3), np.maximum(robust, classical), np.nan)
        result.z_df[at] = np.where(larger, np.where(enough, df, np.maximum(n_clusters - 1.0, 1.0)), np.inf)
        result.permuted[at] = permute
        result.constant_feature[at] = (n > 0) & (xx == 0)
        result.constant_score[at] = (n > 0) & (yy == 0)

    def _feature_ranks(self, present: Mask) -> tuple[Floats, Floats]:
        ranks, ties = np.empty(present.shape), np.empty(present.shape)
        for j, column in enumerate(self.sorted_features):
            rank, tie = column.ranks(present[:, j : j + 1])
            ranks[:, j], ties[:, j] = rank[:, 0], tie[:, 0]
        return ranks, ties

    def _pearson(self, score: Floats, present: Mask, n: Floats) -> Floats:
        size = np.maximum(n, 1.0)
        x = np.where(present, self.features, 0.0)
        y = np.where(present, score[:, None], 0.0)
        x = (x - (self._sum(x) / size)[self.group]) * present
        y = (y - (self._sum(y) / size)[self.group]) * present
        xx, yy = self._sum(x * x), self._sum(y * y)
        r = _ratio(self._sum(x * y), np.sqrt(xx * yy), (xx > 0) & (yy > 0))
        return np.clip(r, -1.0, 1.0)

    def _robust_variance(
        self,
        zx: Floats,
        zy: Floats,
        r: Floats,
        n: Floats,
        present: Mask,
        score: Floats,
        aspect: int,
    ) -> tuple[Floats, Floats, Ints, Ints]:
        """Variance of r clustered by content and reviewer, the content part alone, reviewers and contents (groups, J).

        The influence of an output, psi = zx zy - r (zx^2 + zy^2) / 2, is shared out to its m reviews: each gets
        (psi + zx d / sd) / m with d its deviation from the output's mean, so that the shares add up to psi.
        """
        psi = zx * zy - 0.5 * r[self.group] * (zx * zx + zy * zy) * present
        psi = np.where(present, psi, 0.0)
        own = self.design.review_scores[self.reviews, aspect]
        given = ~np.isnan(own)
        output = self.design.review_output[self.reviews][given] - self.rows.start
        reviews = np.bincount(output, minlength=len(score)).astype(np.float64)
        share = 1.0 / np.maximum(reviews, 1.0)
        deviation = own[given] - self.design.scores[self.rows, aspect][output]
        spread = self._score_spread(aspect)[self.group]
        unit = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)

        n_cells = len(self.cell_group)
        cell = self.cell[given]
        shape = (n_cells, len(score))
        equal = sparse.csr_array((share[output], (cell, output)), shape=shape)
        tilt = sparse.csr_array((deviation * (share * unit)[output], (cell, output)), shape=shape)
        by_cell = equal @ psi + tilt @ zx
        covers = (equal @ present.astype(np.float64)) > 0

        cell_starts = np.flatnonzero(np.diff(self.cell_group, prepend=-1))
        in_group = np.searchsorted(self.present_groups, self.cell_group[cell_starts])
        by_reviewer, n_reviewers = np.zeros(n.shape), np.zeros(n.shape, dtype=np.intp)
        if n_cells:
            by_reviewer[in_group] = np.add.reduceat(by_cell**2, cell_starts, axis=0)
            n_reviewers[in_group] = np.add.reduceat(covers * self.cell_known[:, None], cell_starts, axis=0)
        squared_deviation = np.bincount(output, weights=deviation**2, minlength=len(score)) * (share * unit) ** 2
        by_row = self._sum(psi**2 * share[:, None] + zx**2 * squared_deviation[:, None])
        by_content, n_contents = self._content_clusters(psi, present)
        size = np.maximum(n, 1.0) ** 2
        total = np.maximum(by_content + by_reviewer - by_row, np.maximum(by_content, by_reviewer))
        return total / size, by_content / size, n_reviewers, n_contents

    def _score_spread(self, aspect: int) -> Floats:
        """Standard deviation of the output scores in each group, in the raw unit of the review scores."""
        score = self.design.scores[self.rows, aspect]
        present = ~np.isnan(score)
        n = np.maximum(self._sum(present.astype(np.float64)), 1.0)
        value = np.where(present, score, 0.0)
        residual = (value - (self._sum(value) / n)[self.group]) * present
        return np.sqrt(self._sum(residual**2) / n)

    def _content_clusters(self, psi: Floats, present: Mask) -> tuple[Floats, Ints]:
        """Sum over contents of their squared influence, and the number of contents (groups, J)."""
        content = self.design.content[self.rows]
        order = np.lexsort((content, self.group))
        head = np.ones(len(order), dtype=bool)
        head[1:] = (np.diff(content[order]) != 0) | (np.diff(self.group[order]) != 0)
        if head.all():
            return self._sum(psi**2), np.add.reduceat(present.astype(np.intp), self.starts, axis=0)
        heads = np.flatnonzero(head)
        summed = np.add.reduceat(psi[order], heads, axis=0)
        seen = np.add.reduceat(present[order], heads, axis=0) > 0
        starts = np.searchsorted(self.group[order][heads], self.present_groups)
        return np.add.reduceat(summed**2, starts, axis=0), np.add.reduceat(seen.astype(np.intp), starts, axis=0)


def needs_permutation(n: Floats, largest_tie: Floats) -> Mask:
    """Where t is not trusted: one value holds more than half of the rows.

    Beyond 1000 rows with at least 30 of them off that value the permutation distribution of r is normal to within the
    Monte-Carlo error of the permutations, and t stands.
    """
    return (largest_tie > 0.5 * n) & ((n <= 1000) | (n - largest_tie < 30))


def _t_test(r: Floats, n: Floats) -> Floats:
    """Two-sided p of a correlation by t with n - 2 degrees of freedom."""
    df = np.maximum(n - 2.0, 1.0)
    with np.errstate(divide="ignore"):
        t = np.abs(r) * np.sqrt(df / np.maximum(1.0 - r * r, 0.0))
    return 2.0 * special.stdtr(df, -t)


def _ratio(numerator: Floats, denominator: Floats, where: Mask, fill: float = np.nan) -> Floats:
    ratio: Floats = np.divide(numerator, denominator, out=np.full(denominator.shape, fill), where=where)
    return ratio


def _max(values: Floats, starts: Ints) -> Floats:
    largest: Floats = np.maximum.reduceat(values, starts, axis=0)
    return largest


def _scaled(values: Floats, group: Ints, starts: Ints) -> Floats:
    """Values divided by their largest magnitude in the group, so that no square overflows; infinite ones become missing."""
    finite = np.where(np.isfinite(values), values, np.nan)
    if not len(starts):
        return finite
    largest = np.fmax.reduceat(np.abs(finite), starts, axis=0)
    # A power of two changes the exponent only: ranks, ties and Pearson stay exact.
    _, exponent = np.frexp(np.where(largest > 0, largest, 1.0))
    return np.ldexp(finite, -exponent[group])
