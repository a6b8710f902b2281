from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.features import CATEGORIES, NUMERIC_FEATURES
from feedback_pipeline.simulation.names import agent_names, reviewer_names, uuids
from feedback_pipeline.simulation.spec import ASPECTS, FEATURES, NULLS, SLOPED, TONES, WorldSpec
from feedback_pipeline.simulation.world import World, simulate, truth_about_reviewers

SPEC = WorldSpec(agents=20, executions=500, reviewers=300, seed=7)


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SPEC)


def test_equal_specs_give_identical_frames(world: World) -> None:
    again = simulate(replace(SPEC))
    pd.testing.assert_frame_equal(world.executions, again.executions, check_exact=True)
    pd.testing.assert_frame_equal(world.reviews, again.reviews, check_exact=True)


def test_another_seed_gives_another_world(world: World) -> None:
    other = simulate(replace(SPEC, seed=8))
    assert not set(world.executions["execution_id"]) & set(other.executions["execution_id"])
    assert not set(world.reviews["feedback_id"]) & set(other.reviews["feedback_id"])
    assert not np.array_equal(world.agents.slopes, other.agents.slopes)


def test_more_executions_keep_the_planted_truth(world: World) -> None:
    larger = simulate(replace(SPEC, executions=600))
    np.testing.assert_array_equal(larger.agents.slopes, world.agents.slopes)
    np.testing.assert_array_equal(larger.reviewers.severity, world.reviewers.severity)


def test_row_counts_and_keys(world: World) -> None:
    executions, reviews = world.executions, world.reviews
    assert len(executions) == 20 * 500
    assert executions["execution_id"].is_unique
    assert executions["content_id"].is_unique
    assert reviews["feedback_id"].is_unique
    assert set(reviews["execution_id"]) == set(executions["execution_id"])
    expected = 20 * 500 * 2 * 1.02
    assert abs(len(reviews) - expected) < 3 * np.sqrt(20 * 500 * 1.05)
    same = executions.set_index("execution_id").loc[reviews["execution_id"]]
    assert (same["agent_name"].to_numpy() == reviews["agent_name"].to_numpy()).all()
    assert (same["content_id"].to_numpy() == reviews["content_id"].to_numpy()).all()


def test_features_and_categories_have_the_names_of_the_registry() -> None:
    assert set(FEATURES) - set(NULLS) <= set(NUMERIC_FEATURES)
    assert {"tone", "content_type", "channel"} <= set(CATEGORIES)


def test_three_percent_missing_and_two_percent_duplicates(world: World) -> None:
    missing = world.reviews[list(ASPECTS)].isna().to_numpy()
    assert abs(missing.mean() - 0.03) < 3 * np.sqrt(0.03 * 0.97 / missing.size)
    telemetry = world.executions[["input_tokens", "output_tokens", "cost"]].isna()
    assert (telemetry.nunique(axis=1) == 1).all()
    assert abs(telemetry["cost"].mean() - 0.03) < 3 * np.sqrt(0.03 * 0.97 / len(telemetry))
    assert not world.executions.drop(columns=list(telemetry)).isna().to_numpy().any()
    repeated = world.reviews.duplicated(["execution_id", "reviewer_id", "stage"])
    first = (~repeated).sum()
    assert abs(repeated.sum() / first - 0.02) < 3 * np.sqrt(0.02 / first)


def test_a_second_opinion_comes_later_and_is_its_own_judgement(world: World) -> None:
    keys = ["execution_id", "reviewer_id", "stage"]
    pairs = world.reviews[world.reviews.duplicated(keys, keep=False)].sort_values("reviewed_at").groupby(keys)
    assert (pairs.size() == 2).all()
    assert (pairs["reviewed_at"].last() > pairs["reviewed_at"].first()).all()
    difference = pairs["content_quality"].last() - pairs["content_quality"].first()
    assert 0.5 < difference.abs().mean() < 2


def test_scores_are_whole_numbers_from_1_to_10(world: World) -> None:
    scores = world.reviews[list(ASPECTS)].to_numpy()
    scores = scores[~np.isnan(scores)]
    assert set(np.unique(scores)) <= set(range(1, 11))
    assert 5.5 < scores.mean() < 6.5


def test_reviewers_vary_as_planted(world: World) -> None:
    truth = truth_about_reviewers(world)
    n = len(truth)
    spread = {
        "severity": 0.9,
        "approval_bar": 0.7,
        **{f"slope_{name}": 0.3 for name in SLOPED},
        **{f"tone_{name}": 0.4 for name in TONES},
    }
    for column, sd in spread.items():
        assert abs(truth[column].std() - sd) < 4 * sd / np.sqrt(2 * n), column
    assert truth["reviewer_id"].is_unique
    counts = world.reviews["reviewer_id"].value_counts(normalize=True).reindex(truth["reviewer_id"]).fillna(0)
    assert np.corrcoef(counts, truth["activity"])[0, 1] > 0.95


