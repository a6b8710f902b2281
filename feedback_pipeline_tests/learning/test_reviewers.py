import tracemalloc
import warnings

import numpy as np
import pytest

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.reviewer_moments import RowDesign, moments_of
from feedback_pipeline.learning.reviewers import FIXED, ReviewerModel, fit_reviewer_model
from feedback_pipeline.learning.reviewers_steps import Variances, find_rest


def small_case(seed: int = 3, reviewers: int = 40, each: int = 15) -> tuple[RowDesign, np.ndarray]:
    """Unbalanced: random intercept and two random slopes with known variances."""
    rng = np.random.default_rng(seed)
    reviewer = np.sort(rng.integers(0, reviewers, reviewers * each))
    x = np.column_stack([np.ones(len(reviewer)), rng.normal(size=(len(reviewer), 3))])
    u = rng.normal(0, [0.9, 0.5, 0.3], (reviewers, 3))
    y = x @ [6.0, 0.5, -0.3, 0.2] + np.einsum("mq,mq->m", x[:, :3], u[reviewer]) + rng.normal(0, 0.8, len(reviewer))
    return RowDesign(x, np.arange(len(reviewer)), reviewer, reviewers, np.arange(3)), y


def fit(design: RowDesign, y: np.ndarray) -> ReviewerModel:
    return fit_reviewer_model(moments_of(design, y), np.full(design.columns.shape[1], FIXED))


