"""Which properties of an output go with its scores: every agent x feature x aspect in one vectorised pass.

Unit of analysis: one row per output; y is the mean of its severity-adjusted scores. Spearman with Pearson beside it; pairwise
deletion. Two tests: t with n - 2 degrees of freedom on outputs, and the sandwich clustered two ways by content and reviewer
(Cameron, Gelbach & Miller 2011) on the influence function of r; the larger p counts, since a personal taste shared by a few
reviewers is not a property of the agent.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from feedback_pipeline.learning.clusters import Clusters
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.permutation import permutation_p_values
from feedback_pipeline.learning.ranks import GroupRows, Mask, SortedColumn, Standardised

MIN_TESTED = 10  # outputs: below, nothing is tested
MIN_REVIEWERS = 5  # below, reviewer clusters cannot carry a test
SPEARMAN_VARIANCE = 1.06  # of atanh(r), times n - 3 (Fieller, Hartley & Pearson 1957)
MAX_R = 0.999  # |r| = 1 is clipped here before atanh
_BLOCK_CELLS = 180_000
# Measured on two cores: a second thread is worth 1.4 x, a third nothing, since small numpy calls hold the interpreter.
_THREADS = 2
_DIGITS = 40


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

    The work goes in blocks of whole groups, so memory stays bounded and a second core helps; no block changes a number.
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

    def fill(block: tuple[int, int]) -> None:
        if len(with_data) and design.group.searchsorted(block[0]) < design.group.searchsorted(block[1]):
            _Block.of(design, *block).fill(result, with_data)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(fill, _blocks(design.group, n_groups, len(with_data))):
            pass
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
    first_group: int
    rows: slice
    groups: GroupRows
    features: Floats
    has_feature: Mask
    columns: tuple[SortedColumn, ...]
    alone: Standardised  # the features where no score is missing
    clusters: Clusters

    @classmethod
    def of(cls, design: Design, first: int, last: int) -> "_Block":
        begin, end = (int(row) for row in np.searchsorted(design.group, [first, last]))
        groups = GroupRows.of(design.group[begin:end] - first)
        features = _scaled(np.ascontiguousarray(design.features[begin:end].T), groups)
        has_feature = ~np.isnan(features)
        columns = tuple(SortedColumn.of(feature, groups.code, groups.starts) for feature in features)
        reviews = slice(*np.searchsorted(design.review_output, [begin, end]))
        clusters = Clusters.of(
            groups,
            design.content[begin:end],
            design.review_output[reviews] - begin,
            design.review_reviewer[reviews],
            design.scores[begin:end],
            design.review_scores[reviews],
        )
        alone = Standardised.of(columns, features, has_feature, groups)
        return cls(design, first, slice(begin, end), groups, features, has_feature, columns, alone, clusters)

    def fill(self, result: Correlations, columns: Ints) -> None:
        """Write the results of this block; `columns` are the places of its features in the result."""
        for aspect in range(self.design.scores.shape[1]):
            self._fill_aspect(result, columns, aspect)

    def _sides(self, aspect: int) -> tuple[Standardised, Standardised, Mask]:
        score = _scaled(self.design.scores[None, self.rows, aspect], self.groups)
        scored = ~np.isnan(score)
        present = self.has_feature & scored
        x = self.alone if scored.all() else Standardised.of(self.columns, self.features, present, self.groups)
        column = SortedColumn.of(score[0], self.groups.code, self.groups.starts)
        # Where every feature is there, all pairs of the aspect rank its scores among the same rows.
        y = Standardised.of((column,), score, scored if self.has_feature.all() else present, self.groups)
        return x, y, present

    def _fill_aspect(self, result: Correlations, columns: Ints, aspect: int) -> None:
        x, y, present = self._sides(aspect)
        groups = self.groups
        n = groups.sum(present.astype(np.float64))
        defined = (x.ss > 0) & (y.ss > 0)
        r = _ratio(groups.sum(x.rank * y.rank), np.sqrt(x.ss * y.ss), defined)
        pearson = _ratio(groups.sum(x.value * y.value), np.sqrt(x.value_ss * y.value_ss), (x.value_ss > 0) & (y.value_ss > 0))

        zx = x.rank * groups.spread(_ratio(np.sqrt(n), np.sqrt(x.ss), (n > 0) & (x.ss > 0), 0.0))
        # Where all pairs share the ranks of the scores they share n too.
        zy = y.rank * groups.spread(_ratio(np.sqrt(n[: len(y.ss)]), np.sqrt(y.ss), y.ss > 0, 0.0))
        robust = self.clusters.variance(zx, zy, r, n, present, aspect)
        names = self.groups.present + self.first_group

        tested = defined & (n >= MIN_TESTED)
        p_output = _t_test(r, n)
        permute = tested & needs_permutation(n, np.maximum(x.tie, y.tie))
        if permute.any():
            keys = self.design.names[names]
            seed = (self.design.seed, aspect)
            p_output[permute] = permutation_p_values(x.rank, y.rank, present, groups.starts, permute, keys, seed=seed)
        enough = robust.n_reviewers >= MIN_REVIEWERS
        df = np.minimum(robust.n_reviewers, robust.n_contents) - 1.0
        statistic = _ratio(r, np.sqrt(robust.total), enough & (robust.total > 0))
        p_robust = 2.0 * special.stdtr(np.maximum(df, 1.0), -np.abs(statistic))
        p_value = np.where(enough & np.isfinite(p_robust), np.fmax(p_output, p_robust), p_output)

        classical = SPEARMAN_VARIANCE / np.maximum(n - 3.0, 1.0)
        sandwich = np.where(enough, robust.total, robust.by_content) / (1.0 - np.clip(r, -MAX_R, MAX_R) ** 2) ** 2
        found = {
            "n": n,
            "n_reviewers": robust.n_reviewers,
            "r": r,
            "r_pearson": np.clip(pearson, -1.0, 1.0),
            "p_value": np.where(tested, p_value, np.nan),
            "z_variance": np.where(defined & (n > 3), np.maximum(sandwich, classical), np.nan),
            "z_df": np.where(sandwich > classical, np.where(enough, df, np.maximum(robust.n_contents - 1.0, 1.0)), np.inf),
            "permuted": permute,
            "constant_feature": (n > 0) & (x.ss == 0),
            "constant_score": (n > 0) & (y.ss == 0),
        }
        for name, values in found.items():
            getattr(result, name)[names[:, None], columns[None, :], aspect] = np.broadcast_to(values, n.shape).T


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
    shape = np.broadcast_shapes(numerator.shape, denominator.shape, where.shape)
    ratio: Floats = np.divide(numerator, denominator, out=np.full(shape, fill), where=where)
    return ratio


def _scaled(values: Floats, groups: GroupRows) -> Floats:
    """Rows of values (C, n) divided by their largest magnitude in the group, so that no square overflows; infinite = missing.

    What remains is rounded to 40 binary digits below that magnitude: values that differ by rounding alone (a mean of equal
    numbers, a score less a severity) are ties, not an order.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    largest = groups.max(np.nan_to_num(np.abs(finite)))
    _, exponent = np.frexp(np.where(largest > 0, largest, 1.0))
    scaled: Floats = np.ldexp(np.rint(np.ldexp(finite, _DIGITS - groups.spread(exponent))), -_DIGITS)
    return scaled
