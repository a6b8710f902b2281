import math

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.quality_drift import MIN_REFERENCE, Drift, Reference, monday, watch, week_of

DAY = 86_400 * 10**9
START = pd.Timestamp("2026-01-05", tz="UTC").value  # a Monday


def followed(seed: int, weeks: int = 26, shift: float = 0.0, since: int = 0, each: int = 50, n_reference: int = 4_000) -> Drift:
    """Weeks of residuals after a champion was chosen, shifted by `shift` sd from week `since` on."""
    rng = np.random.default_rng(seed)
    reference = Reference.of(rng.normal(0.2, 1.3, n_reference))
    week = np.repeat(np.arange(weeks), each)
    residual = rng.normal(0.2, 1.3, len(week)) + 1.3 * shift * (week >= since)
    return watch(reference, residual, START + (7 * week + rng.integers(0, 7, len(week))) * DAY)


def weeks_until_alarm(drift: Drift, since: int = 0) -> float:
    """Weeks from the shift to the alarm, the week of the alarm counted; infinite without one."""
    if drift.alarm is None:
        return math.inf
    return float(drift.weeks["week"].tolist().index(drift.alarm.week) - since + 1)


def false_alarms(seeds: int, n_reference: int = 4_000) -> dict[str, float]:
    """Share of calm half-years in which each chart, and either, alarms."""
    ewma, cusum = [], []
    for seed in range(seeds):
        weeks = followed(seed, n_reference=n_reference).weeks
        ewma.append((weeks["ewma"].abs() > weeks["ewma_limit"]).any())
        cusum.append((weeks[["cusum_higher", "cusum_lower"]] > 5.0).any(axis=None))
    return {"ewma": float(np.mean(ewma)), "cusum": float(np.mean(cusum)), "either": float(np.mean(np.logical_or(ewma, cusum)))}