def intercepts(reviewer: np.ndarray, n_reviewers: int | None = None) -> RowDesign:
    n = len(reviewer)
    return RowDesign(np.ones((n, 1)), np.arange(n), reviewer, n_reviewers or int(reviewer.max()) + 1, np.zeros(1, dtype=np.intp))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_agrees_with_statsmodels(seed: int) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams

    design, y = small_case(seed)
    free = MixedLMParams.from_components(fe_params=np.ones(4), cov_re=np.eye(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = MixedLM(y, design.columns, groups=design.reviewer, exog_re=design.columns[:, :3]).fit(reml=False, free=free)
    found = fit(design, y)
    np.testing.assert_allclose(found.population, oracle.fe_params, atol=0.02)
    np.testing.assert_allclose(found.variances.noise, oracle.scale, rtol=0.02)
    np.testing.assert_allclose(found.variances.personal, np.diag(oracle.cov_re), rtol=0.02, atol=0.002)
    np.testing.assert_allclose(np.sqrt(np.diag(found.population_covariance)), oracle.bse_fe, rtol=0.02)
    effects = np.array([np.asarray(oracle.random_effects[r]) for r in range(design.n_reviewers)])
    np.testing.assert_allclose(found.effects, effects, atol=0.02)
    assert found.log_likelihood == pytest.approx(oracle.llf, abs=0.01)


def test_a_balanced_layout_has_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    reviewer = np.repeat(np.arange(30), 8)
    y = 5 + rng.normal(0, 1, 30)[reviewer] + rng.normal(0, 0.7, 240)
    found = fit(intercepts(reviewer), y)
    mean = y.reshape(30, 8).mean(axis=1)
    noise = ((y - mean[reviewer]) ** 2).sum() / (240 - 30)
    spread = ((mean - y.mean()) ** 2).mean() - noise / 8
    assert found.variances.noise == pytest.approx(noise, rel=1e-3)
    assert found.variances.personal[0] == pytest.approx(spread, rel=1e-3)
    np.testing.assert_allclose(found.effects[:, 0], (mean - y.mean()) * spread / (spread + noise / 8), atol=1e-3)
    np.testing.assert_allclose(found.uncertainty[:, 0, 0], 1 / (8 / noise + 1 / spread), rtol=1e-3)


def test_effects_solve_the_mixed_model_equations() -> None:
    """Henderson's equations at the variances found, with a prior on two of the columns, solved densely."""
    design, y = small_case()
    found = fit_reviewer_model(moments_of(design, y), np.array([FIXED, FIXED, 0, 0]))
    n = design.n_reviewers
    w = np.zeros((len(y), 3 * n))
    for k in range(3):
        w[np.arange(len(y)), 3 * design.reviewer + k] = design.columns[:, k]
    both = np.hstack([design.columns, w])
    prior = found.variances.population[0]
    penalty = np.concatenate([[0, 0, 1 / prior, 1 / prior], np.tile(1 / found.variances.personal, n)]) * found.variances.noise
    solution = np.linalg.solve(both.T @ both + np.diag(penalty), both.T @ y)
    np.testing.assert_allclose(found.population, solution[:4], atol=1e-8)
    np.testing.assert_allclose(found.effects.ravel(), solution[4:], atol=1e-8)


def test_the_likelihood_is_that_of_the_rows() -> None:
    design, y = small_case(reviewers=12)
    group = np.array([FIXED, FIXED, 0, 0])
    found = fit_reviewer_model(moments_of(design, y), group)
    assert found.log_likelihood == pytest.approx(likelihood_at(design, y, group, found.variances), abs=1e-6)


def test_the_variances_are_close_to_the_most_likely_ones() -> None:
    """At the rest nothing nearby is likelier: to rounding with all columns fixed, by a fiftieth of a unit with priors."""
    design, y = small_case(reviewers=8)
    for group, slack in ((np.full(4, FIXED), 1e-3), (np.array([FIXED, FIXED, 0, 0]), 0.02)):
        found = fit_reviewer_model(moments_of(design, y), group)
        values = found.variances.values
        assert (values > 0.01).all()
        for i in range(len(values)):
            for factor in (0.9, 1.1):
                other = values * np.where(np.arange(len(values)) == i, factor, 1.0)
                assert likelihood_at(design, y, group, found.variances.with_values(other)) < found.log_likelihood + slack


def likelihood_at(design: RowDesign, y: np.ndarray, group: np.ndarray, variances: Variances) -> float:
    """Dense: population columns with a prior stand in the covariance of the rows, fixed ones are at their best values."""
    x, tau2 = design.columns, variances.personal
    own = (x[:, design.personal] * tau2) @ x[:, design.personal].T * (design.reviewer[:, None] == design.reviewer)
    random = np.flatnonzero(group >= 0)
    prior = variances.population[group[random]]
    covariance = variances.noise * np.eye(len(x)) + own + (x[:, random] * prior) @ x[:, random].T
    root = np.linalg.cholesky(covariance)
    fixed, response = np.linalg.solve(root, x[:, group == FIXED]), np.linalg.solve(root, y)
    left = response - fixed @ np.linalg.lstsq(fixed, response, rcond=None)[0]
    return float(-0.5 * (len(y) * np.log(2 * np.pi) + left @ left) - np.log(np.diag(root)).sum())


def test_many_columns_do_not_eat_the_noise() -> None:
    """A hundred small effects cost degrees of freedom: without counting them the noise would come out a fifth too small."""
    rng = np.random.default_rng(5)
    x = np.column_stack([np.ones(500), rng.normal(size=(500, 100))])
    reviewer = np.arange(500) % 25
    y = x @ np.append(6, rng.normal(0, 0.4, 100)) + rng.normal(0, 0.9, 25)[reviewer] + rng.normal(0, 1, 500)
    design = RowDesign(x, np.arange(500), reviewer, 25, np.zeros(1, dtype=np.intp))
    found = fit_reviewer_model(moments_of(design, y), np.where(np.arange(101) == 0, FIXED, 0))
    assert found.variances.noise == pytest.approx(1, abs=3 * np.sqrt(2 / 375) * 0.8)
    assert found.variances.population[0] == pytest.approx(0.16, rel=0.35)


def test_moments_add_and_subtract() -> None:
    design, y = small_case()
    first = np.arange(len(y)) % 3 == 0
    whole = moments_of(design, y)
    part, rest = moments_of(design.only(first), y[first]), moments_of(design.only(~first), y[~first])
    for found, expected in ((part + rest, whole), (whole - part, rest)):
        for name in ("rows", "wx", "wy", "xx", "xy", "yy"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-8)
    with pytest.raises(LearningError, match="different designs"):
        _ = whole + moments_of(design.with_personal(np.arange(2)), y)


def test_moments_equal_sums_over_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback_pipeline.learning.reviewer_moments._BLOCK_ROWS", 7)
    """Blocks shorter than most reviewers' rows, and units that several rows share or that have none."""
    rng = np.random.default_rng(0)
    some, y = small_case(reviewers=9)
    unit = rng.integers(0, 30, len(y))
    design = RowDesign(some.columns[:40], unit, some.reviewer, 9, some.personal)
    weight = rng.random(len(y))
    found = moments_of(design, y, weight)
    x = design.columns[unit]
    for r in range(9):
        rows = design.reviewer == r
        np.testing.assert_allclose(found.wx[r], (x[rows, :3] * weight[rows, None]).T @ x[rows], atol=1e-9)
        np.testing.assert_allclose(found.wy[r], (x[rows, :3] * weight[rows, None]).T @ y[rows], atol=1e-9)
    np.testing.assert_allclose(found.xx, (x * weight[:, None]).T @ x)
    np.testing.assert_allclose(found.xy, (x * weight[:, None]).T @ y)
    assert found.yy == pytest.approx(weight @ y**2)


def test_the_order_of_rows_does_not_matter() -> None:
    design, y = small_case()
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = RowDesign(design.columns, design.unit[order], design.reviewer[order], design.n_reviewers, design.personal)
    np.testing.assert_allclose(fit(shuffled, y[order]).effects, fit(design, y).effects, atol=1e-8)


def test_effects_move_with_the_scale_of_the_response() -> None:
    design, y = small_case()
    plain, moved = fit(design, y), fit(design, 3 * y + 20)
    np.testing.assert_allclose(moved.effects, 3 * plain.effects, atol=1e-4)
    np.testing.assert_allclose(moved.variances.personal, 9 * plain.variances.personal, rtol=1e-3)


def test_a_new_reviewer_is_the_population_with_its_variance() -> None:
    found = fit(*small_case())
    effects, uncertainty = found.effects_of(np.array([-1, 0]))
    np.testing.assert_array_equal(effects[0], 0)
    np.testing.assert_array_equal(uncertainty[0], np.diag(found.variances.personal))
    np.testing.assert_array_equal(effects[1], found.effects[0])


def test_a_reviewer_without_a_row_is_like_a_new_one() -> None:
    design, y = small_case(reviewers=20)
    wider = RowDesign(design.columns, design.unit, design.reviewer, 21, design.personal)
    found = fit(wider, y)
    np.testing.assert_allclose(found.effects[:20], fit(design, y).effects, atol=1e-8)
    np.testing.assert_array_equal(found.effects[20], 0)
    np.testing.assert_allclose(found.uncertainty[20], np.diag(found.variances.personal))


def test_a_single_reviewer_has_no_severity() -> None:
    rng = np.random.default_rng(2)
    found = fit(intercepts(np.zeros(50, dtype=np.intp)), 4 + rng.normal(size=50))
    np.testing.assert_array_equal(found.variances.personal, 0)
    np.testing.assert_array_equal(found.effects, 0)
    assert found.population[0] == pytest.approx(4, abs=0.5)


def test_a_reviewer_with_one_review_is_shrunken_most() -> None:
    rng = np.random.default_rng(2)
    reviewer = np.concatenate([np.repeat(np.arange(30), 20), [30]])
    y = 5 + rng.normal(0, 1, 31)[reviewer] + rng.normal(0, 1, len(reviewer))
    y[-1] = 9.0
    found = fit(intercepts(reviewer), y)
    tau2, noise = found.variances.personal[0], found.variances.noise
    assert found.effects[30, 0] == pytest.approx((9 - found.population[0]) * tau2 / (tau2 + noise))
    assert found.uncertainty[30, 0, 0] > 3 * found.uncertainty[:30, 0, 0].max()


@pytest.mark.parametrize("constant", [0.0, 7.0, 1e6])
def test_scores_that_never_vary_give_no_effects(constant: float) -> None:
    design, y = small_case(reviewers=10)
    found = fit(design, np.full(len(y), constant))
    np.testing.assert_allclose(found.effects, 0, atol=1e-6 * (1 + constant))
    np.testing.assert_allclose(found.population, [constant, 0, 0, 0], atol=1e-6 * (1 + constant))


def test_columns_that_say_nothing_get_nothing() -> None:
    """A feature that is missing everywhere is a column of zeros, also as a personal one."""
    design, y = small_case()
    wide = np.hstack([design.columns, np.zeros((len(y), 1))])
    group = np.array([FIXED, 0, 0, 0, 1])
    empty = RowDesign(wide, design.unit, design.reviewer, 40, np.array([0, 1, 2, 4]))
    found = fit_reviewer_model(moments_of(empty, y), group)
    plain = fit_reviewer_model(moments_of(design, y), group[:4])
    np.testing.assert_array_equal(found.effects[:, 3], 0)
    assert found.population[4] == 0
    np.testing.assert_allclose(found.effects[:, :3], plain.effects, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e8])
def test_scores_of_any_size(scale: float) -> None:
    design, y = small_case()
    np.testing.assert_allclose(fit(design, y * scale).effects / scale, fit(design, y).effects, atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_features_need_not_be_exactly_standard(scale: float) -> None:
    design, y = small_case()
    scales = np.array([1.0, scale, 1.0, scale])
    sized = RowDesign(design.columns * scales, design.unit, design.reviewer, 40, design.personal)
    np.testing.assert_allclose(fit(sized, y).effects * scales[:3], fit(design, y).effects, atol=0.01)


def test_equal_input_gives_equal_bits() -> None:
    rng = np.random.default_rng(4)
    design, y = small_case(reviewers=600, each=5)
    first, again = fit(design, y), fit(design, y)
    np.testing.assert_array_equal(first.effects, again.effects)
    known = rng.random(len(y)) < 0.5
    np.testing.assert_array_equal(fit(design.only(known), y[known]).population, fit(design.only(known), y[known]).population)


def test_repeated_columns_share_their_effect() -> None:
    design, y = small_case()
    twice = RowDesign(np.hstack([design.columns, design.columns[:, 3:]]), design.unit, design.reviewer, 40, design.personal)
    single, double = fit(design, y), fit(twice, y)
    assert double.population[3:].sum() == pytest.approx(single.population[3], abs=1e-6)
    np.testing.assert_allclose(double.effects, single.effects, atol=1e-6)


def test_refuses_what_it_cannot_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    design, y = small_case()
    none = np.zeros(len(y), dtype=bool)
    with pytest.raises(LearningError, match="no row"):
        fit(design.only(none), y[none])
    with pytest.raises(LearningError, match="finite"):
        fit(design, np.where(np.arange(len(y)) == 3, np.nan, y))
    blank = RowDesign(
        np.where(design.columns == design.columns[5, 3], np.nan, design.columns),
        design.unit,
        design.reviewer,
        40,
        design.personal,
    )
    with pytest.raises(LearningError, match="finite features"):
        fit(blank, y)
    unknown = RowDesign(design.columns, design.unit, design.reviewer - 1, 40, design.personal)
    with pytest.raises(LearningError, match="known reviewers"):
        fit(unknown, y)
    monkeypatch.setattr("feedback_pipeline.learning.reviewers._STEPS", 2)
    with pytest.raises(LearningError, match="did not converge in 2 steps"):
        fit(design, y)


@pytest.mark.slow
def test_ten_thousand_reviewers_and_a_million_reviews() -> None:
    rng = np.random.default_rng(0)
    n, reviewers, outputs = 1_000_000, 10_000, 400_000
    activity = np.exp(rng.normal(0, 0.6, reviewers))
    reviewer = rng.choice(reviewers, n, p=activity / activity.sum())
    unit = np.sort(rng.integers(0, outputs, n))
    columns = rng.normal(size=(outputs, 40)).astype(np.float32)
    columns[:, 0] = 1
    slopes = rng.normal(0, 1, (reviewers, 9)) * np.concatenate([[0.9], np.full(8, 0.3)])
    y = 6 + np.einsum("mq,mq->m", columns[unit, :9], slopes[reviewer]) + rng.normal(0, 0.8, n)
    design = RowDesign(columns, unit, reviewer, reviewers, np.arange(9))
    tracemalloc.start()
    found = fit_reviewer_model(moments_of(design, y), np.where(np.arange(40) == 0, FIXED, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 1e9
    np.testing.assert_allclose(np.sqrt(found.variances.personal), [0.9, *[0.3] * 8], rtol=0.05)
    assert np.corrcoef(found.effects[:, 0], slopes[:, 0])[0, 1] > 0.98


def slow(point: np.ndarray) -> tuple[np.ndarray, float]:
    """Moves to (1, .5, .2, 0) at paces between .5 and .98, as EM does."""
    rest, pace = np.array([1.0, 0.5, 0.2, 0.0]), np.array([0.5, 0.95, 0.98, 0.9])
    moved = rest + pace * (point - rest)
    return moved, float(np.abs(moved - point).sum())


def test_a_slow_map_is_followed_to_its_rest_in_fewer_steps() -> None:
    found = find_rest(slow, np.full(4, 0.7), least_gain=1e-8, steps=1000)
    assert found is not None
    np.testing.assert_allclose(found[0], [1.0, 0.5, 0.2, 0.0], atol=1e-6)
    assert found[1] < 250  # plain repetition takes 800
    assert find_rest(slow, np.full(4, 0.7), least_gain=1e-8, steps=5) is None
    assert find_rest(lambda point: (point * np.nan, np.nan), np.ones(4), least_gain=1e-8, steps=50) is None


def test_a_zero_stays_zero_on_the_way_to_rest() -> None:
    found = find_rest(
        lambda point: (np.sqrt(point), float(np.abs(np.log(point[0])))), np.array([9.0, 0.0]), least_gain=1e-9, steps=100
    )
    assert found is not None
    np.testing.assert_allclose(found[0], [1.0, 0.0], atol=1e-8)
