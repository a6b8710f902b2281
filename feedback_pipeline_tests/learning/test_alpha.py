"""Alpha against the library it has to equal, on the cases that the library can hold in memory."""

from typing import Literal

import krippendorff
import numpy as np
import pytest

from feedback_pipeline.learning.alpha import interval_alpha, interval_sums, ordinal_alpha, ordinal_sums


def matrix_of(seed: int, levels: int) -> np.ndarray:
    """Reviewers x outputs with missing values: unequal activity, outputs with one value or none, values of unequal frequency."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 1, 60)
    values = np.floor(levels / (1 + np.exp(-(quality + rng.normal(0, 0.7, (7, 60)) + rng.normal(0.5, 0.8, (7, 1))))))
    given = rng.random((7, 60)) < rng.uniform(0.1, 0.9, (7, 1))
    return np.where(given, values, np.nan)


def long(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    output, reviewer = np.nonzero(~np.isnan(matrix.T))
    return matrix[reviewer, output], output


def oracle(matrix: np.ndarray, level: Literal["interval", "ordinal"]) -> float:
    return float(krippendorff.alpha(reliability_data=matrix, level_of_measurement=level))


@pytest.mark.parametrize("seed", range(8))
def test_alpha_equals_the_library_on_incomplete_data(seed: int) -> None:
    matrix = matrix_of(seed, levels=3 + seed)
    values, output = long(matrix)
    interval = interval_alpha(interval_sums(values, output, 60).sum(axis=0))
    ordinal = ordinal_alpha(ordinal_sums(values, output, 60).sum(axis=0))
    assert interval == pytest.approx(oracle(matrix, "interval"), abs=1e-12)
    assert ordinal == pytest.approx(oracle(matrix, "ordinal"), abs=1e-12)
    assert abs(interval - ordinal) > 1e-4


def test_alpha_of_a_resample_equals_the_library_on_the_resampled_outputs() -> None:
    matrix = matrix_of(3, levels=4)
    values, output = long(matrix)
    drawn = np.random.default_rng(0).integers(0, 60, (5, 60))
    counts = np.stack([np.bincount(row, minlength=60) for row in drawn]).astype(float)
    interval = interval_alpha(counts @ interval_sums(values, output, 60))
    ordinal = ordinal_alpha(counts @ ordinal_sums(values, output, 60))
    for k, row in enumerate(drawn):
        assert interval[k] == pytest.approx(oracle(matrix[:, row], "interval"), abs=1e-12)
        assert ordinal[k] == pytest.approx(oracle(matrix[:, row], "ordinal"), abs=1e-12)


def test_alpha_does_not_depend_on_the_scale_of_the_scores() -> None:
    values, output = long(matrix_of(1, levels=6))
    plain = interval_alpha(interval_sums(values, output, 60).sum(axis=0))
    for scaled in (1e9 + values, 1e150 * values, 1e-150 * values, -25 + 0.001 * values):
        assert interval_alpha(interval_sums(scaled, output, 60).sum(axis=0)) == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("values", [np.full(6, 0.1), np.array([0.2, 0.2, (0.1 + 0.2 + 0.3) / 3, 0.2, 0.2, 0.2]), np.zeros(6)])
def test_values_that_differ_by_rounding_alone_have_no_alpha(values: np.ndarray) -> None:
    output = np.repeat(np.arange(3), 2)
    assert np.isnan(interval_alpha(interval_sums(values, output, 3).sum(axis=0)))
    assert np.isnan(ordinal_alpha(ordinal_sums(np.zeros(6), output, 3).sum(axis=0)))


def test_small_disagreements_on_a_large_score_are_not_rounding() -> None:
    values = 1e4 + np.array([1.0, 1.1, 2.0, 2.2, 3.0, 2.9])
    expected = oracle(np.array([values[::2], values[1::2]]), "interval")
    assert interval_alpha(interval_sums(values, np.repeat(np.arange(3), 2), 3).sum(axis=0)) == pytest.approx(expected, rel=1e-9)


def test_outputs_with_one_value_and_no_values_add_nothing() -> None:
    values, output = np.array([1.0, 2.0, 9.0]), np.array([0, 0, 1])
    for sums in (interval_sums(values, output, 3), ordinal_sums(values, output, 3)):
        assert sums[0].any()
        assert not sums[1:].any()
    nothing = np.empty(0)
    assert interval_sums(nothing, nothing.astype(int), 0).shape == (0, 4)
    assert ordinal_sums(nothing, nothing.astype(int), 0).shape == (0, 0)
