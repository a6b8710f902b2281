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
    np.testing.assert_allclose(found.se, np.sqrt(found.noise * np.diag(np.linalg.inv(left))[405:]), rtol=1e-8)


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
    found = estimate_severity(agent, output, reviewer, np.full(len(output), 7.0), 6)
    np.testing.assert_allclose(found.value, 0.0, atol=1e-12)


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
