from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.preferences import Preferences, learn_preferences, overall_bounds
from feedback_pipeline.learning.preferences_foresight import BY_FEATURES, BY_SCORE
from feedback_pipeline.learning.preferences_tastes import ALIKE, best_lengths, choices, length_ranges
from feedback_pipeline.simulation.names import reviewer_names
from feedback_pipeline.simulation.spec import ASPECTS, FEATURES, WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline_tests.worlds import BOUNDS


def panel_of(world: World, reviews: pd.DataFrame | None = None) -> Panel:
    rows = (world.reviews if reviews is None else reviews).assign(is_training_data=True)
    columns = ["agent_name", "execution_id", "content_id", *FEATURES, "tone", "content_type", "channel"]
    return build_panel(rows, rows[list(ASPECTS)].to_numpy(dtype=float), ASPECTS, world.executions[columns])


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(WorldSpec(agents=20, executions=100, reviewers=30, seed=2))


@pytest.fixture(scope="module")
def panel(world: World) -> Panel:
    return panel_of(world)


@pytest.fixture(scope="module")
def learned(panel: Panel) -> Preferences:
    return learn_preferences(panel, BOUNDS, seed=0)


def test_every_reviewer_has_a_row_in_order(panel: Panel, learned: Preferences) -> None:
    assert [row.reviewer_id for row in learned.reviewers] == list(panel.reviewers)
    scored = ~np.isnan(panel.scores).all(axis=1)
    count = np.bincount(panel.review_reviewer[scored])
    assert [row.training_samples for row in learned.reviewers] == count.tolist()
    assert learned.route == BY_SCORE
    assert not learned.failures


def test_what_is_not_known_is_null_with_a_reason(learned: Preferences) -> None:
    for row in learned.reviewers:
        assert (row.preferred_tone.value is None) == (row.preferred_tone.reason is not None)
        assert (row.content_length.best is None) == (row.content_length.reason is not None)
        assert row.structure_preference.value is None
        assert row.structure_preference.reason == "the outputs do not differ in structure"
        if row.preferred_tone.value is not None:
            assert row.preferred_tone.probability >= 0.5
        if row.content_length.best is not None:
            assert row.content_length.min is not None
            assert row.content_length.max is not None
            assert row.content_length.min <= row.content_length.best <= row.content_length.max
        assert row.n_test == 0 or row.accuracy is not None


def test_standards_follow_the_planted_bars(world: World, learned: Preferences) -> None:
    bar = dict(zip(reviewer_names(30), world.reviewers.bar, strict=True))
    standards = [(bar[row.reviewer_id], row.quality_standards["overall"].s50) for row in learned.reviewers]
    truth, found = np.array([(b, s) for b, s in standards if s is not None]).T
    assert len(truth) == 30
    assert np.abs(truth - found).mean() < 0.3
    for row in learned.reviewers:
        assert set(row.quality_standards) == {*ASPECTS, "overall"}
        s80 = row.quality_standards["overall"].s80
        assert s80 is not None
        assert row.example_quality_threshold == pytest.approx(min(s80 / 10, 1.0))


def test_later_decisions_are_foreseen_better_than_by_majority(panel: Panel, learned: Preferences) -> None:
    held = learned.held_out
    assert held.overall_accuracy > held.overall_baseline + 0.02
    decided = panel.reviews["decision"].notna().sum()
    assert held.n_test.sum() == pytest.approx(0.2 * decided, rel=0.01)
    assert held.log_loss < np.log(2)
    tested = [row for row in learned.reviewers if row.n_test]
    mean = np.average([row.accuracy or 0.0 for row in tested], weights=[row.n_test for row in tested])
    assert mean == pytest.approx(held.overall_accuracy)


def test_held_out_decisions_do_not_reach_the_models(panel: Panel, learned: Preferences) -> None:
    cut = panel.reviews["reviewed_at"].quantile(0.9)
    late = (panel.reviews["reviewed_at"] > cut).to_numpy()
    scores = panel.scores.copy()
    scores[late] = 10 - scores[late]
    changed = learn_preferences(replace(panel, scores=scores), BOUNDS, seed=0)
    assert changed.held_out.overall_accuracy == learned.held_out.overall_accuracy
    assert changed.held_out.log_loss == learned.held_out.log_loss


