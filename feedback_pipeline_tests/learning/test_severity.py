import numpy as np
import pytest
from scipy import stats

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.severity import AGENT_MEANS, FIXED_OUTPUTS, NOT_ESTIMATED, RANDOM_OUTPUTS, estimate_severity


def crossed(
    per_output: float, seed: int = 1, reviewers: int = 40, outputs: int = 4000, agents: int = 20
) -> tuple[np.ndarray, ...]:
    """Unequal activity, outputs of unequal quality: agent, output, reviewer, score, true severity."""
    rng = np.random.default_rng(seed)
    agent = np.sort(rng.integers(0, agents, outputs))
    output = np.repeat(np.arange(outputs), 1 + rng.poisson(per_output - 1, outputs))
    activity = rng.gamma(8.0, size=reviewers)
    reviewer = rng.choice(reviewers, len(output), p=activity / activity.sum())
    severity = rng.normal(0, 0.9, reviewers)
    quality = rng.normal(0, 0.5, agents)[agent] + rng.normal(0, 0.9, outputs)
    score = 6 + quality[output] + severity[reviewer] + rng.normal(0, 0.9, len(output))
    return agent[output], output, reviewer, score, severity


@pytest.mark.parametrize(("per_output", "method"), [(1.2, RANDOM_OUTPUTS), (1.5, FIXED_OUTPUTS), (3.0, FIXED_OUTPUTS)])
def test_planted_severity_is_recovered(per_output: float, method: str) -> None:
    agent, output, reviewer, score, truth = crossed(per_output)
    found = estimate_severity(agent, output, reviewer, score, 40)
    assert found.method == method
    assert found.comparable.all()
    assert np.corrcoef(found.value, truth)[0, 1] >= 0.97
    assert np.sqrt(found.noise) == pytest.approx(0.9, abs=0.06)
    assert np.sqrt(found.reviewer) == pytest.approx(truth.std(), rel=0.15)
    centred = truth - truth.mean()
    covered = np.abs(found.value - found.value.mean() - centred) < 1.96 * found.se
    assert covered.mean() >= 0.85


def test_random_outputs_equal_the_full_mixed_model_equations() -> None:
    """Henderson's equations with nothing absorbed, solved densely."""
    agent, output, reviewer, score, _ = crossed(1.3, outputs=400, reviewers=12, agents=5, seed=4)
    found = estimate_severity(agent, output, reviewer, score, 12)
    assert found.method == RANDOM_OUTPUTS
    design = np.hstack([np.eye(5)[agent], np.eye(400)[output], np.eye(12)[reviewer]])
    penalty = np.concatenate([np.zeros(5), np.full(400, found.noise / found.output), np.full(12, found.noise / found.reviewer)])
    left = design.T @ design + np.diag(penalty)
    solution = np.linalg.solve(left, design.T @ score)
    np.testing.assert_allclose(found.value, solution[405:], atol=1e-9)
    np.testing.assert_allclose(found.se, error_of_deviations(left, found.noise, 12), rtol=1e-7)


def error_of_deviations(left: np.ndarray, noise: float, reviewers: int) -> np.ndarray:
    """Posterior standard errors of the last unknowns' deviations from their mean."""
    centre = np.eye(reviewers) - 1 / reviewers
    errors: np.ndarray = np.sqrt(noise * np.diag(centre @ np.linalg.inv(left)[-reviewers:, -reviewers:] @ centre))
    return errors


def test_fixed_outputs_equal_the_equations_with_a_column_per_output() -> None:
    agent, output, reviewer, score, _ = crossed(3.0, outputs=300, reviewers=6, agents=5, seed=4)
    found = estimate_severity(agent, output, reviewer, score, 6)
    assert found.method == FIXED_OUTPUTS
    design = np.hstack([np.eye(300)[output], np.eye(6)[reviewer]])
    left = design.T @ design + np.diag(np.append(np.zeros(300), np.full(6, found.noise / found.reviewer)))
    np.testing.assert_allclose(found.value, np.linalg.solve(left, design.T @ score)[300:], atol=1e-9)
    np.testing.assert_allclose(found.se, error_of_deviations(left, found.noise, 6), rtol=1e-7)


@pytest.mark.parametrize("per_output", [1.2, 3.0])
def test_intervals_cover_the_truth(per_output: float) -> None:
    inside = []
    for seed in range(10):
        agent, output, reviewer, score, truth = crossed(per_output, seed=seed, outputs=1500)
        found = estimate_severity(agent, output, reviewer, score, 40)
        inside.append((np.abs(found.value - truth + truth.mean()) < 1.96 * found.se).mean())
    assert np.mean(inside) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 400))


