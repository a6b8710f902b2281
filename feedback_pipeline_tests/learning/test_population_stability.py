import math

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.population_stability import MIN_ROWS, psi, psi_categories, stability


def test_the_index_by_hand() -> None:
    """100 rows a decile; of 1,000 new rows 300 lie below the first decile. Each bin counts half a row more."""
    reference = np.arange(1_000.0)
    recent = np.concatenate([np.full(300, 5.0), np.arange(100.0, 800.0)])
    shares = np.array([[100.5] * 10, [300.5, *[100.5] * 7, 0.5, 0.5]]) / 1_005.0
    assert psi(reference, recent) == pytest.approx(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def test_no_change_is_near_what_chance_gives_and_rarely_a_warning() -> None:
    rng = np.random.default_rng(1)
    found = np.array([psi(rng.lognormal(size=400), rng.lognormal(size=400)) for _ in range(300)])
    assert found.mean() == pytest.approx(9 * 2 / 400, abs=3 * found.std() / np.sqrt(300) + 0.003)
    assert (found > 0.2).mean() <= 0.01


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
def test_a_shift_is_seen_at_any_scale_and_does_not_depend_on_the_unit(scale: float) -> None:
    rng = np.random.default_rng(2)
    reference, recent = rng.normal(0, 1, 1_000), rng.normal(0.7, 1, 1_000)
    assert psi(reference, recent) > 0.3
    assert psi(scale * reference, scale * recent) == pytest.approx(psi(reference, recent), rel=1e-6)
    assert psi(reference, reference) == 0.0


def test_values_that_go_missing_are_a_shift() -> None:
    rng = np.random.default_rng(3)
    reference, recent = rng.normal(size=1_000), rng.normal(size=1_000)
    recent[:300] = np.nan
    assert psi(reference, recent) > 0.2
    assert psi(recent, recent) == 0.0
    assert psi(np.full(300, np.nan), reference) > 1.0
    recent[:300] = np.inf
    assert psi(reference, recent) > 0.2


@pytest.mark.parametrize("elsewhere", [-1.0, 7.0])
def test_a_constant_that_moves_is_a_shift(elsewhere: float) -> None:
    reference = np.zeros(500)
    assert psi(reference, np.zeros(300)) == 0.0
    assert psi(reference, np.where(np.arange(300) < 100, elsewhere, 0.0)) > 0.2
    # A feature with a few values: each has its bin.
    few = np.tile([0.0, 1.0, 2.0, 3.0], 200)
    assert psi(few, few[few != 2.0]) > 0.2


def test_categories_new_levels_and_missing_ones() -> None:
    reference = pd.Series(["blog"] * 500 + ["news"] * 400 + [None] * 100, dtype=object)
    assert psi_categories(reference, reference.iloc[::-1]) == 0.0
    half = np.array([500.5, 400.5, 100.5]) / 1_001.5, np.array([400.5, 500.5, 100.5]) / 1_001.5
    swapped = pd.Series(["blog"] * 400 + ["news"] * 500 + [None] * 100, dtype=object)
    assert psi_categories(reference, swapped) == pytest.approx(((half[1] - half[0]) * np.log(half[1] / half[0])).sum())
    assert psi_categories(reference, pd.Series(["podcast"] * 250 + ["blog"] * 500 + ["news"] * 250)) > 0.2
    assert psi_categories(reference, pd.Series([None] * 400, dtype=object)) > 1.0


def test_many_levels_do_not_warn_by_chance() -> None:
    rng = np.random.default_rng(4)
    names = np.array([f"agent_{code:03d}" for code in range(300)])
    found = [psi_categories(pd.Series(rng.choice(names, 400)), pd.Series(rng.choice(names, 400))) for _ in range(20)]
    assert max(found) < 0.2


def frame(n: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "word_count": rng.normal(shift, 1, n),
            "cost": np.full(n, np.nan),
            "tone": pd.Series(rng.choice(["formal", "friendly"], n), dtype="str"),
            "channel": pd.Series([None] * n, dtype=object),
        }
    )


def test_every_feature_has_its_row() -> None:
    found = stability(frame(500, 1), frame(300, 2, shift=1.0), ["word_count", "cost"], ["tone", "channel"])
    assert found["feature"].tolist() == ["word_count", "cost", "tone", "channel"]
    assert found["warning"].tolist() == [True, False, False, False]
    assert found["reason"].tolist() == [None, "no value on either side", None, "no value on either side"]
    assert found["psi"].isna().tolist() == [False, True, False, True]
    assert found[["n_reference", "n_recent"]].to_numpy().tolist() == [[500, 300]] * 4
    assert found["psi"].iloc[0] == psi(frame(500, 1)["word_count"].to_numpy(), frame(300, 2, 1.0)["word_count"].to_numpy())


@pytest.mark.parametrize("sizes", [(MIN_ROWS - 1, 500), (500, MIN_ROWS - 1), (0, 0), (500, 0)])
def test_too_few_rows_are_undefined_with_the_reason(sizes: tuple[int, int]) -> None:
    found = stability(frame(sizes[0], 1), frame(sizes[1], 2, shift=5.0), ["word_count"], ["tone"])
    assert found["psi"].isna().all()
    assert not found["warning"].any()
    assert (
        found["reason"].tolist() == [f"{sizes[0]} rows to compare with and {sizes[1]} new ones; the index needs 200 of each"] * 2
    )


def test_no_feature_and_no_row() -> None:
    assert stability(frame(300, 1), frame(300, 2), [], []).empty
    assert math.isnan(psi(np.empty(0), np.ones(3)))
    assert math.isnan(psi_categories(pd.Series(["a"]), pd.Series([], dtype=object)))


def test_integers_booleans_and_nullable_columns_are_numbers() -> None:
    values = pd.DataFrame({"a": np.arange(300), "b": np.arange(300) % 2 == 0, "c": pd.array([None, 1, 2] * 100, dtype="Int64")})
    found = stability(values, values, ["a", "b", "c"], [])
    assert found["psi"].tolist() == [0.0, 0.0, 0.0]


def test_row_order_changes_nothing() -> None:
    first, second = frame(400, 5), frame(400, 6)
    mixed = stability(first.sample(frac=1.0, random_state=1), second.sample(frac=1.0, random_state=2), ["word_count"], ["tone"])
    pd.testing.assert_frame_equal(mixed, stability(first, second, ["word_count"], ["tone"]), check_exact=True)
