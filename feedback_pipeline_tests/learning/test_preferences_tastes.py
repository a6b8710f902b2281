from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.preferences_tastes import (
    NO_DATA,
    _difference_variance,
    _total_covariance,
    best_lengths,
    choices,
    length_ranges,
    style_slopes,
)
from feedback_pipeline.learning.reviewer_moments import RowDesign, moments_of
from feedback_pipeline.learning.reviewers import FIXED, fit_reviewer_model
from feedback_pipeline.learning.reviewers_design import Encoding
from feedback_pipeline.learning.reviewers_score import PersonalModel, ScoredRows, fit_score_model

TONES = ("dry", "formal", "warm")


def team(
    each: int, curves: np.ndarray, tones: np.ndarray, seed: int = 1, noise: float = 0.8, without_rows: int = 0
) -> tuple[PersonalModel, pd.DataFrame]:
    """A team with curves (R, 2) = slope and square of the log length, and tones (R, 3), each reviewing `each` outputs."""
    rng = np.random.default_rng(seed)
    n = each * len(curves)
    outputs = pd.DataFrame({"word_count": np.exp(rng.normal(np.log(320), 0.45, n)), "tone": rng.choice(TONES, n)})
    outputs["readability"] = rng.normal(10, 2, n)
    reviewer = np.repeat(np.arange(len(curves)), each)
    z = np.log(outputs["word_count"].to_numpy() / 320) / 0.45
    tone = outputs["tone"].map(dict(zip(TONES, range(3), strict=True))).to_numpy()
    score = 6 + curves[reviewer, 0] * z + curves[reviewer, 1] * z**2 + tones[reviewer, tone] + rng.normal(0, noise, n)
    encoding = Encoding.of(outputs, ["word_count", "readability"])
    design = RowDesign(encoding.encode(outputs), np.arange(n), reviewer, len(curves) + without_rows, encoding.personal)
    rows = ScoredRows(design, np.zeros(n, dtype=np.intp), score, 1)
    return fit_score_model(encoding, rows, slopes=True), outputs


def test_the_range_costs_a_fortieth_of_the_scale_at_its_ends() -> None:
    curves = np.random.default_rng(2).normal([0.0, -0.6], [0.2, 0.05], (30, 2))
    fitted, outputs = team(200, curves, np.zeros((30, 3)))
    scale = fitted.encoding.scale("word_count")
    assert scale is not None
    columns = [*fitted.encoding.positions("slope", "word_count"), *fitted.encoding.positions("square", "word_count")]
    own = [list(fitted.model.personal).index(i) for i in columns]
    effect = fitted.model.population[columns] + fitted.model.effects[:, own]
    edges = np.quantile(outputs["word_count"], [0.01, 0.99])
    for r, found in enumerate(length_ranges(fitted, 10.0, seed=0)):
        assert found.min is not None
        assert found.max is not None
        assert found.best is not None
        z = scale.standard(np.array([found.min, found.best, found.max]))
        value = effect[r, 0] * z + effect[r, 1] * z**2
        for end, words, edge in ((0, found.min, edges[0]), (2, found.max, edges[1])):
            assert value[1] - value[end] == pytest.approx(0.25, abs=1e-6) or words == pytest.approx(edge, rel=0.01)
    truth = 320 * np.exp(0.45 * -curves[:, 0] / (2 * curves[:, 1]))
    assert np.median(np.abs(best_lengths(fitted) / truth - 1)) < 0.05


@pytest.mark.parametrize("curve", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.6)])
def test_curves_that_do_not_fall_to_both_ends_are_no_preference(curve: tuple[float, float]) -> None:
    fitted, _ = team(100, np.tile(curve, (20, 1)), np.zeros((20, 3)))
    found = length_ranges(fitted, 10.0, seed=0)
    assert all(one.best is None and one.min is None and one.sd is None and one.reason for one in found)


