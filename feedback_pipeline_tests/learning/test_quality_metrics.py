import numpy as np
import pandas as pd
import pytest
from scipy import stats

from feedback_pipeline.learning.quality_metrics import METRICS, Metrics, metrics, metrics_by_agent


def rows(n: int = 400, seed: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    content = stream.integers(0, n // 3, n)
    y = np.round(5 + stream.normal(0, 1, n) + stream.normal(0, 1, n // 3)[content], 1)  # with ties
    return y, np.round(0.5 * y + stream.normal(2.5, 0.8, n), 1), content, np.full(n, 4.9)


def test_values_equal_those_of_scipy_and_the_formulas() -> None:
    y, p, content, base = rows()
    found = metrics(y, p, content, base, seed=0)
    assert found.r2.value == pytest.approx(1 - ((y - p) ** 2).sum() / ((y - base) ** 2).sum())
    assert found.rmse.value == pytest.approx(np.sqrt(((y - p) ** 2).mean()))
    assert found.mae.value == pytest.approx(np.abs(y - p).mean())
    assert found.spearman.value == pytest.approx(stats.spearmanr(y, p).statistic)
    assert (found.n, found.n_contents, found.reason) == (400, len(np.unique(content)), None)


def test_intervals_equal_a_plain_bootstrap_that_repeats_the_rows_of_drawn_contents() -> None:
    y, p, content, base = rows()
    found = metrics(y, p, content, base, seed=7, draws=50)
    contents = np.unique(content)
    members = [np.flatnonzero(content == c) for c in contents]
    drawn = np.random.default_rng(7).integers(0, len(contents), (50, len(contents)))
    values = []
    for picked in drawn:
        again = np.concatenate([members[i] for i in picked])
        error = y[again] - p[again]
        r2 = 1 - (error**2).sum() / ((y[again] - base[again]) ** 2).sum()
        rank = stats.spearmanr(y[again], p[again]).statistic
        values.append((r2, np.sqrt((error**2).mean()), np.abs(error).mean(), rank))
    low, high = np.quantile(values, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([getattr(found, name).low for name in METRICS], low, rtol=1e-9)
    np.testing.assert_allclose([getattr(found, name).high for name in METRICS], high, rtol=1e-9)


def test_intervals_cover_the_truth_when_contents_are_clustered() -> None:
    # Errors shared within contents of ten: rows taken as independent cover far less.
    covered: list[bool] = []
    as_rows: list[bool] = []
    for seed in range(60):
        stream = np.random.default_rng(seed)
        content = np.repeat(np.arange(300), 10)
        error = stream.normal(0, 1, 300)[content] + stream.normal(0, 0.3, 3000)
        y = stream.normal(0, 2, 3000)
        for found, unit in ((covered, content), (as_rows, np.arange(3000))):
            rmse = metrics(y, y - error, unit, np.zeros(3000), 1000 + seed, draws=100).rmse
            found.append(rmse.low <= np.sqrt(1.09) <= rmse.high)
    # Percentiles of a spread cover a little less than they say.
    assert np.mean(covered) >= 0.93 - 3 * np.sqrt(0.93 * 0.07 / 60)
    assert np.mean(as_rows) < 0.6


def test_the_order_of_the_rows_and_the_size_of_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    y, p, content, base = rows()
    first = metrics(y, p, content, base, seed=1)
    order = np.random.default_rng(0).permutation(len(y))
    again = metrics(y[order], p[order], content[order], base[order], seed=1)
    monkeypatch.setattr("feedback_pipeline.learning.quality_metrics._BLOCK", 1000)
    small = metrics(y, p, content, base, seed=1)
    for name in METRICS:
        for bound in ("value", "low", "high"):
            expected = getattr(getattr(first, name), bound)
            assert getattr(getattr(again, name), bound) == pytest.approx(expected, rel=1e-12)
            assert getattr(getattr(small, name), bound) == pytest.approx(expected, rel=1e-12)


def test_what_is_undefined_is_nan_with_a_reason_or_no_interval() -> None:
    y, p, content, base = rows()
    none = metrics(y, np.full(len(y), np.nan), content, base, seed=0)
    assert none.reason == "no forecast has met its review yet"
    assert np.isnan([none.r2.value, none.rmse.low, none.spearman.high]).all()
    flat = metrics(y, base, content, base, seed=0)
    assert np.isnan([flat.spearman.value, flat.spearman.low, flat.spearman.high]).all()
    assert (flat.r2.value, flat.r2.low, flat.r2.high) == (0.0, 0.0, 0.0)
    right = metrics(np.full(9, 2.0), np.full(9, 2.0), np.arange(9), np.full(9, 2.0), seed=0)
    assert np.isnan(right.r2.value)
    assert right.rmse.value == 0.0
    alone = metrics(y, p, np.zeros(len(y), dtype=int), base, seed=0)
    assert np.isfinite(alone.r2.value)
    assert np.isnan([alone.r2.low, alone.r2.high]).all()


def test_rows_without_a_forecast_are_left_out() -> None:
    y, p, content, base = rows()
    some = np.arange(len(y)) % 3 > 0
    gaps = metrics(y, np.where(some, p, np.nan), content, np.where(some, base, np.nan), seed=0)
    assert gaps == metrics(y[some], p[some], content[some], base[some], seed=0)


def test_metrics_of_each_agent_do_not_depend_on_the_others() -> None:
    y, p, content, base = rows()
    agent = pd.Series(np.array(["zoe", "ann", "bob"])[np.arange(len(y)) % 3])
    found = metrics_by_agent(y, p, content, base, agent, seed=4)
    assert found["agent_name"].tolist() == ["ann", "bob", "zoe"]
    assert found["n"].sum() == len(y)
    own = (agent != "zoe").to_numpy()
    fewer = metrics_by_agent(y[own], p[own], content[own], base[own], agent[own], seed=4)
    pd.testing.assert_frame_equal(fewer, found[:2])
    ann = (agent == "ann").to_numpy()
    assert found["r2"][0] == metrics(y[ann], p[ann], content[ann], base[ann], seed=0).r2.value
    nobody = metrics_by_agent(y, np.full(len(y), np.nan), content, base, agent, seed=4)
    assert len(nobody) == 0
    assert nobody.columns.tolist() == found.columns.tolist()


def test_the_document_is_flat() -> None:
    found = metrics(*rows()[:3], rows()[3], seed=0)
    assert isinstance(found, Metrics)
    document = found.document()
    assert document["r2_low"] == found.r2.low
    assert {"r2", "rmse_high", "mae", "spearman_low", "n", "n_contents", "reason"} <= set(document)
