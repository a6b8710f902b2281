import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.adjustment import adjust
from feedback_pipeline.learning.panel import Panel, build_panel
from feedback_pipeline.learning.preference_documents import MODEL_DOCUMENTS, preference_models, reviews_digests
from feedback_pipeline.learning.preferences import learn_preferences
from feedback_pipeline.learning.reviewer_results import REVIEWER_FRAMES, learn_reviewers
from feedback_pipeline.learning.severity_drift import severity_drift
from feedback_pipeline.simulation.spec import ASPECTS, FEATURES, WorldSpec
from feedback_pipeline.simulation.world import World, simulate
from feedback_pipeline_tests.worlds import BOUNDS, panel_of


def panel_with(world: World, reviews: pd.DataFrame, aspects: tuple[str, ...] = ASPECTS) -> Panel:
    rows = reviews.assign(is_training_data=True)
    return build_panel(
        rows,
        rows[list(aspects)].to_numpy(dtype=float),
        aspects,
        world.executions[["agent_name", "execution_id", "content_id", *FEATURES, "tone"]].assign(agent_type="writer"),
    )


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(WorldSpec(agents=3, executions=60, reviewers=8, seed=5, days=40))


@pytest.fixture(scope="module")
def panel(world: World) -> Panel:
    return panel_of(world)


def learned(panel: Panel) -> pd.DataFrame:
    return learn_reviewers(panel, adjust(panel, BOUNDS), BOUNDS, seed=0).results.models


def nothing_without_reason(document: Any, reasons: dict[str, Any]) -> bool:
    return all(value is not None or name in reasons for name, value in document.items() if not name.endswith("_probability"))


def test_one_row_per_reviewer_with_documents_that_are_json(panel: Panel) -> None:
    models = learned(panel)
    assert models["reviewer_id"].tolist() == panel.reviewers.tolist()
    assert models["training_samples"].tolist() == np.bincount(panel.review_reviewer[panel.review_reviewer >= 0]).tolist()
    for name in MODEL_DOCUMENTS:
        for document in models[name]:
            json.dumps(document, allow_nan=False)
    for row in models.to_dict("records"):
        assert set(row["severity"]["se"]) == {*ASPECTS, "overall"}
        assert set(row["severity"]["aspects"]) == set(ASPECTS)
        assert nothing_without_reason(row["content_preferences"], row["content_preferences"]["reasons"])
        assert row["style_preferences"]["slopes"] or row["style_preferences"]["reason"]
        assert set(row["quality_standards"]) == {*ASPECTS, "overall"}
        assert all((one["s50"] is None) == (one["reason"] is not None) for one in row["quality_standards"].values())
        assert (row["n_test"] == 0) == (row["reason"] is not None)


def test_severity_documents_are_the_adjustment(panel: Panel) -> None:
    adjustment = adjust(panel, BOUNDS)
    for r, document in enumerate(learned(panel)["severity"]):
        assert document["overall"] == adjustment.severities[-1].value[r]
        assert list(document["aspects"].values()) == [severity.value[r] for severity in adjustment.severities[:-1]]
        assert document["se"]["overall"] == adjustment.severities[-1].se[r]


def test_one_reviewer_has_no_severity_and_says_why(world: World) -> None:
    somebody = world.reviews["reviewer_id"].dropna().min()
    models = learned(panel_with(world, world.reviews[world.reviews["reviewer_id"] == somebody]))
    severity = models["severity"][0]
    assert severity["overall"] is None
    assert severity["se"]["overall"] is None
    assert severity["reasons"]["overall"] == "one reviewer"
    assert severity["drift"] == {
        "drifted": None,
        "q_value": None,
        "spread": None,
        "n_months": 0,
        "reason": "no output shared with another reviewer",
    }


def test_no_review_at_all_gives_no_rows(world: World) -> None:
    empty = panel_with(world, world.reviews.iloc[:0])
    results = learn_reviewers(empty, adjust(empty, BOUNDS), BOUNDS, seed=0).results
    assert all(len(frame) == 0 for name, frame in results.frames().items() if name != "agreement")
    assert tuple(results.frames()) == REVIEWER_FRAMES