def test_the_same_data_and_seed_give_the_same_numbers(panel: Panel, learned: Preferences) -> None:
    # Compared as text: NaN equals itself there.
    assert repr(learn_preferences(panel, BOUNDS, seed=0).reviewers) == repr(learned.reviewers)


def test_reviews_of_unknown_reviewers_are_left_out(world: World, panel: Panel, learned: Preferences) -> None:
    reviews = world.reviews.copy()
    known = reviews["reviewer_id"] != panel.reviewers[0]
    without = learn_preferences(panel_of(world, reviews[known]), BOUNDS, seed=0)
    reviews.loc[~known, "reviewer_id"] = None
    hidden = learn_preferences(panel_of(world, reviews), BOUNDS, seed=0)
    assert [row.reviewer_id for row in hidden.reviewers] == list(panel.reviewers[1:])
    # The outputs still set the scales of the features, so the numbers agree closely, not bit for bit.
    for one, other in zip(without.reviewers, hidden.reviewers, strict=True):
        assert one.training_samples == other.training_samples
        assert one.quality_standards == other.quality_standards


def test_without_scores_decisions_are_foreseen_from_features(panel: Panel) -> None:
    found = learn_preferences(replace(panel, scores=np.full_like(panel.scores, np.nan)), BOUNDS, seed=0)
    assert found.route == BY_FEATURES
    assert found.held_out.route == BY_FEATURES
    assert found.held_out.overall_accuracy > found.held_out.overall_baseline
    for row in found.reviewers:
        assert row.example_quality_threshold is None
        assert row.threshold_reason == "no decision with a score in this aspect"
        assert row.training_samples > 0


def test_without_decisions_there_are_tastes_but_no_standards(panel: Panel) -> None:
    reviews = panel.reviews.assign(decision=pd.Series([None] * len(panel.reviews), dtype="str"))
    found = learn_preferences(replace(panel, reviews=reviews), BOUNDS, seed=0)
    assert found.held_out.reason == "no decision of a known reviewer"
    assert any(row.content_length.best is not None for row in found.reviewers)
    assert all(row.accuracy is None and row.quality_standards["overall"].s50 is None for row in found.reviewers)


def test_with_neither_scores_nor_decisions_everything_is_null(panel: Panel) -> None:
    reviews = panel.reviews.assign(decision=pd.Series([None] * len(panel.reviews), dtype="str"))
    empty = replace(panel, reviews=reviews, scores=np.full_like(panel.scores, np.nan))
    found = learn_preferences(empty, BOUNDS, seed=0)
    assert found.personal is None
    assert all(row.preferred_tone.value is None and row.content_length.reason for row in found.reviewers)


def test_all_approve(panel: Panel) -> None:
    reviews = panel.reviews.assign(decision="approve")
    found = learn_preferences(replace(panel, reviews=reviews), BOUNDS, seed=0)
    for row in found.reviewers:
        standard = row.quality_standards["overall"]
        assert standard.censored == "all approved"
        assert standard.reason == "every decision is an approval: the standards lie below all scores"
        assert row.accuracy in (None, 1.0)


def test_scores_that_never_vary_show_no_preference(panel: Panel) -> None:
    found = learn_preferences(replace(panel, scores=np.full_like(panel.scores, 7.0)), BOUNDS, seed=0)
    for row in found.reviewers:
        assert row.preferred_tone.value is None
        assert row.content_length.best is None
        assert row.style == ()
        assert row.quality_standards["overall"].reason == "the scores do not vary"


@pytest.mark.parametrize("kept", [1, 2, 40])
def test_a_single_reviewer_with_few_reviews(world: World, kept: int) -> None:
    mine = world.reviews[world.reviews["reviewer_id"] == world.reviews["reviewer_id"].iloc[0]]
    found = learn_preferences(panel_of(world, mine.head(kept)), BOUNDS, seed=0)
    (row,) = found.reviewers
    assert 1 <= row.training_samples <= kept
    assert row.n_test == 0
    assert found.held_out.reason is not None
    assert found.held_out.reason.startswith("fewer than 20 decisions")


