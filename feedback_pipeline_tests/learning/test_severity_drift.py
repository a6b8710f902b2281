from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from feedback_pipeline.learning.adjustment import adjust
from feedback_pipeline.learning.panel import Panel
from feedback_pipeline.learning.severity_drift import NOT_SHARED, TOO_FEW_SHARED, TOO_FEW_TO_TEST, SeverityDrift, severity_drift
from feedback_pipeline_tests.learning.test_agreement import BOUNDS, panel_from, real_panel

pytestmark = pytest.mark.slow

MONTHS = 6
# First day of each month of 2026 counted from the first of January.
FIRST_DAYS = np.array([0, 31, 59, 90, 120, 151])


def true_severities(seed: int, reviewers: int) -> np.ndarray:
    return np.random.default_rng((seed, 1)).normal(0, 0.8, reviewers)


def reviewed(
    seed: int,
    reviewers: int = 12,
    outputs: int = 1200,
    per_output: int = 2,
    changes: tuple[tuple[int, float, int], ...] = (),
    unequal_noise: bool = False,
    improvement: float = 0.0,
) -> Panel:
    """Six months of reviews; changes are (reviewer, points, from which month on), improvement is of all outputs per month."""
    rng = np.random.default_rng(seed)
    month = np.sort(rng.integers(0, MONTHS, outputs))
    quality = rng.normal(0, 1, outputs) + improvement * month
    severity = true_severities(seed, reviewers)
    output = np.repeat(np.arange(outputs), per_output)
    reviewer = np.concatenate([rng.permutation(reviewers)[:per_output] for _ in range(outputs)])
    noise = rng.uniform(0.4, 2.0, reviewers) if unequal_noise else np.full(reviewers, 0.9)
    score = 6 + quality[output] + severity[reviewer] + noise[reviewer] * rng.normal(0, 1, len(output))
    for who, points, since in changes:
        score += points * ((reviewer == who) & (month[output] >= since))
    day = FIRST_DAYS[month][output] + rng.integers(0, 28, len(output))
    return panel_from(output, reviewer, score, agent=output % 6, day=day)


def drift_of(panel: Panel) -> SeverityDrift:
    return severity_drift(panel, adjust(panel, BOUNDS))


def flagged(found: SeverityDrift) -> list[int]:
    return [int(name[1:]) for name in found.reviewers.loc[found.reviewers["drifted"], "reviewer_id"]]


@pytest.mark.parametrize("world", [{}, {"unequal_noise": True}, {"improvement": 0.5}, {"reviewers": 3, "outputs": 300}])
def test_reviewers_who_do_not_change_are_rarely_flagged(world: dict[str, float]) -> None:
    p_values, any_flag = [], []
    for seed in range(25):
        found = drift_of(reviewed(seed, **world))  # type: ignore[arg-type]
        p_values.append(found.reviewers["p_value"].to_numpy())
        any_flag.append(found.reviewers["drifted"].any())
    p = np.concatenate(p_values)
    assert (p < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert np.mean(any_flag) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 25)


def test_the_reviewers_who_changed_are_found_with_the_month_and_the_points() -> None:
    found = drift_of(reviewed(4, outputs=3000, changes=((2, 1.0, 3), (7, -1.5, 1))))
    assert flagged(found) == [2, 7]
    months = found.months[found.months["reviewer_id"] == "r00002"].set_index("month")
    assert months.index.tolist() == [f"2026-{month:02d}" for month in range(1, 7)]
    before, after = months["severity"].iloc[:3].mean(), months["severity"].iloc[3:].mean()
    assert after - before == pytest.approx(1.0, abs=0.25)
    assert (months["ci_high"].iloc[:3] < after).all()
    spread = found.reviewers.set_index("reviewer_id")["spread"]
    assert spread["r00002"] == pytest.approx(0.5, abs=0.2)
    assert spread.drop(["r00002", "r00007"]).max() < 0.3


