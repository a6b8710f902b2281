import numpy as np
import pytest
from scipy import stats

from feedback_pipeline.learning import correlations as module
from feedback_pipeline.learning.correlations import Design, correlate, needs_permutation
from feedback_pipeline.learning.panel import output_means


def random_design(
    n: int = 600, groups: int = 4, reviews: int = 1500, reviewers: int = 25, seed: int = 0, missing: float = 0.08
) -> Design:
    """Skewed, tied and partly missing features; a true effect in column 1."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, groups, n))
    features = rng.lognormal(size=(n, 4))
    features[:, 0] = np.floor(features[:, 0] * 2)
    output = np.sort(np.concatenate([np.arange(n), rng.integers(0, n, reviews - n)]))
    reviewer = rng.integers(-1, reviewers, reviews)
    quality = rng.normal(size=(n, 1)) + 0.5 * np.log(features[:, [1]])
    scores = quality[output] + rng.normal(size=(reviews, 3))
    scores[rng.random(scores.shape) < missing] = np.nan
    features[rng.random(features.shape) < missing] = np.nan
    content = rng.integers(0, n // 2, n)
    return Design(group, content, features, output_means(scores, output, n), output, reviewer, scores, np.arange(groups) + 11)


def pairs(design: Design) -> list[tuple[int, int, int, np.ndarray]]:
    found = []
    for g in range(len(design.names)):
        for j in range(design.features.shape[1]):
            for k in range(design.scores.shape[1]):
                rows = (design.group == g) & np.isfinite(design.features[:, j]) & np.isfinite(design.scores[:, k])
                found.append((g, j, k, np.flatnonzero(rows)))
    return found


def test_spearman_pearson_and_counts_equal_scipy_with_missing_values_and_ties() -> None:
    design = random_design()
    result = correlate(design)
    for g, j, k, rows in pairs(design):
        x, y = design.features[rows, j], design.scores[rows, k]
        assert result.n[g, j, k] == len(rows)
        assert result.r[g, j, k] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert result.r_pearson[g, j, k] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-10)


def test_p_without_reviewer_clusters_is_the_t_test_of_scipy() -> None:
    design = random_design(reviewers=3)
    result = correlate(design)
    for g, j, k, rows in pairs(design):
        if not result.permuted[g, j, k]:
            expected = stats.spearmanr(design.features[rows, j], design.scores[rows, k]).pvalue
            assert result.p_value[g, j, k] == pytest.approx(expected, rel=1e-9)


def test_robust_variance_equals_the_sum_over_rows_written_out() -> None:
    design = random_design(n=240, reviews=700, seed=3)
    result = correlate(design)
    for g, j, k, rows in pairs(design):
        r = result.r[g, j, k]
        zx = stats.zscore(stats.rankdata(design.features[rows, j]))
        zy = stats.zscore(stats.rankdata(design.scores[rows, k]))
        group = (design.group == g) & np.isfinite(design.scores[:, k])
        sd = design.scores[group, k].std()
        by_content: dict[int, float] = {}
        by_reviewer: dict[object, float] = {}
        by_row = 0.0
        for position, row in enumerate(rows):
            psi = zx[position] * zy[position] - r * (zx[position] ** 2 + zy[position] ** 2) / 2
            by_content[design.content[row]] = by_content.get(design.content[row], 0.0) + psi
            own = [i for i in np.flatnonzero(design.review_output == row) if np.isfinite(design.review_scores[i, k])]
            for i in own:
                deviation = design.review_scores[i, k] - design.scores[row, k]
                share = (psi + zx[position] * deviation / sd) / len(own)
                cluster = design.review_reviewer[i] if design.review_reviewer[i] >= 0 else ("unknown", i)
                by_reviewer[cluster] = by_reviewer.get(cluster, 0.0) + share
                by_row += share**2
        content = sum(value**2 for value in by_content.values())
        reviewer = sum(value**2 for value in by_reviewer.values())
        variance = max(content + reviewer - by_row, content, reviewer) / len(rows) ** 2
        known = [cluster for cluster in by_reviewer if not isinstance(cluster, tuple)]
        df = min(len(known), len(by_content)) - 1
        p = 2 * stats.t.sf(abs(r) / np.sqrt(variance), df)
        expected_z = max(1.06 / (len(rows) - 3), variance / (1 - r**2) ** 2)
        assert result.n_reviewers[g, j, k] == len(known)
        assert result.z_variance[g, j, k] == pytest.approx(expected_z, rel=1e-9)
        if not result.permuted[g, j, k]:
            t_test = stats.spearmanr(design.features[rows, j], design.scores[rows, k]).pvalue
            assert result.p_value[g, j, k] == pytest.approx(max(p, t_test), rel=1e-8)


@pytest.mark.slow
def test_heavy_ties_get_a_permutation_p_that_agrees_with_scipy() -> None:
    rng = np.random.default_rng(5)
    n = 40
    feature = np.where(rng.random(n) < 0.7, 0.0, rng.lognormal(size=n))[:, None]
    score = rng.normal(size=(n, 1)) + 0.5 * (feature > 0)
    design = Design(
        np.zeros(n, dtype=int), np.arange(n), feature, score, np.arange(n), np.zeros(n, dtype=int), score, np.array([1]), seed=9
    )
    result = correlate(design)
    assert result.permuted.all()
    expected = stats.permutation_test(  # type: ignore[call-overload]
        (feature[:, 0],),
        lambda x: stats.spearmanr(x, score[:, 0]).statistic,
        permutation_type="pairings",
        n_resamples=9999,
        rng=np.random.default_rng(1),
    ).pvalue
    monte_carlo = 3 * np.sqrt(expected * (1 - expected) / 999)
    assert result.p_value[0, 0, 0] == pytest.approx(expected, abs=monte_carlo + 0.002)


def test_permutation_is_asked_for_only_where_t_is_not_trusted() -> None:
    n = np.array([100.0, 100.0, 5000.0, 5000.0])
    tie = np.array([50.0, 51.0, 4000.0, 4980.0])
    assert needs_permutation(n, tie).tolist() == [False, True, False, True]


@pytest.mark.parametrize("cells", [1, 50, 400, 10_000])
def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    design = random_design(groups=7)
    expected = correlate(design)
    monkeypatch.setattr(module, "_BLOCK_CELLS", cells)
    result = correlate(design)
    for name in ("r", "r_pearson", "p_value", "z_variance", "z_df", "n", "n_reviewers"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


def test_result_of_a_group_does_not_depend_on_the_other_groups() -> None:
    design = random_design(groups=5)
    rows, everything = design.group == 3, correlate(design)
    reviews = rows[design.review_output]
    first = np.flatnonzero(rows)[0]
    alone = correlate(
        Design(
            np.zeros(rows.sum(), dtype=int),
            design.content[rows],
            design.features[rows],
            design.scores[rows],
            design.review_output[reviews] - first,
            design.review_reviewer[reviews],
            design.review_scores[reviews],
            design.names[[3]],
        )
    )
    np.testing.assert_array_equal(alone.p_value[0], everything.p_value[3])
    np.testing.assert_array_equal(alone.r[0], everything.r[3])


def test_inputs_are_not_changed() -> None:
    design = random_design()
    before = design.features.copy(), design.scores.copy(), design.review_scores.copy()
    correlate(design)
    for old, new in zip(before, (design.features, design.scores, design.review_scores), strict=True):
        np.testing.assert_array_equal(old, new)


def tiny_design(feature: list[float], score: list[float], reviewers: int = 1) -> Design:
    n = len(feature)
    y = np.array(score, dtype=float)[:, None]
    reviewer = np.arange(n) % reviewers
    return Design(
        np.zeros(n, dtype=int),
        np.arange(n),
        np.array(feature, dtype=float)[:, None],
        y,
        np.arange(n),
        reviewer,
        y,
        np.array([1]),
    )


def test_constant_feature_and_constant_score_are_undefined_not_zero() -> None:
    rising = [float(i) for i in range(30)]
    feature = correlate(tiny_design([2.0] * 30, rising))
    score = correlate(tiny_design(rising, [7.0] * 30))
    assert feature.constant_feature.all()
    assert not feature.constant_score.any()
    assert score.constant_score.all()
    for result in (feature, score):
        assert np.isnan(result.r).all()
        assert np.isnan(result.p_value).all()
        assert np.isnan(result.interval()[0]).all()


def test_perfect_correlation_has_a_finite_interval() -> None:
    rising = [float(i) for i in range(30)]
    result = correlate(tiny_design(rising, rising, reviewers=10))
    low, high = result.interval()
    assert result.r[0, 0, 0] == 1.0
    assert result.p_value[0, 0, 0] < 1e-6
    assert 0.9 < low[0, 0, 0] < high[0, 0, 0] < 1.0


def test_fewer_than_ten_outputs_are_not_tested() -> None:
    result = correlate(tiny_design([float(i) for i in range(9)], [3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 9.0, 8.0, 7.0]))
    assert np.isfinite(result.r).all()
    assert np.isnan(result.p_value).all()


def test_infinite_and_huge_values_poison_nothing() -> None:
    design = random_design()
    features = design.features.copy()
    features[0, 0] = np.inf
    features[:, 2] *= 1e306
    poisoned = Design(
        design.group,
        design.content,
        features,
        design.scores,
        design.review_output,
        design.review_reviewer,
        design.review_scores,
        design.names,
    )
    result, clean = correlate(poisoned), correlate(design)
    np.testing.assert_allclose(result.r_pearson[:, 2], clean.r_pearson[:, 2], rtol=1e-9)
    np.testing.assert_array_equal(result.r[:, 1:], clean.r[:, 1:])
    assert result.n[design.group[0], 0].max() < clean.n[design.group[0], 0].max()


def test_no_outputs_at_all() -> None:
    nothing = np.empty(0, dtype=int)
    result = correlate(
        Design(nothing, nothing, np.empty((0, 2)), np.empty((0, 3)), nothing, nothing, np.empty((0, 3)), np.array([5, 6]))
    )
    assert result.r.shape == (2, 2, 3)
    assert (result.n == 0).all()
    assert np.isnan(result.r).all()


def test_values_that_differ_by_rounding_alone_are_ties() -> None:
    """A constant .7 measured as means of one to five equal numbers is constant; a score less a severity keeps its ties."""
    n = 60
    means = [sum([0.7] * k) / k for k in range(1, 6)]
    assert len(set(means)) > 1
    rng = np.random.default_rng(3)
    result = correlate(tiny_design([means[i % 5] for i in range(n)], rng.normal(size=n).tolist(), reviewers=8))
    assert result.constant_feature.all()
    assert np.isnan(result.r).all()
    coarse = rng.integers(0, 4, n)
    noisy = coarse + np.where(rng.random(n) < 0.5, 0.1 + 0.2 - 0.3, 0.0)
    feature = rng.normal(size=n).tolist()
    exact = correlate(tiny_design(feature, coarse.astype(float).tolist(), reviewers=8))
    np.testing.assert_array_equal(correlate(tiny_design(feature, noisy.tolist(), reviewers=8)).r, exact.r)
