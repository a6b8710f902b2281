import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from feedback_pipeline.learning.effects import CONFOUNDED, CONSTANT, INSUFFICIENT_DATA, ONE_CLASS
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.threshold_lift import folds, stratified_lift, widened
from feedback_pipeline.learning.threshold_scan import BINS, Binned, quantile_bins, scan
from feedback_pipeline.learning.threshold_tests import _serfling, tail_probabilities
from feedback_pipeline.learning.thresholds import Thresholds, approval_curve, find_thresholds
from feedback_pipeline_tests.learning.pattern_worlds import planted_step


def find(x: Floats, y: Floats, group: Ints, stratum: Ints | None = None) -> Thresholds:
    names = np.arange(100, 101 + group.max(initial=0))
    return find_thresholds(x, y, group, names, seed=1, stratum=stratum)


def test_planted_step_at_500_outputs() -> None:
    x, y, group, lift = planted_step(500, 60, 1.3, 1)
    found = find(x, y, group)
    assert np.abs(found.cut - 0.85).mean() <= 0.03
    assert (found.p_value < 0.05).mean() >= 0.9
    assert found.lift.mean() == pytest.approx(lift, abs=0.03)
    assert (found.direction == 1).all()
    cover = ((found.cut_low <= 0.85) & (found.cut_high >= 0.85)).mean()
    assert cover >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 60)