def test_severity_shows_in_the_scores(world: World) -> None:
    mean = world.reviews.groupby("reviewer_id")["brand_alignment"].mean()
    truth = truth_about_reviewers(world).set_index("reviewer_id")["severity"].reindex(mean.index)
    assert np.corrcoef(mean, truth)[0, 1] > 0.85


def test_decisions_aggregate_to_the_features(world: World) -> None:
    decisions, executions = world.outputs.decisions, world.executions
    assert decisions.confidence.min() > 0
    assert decisions.confidence.max() < 1
    start = decisions.start[:-1]
    np.testing.assert_allclose(
        np.add.reduceat(decisions.confidence, start), executions["confidence_score"] * np.diff(decisions.start)
    )
    np.testing.assert_array_equal(np.minimum.reduceat(decisions.confidence, start), executions["min_confidence"])
    assert abs(executions["confidence_score"].mean() - 5 / 7) < 0.01
    assert abs(executions["decision_count"].mean() - 2) < 0.05


def test_approval_follows_the_mean_score(world: World) -> None:
    mean = world.reviews[list(ASPECTS)].mean(axis=1)
    approved = world.reviews["decision"].eq("approve")
    assert set(world.reviews["decision"]) == {"approve", "request_changes", "reject"}
    assert 0.4 < approved.mean() < 0.6
    assert approved[mean >= 8].mean() > 0.8
    assert approved[mean <= 4].mean() < 0.2


def test_the_last_review_lies_on_the_last_day_and_none_before_the_period(world: World) -> None:
    for days in (1, 2, 30):
        reviewed = simulate(WorldSpec(agents=2, executions=5, days=days, until=date(2024, 2, 29))).reviews["reviewed_at"]
        assert reviewed.max().date() == date(2024, 2, 29)
        assert (reviewed.max().normalize() - reviewed.min().normalize()).days < days
    assert world.reviews["reviewed_at"].is_monotonic_increasing
    started = world.executions.set_index("execution_id")["started_at"].loc[world.reviews["execution_id"]]
    assert (started.to_numpy() < world.reviews["reviewed_at"].to_numpy()).all()


def test_a_small_panel_reviews_each_output_at_most_once_each() -> None:
    small = simulate(WorldSpec(agents=2, executions=200, reviewers=3, reviews_per_content=4))
    per_output = small.reviews.drop_duplicates(["execution_id", "reviewer_id"]).groupby("execution_id").size()
    assert per_output.max() == 3
    alone = simulate(WorldSpec(agents=1, executions=30, reviewers=1))
    assert alone.reviews["reviewer_id"].nunique() == 1


def test_confounding_hands_long_texts_to_strict_reviewers() -> None:
    def length_by_severity(*, confounded: bool) -> float:
        world = simulate(replace(SPEC, reviewers=40, confounded_assignment=confounded))
        words = np.log(world.executions["word_count"].to_numpy()[world.review_output])
        return float(np.corrcoef(words, world.reviewers.severity[world.review_reviewer])[0, 1])

    assert abs(length_by_severity(confounded=False)) < 0.03
    assert length_by_severity(confounded=True) < -0.4


def test_drift_raises_later_scores() -> None:
    drifting = simulate(replace(SPEC, drift=1.5)).reviews
    late = drifting["reviewed_at"].rank(pct=True) > 0.5
    rise = drifting.loc[late, "content_quality"].mean() - drifting.loc[~late, "content_quality"].mean()
    assert abs(rise - 0.75) < 0.15


def test_switches_leave_nothing_of_what_they_switch_off() -> None:
    world = simulate(WorldSpec(agents=3, executions=10, effects=False, tastes=False, best_length=False))
    assert not world.agents.slopes.any()
    assert not world.reviewers.slopes.any()
    assert not world.reviewers.tones.any()
    assert not world.reviewers.best_length.any()
    assert world.reviewers.severity.any()


@pytest.mark.parametrize("wrong", [{"agents": 0}, {"reviewers": 0}, {"days": 0}, {"seed": -1}, {"reviews_per_content": -0.5}])
def test_an_impossible_world_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        WorldSpec(**wrong)  # type: ignore[arg-type]


def test_names_stay_distinct_however_many() -> None:
    for names in (agent_names, reviewer_names):
        assert len(set(names(2500))) == 2500
        assert names(2500)[:10] == names(10)
    assert (
        uuids(np.random.default_rng(1), 3)
        .str.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
        .all()
    )