@pytest.mark.parametrize(
    ("reviewers", "per_output", "outputs"),
    [pytest.param(12, 2, 1200, id="crossed"), pytest.param(3, 3, 400, id="three people who rate everything")],
)
def test_who_changed_is_named_not_those_they_are_compared_with(reviewers: int, per_output: int, outputs: int) -> None:
    """One change moves the contrasts of all co-raters."""
    power, false = [], []
    for seed in range(20):
        named = flagged(drift_of(reviewed(seed, reviewers, outputs, per_output, changes=((1, 1.0, 4),))))
        power.append(1 in named)
        false.append(sum(reviewer != 1 for reviewer in named) / max(len(named), 1))
    assert np.mean(power) >= 0.85
    assert np.mean(false) <= 0.05 + 3 * 0.25 / np.sqrt(20)


def test_of_two_who_share_outputs_with_nobody_else_both_are_named() -> None:
    assert flagged(drift_of(reviewed(1, reviewers=2, outputs=400, changes=((0, 1.2, 3),)))) == [0, 1]


def thirty_days(seed: int, first_day: int, change: float = 0.0) -> Panel:
    """The default window: 12 reviewers with some 200 shared outputs each, one of whom changes in the middle."""
    rng = np.random.default_rng((seed, 30))
    output = np.repeat(np.arange(1200), 2)
    reviewer = np.concatenate([rng.permutation(12)[:2] for _ in range(1200)])
    day = rng.integers(0, 30, 1200)[output]
    score = 6 + rng.normal(0, 1, 1200)[output] + rng.normal(0, 0.8, 12)[reviewer] + rng.normal(0, 0.9, 2400)
    return panel_from(output, reviewer, score + change * ((reviewer == 5) & (day >= 15)), day=first_day + day)


@pytest.mark.parametrize(
    ("first_day", "n_months"),
    [pytest.param(0, 1, id="one calendar month"), pytest.param(28, 2, id="three days and a month")],
)
def test_a_change_within_thirty_days_is_found_wherever_the_month_begins(first_day: int, n_months: int) -> None:
    named = []
    for seed in range(8):
        found = drift_of(thirty_days(seed, first_day, change=1.0))
        assert found.reviewers["n_months"].max() == n_months
        assert found.reviewers["reason"].isna().all()
        named.append(flagged(found))
    assert np.mean([5 in who for who in named]) >= 0.6
    assert np.mean([len(flagged(drift_of(thirty_days(seed, first_day)))) > 0 for seed in range(8)]) <= 0.05 + 3 * 0.077


def test_fewer_than_twenty_shared_outputs_are_not_tested_and_twenty_are() -> None:
    for n, reason in ((19, TOO_FEW_TO_TEST), (20, None)):
        score = np.random.default_rng(n).normal(6, 1, 2 * n)
        found = drift_of(panel_from(np.repeat(np.arange(n), 2), np.tile([0, 1], n), score, day=np.repeat(np.arange(n), 2)))
        assert found.reviewers["reason"].tolist() == [reason, reason]
        assert found.reviewers["p_value"].notna().tolist() == [reason is None] * 2
        assert found.months["severity"].notna().all()


def test_intervals_cover_the_true_severity() -> None:
    hits = []
    for seed in range(10):
        months = drift_of(reviewed(seed)).months.dropna(subset="severity")
        truth = true_severities(seed, 12)
        true = (truth - truth.mean())[months["reviewer_id"].str[1:].astype(int)]
        hits.append(((months["ci_low"] <= true) & (true <= months["ci_high"])).mean())
    assert 0.9 <= np.mean(hits) <= 0.98