def test_null_rate() -> None:
    x, y, group, _ = planted_step(200, 300, 0.0, 2)
    found = find(x, y, group)
    assert (found.p_value < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert abs(found.lift.mean()) < 0.02
    assert pd.isna(found.reason).mean() <= 0.08


def test_the_cut_is_the_best_of_all_row_by_row() -> None:
    x, y, group, _ = planted_step(300, 1, -1.0, 3)
    found = find(x, y, group)
    bins = quantile_bins(x[:, 0])
    values = []
    for b in range(bins.max()):
        above = bins > b
        table = np.array([[y[above].sum(), (1 - y[above]).sum()], [y[~above].sum(), (1 - y[~above]).sum()]])
        if min(above.sum(), (~above).sum()) >= 30:
            g2 = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
            values.append((g2, (x[above, 0].min() + x[~above, 0].max()) / 2))
    assert found.g2[0, 0] == pytest.approx(max(values)[0], rel=1e-9)
    assert found.cut[0, 0] == pytest.approx(max(values)[1])


def test_with_one_stratum_the_interval_of_a_clear_cut_is_newcombes() -> None:
    x, y, group, _ = planted_step(2000, 1, 1.3, 4)
    f = find(x, y, group)
    good, bad = f.n_good[0, 0], f.n_bad[0, 0]
    low, high = confint_proportions_2indep(
        round(f.good_rate[0, 0] * good), good, round(f.bad_rate[0, 0] * bad), bad, method="newcomb"
    )
    assert (f.lift_low[0, 0], f.lift_high[0, 0]) == (pytest.approx(low), pytest.approx(high))


def test_strata_remove_a_cut_that_is_only_who_judged() -> None:
    rng = np.random.default_rng(5)
    worlds, n = 100, 200
    stratum = rng.integers(0, 2, worlds * n)
    x = (rng.normal(size=worlds * n) + stratum)[:, None]
    y = (rng.random(worlds * n) < np.where(stratum == 1, 0.3, 0.7)).astype(float)
    group = np.repeat(np.arange(worlds), n)
    assert (find(x, y, group).p_value < 0.05).mean() > 0.5
    fair = find(x, y, group, stratum)
    assert (fair.p_value < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / worlds)
    assert abs(fair.lift.mean()) < 0.03


def test_a_group_does_not_depend_on_the_others() -> None:
    x, y, group, _ = planted_step(150, 3, 1.3, 6)
    together = find(x, y, group)
    rows = group == 1
    alone = find_thresholds(x[rows], y[rows], group[rows] * 0, np.array([101]), seed=1)
    for name in ("cut", "p_value", "lift", "cut_low", "stability"):
        np.testing.assert_array_equal(getattr(together, name)[1], getattr(alone, name)[0])


def test_what_cannot_be_tested_says_why() -> None:
    n = 120
    half, zero = np.tile([0.0, 1.0], n // 2), np.zeros(n, dtype=int)
    x = np.random.default_rng(7).normal(size=(n, 1))
    assert find(x, np.where(np.arange(n) < 19, half, np.nan), zero).reason[0, 0] == INSUFFICIENT_DATA
    assert find(x, np.ones(n), zero).reason[0, 0] == ONE_CLASS
    assert find(np.ones((n, 1)), half, zero).reason[0, 0] == CONSTANT
    assert find(x, half, zero, half.astype(int)).reason[0, 0] == CONFOUNDED
    assert find(np.empty((0, 1)), np.empty(0), zero[:0]).reason[0, 0] == INSUFFICIENT_DATA


def test_monotone_curve() -> None:
    x, y, _, _ = planted_step(2000, 1, 1.3, 8)
    at, share, observed, n = approval_curve(x[:, 0], y, 1)
    assert n.sum() == 2000
    assert (observed * n).sum() == pytest.approx(y.sum())
    assert (share * n).sum() == pytest.approx(y.sum())
    assert len(at) <= 32
    assert (np.diff(at) > 0).all()
    assert (np.diff(share) >= 0).all()
    assert share[-1] - share[0] > 0.2
    assert approval_curve(np.empty(0), np.empty(0), 1)[0].shape == (0,)


def test_quantile_bins_are_those_of_a_plain_reference() -> None:
    rng = np.random.default_rng(9)
    for x in (
        rng.normal(size=501),
        rng.poisson(1.5, 300).astype(float),
        np.ones(40),
        rng.random(7),
        np.repeat([1.0, 2.0], [5, 200]),
    ):
        values, place, count = np.unique(x, return_inverse=True, return_counts=True)
        rough = (BINS * (np.cumsum(count) - 0.5 * count) / len(x)).astype(int)
        np.testing.assert_array_equal(quantile_bins(x), np.unique(rough, return_inverse=True)[1][place])
        assert len(values) >= quantile_bins(x).max() + 1


def convolved(above: Ints, size: Ints, wins: Ints) -> Floats:
    density = np.ones(1)
    for m, n, k in zip(above, size, wins, strict=True):
        density = np.convolve(density, stats.hypergeom(n, k, m).pmf(np.arange(m + 1)))
    return density


def test_tail_probabilities_are_those_of_convolved_hypergeometrics() -> None:
    rng = np.random.default_rng(10)
    for n_strata in (1, 3, 70):
        size = rng.integers(5, 60, n_strata)
        wins = rng.integers(1, size)
        above = np.stack([rng.integers(0, size + 1) for _ in range(4)])
        density = [convolved(row, size, wins) for row in above]
        mean = (above * wins / size).sum(axis=1)
        far = np.array([1, 1, 8, 9])  # the last probabilities are tiny
        low, high = np.floor(mean - 4 * far), np.ceil(mean + 6 * far)
        found = tail_probabilities(above, size, wins, low, high)
        exact = [d[(np.arange(len(d)) <= a) | (np.arange(len(d)) >= b)].sum() for d, a, b in zip(density, low, high, strict=True)]
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=2e-15)
        assert (found >= np.array(exact) * (1 - 1e-9)).all()
        assert (_serfling(above, size, wins, low, high) >= np.array(exact)).all()


def test_p_values_of_strong_cuts_are_small_upper_bounds_of_the_exact_one() -> None:
    # One stratum, two values of 30 and 30: a single cut, so the sum over cuts is the exact two-sided probability itself.
    x = np.repeat([0.0, 1.0], 30)
    y = np.r_[np.repeat([0.0, 1.0], [24, 6]), np.repeat([0.0, 1.0], [6, 24])]
    found = find(x[:, None], y, np.zeros(60, dtype=int))
    law = stats.hypergeom(60, 30, 30)
    assert found.p_value[0, 0] == pytest.approx(law.cdf(6) + law.sf(23), rel=1e-6)
    # Many cuts: the share of reshufflings, where they can tell, is no larger.
    worlds = [planted_step(150, 1, 1.9, seed) for seed in range(40)]
    compared = 0
    for x, y, group, _ in worlds:
        p = find(x, y, group).p_value[0, 0]
        if p <= 0.005:
            rng = np.random.default_rng(0)
            binned = Binned.of(x.T, y.astype(int), group, group)
            observed = find(x, y, group).g2[0, 0]
            shuffled = rng.permuted(np.broadcast_to(binned.approved, (4000, 150)), axis=1)
            won = np.stack([np.bincount(binned.bins[0], row, BINS) for row in shuffled])
            n = binned.per_bin()
            largest = scan(n, np.full(4000, y.sum()), won - n * y.mean())[0].max(axis=1)
            share = (largest >= observed - 1e-9).mean()
            assert share <= p + 3 * np.sqrt(max(share, p) * (1 / 4000 + 1 / 1024))
            compared += 1
    assert compared >= 10


def test_rare_p_values_are_level_under_the_null() -> None:
    rng = np.random.default_rng(11)
    worlds, n = 1500, 120
    x, stratum = rng.normal(size=(worlds * n, 1)), rng.integers(0, 3, worlds * n)
    y = (rng.random(worlds * n) < np.array([0.3, 0.5, 0.7])[stratum]).astype(float)
    p = find(x, y, np.repeat(np.arange(worlds), n), stratum).p_value[:, 0]
    for level in (0.005, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / worlds)
    assert (p <= 0.2).mean() >= 0.2 - 0.06  # and not merely cautious


def test_a_feature_does_not_depend_on_the_others_and_missing_rows_are_left_out() -> None:
    x, y, group, _ = planted_step(400, 1, 1.3, 12)
    rng = np.random.default_rng(12)
    noise = rng.normal(size=(400, 3))
    noise[rng.random(400) < 0.2, 1] = np.nan
    together = find(np.column_stack([noise, x]), y, group)
    alone = find(np.column_stack([x, noise[:, 1]]), y, group)
    for name in Thresholds.__dataclass_fields__:
        if name not in ("q_value", "reason"):
            np.testing.assert_array_equal(getattr(together, name)[0, [3, 1]], getattr(alone, name)[0], err_msg=name)
    known = np.isfinite(noise[:, 1])
    dropped = find(noise[known, 1:2], y[known], group[known])
    assert together.n[0, 1] == dropped.n[0, 0] == known.sum()
    assert (together.g2[0, 1], together.cut[0, 1]) == (dropped.g2[0, 0], dropped.cut[0, 0])


def test_outputs_of_one_content_share_a_fold_whatever_their_codes() -> None:
    content = np.repeat(np.arange(50), 4)
    found = folds(content, 10, (1, 2))
    assert all(len(set(found[content == one])) == 1 for one in range(50))
    np.testing.assert_array_equal(found, folds(content * 7 + 3, 10, (1, 2)))
    assert np.bincount(folds(np.arange(100), 10, (1,))).tolist() == [10] * 10


def test_the_interval_of_the_lift_claims_no_more_than_the_test() -> None:
    x, y, group, _ = planted_step(200, 400, 0.0, 13)
    found = find(x, y, group)
    clear = (found.lift_low > 0).mean()
    assert clear <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    covered = ((found.lift_low <= 0) & (found.lift_high >= 0)).mean()
    assert covered >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 400)
    lift = stratified_lift(np.array([[20, 80]]), np.array([[60, 40]]))
    assert widened(lift, np.array(1e-9)) == lift
    stretched = widened(lift, np.array(0.5))
    assert lift["lift"] / stretched["lift_se"] == pytest.approx(stats.norm.isf(0.25))


def test_bootstrap_of_rows_and_of_sums_agree() -> None:
    x, y, group, _ = planted_step(999, 40, 1.3, 14)
    rows = find(x, y, group)
    x, y, group, _ = planted_step(1000, 40, 1.3, 14)
    sums = find(x, y, group)
    width = [np.nanmean(found.cut_high - found.cut_low) for found in (rows, sums)]
    assert width[0] == pytest.approx(width[1], rel=0.25)
    assert np.nanmean(rows.stability) == pytest.approx(np.nanmean(sums.stability), abs=0.1)
