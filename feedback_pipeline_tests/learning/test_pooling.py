import numpy as np
import pytest
from scipy import integrate, stats
from statsmodels.stats.meta_analysis import combine_effects

from feedback_pipeline.learning.pooling import confidence, pool, q_values, shrink


def effects(agents: int = 12, columns: int = 5, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Asymmetric effects with unequal variances."""
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.002, 0.09, (agents, columns))
    return rng.gamma(2.0, 0.15, (agents, columns)) - 0.1 + rng.normal(0, np.sqrt(variance)), variance


def test_pool_equals_statsmodels_dersimonian_laird() -> None:
    z, variance = effects()
    pooled = pool(z, variance)
    for column in range(z.shape[1]):
        expected = combine_effects(z[:, column], variance[:, column], method_re="dl")
        # The oracle does not cut a negative variance at 0, where random effects become fixed ones.
        truncated = expected.tau2 <= 0
        assert pooled.spread[column] == pytest.approx(0.0 if truncated else expected.tau2, rel=1e-10)
        assert pooled.mean[column] == pytest.approx(expected.mean_effect_fe if truncated else expected.mean_effect_re, rel=1e-10)
    assert (pooled.spread > 0).sum() >= 2
    assert (pooled.spread == 0).any()


def test_pool_leaves_out_undefined_values() -> None:
    z, variance = effects()
    z[3, 0], variance[5, 0] = np.nan, np.nan
    kept = np.ones(len(z), dtype=bool)
    kept[[3, 5]] = False
    assert pool(z, variance).mean[0] == pytest.approx(pool(z[kept], variance[kept]).mean[0], rel=1e-12)
    assert pool(z, variance).n[0] == len(z) - 2
    empty = pool(np.full((4, 1), np.nan), np.full((4, 1), np.nan))
    assert np.isnan(empty.mean[0])
    assert np.isnan(empty.spread[0])


def test_shrink_uses_all_agents_from_eight_on_and_the_agent_alone_below() -> None:
    z, variance = effects(agents=8)
    pooled = pool(z, variance)
    expected = (z * pooled.spread + pooled.mean * variance) / (pooled.spread + variance)
    np.testing.assert_allclose(shrink(z, variance), expected, rtol=1e-12)
    few, few_variance = z[:7], variance[:7]
    own = np.maximum((few**2 - few_variance).mean(axis=1, keepdims=True), 0.005)
    np.testing.assert_allclose(shrink(few, few_variance), few * own / (own + few_variance), rtol=1e-12)


def test_q_values_equal_scipy_family_by_family() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(0.5, 2.0, (6, 28))
    p[0, 5:] = np.nan
    p[1] = np.nan
    p[2, 3] = p[2, 4]
    q = q_values(p)
    for row in range(len(p)):
        known = np.isfinite(p[row])
        assert np.isnan(q[row, ~known]).all()
        if known.any():
            np.testing.assert_allclose(q[row, known], stats.false_discovery_control(p[row, known]), rtol=1e-12)


def test_confidence_equals_numerical_integration_under_the_fitted_prior() -> None:
    """One effect repeated: the EM is replayed, the posterior mass of each sign is integrated numerically."""
    rng = np.random.default_rng(7)
    variance = rng.uniform(0.004, 0.03, 200)
    z = rng.normal(0, 0.2, 200) + rng.normal(0, np.sqrt(variance))
    sd = np.concatenate([[0.0], 0.02 * 2.0 ** np.arange(6)])
    likelihood = stats.norm.pdf(z[:, None], 0, np.sqrt(variance[:, None] + sd**2))
    weight = np.full(7, 1 / 7)
    for _ in range(200):
        posterior = likelihood * weight
        weight = (posterior / posterior.sum(axis=1, keepdims=True)).sum(axis=0) + np.array([9.0] + [0.0] * 6)
        weight = weight / weight.sum()
    result = confidence(z, variance)
    for i in (0, 17, 101):
        spike = weight[0] * stats.norm.pdf(z[i], 0, np.sqrt(variance[i]))

        def density(beta: float, i: int = i) -> float:
            prior = sum(w * stats.norm.pdf(beta, 0, s) for w, s in zip(weight[1:], sd[1:], strict=True))
            return float(prior * stats.norm.pdf(z[i], beta, np.sqrt(variance[i])))

        below = integrate.quad(density, -3, 0, points=[-0.05, -0.5], limit=200)[0]
        above = integrate.quad(density, 0, 3, points=[0.05, 0.5], limit=200)[0]
        lfsr = (spike + min(below, above)) / (spike + below + above)
        assert result[i] == pytest.approx(1 - lfsr, abs=1e-4)


def test_confidence_of_noise_is_low_of_a_clear_effect_high_and_undefined_stays_undefined() -> None:
    rng = np.random.default_rng(8)
    variance = np.full(400, 0.02)
    z = rng.normal(0, np.sqrt(0.02), 400)
    z[0], z[1] = 1.2, np.nan
    result = confidence(z, variance)
    assert np.isnan(result[1])
    assert result[0] > 0.99
    assert np.nanmedian(result[2:]) < 0.3
    assert ((result[2:] >= 0) & (result[2:] <= 1)).all()
    assert np.isnan(confidence(np.array([np.nan]), np.array([np.nan]))).all()
