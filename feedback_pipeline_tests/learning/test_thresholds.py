import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from statsmodels.stats.proportion import confint_proportions_2indep

from feedback_pipeline.learning.effects import CONFOUNDED, CONSTANT, INSUFFICIENT_DATA, ONE_CLASS
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.thresholds import Thresholds, approval_curve, find_thresholds, quantile_bins


def planted(n: int, worlds: int, logit: float, seed: int) -> tuple[Floats, Floats, Ints, float]:
    """Approval rises by `logit` where x > .85; also its true lift."""
    rng = np.random.default_rng(seed)
    x = rng.beta(5, 2, n * worlds)
    noise = rng.normal(size=n * worlds)
    p = expit(noise + logit * (x > 0.85))
    lift = float(expit(rng.normal(size=200_000) + logit).mean() - 0.5)
    return x[:, None], (rng.random(n * worlds) < p).astype(float), np.repeat(np.arange(worlds), n), lift


def find(x: Floats, y: Floats, group: Ints, stratum: Ints | None = None) -> Thresholds:
    names = np.arange(100, 101 + group.max(initial=0))
    return find_thresholds(x, y, group, names, [f"x{j}" for j in range(x.shape[1])], seed=1, stratum=stratum)


def test_planted_step_at_500_outputs() -> None:
    x, y, group, lift = planted(500, 60, 1.3, 1)
    found = find(x, y, group)
    assert np.abs(found.cut - 0.85).mean() <= 0.03
    assert (found.p_value < 0.05).mean() >= 0.9
    assert found.lift.mean() == pytest.approx(lift, abs=0.03)
    assert (found.direction == 1).all()
    cover = ((found.cut_low <= 0.85) & (found.cut_high >= 0.85)).mean()
    assert cover >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 60)


def test_null_rate() -> None:
    x, y, group, _ = planted(200, 300, 0.0, 2)
    found = find(x, y, group)
    assert (found.p_value < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert abs(found.lift.mean()) < 0.02
    assert pd.isna(found.reason).mean() <= 0.08


def test_the_cut_is_the_best_of_all_row_by_row() -> None:
    x, y, group, _ = planted(300, 1, -1.0, 3)
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


def test_with_one_stratum_the_interval_is_newcombes() -> None:
    x, y, group, _ = planted(400, 1, 1.3, 4)
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
    x, y, group, _ = planted(150, 3, 1.3, 6)
    together = find(x, y, group)
    rows = group == 1
    alone = find_thresholds(x[rows], y[rows], group[rows] * 0, np.array([101]), ["x0"], seed=1)
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
    x, y, _, _ = planted(2000, 1, 1.3, 8)
    at, share = approval_curve(x[:, 0], y, 1)
    assert len(at) <= 32
    assert (np.diff(at) > 0).all()
    assert (np.diff(share) >= 0).all()
    assert share[-1] - share[0] > 0.2
    assert approval_curve(np.empty(0), np.empty(0), 1)[0].shape == (0,)
