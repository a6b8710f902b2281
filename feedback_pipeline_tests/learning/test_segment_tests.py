from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.segment_tests import segment_tests
from feedback_pipeline.simulation.spec import WorldSpec
from feedback_pipeline_tests.worlds import BOUNDS, learn

START = pd.Timestamp("2026-01-01", tz="UTC")


def panel_of_tones(seed: int, n: int = 300, effect: float = 1.0, *, scored: bool = True, reviewers: int = 20) -> Panel:
    """One agent whose warm outputs are scored `effect` points higher, or approved more often."""
    rng = np.random.default_rng(seed)
    warm = rng.random(n) < 0.4
    score = 6 + effect * warm + rng.normal(0, 1, n)
    reviews = pd.DataFrame(
        {
            "agent_name": "writer",
            "execution_id": [f"e{i:05}" for i in range(n)],
            "content_id": [f"c{i:05}" for i in range(n)],
            "feedback_id": [f"f{i:05}" for i in range(n)],
            "reviewer_id": [f"r{i % reviewers:02}" for i in range(n)],
            "stage": None,
            "decision": np.where(score > 6, "approve", "reject"),
            "reviewed_at": START,
            "is_training_data": True,
        }
    )
    features = reviews[["agent_name", "execution_id", "content_id"]].assign(
        agent_type=None, word_count=300.0, tone=np.where(warm, "warm", "cool"), content_type=None, channel=None, structure=None
    )
    scores = score[:, None] if scored else np.full((n, 1), np.nan)
    return build_panel(reviews, scores, ("quality",), features)


def rows_of(panel: Panel) -> dict[str, dict[Any, Any]]:
    return {row["segment"]: row for row in segment_tests(panel, BOUNDS, 0).to_dict("records")}


def test_a_better_category_is_found_and_the_other_is_its_mirror() -> None:
    found = rows_of(panel_of_tones(1))
    assert found["warm"]["r"] > 0.3
    assert found["warm"]["r"] == pytest.approx(-found["cool"]["r"])
    assert found["warm"]["p_value"] < 1e-6
    assert found["warm"]["confidence"] > 0.95
    assert found["warm"]["n"] + found["warm"]["n_others"] == 300
    assert {row["outcome"] for row in found.values()} == {"score"}


def test_without_scores_the_decisions_are_the_outcome() -> None:
    found = rows_of(panel_of_tones(2, scored=False))
    assert {row["outcome"] for row in found.values()} == {"approval"}
    assert found["warm"]["p_value"] < 1e-4


def test_p_is_that_of_the_rank_correlation_where_reviewers_do_not_matter() -> None:
    panel = panel_of_tones(3, effect=0.2, reviewers=300)
    found = rows_of(panel)
    warm = (panel.outputs["tone"] == "warm").to_numpy(dtype=float)
    statistic, p_value = stats.spearmanr(warm, panel.scores[:, 0])
    assert found["warm"]["r"] == pytest.approx(statistic, abs=1e-9)
    # The variance of atanh(r) is 1.06 / (n - 3) or the robust one: never less.
    assert found["warm"]["p_value"] >= 0.9 * p_value


def test_a_few_scores_do_not_hide_the_decisions() -> None:
    panel = panel_of_tones(7, n=600, scored=False)
    scores = panel.scores.copy()
    scores[:60, 0] = 6.0
    found = segment_tests(replace(panel, scores=scores), BOUNDS, 0)
    assert set(found["outcome"]) == {"approval"}
    assert found["p_value"].max() < 1e-4


def test_a_tone_that_strict_reviewers_get_is_not_called_bad() -> None:
    rng = np.random.default_rng(8)
    share = []
    for seed in range(10):
        panel = panel_of_tones(seed, n=600, effect=0.0, scored=False, reviewers=40)
        strict = panel.review_reviewer < 20
        tone = np.where(rng.random(600) < np.where(strict, 0.8, 0.2), "cool", "warm")
        decision = np.where(rng.random(600) < np.where(strict, 0.3, 0.7), "approve", "reject")
        reviews = panel.reviews.assign(decision=pd.Series(decision, dtype="str"))
        handed = replace(panel, outputs=panel.outputs.assign(tone=tone), reviews=reviews)
        share.append((segment_tests(handed, BOUNDS, 0)["p_value"] < 0.05).mean())
    assert np.mean(share) <= 0.2


@pytest.mark.parametrize("n", [30, 39])
def test_segments_below_twenty_outputs_are_not_tested(n: int) -> None:
    assert segment_tests(panel_of_tones(4, n=n), BOUNDS, 0).empty


def test_nothing_to_compare_is_an_empty_frame() -> None:
    panel = panel_of_tones(5)
    same = replace(panel, outputs=panel.outputs.assign(tone="warm"))
    assert segment_tests(same, BOUNDS, 0).empty


@pytest.mark.slow
def test_levels_hold_in_a_world_where_categories_do_not_matter() -> None:
    share = []
    for seed in range(1, 4):
        world = learn(
            WorldSpec(agents=30, executions=300, reviewers=40, seed=seed, effects=False, tastes=False, best_length=False)
        )
        panel = replace(world.panel, scores=world.adjustment.adjusted[:, :4])
        found = segment_tests(panel, BOUNDS, 0)
        assert len(found) > 200
        share.append((found["p_value"] < 0.05).mean())
    assert np.mean(share) < 0.065
