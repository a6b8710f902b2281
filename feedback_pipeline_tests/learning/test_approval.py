import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.approval import (
    ALL_APPROVED,
    NONE_APPROVED,
    ApprovalModel,
    averaged_logistic,
    fit_approval,
)
from feedback_pipeline.learning.approval_direct import fit_direct_approval, fit_logistic
from feedback_pipeline.learning.reviewer_moments import RowDesign
from feedback_pipeline.learning.reviewers import FIXED
from feedback_pipeline.learning.reviewers_design import Encoding


def decided(
    each: int = 40, reviewers: int = 200, seed: int = 1, slope: float = 1.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Score, decision, reviewer, and each reviewer's true bar."""
    rng = np.random.default_rng(seed)
    reviewer = np.repeat(np.arange(reviewers), each)
    bar = rng.normal(6, 0.7, reviewers)
    score = rng.normal(6, 1.3, len(reviewer))
    approved = (slope * (score - bar[reviewer]) + rng.logistic(size=len(reviewer)) > 0).astype(float)
    return score, approved, reviewer, bar


def test_planted_standards_are_recovered_with_honest_errors() -> None:
    score, approved, reviewer, bar = decided()
    found = fit_approval(score, approved, reviewer, 200)
    assert found.reason is None
    assert found.slope == pytest.approx(1.8, rel=0.1)
    assert abs(found.slope - 1.8) < 3 * found.slope_se
    assert np.abs(found.s50 - bar).mean() < 0.25
    assert (found.s50 - bar).mean() == pytest.approx(0, abs=0.06)
    assert 0.91 <= (np.abs(found.s50 - bar) < 1.96 * found.se).mean() <= 0.99
    np.testing.assert_allclose(found.s80 - found.s50, np.log(4) / found.slope)
    p = found.probability(found.s80, 0.0, np.arange(200))
    assert np.abs(p - 0.8).max() < 0.05


def test_effects_solve_the_penalised_score_equations() -> None:
    score, approved, reviewer, _ = decided(each=15, reviewers=30)
    found = fit_approval(score, approved, reviewer, 30)
    residual = approved - expit(found.intercept[reviewer] + found.slope * score)
    own = found.intercept - found.population_intercept
    np.testing.assert_allclose(np.bincount(reviewer, weights=residual), own / found.population_variance, atol=5e-3)
    scaled = (score - score.mean()) / score.std()
    population = [found.population_intercept + found.slope * score.mean(), found.slope * score.std()]
    np.testing.assert_allclose([residual.sum(), scaled @ residual], 0.04 * np.array(population), atol=5e-3)


@pytest.mark.parametrize(("each", "reviewers"), [(15, 30), (3, 100), (200, 2), (50, 1)])
def test_the_model_of_scores_and_the_general_logistic_model_agree(each: int, reviewers: int) -> None:
    score, approved, reviewer, _ = decided(each, reviewers)
    found = fit_approval(score, approved, reviewer, reviewers)
    columns = np.column_stack([np.ones(len(score)), (score - score.mean()) / score.std()])
    design = RowDesign(columns, np.arange(len(score)), reviewer, reviewers, np.zeros(1, dtype=np.intp))
    general = fit_logistic(design, approved, np.full(2, FIXED))
    np.testing.assert_allclose(found.slope * score.std(), general.population[1], rtol=5e-3)
    np.testing.assert_allclose(found.slope_se * score.std(), np.sqrt(general.population_covariance[1, 1]), rtol=5e-3)
    np.testing.assert_allclose(found.population_variance, general.variances.personal[0], rtol=2e-2)
    own = found.intercept - found.population_intercept
    np.testing.assert_allclose(own, general.effects[:, 0], atol=2e-2)
    np.testing.assert_allclose(found.intercept_variance, general.uncertainty[:, 0, 0], rtol=2e-2)


def test_standards_move_with_the_scale_of_the_scores() -> None:
    score, approved, reviewer, _ = decided(each=10, reviewers=50)
    plain, moved = fit_approval(score, approved, reviewer, 50), fit_approval(10 * score - 3, approved, reviewer, 50)
    np.testing.assert_allclose(moved.s50, 10 * plain.s50 - 3, rtol=1e-6)
    np.testing.assert_allclose(moved.se, 10 * plain.se, rtol=1e-6)
    np.testing.assert_allclose(moved.probability(10 * score - 3, 100 * 0.4, reviewer), plain.probability(score, 0.4, reviewer))


def test_a_new_reviewer_gets_the_population_with_its_variance() -> None:
    score, approved, reviewer, _ = decided()
    found = fit_approval(score, approved, reviewer, 200)
    points = np.array([4.0, 8.0])
    new = found.probability(points, 0.0, np.array([-1, -1]))
    logit = found.population_intercept + found.slope * points
    np.testing.assert_allclose(new, averaged_logistic(logit, np.full(2, found.population_variance)))
    assert found.population_variance == pytest.approx((1.8 * 0.7) ** 2, rel=0.35)
    # A reviewer of the same standard, known well, is foreseen with more confidence.
    middle = int(np.argmin(np.abs(found.s50 + found.population_intercept / found.slope)))
    known = found.probability(points, 0.0, np.array([middle, middle]))
    assert known[0] < new[0] < 0.5 < new[1] < known[1]


def test_averaged_logistic_is_the_mean_over_the_normal() -> None:
    draws = np.random.default_rng(0).standard_normal(200_000)
    for logit in (-3.0, -0.5, 0.0, 1.0, 4.0):
        for sd in (0.3, 1.0, 2.5):
            exact = expit(logit + sd * draws).mean()
            assert averaged_logistic(np.array([logit]), np.array([sd**2]))[0] == pytest.approx(exact, abs=0.02)


def test_reviewers_who_approve_everything_or_nothing_are_censored() -> None:
    score, approved, reviewer, _ = decided(each=20, reviewers=40)
    approved[reviewer == 3] = 1
    approved[reviewer == 4] = 0
    found = fit_approval(score, approved, reviewer, 41)
    assert found.censored[3] == ALL_APPROVED
    assert found.censored[4] == NONE_APPROVED
    assert found.censored[40] == 0
    assert found.n[40] == 0
    assert np.isfinite(found.s50).all()
    assert found.s50[3] < np.delete(found.s50, 3).min()
    assert found.s50[4] > np.delete(found.s50, 4).max()


@pytest.mark.parametrize(("every", "reason"), [(1.0, "every decision is an approval"), (0.0, "no decision is an approval")])
def test_without_both_decisions_there_is_no_standard(every: float, reason: str) -> None:
    score, approved, reviewer, _ = decided(each=10, reviewers=20)
    found = fit_approval(score, np.full_like(approved, every), reviewer, 20)
    assert found.reason is not None
    assert found.reason.startswith(reason)
    assert np.isnan(found.s50).all()
    p = found.probability(score, 0.0, reviewer)
    assert np.isfinite(p).all()
    assert ((p > 0.5) == bool(every)).all()


def test_scores_that_do_not_vary_give_rates_but_no_standard() -> None:
    _, approved, reviewer, _ = decided(each=30, reviewers=20)
    found = fit_approval(np.full(len(reviewer), 7.0), approved, reviewer, 20)
    assert found.reason == "the scores do not vary"
    p = found.probability(np.full(20, 7.0), 0.0, np.arange(20))
    assert np.corrcoef(p, np.bincount(reviewer, weights=approved))[0, 1] > 0.99


def test_scores_that_do_not_matter_give_no_standard() -> None:
    score, _, reviewer, _ = decided(each=30, reviewers=20)
    approved = np.random.default_rng(5).integers(0, 2, len(score)).astype(float)
    assert fit_approval(score, approved, reviewer, 20).reason == "approval does not rise with this score"
    score, approved, reviewer, _ = decided(each=30, reviewers=20, slope=-1.5)
    assert fit_approval(score, approved, reviewer, 20).reason == "approval does not rise with this score"


def test_decisions_that_a_score_separates_completely_stay_finite() -> None:
    score, _, reviewer, _ = decided(each=20, reviewers=20)
    found = fit_approval(score, (score > 6).astype(float), reviewer, 20)
    assert found.reason is None
    np.testing.assert_allclose(found.s50, 6, atol=0.2)
    assert np.isfinite(found.se).all()


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_decisions_are_enough_not_to_fail(n: int) -> None:
    found = fit_approval(np.array([5.0, 7.0])[:n], np.array([0.0, 1.0])[:n], np.zeros(n, dtype=np.intp), 1)
    assert found.reason is not None
    assert np.isfinite(found.probability(np.array([6.0]), 1.0, np.array([0]))).all()


def test_one_reviewer_has_the_population_standard() -> None:
    score, approved, reviewer, bar = decided(each=400, reviewers=1)
    found: ApprovalModel = fit_approval(score, approved, reviewer, 1)
    assert found.population_variance == 0
    assert found.s50[0] == pytest.approx(bar[0], abs=3 * found.se[0])


def test_no_decision_is_an_error() -> None:
    none = np.empty(0)
    with pytest.raises(LearningError, match="no decision"):
        fit_approval(none, none, np.empty(0, dtype=np.intp), 3)


def test_approval_is_learned_from_features_where_there_are_no_scores() -> None:
    rng = np.random.default_rng(3)
    n, reviewers = 6000, 60
    outputs = pd.DataFrame({"readability": rng.normal(10, 2, n), "tone": rng.choice(["dry", "warm"], n)})
    reviewer, agent = rng.integers(0, reviewers, n), rng.integers(0, 4, n)
    own = rng.normal(0, [1.0, 0.8], (reviewers, 2))
    level = np.array([-0.6, 0.0, 0.2, 0.4])
    logit = level[agent] + own[reviewer, 0] + (0.7 + own[reviewer, 1]) * (outputs["readability"].to_numpy() - 10) / 2
    logit += np.where(outputs["tone"] == "warm", 0.5, -0.5)
    approved = (rng.random(n) < expit(logit)).astype(float)
    encoding = Encoding.of(outputs, ["readability"])
    columns, everyone = encoding.encode(outputs), np.arange(n)
    fit = fit_direct_approval(encoding, columns, everyone, agent, reviewer, approved, n_agents=4, n_reviewers=reviewers)
    assert fit.slopes
    found, variance = fit.predict(columns, everyone, agent, reviewer)
    assert np.corrcoef(found, logit)[0, 1] > 0.95
    assert (variance > 0).all()
    assert np.corrcoef(fit.model.effects[:, 1], own[:, 1])[0, 1] > 0.85
    few = np.arange(n) < 300
    sparse = fit_direct_approval(
        encoding, columns, everyone[few], agent[few], reviewer[few], approved[few], n_agents=4, n_reviewers=reviewers
    )
    assert not sparse.slopes


def test_ten_thousand_reviewers() -> None:
    score, approved, reviewer, bar = decided(each=10, reviewers=10_000)
    found = fit_approval(score, approved, reviewer, 10_000)
    # Quasi-likelihood is known to flatten the slope where decisions are few.
    assert found.slope == pytest.approx(1.8, rel=0.12)
    assert np.corrcoef(found.s50, bar)[0, 1] > 0.75
    # As far off as they say.
    assert np.mean(np.abs(found.s50 - bar) < 1.96 * found.se) == pytest.approx(0.95, abs=0.015)


def test_one_approval_among_many_refusals() -> None:
    score, _, reviewer, _ = decided(each=20, reviewers=20)
    approved = np.zeros(len(score))
    approved[np.argmax(score)] = 1
    found = fit_approval(score, approved, reviewer, 20)
    p = found.probability(score, 0.0, reviewer)
    assert np.isfinite(p).all()
    assert p.mean() < 0.05
    assert found.reason is not None or (found.s50 > np.quantile(score, 0.95)).all()