@pytest.mark.parametrize("per_output", [1.05, 1.1, 1.2])
def test_random_outputs_are_kept_where_reviews_are_handed_out_evenly(per_output: float) -> None:
    methods = []
    for seed in range(15):
        agent, output, reviewer, score, _ = crossed(per_output, seed=seed)
        methods.append(estimate_severity(agent, output, reviewer, score, 40).method)
    assert methods.count(RANDOM_OUTPUTS) >= 14


@pytest.mark.parametrize("dense", [2000, 10])
def test_random_outputs_are_given_up_where_the_better_outputs_go_to_some_reviewers(
    dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback_pipeline.learning.mixed_model._DENSE_REVIEWERS", dense)
    raw = []
    for seed in range(5):
        agent, output, reviewer, score, truth = preferring(seed)
        found = estimate_severity(agent, output, reviewer, score, 40)
        assert found.method == FIXED_OUTPUTS
        assert np.corrcoef(found.value, truth)[0, 1] > 0.95
        raw.append(np.corrcoef(np.bincount(reviewer, weights=score) / np.bincount(reviewer), truth)[0, 1])
    assert np.mean(raw) < 0.6


def preferring(seed: int) -> tuple[np.ndarray, ...]:
    """Few outputs with two reviewers, the better ones on the desks of the reviewers with the higher codes."""
    rng = np.random.default_rng(seed)
    quality = np.sort(rng.normal(0, 2.0, 3000))
    first = np.clip(np.arange(3000) * 40 // 3000 + rng.integers(-8, 9, 3000), 0, 39)
    step = rng.integers(1, 9, 3000)
    second = np.where(first + step < 40, first + step, first - step)
    twice = np.flatnonzero(rng.random(3000) < 0.3)
    output = np.concatenate([np.arange(3000), twice])
    reviewer = np.concatenate([first, second[twice]])
    truth = rng.normal(0, 0.9, 40)
    score = 6 + quality[output] + truth[reviewer] + rng.normal(0, 0.7, len(output))
    return rng.integers(0, 5, 3000)[output], output, reviewer, score, truth


def test_beyond_dense_sizes_values_stay_and_standard_errors_take_the_others_as_known(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, output, reviewer, score, _ = preferring(0)
    dense = estimate_severity(agent, output, reviewer, score, 40)
    monkeypatch.setattr("feedback_pipeline.learning.mixed_model._DENSE_REVIEWERS", 10)
    sparse = estimate_severity(agent, output, reviewer, score, 40)
    np.testing.assert_allclose(sparse.value, dense.value, atol=1e-7)
    pairs = np.bincount(output)[output] == 2
    information = 0.5 * np.bincount(reviewer[pairs], minlength=40) + dense.noise / dense.reviewer
    np.testing.assert_allclose(sparse.se, np.sqrt(dense.noise / information))


def test_conjugate_gradients_agree_with_the_dense_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, output, reviewer, score, _ = crossed(1.2, seed=6)
    dense = estimate_severity(agent, output, reviewer, score, 40)
    monkeypatch.setattr("feedback_pipeline.learning.mixed_model._DENSE_REVIEWERS", 10)
    sparse = estimate_severity(agent, output, reviewer, score, 40)
    assert dense.method == sparse.method == RANDOM_OUTPUTS
    np.testing.assert_allclose(sparse.value, dense.value, atol=1e-7)


def test_strict_reviewers_who_get_the_better_outputs_are_still_found_strict() -> None:
    rng = np.random.default_rng(3)
    quality = rng.normal(0, 1.5, 1500)
    truth = np.linspace(-1.0, 1.0, 10)
    # The strictest reviewers mostly see the best outputs: raw means say the opposite.
    rank = np.argsort(np.argsort(-quality)) // 150
    first = np.clip(rank + rng.integers(-1, 2, 1500), 0, 9)
    second = (first + 1 + rng.integers(0, 2, 1500)) % 10
    third = (first + 4) % 10
    output, reviewer = np.tile(np.arange(1500), 3), np.concatenate([first, second, third])
    score = 6 + quality[output] + truth[reviewer] + rng.normal(0, 0.5, len(output))
    order = np.argsort(output, kind="stable")
    found = estimate_severity(np.zeros(len(order), dtype=int), output[order], reviewer[order], score[order], 10)
    raw = np.bincount(reviewer, weights=score) / np.bincount(reviewer)
    assert stats.spearmanr(raw, truth).statistic < 0.75
    assert stats.spearmanr(found.value, truth).statistic >= 0.98


def test_one_review_per_output_is_not_comparable_and_divides_by_nothing() -> None:
    rng = np.random.default_rng(9)
    n = 900
    reviewer = rng.integers(0, 6, n)
    truth = np.array([-1.0, -0.5, 0.0, 0.2, 0.5, 0.8])
    score = 5 + truth[reviewer] + rng.normal(0, 1, n)
    found = estimate_severity(rng.integers(0, 4, n), np.arange(n), reviewer, score, 6)
    assert found.method == AGENT_MEANS
    assert found.reason == "no output has two reviewers"
    assert not found.comparable.any()
    assert np.corrcoef(found.value, truth)[0, 1] > 0.95
    assert np.isfinite(found.value).all()
    assert np.isfinite(found.se).all()


def test_agent_means_follow_the_moment_formulas() -> None:
    """Oracle written out from the one-way layout, with a single agent so that the alternation is already at its fixed mean."""
    rng = np.random.default_rng(2)
    reviewer = np.repeat([0, 1, 2], [10, 20, 40])
    score = rng.normal(0, 1, 70) + np.array([1.0, 0.0, -0.5])[reviewer]
    found = estimate_severity(np.zeros(70, dtype=int), np.arange(70), reviewer, score, 3)
    value = np.zeros(3)
    for _ in range(3):
        y = score - (score - value[reviewer]).mean()
        n = np.bincount(reviewer)
        mean = np.bincount(reviewer, weights=y) / n
        s2 = ((y - mean[reviewer]) ** 2).sum() / (70 - 3)
        t2 = max(0.0, ((n * mean**2).sum() - s2 * 2) / (70 - (n**2).sum() / 70))
        value = mean * n * t2 / (n * t2 + s2)
    np.testing.assert_allclose(found.value, value, rtol=1e-12)


def test_two_groups_that_share_no_output_are_named_and_not_comparable() -> None:
    rng = np.random.default_rng(5)
    outputs = np.repeat(np.arange(400), 3)
    group = (outputs >= 200).astype(int)
    reviewer = np.tile([0, 1, 2], 400) + 3 * group
    truth = np.array([-0.5, 0.0, 0.5, -1.5, -1.0, -0.5])
    score = 6 + rng.normal(0, 1, 400)[outputs] + truth[reviewer] + rng.normal(0, 0.4, 1200)
    found = estimate_severity(np.zeros(1200, dtype=int), outputs, reviewer, score, 6)
    assert found.component.tolist() == [0, 0, 0, 1, 1, 1]
    assert not found.comparable.any()
    for members in (slice(0, 3), slice(3, 6)):
        np.testing.assert_allclose(np.diff(found.value[members]), 0.5, atol=0.15)


def test_a_reviewer_outside_the_majority_is_the_only_one_not_comparable() -> None:
    agent, output, reviewer, score, _ = crossed(2.0, outputs=600, reviewers=8)
    alone = np.arange(output.max() + 1, output.max() + 21)
    found = estimate_severity(
        np.concatenate([agent, np.zeros(20, dtype=int)]),
        np.concatenate([output, alone]),
        np.concatenate([reviewer, np.full(20, 8)]),
        np.concatenate([score, np.full(20, 9.0)]),
        9,
    )
    assert found.comparable.tolist() == [True] * 8 + [False]
    assert found.n_reviews[8] == 20


@pytest.mark.parametrize("n", [0, 1, 50])
def test_one_reviewer_has_severity_zero(n: int) -> None:
    rng = np.random.default_rng(1)
    found = estimate_severity(np.zeros(n, dtype=int), np.arange(n), np.zeros(n, dtype=int), rng.normal(6, 1, n), 1)
    assert found.method == NOT_ESTIMATED
    assert found.value.tolist() == [0.0]
    assert np.isnan(found.se).all()


def test_reviewers_without_a_score_keep_severity_zero_and_no_component() -> None:
    agent, output, reviewer, score, _ = crossed(2.0, outputs=500, reviewers=5)
    found = estimate_severity(agent, output, reviewer, score, 8)
    assert found.value[5:].tolist() == [0.0] * 3
    assert found.component[5:].tolist() == [-1] * 3
    assert not found.comparable[5:].any()
    assert np.isnan(found.se[5:]).all()


def test_equal_scores_everywhere() -> None:
    agent, output, reviewer, _, _ = crossed(2.0, outputs=300, reviewers=6)
    for n in (len(output), 1):
        found = estimate_severity(agent[::n], output[::n], reviewer[::n], np.full(len(output), 7.0)[::n], 6)
        np.testing.assert_allclose(found.value, 0.0, atol=1e-12)
        assert np.isnan(found.se).all()
        assert found.reason is not None


@pytest.mark.parametrize("method", [FIXED_OUTPUTS, RANDOM_OUTPUTS])
def test_a_reviewer_with_one_review_is_known_little_better_than_anybody(method: str) -> None:
    agent, output, reviewer, score, _ = preferring(1) if method == FIXED_OUTPUTS else crossed(1.2, seed=1)
    found = estimate_severity(
        np.append(agent, 0), np.append(output, output.max() + 1), np.append(reviewer, 40), np.append(score, 10.0), 41
    )
    before = estimate_severity(agent, output, reviewer, score, 40)
    assert before.method == found.method == method
    assert found.n_reviews[40] == 1
    assert not found.comparable[40]
    # Nobody else reviewed that output: with fixed outputs nothing is known but the prior.
    prior = np.sqrt(found.reviewer * (1 - 1 / 41))
    assert found.se[40] == pytest.approx(prior) if method == FIXED_OUTPUTS else 0.5 * prior < found.se[40] < prior
    assert found.value[40] == pytest.approx(0.0, abs=1e-9) if method == FIXED_OUTPUTS else 0 < found.value[40] < 4
    np.testing.assert_allclose(found.value[:40], before.value, atol=0.1)


def test_a_reviewer_who_always_gives_the_same_score_is_as_severe_as_the_others_make_them() -> None:
    agent, output, reviewer, score, _ = crossed(3.0, seed=2, outputs=800, reviewers=8)
    for constant in (2.0, 6.0, 10.0):
        same = np.where(reviewer == 3, constant, score)
        found = estimate_severity(agent, output, reviewer, same, 8)
        others = np.delete(found.value, 3)
        assert np.isfinite(found.value).all()
        assert np.isfinite(found.se).all()
        level = np.mean([same[reviewer == r].mean() for r in range(8) if r != 3])
        assert found.value[3] - others.mean() == pytest.approx(constant - level, abs=0.35)


def test_ten_thousand_reviewers() -> None:
    rng = np.random.default_rng(7)
    n, outputs = 100_000, 40_000
    output, reviewer = np.sort(rng.integers(0, outputs, n)), rng.integers(0, 10_000, n)
    truth = rng.normal(0, 0.9, 10_000)
    score = 6 + rng.normal(0, 0.9, outputs)[output] + truth[reviewer] + rng.normal(0, 0.9, n)
    found = estimate_severity(np.arange(outputs)[output] % 50, output, reviewer, score, 10_000)
    assert found.method == RANDOM_OUTPUTS
    seen = found.n_reviews > 0
    assert np.corrcoef(found.value[seen], truth[seen])[0, 1] > 0.9
    inside = np.abs(found.value - truth)[seen] < 1.96 * found.se[seen]
    assert 0.9 < inside.mean() < 0.97


def test_relabelling_reviewers_and_shuffling_outputs_changes_nothing() -> None:
    agent, output, reviewer, score, _ = crossed(1.8, outputs=700, reviewers=9)
    found = estimate_severity(agent, output, reviewer, score, 9)
    label = np.random.default_rng(0).permutation(9)
    other = estimate_severity(agent, output, label[reviewer], score + 3.0, 9)
    np.testing.assert_allclose(other.value[label], found.value, atol=1e-9)


def test_missing_scores_are_refused() -> None:
    with pytest.raises(LearningError, match="finite"):
        estimate_severity(np.zeros(2, dtype=int), np.arange(2), np.arange(2), np.array([1.0, np.nan]), 2)


@pytest.mark.parametrize("offset", [1.0, 0.1])
@pytest.mark.parametrize("lone", [False, True])
def test_reviewers_who_differ_by_exactly_a_constant(offset: float, lone: bool) -> None:
    """No noise is left at all: a division by it would decide everything."""
    rng = np.random.default_rng(8)
    quality = rng.integers(3, 8, 40).astype(float)
    output, reviewer = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    score = quality[output] + offset * reviewer
    if lone:
        output, reviewer = np.append(output, np.arange(40, 60)), np.append(reviewer, np.full(20, 2))
        score = np.append(score, rng.integers(3, 8, 20))
    found = estimate_severity(np.zeros(len(output), dtype=int), output, reviewer, score, 3 if lone else 2)
    assert np.isfinite(found.value).all()
    assert found.value[1] - found.value[0] == pytest.approx(offset, rel=0.02)
    assert abs(found.value[:2].mean()) < 0.05 + (0.5 if lone else 0.0)


def test_random_offsets_without_noise_are_recovered_exactly() -> None:
    rng = np.random.default_rng(4)
    for reviewers in (2, 3, 4):
        offsets = rng.integers(-3, 4, reviewers).astype(float)
        if np.ptp(offsets) == 0:
            offsets[0] += 1
        output, reviewer = np.repeat(np.arange(30), reviewers), np.tile(np.arange(reviewers), 30)
        score = rng.normal(6, 1, 30)[output] + offsets[reviewer]
        found = estimate_severity(np.zeros(len(output), dtype=int), output, reviewer, score, reviewers)
        np.testing.assert_allclose(found.value, offsets - offsets.mean(), atol=1e-4)