def test_everybody_rating_everything_gives_the_mean_contrast_and_the_plain_analysis_of_variance() -> None:
    rng = np.random.default_rng(5)
    month = np.repeat([0, 1, 2], 20)
    table = 5 + rng.normal(0, 1, (60, 1)) + np.array([0.5, -0.5]) + rng.normal(0, 0.3, (60, 2))
    panel = panel_from(np.repeat(np.arange(60), 2), np.tile([0, 1], 60), table.ravel(), day=np.repeat(FIRST_DAYS[month] + 3, 2))
    adjustment = adjust(panel, BOUNDS)
    found = severity_drift(panel, adjustment)
    other = adjustment.severities[-1].value[1]
    contrast = table[:, 0] - table[:, 1] + other
    own = found.months[found.months["reviewer_id"] == "r00000"]
    np.testing.assert_allclose(own["severity"], [contrast[month == m].mean() for m in range(3)], atol=1e-10)
    parts = np.split(contrast, 6)
    pooled = np.sqrt(np.mean([part.var(ddof=1) for part in parts]) / 20)
    np.testing.assert_allclose(own["se"], pooled, rtol=1e-10)
    expected = stats.f_oneway(*parts).pvalue
    assert found.reviewers["p_value"].iloc[0] == pytest.approx(expected, rel=1e-9)