@pytest.mark.parametrize("n_reference", [MIN_REFERENCE, 4_000])
def test_calm_half_years_rarely_alarm_however_short_the_reference(n_reference: int) -> None:
    found = false_alarms(300, n_reference)
    assert found["ewma"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert found["cusum"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("shift", "direction"), [(0.3, "higher"), (-0.3, "lower")])
def test_a_shift_of_three_tenths_of_a_standard_deviation_is_found_in_about_three_weeks(shift: float, direction: str) -> None:
    found = [followed(seed, shift=shift) for seed in range(60)]
    assert np.median([weeks_until_alarm(drift) for drift in found]) in (2.0, 3.0, 4.0)
    assert np.mean([drift.alarm is not None and drift.alarm.direction == direction for drift in found]) >= 0.98


def test_the_alarm_names_the_week_and_the_chart() -> None:
    found = followed(1, shift=2.0, since=10)
    assert found.alarm is not None
    assert (found.alarm.week, found.alarm.direction, found.reason) == ("2026-03-16", "higher", None)
    at = found.weeks.set_index("week").loc["2026-03-16"]
    assert found.alarm.statistic == "ewma"
    assert (found.alarm.value, found.alarm.limit) == (at["ewma"], at["ewma_limit"])
    slow = next(drift for seed in range(200) if (drift := followed(seed, shift=0.2)).alarm and drift.alarm.statistic == "cusum")
    assert slow.alarm is not None
    assert slow.alarm.value > slow.alarm.limit == 5.0


def test_the_charts_are_their_definitions() -> None:
    rng = np.random.default_rng(2)
    past, residual, week = rng.normal(0.5, 2.0, 250), rng.normal(0.6, 2.0, 64), np.repeat(np.arange(4), 16)
    found = watch(Reference.of(past), residual, START + week * 7 * DAY).weeks
    z = np.empty(4)
    for t in range(4):
        before, own = np.concatenate([past, residual[week < t]]), residual[week == t]
        z[t] = (own.mean() - before.mean()) / (past.std(ddof=1) * np.sqrt(1 / 16 + 1 / len(before)))
    np.testing.assert_allclose(found["z"], z)
    np.testing.assert_allclose(found["ewma"], [sum(0.2 * 0.8 ** (t - s) * z[s] for s in range(t + 1)) for t in range(4)])
    # The variance of that sum of independent z, by its weights.
    deviation = [np.sqrt(sum((0.2 * 0.8**s) ** 2 for s in range(t + 1))) for t in range(4)]
    np.testing.assert_allclose(found["ewma_limit"], 3 * np.array(deviation))
    for chart, sign in (("cusum_higher", 1.0), ("cusum_lower", -1.0)):
        # The largest excess of any run of weeks that ends here.
        excess = [max(0.0, *((sign * z[s : t + 1] - 0.5).sum() for s in range(t + 1))) for t in range(4)]
        np.testing.assert_allclose(found[chart], excess, atol=1e-12)


def test_reviews_that_err_together_do_not_alarm() -> None:
    """Five reviews of each content share most of their error: without the content the charts alarm in calm weeks."""
    alarms = {True: 0, False: 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        content = np.repeat(np.arange(26 * 10 + 400), 5)
        residual = rng.normal(0, 1, len(content) // 5)[content] + rng.normal(0, 0.5, len(content))
        past, later = content >= 260, content < 260
        for clustered in alarms:
            reference = Reference.of(residual[past], content[past] if clustered else None)
            week = content[later] // 10
            alarms[clustered] += watch(reference, residual[later], START + week * 7 * DAY).alarm is not None
    assert alarms[True] <= 8
    assert alarms[False] >= 20


def test_thin_weeks_are_judged_with_the_next() -> None:
    reference = Reference(0.0, 1.0, 1.0, 1_000, None)
    week = np.repeat([0, 1, 4, 5], [6, 6, 12, 3])
    residual = np.where(week == 0, 1.0, np.where(week == 1, 3.0, 0.0))
    found = watch(reference, residual, START + week * 7 * DAY).weeks
    assert found["week"].tolist() == ["2026-01-12", "2026-02-02"]
    assert found["n"].tolist() == [12, 12]
    assert found["mean"].tolist() == [2.0, 0.0]


def test_a_week_that_is_not_over_is_not_judged() -> None:
    reference = Reference(0.0, 1.0, 1.0, 1_000, None)
    moment = START + np.repeat([0, 7], 30) * DAY
    residual = np.repeat([0.0, 9.0], 30)
    assert watch(reference, residual, moment, until=START + 13 * DAY).alarm is None
    late = watch(reference, residual, moment, until=START + 14 * DAY)
    assert late.alarm is not None
    assert late.alarm.week == "2026-01-12"


def test_weeks_begin_on_monday_in_utc() -> None:
    moments = pd.DatetimeIndex(["1969-12-28 23:59", "1969-12-29", "1970-01-04 23:59", "1970-01-05", "2026-06-30 12:00"], tz="UTC")
    weeks = week_of(moments.as_unit("ns").asi8)
    expected = moments.tz_localize(None).to_period("W-SUN").start_time.strftime("%Y-%m-%d").tolist()
    assert [monday(int(week)) for week in weeks] == expected


@pytest.mark.parametrize(
    ("residual", "reason"),
    [
        (np.zeros(0), "0 residuals to compare with; drift needs 200"),
        (np.append(np.arange(199.0), np.nan), "199 residuals to compare with; drift needs 200"),
        (np.full(MIN_REFERENCE, 0.1), "the residuals to compare with do not vary"),
    ],
)
def test_without_a_reference_nothing_is_watched(residual: np.ndarray, reason: str) -> None:
    reference = Reference.of(residual)
    found = watch(reference, np.full(100, 50.0), np.full(100, START))
    assert (found.reason, found.alarm, len(found.weeks)) == (reason, None, 0)
    assert list(found.weeks) == ["week", "n", "mean", "z", "ewma", "ewma_limit", "cusum_higher", "cusum_lower"]


@pytest.mark.parametrize("residual", [np.empty(0), np.full(30, np.nan), np.ones(9)])
def test_nothing_to_judge_since(residual: np.ndarray) -> None:
    found = watch(Reference(0.0, 1.0, 1.0, 500, None), residual, np.full(len(residual), START))
    assert (found.reason, found.alarm, len(found.weeks)) == ("no week with enough reviews since", None, 0)


def test_row_order_changes_nothing() -> None:
    rng = np.random.default_rng(8)
    reference = Reference.of(rng.normal(size=500))
    residual, moment, order = rng.normal(size=900), START + rng.integers(0, 90, 900) * DAY, rng.permutation(900)
    first, second = watch(reference, residual, moment), watch(reference, residual[order], moment[order])
    pd.testing.assert_frame_equal(first.weeks, second.weeks, check_exact=True)
