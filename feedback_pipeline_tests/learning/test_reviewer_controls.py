"""Reviewers whose severity is all there is: found in full, and no finding about content made of it; and who is left out."""

import numpy as np
import pytest
from scipy import stats

from feedback_pipeline.learning.adjustment import adjust, severity_frame
from feedback_pipeline.learning.features import FLEET, OVERALL
from feedback_pipeline.learning.findings import find
from feedback_pipeline.learning.panel import output_means
from feedback_pipeline.simulation.spec import SLOPED, WorldSpec
from feedback_pipeline.simulation.world import simulate, truth_about_reviewers
from feedback_pipeline_tests.learning.test_agreement import crossed_panel, panel_from
from feedback_pipeline_tests.worlds import BOUNDS, panel_of, subject_of


def negative_control(seed: int, confounded: bool) -> tuple[float, float]:
    """Correlation of severities with the true ones, and published findings per agent, where scores ignore the content."""
    spec = WorldSpec(
        agents=60,
        executions=50,
        seed=seed,
        effects=False,
        tastes=False,
        best_length=False,
        confounded_assignment=confounded,
    )
    world = simulate(spec)
    panel = panel_of(world)
    adjustment = adjust(panel, BOUNDS)
    found = severity_frame(panel, adjustment)
    overall = found[found["aspect"] == OVERALL].set_index("reviewer_id")["severity"]
    truth = truth_about_reviewers(world).set_index("reviewer_id")["severity"].reindex(overall.index)
    findings = find(subject_of(panel, adjustment, SLOPED))
    published = findings.loc[findings["agent_name"] != FLEET, "published"].sum()
    return float(np.corrcoef(overall, truth)[0, 1]), float(published / spec.agents)


@pytest.mark.slow
@pytest.mark.parametrize("confounded", [False, True])
def test_strong_severities_are_found_and_make_no_findings_about_content(confounded: bool) -> None:
    """Confounded: strict reviewers are handed the long texts; unadjusted scores make 2.8 findings per agent of that."""
    worlds = [negative_control(seed, confounded) for seed in range(1, 13)]
    correlation, per_agent = np.array(worlds).T
    assert correlation.min() >= 0.9
    slack = 3 * per_agent.std(ddof=1) / np.sqrt(len(worlds))
    assert per_agent.mean() <= 0.05 + slack
    assert per_agent.mean() <= 0.10


def test_reviews_of_unknown_reviewers_count_for_the_content_and_for_nobody_s_severity() -> None:
    known = crossed_panel()
    output, reviewer, score = known.review_output, known.review_reviewer, known.scores
    rng = np.random.default_rng(3)
    more = np.repeat(np.arange(200), 2)
    everything = panel_from(
        np.concatenate([output, more]),
        np.concatenate([reviewer, np.full(400, -1)]),
        np.concatenate([score, rng.uniform(0, 3, (400, 2))]),
    )
    alone, beside = adjust(panel_from(output, reviewer, score), BOUNDS), adjust(everything, BOUNDS)
    for first, second in zip(alone.severities, beside.severities, strict=True):
        np.testing.assert_array_equal(second.value, first.value)
        np.testing.assert_array_equal(second.n_reviews, first.n_reviews)
    unknown = everything.review_reviewer == -1
    assert unknown.sum() == 400  # two of them on one output are two reviews
    np.testing.assert_array_equal(beside.adjusted[unknown], beside.raw[unknown])
    means = output_means(beside.adjusted, everything.review_output, 200)
    without = output_means(beside.adjusted[~unknown], everything.review_output[~unknown], 200)
    assert (means[:, 0] < without[:, 0]).mean() > 0.9


def test_nobody_known_leaves_the_scores_as_they_are() -> None:
    score = np.random.default_rng(1).uniform(0, 10, (60, 2))
    panel = panel_from(np.repeat(np.arange(30), 2), np.full(60, -1), score)
    found = adjust(panel, BOUNDS)
    np.testing.assert_array_equal(found.adjusted, found.raw)
    assert severity_frame(panel, found).empty
    assert [severity.reason for severity in found.severities] == ["no data"] * 3


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_severity_rests_on_scores_so_it_is_found_where_all_approve(decision: str) -> None:
    mixed = crossed_panel()
    output, reviewer = mixed.review_output, mixed.review_reviewer
    panel = panel_from(output, reviewer, mixed.scores, agent=mixed.review_agent, decision=decision)
    for same, other in zip(adjust(panel, BOUNDS).severities, adjust(mixed, BOUNDS).severities, strict=True):
        np.testing.assert_array_equal(same.value, other.value)
        assert np.ptp(same.value) > 0.5


def test_one_reviewer_only_changes_no_score() -> None:
    rng = np.random.default_rng(2)
    panel = panel_from(np.arange(50), np.zeros(50, dtype=int), rng.uniform(0, 10, (50, 2)))
    found = adjust(panel, BOUNDS)
    np.testing.assert_array_equal(found.adjusted, found.raw)
    frame = severity_frame(panel, found)
    assert frame["reason"].tolist() == ["one reviewer"] * 3
    assert frame["se"].isna().all()
    assert frame["n_reviews"].tolist() == [50] * 3


def test_severities_of_the_aspects_are_their_own() -> None:
    """Strict in one aspect and lenient in the other: neither leaks into the other, nor into the ranks of the overall mean."""
    base = crossed_panel(severity_sd=0.0, outputs=400)
    shift = np.linspace(-1.5, 1.5, 8)
    score = base.scores + np.column_stack([shift, -shift])[base.review_reviewer]
    first, second, overall = adjust(panel_from(base.review_output, base.review_reviewer, score), BOUNDS).severities
    assert stats.spearmanr(first.value, shift).statistic > 0.95
    assert stats.spearmanr(second.value, shift).statistic < -0.95
    assert np.abs(overall.value).max() < 0.3