def test_comparisons_with_more_people_weigh_more() -> None:
    """Half of the outputs have two reviewers, half five: weighted regressions on months and on parts are the oracle."""
    rng = np.random.default_rng(8)
    sizes = np.tile([2, 5], 60)
    output, reviewer = np.repeat(np.arange(120), sizes), np.concatenate([np.arange(size) for size in sizes])
    month = np.arange(120) // 40
    score = 6 + rng.normal(0, 1, 120)[output] + rng.normal(0, 1, len(output))
    panel = panel_from(output, reviewer, score, day=FIRST_DAYS[month][output])
    adjustment = adjust(panel, BOUNDS)
    found = severity_drift(panel, adjustment)

    adjusted = adjustment.adjusted[:, 0]
    of_others = [adjusted[(output == o) & (reviewer != 0)].mean() for o in range(120)]
    root = np.sqrt(1 - 1 / sizes)
    target = (score[reviewer == 0] - of_others) * root
    parts = np.eye(6)[np.arange(120) // 20] * root[:, None]
    rest = np.linalg.lstsq(parts, target)[1][0]
    months = np.eye(3)[month] * root[:, None]
    own = found.months[found.months["reviewer_id"] == "r00000"]
    np.testing.assert_allclose(own["severity"], np.linalg.lstsq(months, target)[0], atol=1e-10)
    np.testing.assert_allclose(own["se"], np.sqrt(rest / 114 * np.diag(np.linalg.inv(months.T @ months))), rtol=1e-9)
    total = np.linalg.lstsq(root[:, None], target)[1][0]
    p = stats.f.sf((total - rest) / 5 / (rest / 114), 5, 114)
    assert found.reviewers["p_value"].iloc[0] == pytest.approx(p, rel=1e-9)


def test_months_with_too_few_comparisons_are_null_with_a_reason() -> None:
    output = np.concatenate([np.repeat(np.arange(16), 2), np.arange(16, 22)])
    reviewer = np.concatenate([np.tile([0, 1], 16), np.zeros(6, dtype=int)])
    day = np.concatenate([np.repeat(np.where(np.arange(16) < 12, 0, 40), 2), np.full(6, 70)])
    score = np.random.default_rng(2).normal(6, 1, len(output))
    found = drift_of(panel_from(output, reviewer, score, day=day))
    own = found.months[found.months["reviewer_id"] == "r00000"].set_index("month")
    assert own["n_reviews"].tolist() == [12, 4, 6]
    assert own["n_shared"].tolist() == [12, 4, 0]
    assert own["reason"].tolist() == [None, TOO_FEW_SHARED, NOT_SHARED]
    assert own[["severity", "se", "ci_low", "ci_high"]].notna().all(axis=1).tolist() == [True, False, False]
    assert found.reviewers["reason"].tolist() == [TOO_FEW_TO_TEST, TOO_FEW_TO_TEST]
    assert found.reviewers["p_value"].isna().all()
    assert not found.reviewers["drifted"].any()


def test_months_are_calendar_months_in_utc() -> None:
    panel = panel_from(np.repeat(np.arange(12), 2), np.tile([0, 1], 12), np.arange(24.0))
    panel.reviews["reviewed_at"] = pd.Timestamp("2026-02-01 00:30", tz="Europe/Berlin").tz_convert("UTC")
    assert set(drift_of(panel).months["month"]) == {"2026-01"}


def test_a_review_of_an_execution_with_two_agents_is_one_comparison() -> None:
    panel = reviewed(4, reviewers=3, outputs=100)
    twice = panel_from(
        np.tile(panel.review_output, 2),
        np.tile(panel.review_reviewer, 2),
        np.tile(panel.scores[:, 0], 2),
        agent=np.repeat([0, 1], len(panel.review_output)),
        day=np.zeros(2 * len(panel.review_output)),
    )
    twice.reviews["feedback_id"] = (
        twice.reviews["reviewer_id"].astype(str) + twice.outputs["execution_id"].to_numpy()[twice.review_output]
    )
    assert drift_of(twice).months["n_shared"].sum() == 200


@pytest.mark.parametrize("score", [5.0, 0.0])
def test_equal_scores_show_no_change(score: float) -> None:
    found = drift_of(panel_from(np.repeat(np.arange(40), 2), np.tile([0, 1], 40), np.full(80, score), day=np.arange(80)))
    assert found.reviewers["p_value"].tolist() == [1.0, 1.0]
    assert found.reviewers["reason"].tolist() == [None, None]
    assert not found.reviewers["drifted"].any()
    assert (found.months["severity"].dropna() == 0).all()


def test_a_change_without_any_noise_is_found() -> None:
    score = np.tile([5.0, 6.0], 60)
    score[81::2] += 1.0
    found = drift_of(panel_from(np.repeat(np.arange(60), 2), np.tile([0, 1], 60), score, day=np.repeat(np.arange(60), 2)))
    assert found.reviewers["drifted"].all()


def test_no_reviews_one_reviewer_and_unknown_reviewers() -> None:
    nothing = drift_of(panel_from(np.empty(0, dtype=int), np.empty(0, dtype=int), np.empty((0, 1))))
    assert nothing.months.empty
    assert nothing.reviewers.empty
    alone = drift_of(panel_from(np.arange(30), np.zeros(30, dtype=int), np.arange(30.0)))
    assert alone.reviewers["reason"].tolist() == [NOT_SHARED]
    assert alone.months["severity"].isna().all()
    unknown = drift_of(panel_from(np.repeat(np.arange(30), 2), np.tile([0, -1], 30), np.arange(60.0)))
    assert unknown.reviewers["reason"].tolist() == [NOT_SHARED]


def test_row_order_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    output, reviewer = np.repeat(np.arange(60), 2), np.tile([0, 1], 60)
    score, day, order = rng.normal(6, 1, 120), np.repeat(np.arange(60), 2), rng.permutation(120)
    first = drift_of(panel_from(output, reviewer, score, day=day))
    second = drift_of(panel_from(output[order], reviewer[order], score[order], day=day[order]))
    pd.testing.assert_frame_equal(first.months, second.months, check_exact=True)
    pd.testing.assert_frame_equal(first.reviewers, second.reviewers, check_exact=True)


def test_ten_thousand_reviewers() -> None:
    rng = np.random.default_rng(7)
    reviewer = np.concatenate([np.arange(10_000), rng.integers(0, 10_000, 50_000)])
    output = np.repeat(np.arange(30_000), 2)
    panel = panel_from(output, reviewer, rng.normal(6, 1, 60_000), day=np.repeat(rng.integers(0, 180, 30_000), 2))
    adjustment = adjust(panel, BOUNDS)
    found = severity_drift(panel, adjustment)
    assert len(found.reviewers) == 10_000
    assert len(found.months) > 10_000


def test_real_reviews(shared_data: Path) -> None:
    separate = real_panel(shared_data / "wmt_ted_ende")
    found = severity_drift(separate, adjust(separate, {"*": (-25.0, 0.0)}))
    assert set(found.reviewers["reason"]) == {NOT_SHARED}
    together = real_panel(shared_data / "summeval_op")
    months = severity_drift(together, adjust(together, {"*": (1.0, 5.0)})).months
    for name, expected in {"rater-1": -0.367, "rater-2": 0.031, "rater-3": 0.335}.items():
        assert months.set_index("reviewer_id").loc[name, "severity"] == pytest.approx(expected, abs=0.05)
