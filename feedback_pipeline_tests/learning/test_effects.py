import numpy as np
import pytest
from scipy import stats

from feedback_pipeline.learning.effects import CONFOUNDED, CONSTANT, INSUFFICIENT_DATA, ONE_CLASS, approval_effects


def hedges_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    freedom = len(a) + len(b) - 2
    sd = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    return float((1 - 3 / (4 * freedom - 1)) * (a.mean() - b.mean()) / sd)


def test_every_group_and_feature_agrees_with_scipy_and_a_row_by_row_reference() -> None:
    rng = np.random.default_rng(1)
    group = rng.integers(0, 4, 400)
    features = np.column_stack([rng.normal(size=400), rng.poisson(2, 400), rng.lognormal(0, 1, 400)]).astype(float)
    features[rng.random(features.shape) < 0.1] = np.nan
    approved = np.where(rng.random(400) < 0.1, np.nan, (rng.random(400) < 0.6).astype(float))
    found = approval_effects(features, approved, group, 4)
    for g in range(4):
        for j in range(3):
            x = features[:, j]
            rows = (group == g) & np.isfinite(x)
            a, b = x[rows & (approved == 1)], x[rows & (approved == 0)]
            expected = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False)
            pairs = np.sign(a[:, None] - b[None, :])
            assert found.p_value[g, j] == pytest.approx(expected.pvalue, rel=1e-9)
            assert found.cliff[g, j] == pytest.approx(pairs.mean(), abs=1e-12)
            assert found.g[g, j] == pytest.approx(hedges_by_hand(a, b), rel=1e-3)
            assert (found.n_approved[g, j], found.n_other[g, j]) == (len(a), len(b))
            assert found.mean_approved[g, j] == pytest.approx(a.mean())
            assert found.mean_other[g, j] == pytest.approx(b.mean())


def test_a_group_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(2)
    group, stratum = rng.integers(0, 3, 300), rng.integers(0, 4, 300)
    x, approved = rng.normal(size=(300, 2)), (rng.random(300) < 0.5).astype(float)
    together = approval_effects(x, approved, group, 3, stratum)
    rows = group == 1
    alone = approval_effects(x[rows], approved[rows], np.zeros(rows.sum(), dtype=int), 1, stratum[rows])
    np.testing.assert_allclose(together.g[1], alone.g[0], rtol=1e-12)
    np.testing.assert_allclose(together.p_value[1], alone.p_value[0], rtol=1e-12)


@pytest.mark.parametrize("n", [20, 50, 200])
def test_the_interval_covers_the_planted_difference(n: int) -> None:
    rng = np.random.default_rng(n)
    worlds = 2000
    approved = np.tile(np.r_[np.ones(n // 2), np.zeros(n - n // 2)], worlds)
    x = rng.normal(size=(n * worlds, 1)) + 0.5 * approved[:, None]
    found = approval_effects(x, approved, np.repeat(np.arange(worlds), n), worlds)
    cover = ((found.ci_low <= 0.5) & (found.ci_high >= 0.5)).mean()
    assert 0.935 <= cover <= 0.965
    assert found.g.mean() == pytest.approx(0.5, abs=3 * found.g.std() / np.sqrt(worlds))


def test_strata_remove_an_effect_that_is_only_who_judged() -> None:
    # Strict reviewers (stratum 1) were given long outputs; length itself does nothing.
    rng = np.random.default_rng(3)
    worlds, n = 400, 100
    stratum = rng.integers(0, 2, worlds * n)
    x = (rng.normal(size=worlds * n) + 1.5 * stratum)[:, None]
    approved = (rng.random(worlds * n) < np.where(stratum == 1, 0.3, 0.8)).astype(float)
    group = np.repeat(np.arange(worlds), n)
    plain = approval_effects(x, approved, group, worlds)
    fair = approval_effects(x, approved, group, worlds, stratum)
    assert (plain.p_value < 0.05).mean() > 0.5
    assert (fair.p_value < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / worlds)
    assert abs(fair.g.mean()) < 3 * fair.g.std() / np.sqrt(worlds)


def test_what_cannot_be_compared_says_why() -> None:
    n = 40
    half = np.tile([0.0, 1.0], n // 2)
    x = np.random.default_rng(4).normal(size=n)
    zero = np.zeros(n, dtype=int)
    few = np.where(np.arange(n) < 19, half, np.nan)
    cases = {
        INSUFFICIENT_DATA: approval_effects(x[:, None], few, zero, 1),
        ONE_CLASS: approval_effects(x[:, None], np.ones(n), zero, 1),
        CONFOUNDED: approval_effects(x[:, None], half, zero, 1, half.astype(int)),
        CONSTANT: approval_effects(np.full((n, 1), 0.1), half, zero, 1),
    }
    for reason, found in cases.items():
        assert found.reason[0, 0] == reason
        assert np.isnan([found.g[0, 0], found.se[0, 0], found.cliff[0, 0], found.p_value[0, 0], found.ci_low[0, 0]]).all()


def test_hostile_values() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=60)
    approved = np.tile([0.0, 1.0], 30)
    features = np.column_stack([x, x * 1e300, x * 1e-300, np.where(np.arange(60) == 0, np.inf, x), np.full(60, np.nan)])
    found = approval_effects(features, approved, np.zeros(60, dtype=int), 1)
    assert found.g[0, 1] == pytest.approx(found.g[0, 0], rel=1e-9)
    assert found.g[0, 2] == pytest.approx(found.g[0, 0], rel=1e-9)
    assert found.n_other[0, 3] == 29
    assert found.reason[0].tolist() == [None, None, None, None, INSUFFICIENT_DATA]
    nothing = approval_effects(np.empty((0, 1)), np.empty(0), np.empty(0, dtype=int), 2)
    assert nothing.reason.tolist() == [[INSUFFICIENT_DATA], [INSUFFICIENT_DATA]]
    assert approval_effects(np.empty((5, 0)), np.ones(5), np.zeros(5, dtype=int), 1).g.shape == (1, 0)