def test_a_reviewer_with_one_review_among_others(world: World, panel: Panel) -> None:
    rare = panel.reviewers[0]
    reviews = world.reviews
    keep = (reviews["reviewer_id"] != rare) | (reviews["reviewer_id"] == rare).cumsum().eq(1)
    found = learn_preferences(panel_of(world, reviews[keep]), BOUNDS, seed=0)
    row = found.reviewers[0]
    assert row.reviewer_id == rare
    assert row.training_samples == 1
    assert row.preferred_tone.value is None
    assert row.style == ()
    standard = row.quality_standards["overall"]
    assert standard.n == 1
    assert standard.se is not None
    assert standard.se > 0.4


def test_approval_that_falls_with_the_score_is_no_standard(panel: Panel) -> None:
    good = panel.scores.mean(axis=1) > np.nanmean(panel.scores)
    reviews = panel.reviews.assign(decision=np.where(good, "reject", "approve"))
    found = learn_preferences(replace(panel, reviews=reviews), BOUNDS, seed=0)
    assert found.approvals["overall"].slope < 0
    for row in found.reviewers:
        assert {one.reason for one in row.quality_standards.values()} == {"approval does not rise with this score"}
        assert row.example_quality_threshold is None
    assert found.held_out.overall_accuracy > found.held_out.overall_baseline


def test_a_reviewer_who_always_gives_the_same_score(panel: Panel, learned: Preferences) -> None:
    scores = panel.scores.copy()
    scores[panel.review_reviewer == 0] = 7.0
    found = learn_preferences(replace(panel, scores=scores), BOUNDS, seed=0)
    row = found.reviewers[0]
    assert row.training_samples == learned.reviewers[0].training_samples
    standard = row.quality_standards["overall"]
    assert standard.s50 is not None
    assert np.isfinite(standard.s50)
    assert found.foresight is not None
    assert found.personal is not None
    own = found.personal.model.effects[0, 0]
    assert np.isfinite(own)


@pytest.mark.slow
def test_ten_thousand_reviewers_with_three_reviews_each() -> None:
    world = simulate(WorldSpec(agents=20, executions=750, reviewers=10_000, seed=3))
    panel = panel_of(world)
    outputs = panel.outputs[["agent_name", "execution_id", "content_id", "word_count", "readability", "tone"]]
    found = learn_preferences(replace(panel, outputs=outputs), BOUNDS, seed=0)
    assert len(found.reviewers) > 8_000
    assert found.held_out.reason is None
    assert found.held_out.overall_accuracy > found.held_out.overall_baseline
    assert all(row.preferred_tone.value is None or row.preferred_tone.probability >= 0.5 for row in found.reviewers)


@pytest.mark.slow
def test_without_tastes_hardly_any_taste_is_published() -> None:
    published, styles, possible = 0, 0, 0
    for seed in (1, 2, 3):
        spec = WorldSpec(agents=20, executions=200, reviewers=40, seed=seed, effects=False, tastes=False, best_length=False)
        found = learn_preferences(panel_of(simulate(spec)), BOUNDS, seed=0)
        published += sum(row.preferred_tone.value is not None or row.content_length.best is not None for row in found.reviewers)
        styles += sum(len(row.style) for row in found.reviewers)
        possible += len(found.reviewers)
    assert published / possible <= 0.05
    assert styles / possible <= 0.2


def test_severity_alone_knows_no_personal_taste(panel: Panel, learned: Preferences) -> None:
    assert learned.personal is not None
    model = learned.personal.model
    plain = replace(
        learned.personal,
        model=replace(model, personal=model.personal[:1], effects=model.effects[:, :1], uncertainty=model.uncertainty[:, :1, :1]),
    )
    assert {choice.reason for choice in choices(plain, "tone", 0)} == {ALIKE}
    assert {length.reason for length in length_ranges(plain, 10, 0)} == {ALIKE}
    assert len(set(best_lengths(plain))) == 1


def test_bounds_of_the_overall_score() -> None:
    assert overall_bounds(("a", "b"), {"*": (1, 5)}) == (1, 5)
    assert overall_bounds(("a", "b"), {"*": (0, 10), "a": (0, 100)}) == (0.0, 10.0)
    assert overall_bounds((), {"*": (0, 4)}) == (0, 4)
