import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from feedback_pipeline.learning.auto_approval import ALPHAS, MIN_ROWS, AutoApproval, auto_approval, replay, upper_bound, what_if

WEEK = 7 * 86_400 * 10**9
MONDAY = 4 * 86_400 * 10**9
_MEAN_LOGIT, _SD_LOGIT, _SHAPE = 0.548, 2.172, 4.0


def forecasts(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated P(approve) and decisions: 55 % approved, AUC .86, log odds with a long tail of sure approvals (gamma)."""
    rng = np.random.default_rng(seed)
    eta = _MEAN_LOGIT + _SD_LOGIT * (rng.gamma(_SHAPE, size=n) - _SHAPE) / np.sqrt(_SHAPE)
    p = expit(eta)
    return p, (rng.random(n) < p).astype(float)


def true_error(rule: AutoApproval, p: np.ndarray) -> float:
    """Share of rejects among what the rule approves of many calibrated forecasts; NaN where it approves nothing."""
    passed = p[p >= rule.threshold]
    return float((1 - passed).mean()) if len(passed) else np.nan


def over_weeks(n: int, weeks: int) -> np.ndarray:
    return MONDAY + (np.arange(n) * weeks // n) * WEEK + np.arange(n)


def test_the_world_is_the_one_the_bars_were_measured_in() -> None:
    p, approved = forecasts(0, 200_000)
    assert approved.mean() == pytest.approx(0.55, abs=0.01)
    pairs = approved.sum() * (1 - approved).sum()
    assert stats.mannwhitneyu(p[approved == 1], p[approved == 0]).statistic / pairs == pytest.approx(0.86, abs=0.005)


@pytest.mark.parametrize(
    ("n", "alpha", "least"), [(2_000, 0.05, 0.03), (10_000, 0.05, 0.14), (40_000, 0.05, 0.18), (40_000, 0.10, 0.29)]
)
def test_the_risk_is_kept_and_reviews_are_spared(n: int, alpha: float, least: float) -> None:
    seeds = 40
    future, _ = forecasts(10**6, 200_000)
    found = [auto_approval(*forecasts(seed, n), alpha) for seed in range(seeds)]
    errors = np.array([true_error(rule, future) for rule in found])
    kept = ~(errors > alpha + 0.01)
    assert kept.mean() >= 0.9 - 3 * np.sqrt(0.09 / seeds)
    assert (errors > alpha).mean() <= 0.10 + 3 * np.sqrt(0.09 / seeds)
    assert np.mean([rule.spared for rule in found]) >= least


def test_the_threshold_is_the_last_of_an_unbroken_run_of_bounds() -> None:
    p, approved = forecasts(1, 3_000)
    found = auto_approval(p, approved, 0.10)
    ordered = (1 - approved)[np.argsort(-p)]
    counts = np.arange(30, 3_001, 30)
    bounds = np.array([stats.beta.ppf(0.9, ordered[:k].sum() + 1, k - ordered[:k].sum()) for k in counts])
    tested = counts >= 2 * np.log(0.1) / np.log(0.9)
    last = counts[tested][np.flatnonzero(bounds[tested] > 0.10)[0] - 1]
    assert found.n_approved == last
    assert found.threshold == np.sort(p)[::-1][last - 1]
    assert found.share == pytest.approx(last / 3_000)
    assert found.spared == pytest.approx(0.9 * found.share)
    assert found.rejected == pytest.approx(ordered[:last].mean())
    assert found.upper == pytest.approx(bounds[counts == last][0])
    assert found.rejected < found.upper <= 0.10
    assert (found.n, found.reason) == (3_000, None)


def test_a_failure_near_the_top_ends_it_even_if_more_would_pass() -> None:
    p = np.linspace(1.0, 0.0, 2_000)
    approved = np.ones(2_000)
    approved[:60] = 0.0
    assert auto_approval(p, approved, 0.05).reason == "even of the surest forecasts more than 5 % may be rejects"


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    k, n = np.array([0, 1, 5, 20, 0]), np.array([45, 100, 100, 20, 0])
    exact = [stats.binomtest(int(a), int(b)).proportion_ci(0.8, "exact").high for a, b in zip(k[:4], n[:4], strict=True)]
    np.testing.assert_allclose(upper_bound(k.astype(float), n.astype(float)), [*exact, 1.0], rtol=1e-9)


def test_equal_forecasts_pass_or_fail_together() -> None:
    p = np.repeat([0.95, 0.4], 500)
    approved = np.ones(1_000)
    approved[500:800] = 0.0
    found = auto_approval(p, approved, 0.05)
    assert (found.threshold, found.share, found.n_approved) == (0.95, 0.5, 500)
    all_equal = auto_approval(np.full(1_000, 0.7), approved, 0.05)
    assert np.isnan(all_equal.threshold)
    assert auto_approval(np.full(1_000, 0.7), np.ones(1_000), 0.05).share == 1.0


def test_audited_rows_count_for_what_they_stand_for_but_are_no_more_evidence() -> None:
    p, approved = forecasts(2, 8_000)
    once = auto_approval(p, approved, 0.10)
    tenfold = auto_approval(p, approved, 0.10, np.full(8_000, 10.0))
    assert tenfold == once
    order = np.random.default_rng(1).permutation(8_000)
    weight = np.where(np.arange(8_000) % 2 == 0, 1.0, 10.0)
    mixed = auto_approval(p, approved, 0.10, weight)
    assert mixed == auto_approval(p[order], approved[order], 0.10, weight[order])
    passed, rejects = weight[p >= mixed.threshold], (weight * (1 - approved))[p >= mixed.threshold]
    assert mixed.share == pytest.approx(passed.sum() / weight.sum())
    assert mixed.rejected == pytest.approx(rejects.sum() / passed.sum())
    rows = np.array([passed.sum() ** 2 / (passed**2).sum()])
    assert rows[0] < 0.65 * mixed.n_approved
    assert mixed.upper == pytest.approx(upper_bound(mixed.rejected * rows, rows)[0])


@pytest.mark.parametrize(
    ("p", "approved", "reason"),
    [
        (np.empty(0), np.empty(0), "0 decisions on earlier forecasts; a threshold needs 500"),
        (np.full(MIN_ROWS, np.nan), np.ones(MIN_ROWS), "0 decisions on earlier forecasts; a threshold needs 500"),
        (np.full(MIN_ROWS - 1, 0.99), np.ones(MIN_ROWS - 1), "499 decisions on earlier forecasts; a threshold needs 500"),
        (np.linspace(0, 1, 600), np.zeros(600), "even of the surest forecasts more than 5 % may be rejects"),
    ],
)
def test_no_threshold_has_its_reason(p: np.ndarray, approved: np.ndarray, reason: str) -> None:
    found = auto_approval(p, approved, 0.05)
    assert found.reason == reason
    assert (found.share, found.spared, found.n_approved) == (0.0, 0.0, 0)
    assert np.isnan([found.threshold, found.rejected, found.upper]).all()


def test_where_all_are_approved_all_reviews_but_the_audits_could_be_spared() -> None:
    found = auto_approval(np.linspace(0.5, 1.0, 1_000), np.ones(1_000), 0.02)
    assert (found.share, found.spared, found.rejected) == (1.0, 0.9, 0.0)
    assert 0 < found.upper < 0.003


def test_the_table_has_a_row_for_each_risk() -> None:
    p, approved = forecasts(3, 20_000)
    found = what_if(p, approved)
    assert [rule.alpha for rule in found] == list(ALPHAS)
    assert found[0].share < found[1].share < found[2].share


def test_the_audit_rule_spares_reviews_week_by_week_and_keeps_the_risk() -> None:
    for seed in range(4):
        p, approved = forecasts(seed, 40_000)
        found = replay(p, approved, over_weeks(40_000, 13), 0.05, seed)
        assert found.rejected <= 0.06
        assert found.spared >= 0.08
        first = found.weeks.iloc[0]
        assert (first["week"], first["n_approved"]) == ("1970-01-05", 0)
        assert first["reason"] == "0 decisions on earlier forecasts; a threshold needs 500"
        assert found.weeks["n"].sum() == found.n == 40_000
        assert found.weeks["n_approved"].sum() == found.n_approved
        audited = found.weeks["n_audited"].sum() / found.n_approved
        assert audited == pytest.approx(0.1, abs=3 * np.sqrt(0.09 / found.n_approved))
        assert found.spared == pytest.approx(found.n_approved * (1 - audited) / 40_000)


def test_it_switches_itself_off_when_the_audits_fail() -> None:
    """From week 8 on forecasts say nothing: decisions are a coin."""
    p, approved = forecasts(5, 40_000)
    moment = over_weeks(40_000, 16)
    broken = moment >= MONDAY + 8 * WEEK
    approved = np.where(broken, np.random.default_rng(6).random(40_000) < 0.5, approved).astype(float)
    found = replay(p, approved, moment, 0.10, 1).weeks
    assert found["threshold"].notna().iloc[1:9].all()
    assert found["threshold"].isna().iloc[10:].all()
    assert found["reason"].iloc[11] == "even of the surest forecasts more than 10 % may be rejects"
    assert found["n_approved"].iloc[10:].sum() == 0
    assert found["rejected"].iloc[8] == pytest.approx(0.5, abs=0.08)


def test_only_what_was_known_decides() -> None:
    """The week's own decisions, and those of auto-approved outputs nobody audited, change no threshold."""
    p, approved = forecasts(7, 20_000)
    moment = over_weeks(20_000, 10)
    before = replay(p, approved, moment, 0.10, 1)
    changed = approved.copy()
    changed[moment >= MONDAY + 6 * WEEK] = 0.0
    after = replay(p, changed, moment, 0.10, 1)
    np.testing.assert_array_equal(before.weeks["threshold"].iloc[:7], after.weeks["threshold"].iloc[:7])
    assert after.weeks["threshold"].iloc[8:].isna().all()


def test_of_the_auto_approved_only_the_audited_are_known_and_each_stands_for_ten() -> None:
    """The weeks one by one; rows are in order of time, so the audits are drawn in their order."""
    p, approved = forecasts(10, 20_000)
    moment = over_weeks(20_000, 8)
    found = replay(p, approved, moment, 0.10, 3).weeks["threshold"].to_numpy()
    week, audited = (moment - MONDAY) // WEEK, np.random.default_rng(3).random(20_000) < 0.1
    threshold = np.full(8, np.nan)
    for this in range(1, 8):
        passed = p >= threshold[week]
        rows = (week >= this - 3) & (week < this) & (~passed | audited)
        threshold[this] = auto_approval(p[rows], approved[rows], 0.10, np.where(passed[rows], 10.0, 1.0)).threshold
    np.testing.assert_array_equal(found, threshold)
    assert np.isfinite(found[1:]).sum() >= 5


def test_replaying_nothing_little_and_gaps() -> None:
    nothing = replay(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), 0.05, 1)
    assert nothing.weeks.empty
    assert np.isnan([nothing.spared, nothing.rejected]).all()
    assert list(nothing.weeks) == ["week", "n", "threshold", "n_approved", "n_audited", "rejected", "audit_rejected", "reason"]
    p, approved = forecasts(8, 4_000)
    p[:100], approved[100:200] = np.nan, np.nan
    moment = np.where(np.arange(4_000) < 2_000, MONDAY, MONDAY + 9 * WEEK)
    gap = replay(p, approved, moment, 0.10, 1)
    assert gap.n == 3_800
    assert gap.weeks["n"].tolist() == [1_800, 0, 0, 0, 0, 0, 0, 0, 0, 2_000]
    assert gap.n_approved == 0


def test_the_replay_is_reproducible_whatever_the_row_order() -> None:
    p, approved = forecasts(9, 8_000)
    moment, order = over_weeks(8_000, 5), np.random.default_rng(2).permutation(8_000)
    first = replay(p, approved, moment, 0.10, 3)
    second = replay(p[order], approved[order], moment[order], 0.10, 3)
    pd.testing.assert_frame_equal(first.weeks, second.weeks, check_exact=True)
    assert (first.spared, first.rejected) == (second.spared, second.rejected)
    assert first.spared != replay(p, approved, moment, 0.10, 4).spared