def test_a_small_team_with_many_reviews_is_known_well() -> None:
    curves = np.array([[0.6, -0.5], [-0.6, -0.5]])
    tones = np.array([[0.5, 0.0, -0.5], [-0.5, 0.0, 0.5]])
    fitted, _ = team(2000, curves, tones)
    assert [choice.value for choice in choices(fitted, "tone", 0)] == ["dry", "warm"]
    assert all(choice.probability > 0.99 for choice in choices(fitted, "tone", 0))
    lengths = length_ranges(fitted, 10.0, 0)
    truth = 320 * np.exp(0.45 * np.array([0.6, -0.6]))
    for one, best in zip(lengths, truth, strict=True):
        assert one.best is not None
        assert one.sd is not None
        assert abs(one.best - best) < 4 * one.sd
        assert one.sd < 0.05 * best


def test_a_reviewer_without_rows_has_no_taste() -> None:
    curves = np.random.default_rng(3).normal([0.0, -0.6], [0.2, 0.05], (10, 2))
    fitted, _ = team(100, curves, np.zeros((10, 3)), without_rows=1)
    assert choices(fitted, "tone", 0)[-1].reason == NO_DATA
    assert length_ranges(fitted, 10.0, 0)[-1].reason == NO_DATA
    assert style_slopes(fitted)[-1] == ()


def test_one_reviewer_is_the_population() -> None:
    fitted, _ = team(500, np.array([[0.4, -0.6]]), np.array([[0.0, 0.8, 0.0]]))
    assert choices(fitted, "tone", 0)[0].value == "formal"
    (length,) = length_ranges(fitted, 10.0, 0)
    assert length.best is not None
    assert length.best == pytest.approx(320 * np.exp(0.45 * 0.4 / 1.2), rel=0.1)
    assert style_slopes(fitted) == [()]


def test_uncertainty_is_that_of_the_whole_model() -> None:
    """Against the covariance of all effects at once, from the dense normal equations."""
    rng = np.random.default_rng(4)
    n, reviewers = 90, 3
    columns = np.column_stack([np.ones(n), rng.normal(size=n)])
    reviewer = np.repeat(np.arange(reviewers), [50, 30, 10])
    own = rng.normal(0, 0.7, (reviewers, 2))
    response = (columns * own[reviewer]).sum(axis=1) + rng.normal(size=n)
    design = RowDesign(columns, np.arange(n), reviewer, reviewers, np.arange(2))
    model = fit_reviewer_model(moments_of(design, response), np.full(2, FIXED))
    tau2, s2 = model.variances.personal, model.variances.noise
    assert (tau2 > 0).all()
    dense = np.zeros((n, 2 + 2 * reviewers))
    dense[:, :2] = columns
    for row, who in enumerate(reviewer):
        dense[row, 2 + 2 * who : 4 + 2 * who] = columns[row]
    everything = np.linalg.inv(dense.T @ dense / s2 + np.diag([0.0, 0.0, *np.tile(1 / tau2, reviewers)]))
    total = _total_covariance(model, np.arange(reviewers), [0, 1])
    for person in range(reviewers):
        sums = np.zeros((2, len(everything)))
        sums[:, :2] = sums[:, 2 + 2 * person : 4 + 2 * person] = np.eye(2)
        np.testing.assert_allclose(total[person], sums @ everything @ sums.T, rtol=1e-3, atol=1e-6)
        for column in range(2):
            place = 2 + 2 * person + column
            found = _difference_variance(model, column)[person]
            assert found == pytest.approx(everything[place, place], rel=1e-3)


def test_a_column_in_which_reviewers_do_not_differ_keeps_the_uncertainty_of_the_population() -> None:
    rng = np.random.default_rng(5)
    columns = np.column_stack([np.ones(60), rng.normal(size=60)])
    design = RowDesign(columns, np.arange(60), np.repeat(np.arange(3), 20), 3, np.arange(2))
    model = fit_reviewer_model(moments_of(design, rng.normal(size=60)), np.full(2, FIXED))
    tau2 = np.array([model.variances.personal[0], 0.0])
    still = model.uncertainty.copy()
    still[:, 1, :] = still[:, :, 1] = 0.0
    model = replace(model, variances=replace(model.variances, personal=tau2), uncertainty=still)
    total = _total_covariance(model, np.arange(3), [1])
    np.testing.assert_allclose(total[:, 0, 0], model.population_covariance[1, 1])
    np.testing.assert_allclose(_difference_variance(model, 1), 0.0)