def test_preferences_that_failed_leave_their_reason_and_the_severities(panel: Panel) -> None:
    adjustment = adjust(panel, BOUNDS)
    models = preference_models(panel, adjustment, "the score model did not converge", severity_drift(panel, adjustment))
    for row in models.to_dict("records"):
        assert row["severity"]["overall"] is not None
        assert set(row["content_preferences"]["reasons"].values()) == {"the score model did not converge"}
        assert nothing_without_reason(row["content_preferences"], row["content_preferences"]["reasons"])
        assert {one["reason"] for one in row["quality_standards"].values()} == {"the score model did not converge"}
        assert row["style_preferences"]["reason"] == row["reason"] == "the score model did not converge"


def test_a_constant_world_does_not_stop_the_rest(world: World) -> None:
    flat = world.reviews.assign(**dict.fromkeys(ASPECTS, 7.0), decision="approve")
    panel = panel_with(world, flat)
    models = learned(panel)
    for row in models.to_dict("records"):
        assert row["quality_standards"]["overall"]["censored"] in ("all approved", None)
        json.dumps([row[name] for name in MODEL_DOCUMENTS], allow_nan=False)


@pytest.mark.parametrize("beyond", [np.inf, -np.inf, np.nan])
def test_a_standard_that_is_no_number_is_null_with_a_reason(panel: Panel, beyond: float) -> None:
    preferences = learn_preferences(panel, BOUNDS, seed=0)
    first = preferences.reviewers[0]
    standards = {**first.quality_standards, "overall": replace(first.quality_standards["overall"], s80=beyond)}
    broken = replace(preferences, reviewers=(replace(first, quality_standards=standards), *preferences.reviewers[1:]))
    adjustment = adjust(panel, BOUNDS)
    models = preference_models(panel, adjustment, broken, severity_drift(panel, adjustment))
    standard = models["quality_standards"][0]["overall"]
    assert standard["s80"] is None
    assert standard["reason"] == "the decisions follow the score too little: the standard lies beyond every number"
    json.dumps(models["quality_standards"].tolist(), allow_nan=False)


def test_digests_depend_on_the_reviewers_own_reviews_alone(world: World, panel: Panel) -> None:
    before = reviews_digests(panel)
    assert len(set(before)) == len(before)
    assert reviews_digests(panel_with(world, world.reviews.sample(frac=1.0, random_state=1))) == before

    touched = world.reviews.copy()
    somebody = panel.reviewers[3]
    row = touched.index[touched["reviewer_id"] == somebody][0]
    touched.loc[row, "decision"] = "reject" if touched.loc[row, "decision"] != "reject" else "approve"
    assert [a == b for a, b in zip(before, reviews_digests(panel_with(world, touched)), strict=True)] == [
        name != somebody for name in panel.reviewers
    ]

    scored = world.reviews.copy()
    scored.loc[scored["reviewer_id"] == somebody, ASPECTS[0]] += 0.25
    changed = [a != b for a, b in zip(before, reviews_digests(panel_with(world, scored)), strict=True)]
    assert changed == [name == somebody for name in panel.reviewers]


def test_an_aspect_that_only_others_score_changes_nobody_elses_digest(world: World, panel: Panel) -> None:
    somebody = panel.reviewers[0]
    more = world.reviews.assign(novelty=np.where(world.reviews["reviewer_id"] == somebody, 5.0, np.nan))
    after = reviews_digests(panel_with(world, more, (*ASPECTS, "novelty")))
    assert [a == b for a, b in zip(reviews_digests(panel), after, strict=True)] == [False] + [True] * (len(after) - 1)


def test_a_name_and_a_score_moved_to_another_aspect_is_a_change(world: World, panel: Panel) -> None:
    swapped = world.reviews.copy()
    swapped[[ASPECTS[0], ASPECTS[1]]] = swapped[[ASPECTS[1], ASPECTS[0]]].to_numpy()
    differ = [a != b for a, b in zip(reviews_digests(panel), reviews_digests(panel_with(world, swapped)), strict=True)]
    assert all(differ)
