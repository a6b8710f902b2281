"""What is recommended of which evidence, in which words, and what is left out."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.recommendation_supports import Learned
from feedback_pipeline.learning.recommendations import COLUMNS, MOST, recommend
from feedback_pipeline_tests.learning.evidence import (
    AGENT,
    and_contrast,
    and_finding,
    and_segment,
    and_term,
    and_threshold,
    nothing,
)


def only(learned: Learned) -> dict[Any, Any]:
    found, _ = recommend(learned)
    assert len(found) == 1
    return found.iloc[0].to_dict()


def test_a_threshold_says_from_what_to_what_and_how_to_set_it() -> None:
    found = only(and_threshold(nothing(), "confidence_score", 0.7))
    assert (
        found["text"]
        == "keep confidence of the agent at 0.7 or more: approval 61 % -> 84 %, +23 points [14, 31], 212 v 640 outputs"
    )
    assert found["kind"] == "set_threshold"
    assert found["action"] == {
        **{"kind": "set_threshold", "feature": "confidence_score", "operator": ">=", "value": 0.7, "decision_point": None},
    }
    assert found["target"]["cut_interval"] == [0.7 - 0.05, 0.7 + 0.05]
    effect = found["expected_effect"]
    assert (effect["outcome"], effect["unit"], effect["value"], effect["ci"]) == ("approval", "share", 0.23, [0.14, 0.31])
    assert (found["n_contents"], found["n_reviewers"], found["rank"]) == (852, 20, 1)
    assert found["pattern_keys"] == [["quality_threshold", "confidence_score | threshold"]]
    assert found["identity"] == "set_threshold | confidence_score | more"


def test_a_falling_threshold_at_a_decision_point_stays_below() -> None:
    found = only(and_threshold(nothing(), "reasoning_length", 300.4, -1.0, decision_point="draft"))
    assert found["text"].startswith("keep length of reasoning below 300 characters at draft: ")
    assert found["action"]["operator"] == "<"
    assert found["action"]["decision_point"] == "draft"
    assert found["direction"] == "less"


@pytest.mark.parametrize(
    ("feature", "kind", "least"),
    [
        ("reasoning_length", "extend_reasoning", 5.5),
        ("alternatives_count", "consider_alternatives", 5.5),
        ("cost", "target_range", 5.5),
    ],
)
def test_what_an_agent_does_on_purpose_has_its_own_action(feature: str, kind: str, least: float) -> None:
    found = only(and_finding(nothing(), feature, 0.3, range={"p50": 5.5}))
    assert found["kind"] == kind
    assert found["action"] == {"kind": kind, "feature": feature, "min": least, "max": None, "decision_point": None}


def test_a_correlation_promises_the_better_half_in_points() -> None:
    found = only(and_finding(nothing(), "word_count", -0.3))
    assert (
        found["text"]
        == "keep length of texts below 6 words: clarity +0.24 points [0.16, 0.32] against the average output, 400 outputs"
    )
    assert found["expected_effect"]["value"] == pytest.approx(np.sqrt(2 / np.pi) * 0.3)
    assert found["expected_effect"]["from"] == 6.0
    assert found["identity"] == "target_range | word_count | less"


def test_a_curve_with_a_top_gives_the_range_around_it() -> None:
    top = {"shape": "inverted_u", "min": 280.3, "max": 410.7, "best": 340.0, "p50": 320.0}
    # The effect is that of the better half of the outputs: it ends where more is worse again.
    found = only(and_finding(nothing(), "word_count", 0.2, range=top))
    assert found["target"] == {"min": 320.0, "max": 410.0, "best": 340.0}
    assert found["text"].startswith("keep length of texts between 320 and 410 words: ")
    falling = only(and_finding(nothing(), "word_count", -0.2, range=top))
    assert (falling["target"]["min"], falling["target"]["max"]) == (281.0, 321.0)
    beyond = only(and_finding(nothing(), "word_count", 0.2, range=top | {"p50": 500.0}))
    assert (beyond["target"]["min"], beyond["target"]["max"]) == (500.0, None)


def test_few_reviewers_are_said() -> None:
    assert only(and_finding(nothing(), "cost", 0.3, n_reviewers=1))["text"].endswith("; may be this person's taste")
    for few in (and_threshold(nothing(), "cost", 5.0, n_reviewers=3), and_term(nothing(), "maybe", -0.5, n_reviewers=3)):
        assert only(few)["text"].endswith("; may be the taste of these reviewers")


def test_a_contrast_alone_promises_the_honest_lift_of_the_feature() -> None:
    withheld = and_threshold(nothing(), "cost", 5.0, published=False, effect=0.1, ci_low=0.02, ci_high=0.18, p_value=0.2)
    found = only(and_contrast(withheld, "cost", 0.4))
    # The lift is that of the cut, so the cut is what is advised.
    assert found["text"] == "keep cost at 5 USD or more: approval +10 points [2, 18] on the better side, 400 outputs"
    assert found["action"]["kind"] == "target_range"
    assert recommend(and_contrast(nothing(), "cost", 0.4))[0].empty


def test_words_are_avoided_where_the_agent_thinks_or_an_issue_is_named_not_where_a_reviewer_comments() -> None:
    found = only(and_term(nothing(), "maybe", -0.5))
    assert found["text"] == 'avoid "maybe" in the reasoning: overall +0.60 points [0.36, 0.84] without it, 60 of 400 have it'
    assert found["action"] == {"kind": "avoid_term", "term": "maybe", "in": "reasoning", "aspect": None, "decision_point": None}
    issue = only(and_term(nothing(), "jargon", -0.5, "issue_terms", aspect="clarity", stage="seo"))
    assert issue["text"].startswith('avoid what reviewers call "jargon": clarity +0.60 points')
    assert recommend(and_term(nothing(), "boring", -0.5, "comment_terms", aspect="clarity"))[0].empty
    assert recommend(and_term(nothing(), "verified", 0.5))[0].empty


def test_the_word_of_the_agent_and_the_issue_of_the_same_name_are_two_things() -> None:
    issue = {"aspect": "clarity", "p_value": 1e-7, "description": "vague | issue | aspect=clarity"}
    found = recommend(and_term(and_term(nothing(), "vague", -0.5), "vague", -0.5, "issue_terms", **issue))[0]
    assert sorted(found["identity"]) == ["avoid_term | vague | issues | aspect=clarity", "avoid_term | vague | reasoning"]


def test_a_feature_that_rises_and_falls_has_no_side_to_advise() -> None:
    withheld = and_threshold(nothing(), "cost", 5.0, -1.0, published=False, effect=0.2, ci_low=0.1, ci_high=0.3, p_value=0.01)
    assert recommend(and_contrast(withheld, "cost", 0.4))[0].empty


def test_advice_that_helps_one_aspect_and_harms_another_as_much_is_none() -> None:
    learned = and_finding(and_finding(nothing(), "cost", 0.3), "cost", -0.31, "tone_fit")
    found = recommend(learned)[0]
    assert found["feature"].tolist() in ([], ["cost"])
    assert recommend(and_finding(and_finding(nothing(), "cost", 0.3), "cost", -0.3, "tone_fit"))[0].empty


def test_a_curve_is_not_a_second_test() -> None:
    learned = and_contrast(nothing(), "cost", 0.4)
    curve = learned.patterns.assign(pattern_type="quality_threshold", description="cost | curve")
    both = replace(learned, patterns=pd.concat([learned.patterns, curve], ignore_index=True))
    assert both.family().size(AGENT) == learned.family().size(AGENT) == 1


def test_words_of_one_phrase_are_said_once() -> None:
    learned = nothing()
    for term in ("other", "reader", "has"):
        learned = and_term(learned, term, -0.5)
    assert only(learned)["action"]["term"] == "has"


def test_a_category_is_preferred_by_its_shrunken_score() -> None:
    found = only(and_segment(nothing(), "tone", "warm", 0.3))
    mean = (150 * 6.7 + 250 * 6.0) / 400
    assert found["expected_effect"]["value"] == pytest.approx(6.6 - mean)
    assert (
        found["text"]
        == "prefer tone warm: overall +0.34 points [0.04, 0.64] against the agent's mean (shrunken, 90 %), 150 outputs"
    )
    assert found["action"] == {"kind": "prefer_category", "category": "tone", "value": "warm"}
    assert recommend(and_segment(nothing(), "tone", "cool", -0.3))[0].empty


def test_one_thing_is_recommended_once_and_all_that_speaks_for_it_is_its_evidence() -> None:
    learned = and_threshold(and_finding(and_finding(nothing(), "cost", 0.3), "cost", 0.2, "tone_fit"), "cost", 0.02)
    found = only(and_contrast(learned, "cost", 0.3))
    assert found["kind"] == "set_threshold"
    assert sorted(map(tuple, found["pattern_keys"])) == [
        ("correlation_pattern", "cost | correlation | aspect=clarity"),
        ("correlation_pattern", "cost | correlation | aspect=tone_fit"),
        ("quality_threshold", "cost | threshold"),
        ("successful_decisions", "cost | approved v other"),
    ]


def test_a_contradiction_between_aspects_is_resolved_by_strength_and_said() -> None:
    found = only(and_finding(and_finding(nothing(), "cost", 0.4), "cost", -0.2, "tone_fit"))
    assert found["direction"] == "more"
    assert found["conflicts"] == ["higher tone_fit goes with lower cost"]


def test_what_is_published_speaks_against_it_even_where_it_is_not_certain_enough_to_be_recommended() -> None:
    learned = and_contrast(and_finding(nothing(), "cost", 0.4), "cost", -0.2, p_value=0.08)
    assert only(learned)["conflicts"] == ["approval goes with lower cost"]


def test_what_lifts_every_aspect_outranks_what_lifts_one() -> None:
    learned = and_finding(and_finding(nothing(), "cost", 0.3), "cost", 0.3, "tone_fit")
    learned = and_finding(learned, "word_count", 0.35)
    learned = and_finding(learned, "word_count", 0.01, "tone_fit", published=False)
    assert recommend(learned)[0]["feature"].tolist() == ["cost", "word_count"]


def paired(rho: float) -> pd.DataFrame:
    return pd.DataFrame({"agent_name": [AGENT], "feature": ["cost"], "other": ["word_count"], "rho": [rho]})


def test_features_that_go_together_are_one_advice_or_a_conflict() -> None:
    both = and_finding(and_finding(nothing(), "cost", 0.4), "word_count", 0.2)
    merged = only(replace(both, pairs=paired(0.9)))
    assert merged["feature"] == "cost"
    assert len(merged["pattern_keys"]) == 2
    assert len(recommend(replace(both, pairs=paired(0.6)))[0]) == 2
    apart = recommend(replace(both, pairs=paired(-0.6)))[0]
    assert apart["conflicts"].tolist() == [
        [],
        ["pulls against the advice on cost: length of texts and cost go together (rank correlation -0.60)"],
    ]


def test_a_reviewer_who_wants_the_opposite_is_to_be_asked() -> None:
    slopes = {"cost": {"difference": -0.9, "se": 0.1, "population": 0.2, "probability": 1.0}}
    unit = "points per standard deviation of the feature, on top of what it does to everybody"
    models = pd.DataFrame(
        {
            "reviewer_id": ["zoe", "ben"],
            "style_preferences": [json.dumps({"slopes": slopes, "unit": unit}), '{"slopes": {}, "unit": null}'],
        }
    )
    shares = pd.DataFrame({"agent_name": AGENT, "reviewer_id": ["zoe", "ben"], "n": [80, 70], "share": [0.2, 0.18]})
    found, _ = recommend(replace(and_finding(nothing(), "cost", 0.4), models=models, shares=shares))
    assert found["kind"].tolist() == ["target_range", "ask_reviewer_standard"]
    assert found["conflicts"][0] == ["R2 wants the opposite"]
    assert found["text"][1] == (
        "ask R2 about cost first: R2 gives 20 % of the reviews and wants the opposite, "
        "-0.70 points per standard deviation [-0.90, -0.50], 80 reviews"
    )
    assert found["action"][1] == {"kind": "ask_reviewer_standard", "reviewer_id": "zoe", "feature": "cost", "wants": "less"}
    assert "zoe" not in found["text"][1]
    assert found["expected_effect"][1]["value"] is None
    assert found["expected_effect"][1]["ci"] == [None, None]
    agrees = {"cost": {"difference": 0.9, "se": 0.1, "population": 0.2, "probability": 1.0}}
    models["style_preferences"] = [json.dumps({"slopes": agrees, "unit": unit}), '{"slopes": {}, "unit": null}']
    assert len(recommend(replace(and_finding(nothing(), "cost", 0.4), models=models, shares=shares))[0]) == 1


@pytest.mark.parametrize(
    "weak",
    [{"p_value": 0.06}, {"confidence": 0.6}, {"r_shrunk": 0.05}, {"ci_low": -0.01}, {"published": False}],
    ids=["q above .05", "unsure of the sign", "next to nothing", "interval holds 0", "not published"],
)
def test_none_is_better_than_a_weak_one(weak: dict[str, Any]) -> None:
    found, states = recommend(and_finding(nothing(), "cost", 0.3, **weak))
    assert found.empty
    assert list(found.columns) == list(COLUMNS)
    assert states.to_dict("records") == [
        {
            **{"agent_name": AGENT, "status": "success", "published": 0, "candidates": 1},
            "reason": "none of 1 candidates passes all that a recommendation needs",
        }
    ]


def test_what_was_looked_for_counts_whatever_its_kind() -> None:
    """The same finding is recommended among few candidates and not among a thousand."""
    learned = and_finding(nothing(), "cost", 0.3, p_value=1e-3)
    many = pd.DataFrame({"agent_name": AGENT, "pattern_type": "reasoning_terms", "p_value": np.linspace(0.01, 1, 1000)})
    assert len(recommend(learned)[0]) == 1
    assert recommend(replace(learned, term_tests=many))[0].empty


def test_certain_words_of_reviewers_do_not_carry_a_doubtful_threshold() -> None:
    learned = and_finding(nothing(), "cost", 0.3, p_value=0.02)
    noise = [
        {"agent_name": AGENT, "feature": f"x{i}", "aspect": "clarity", "p_value": 0.5, "published": False} for i in range(20)
    ]
    learned = replace(
        learned, findings=pd.concat([learned.findings, pd.DataFrame(noise)], ignore_index=True).astype({"published": bool})
    )
    words = pd.DataFrame({"agent_name": AGENT, "pattern_type": "comment_terms", "p_value": [1e-9] * 500})
    assert recommend(replace(learned, term_tests=words))[0].empty


def test_nothing_found_and_nothing_tested_have_their_reasons() -> None:
    found, states = recommend(nothing())
    assert found.empty
    assert states.to_dict("records") == [
        {"agent_name": AGENT, "status": "insufficient_data", "reason": "nothing could be tested", "published": 0, "candidates": 0}
    ]


def test_at_most_ten_the_best_first_and_the_id_does_not_change_with_the_numbers() -> None:
    learned, other = nothing(), nothing()
    for i in range(14):
        learned = and_finding(learned, f"feature_{i:02}", 0.15 + 0.02 * i)
        other = and_finding(other, f"feature_{i:02}", 0.16 + 0.021 * i, n_contents=900)
    found, again = recommend(learned)[0], recommend(other)[0]
    assert len(found) == MOST
    assert found["rank"].tolist() == list(range(1, 11))
    assert found["feature"].tolist() == [f"feature_{i:02}" for i in range(13, 3, -1)]
    assert found["identity"].tolist() == again["identity"].tolist()
    assert not any(char.isdigit() for identity in found["identity"] for char in identity.split(" | ")[-1])


def test_documents_are_json_without_nan_and_have_the_same_keys_whatever_the_kind() -> None:
    learned = and_finding(and_threshold(and_segment(nothing(), "tone", "warm", 0.3), "cost", 3.0), "word_count", 0.3)
    learned = and_contrast(
        and_threshold(and_term(learned, "maybe", -0.5), "duration_ms", 9.0, published=False), "duration_ms", 0.4
    )
    rows = recommend(learned)[0].to_dict("records")
    assert len({row["kind"] for row in rows}) == 4
    assert {tuple(sorted(row["expected_effect"])) for row in rows} == {
        ("ci", "from", "level", "n_bad", "n_good", "outcome", "to", "unit", "value")
    }
    for row in rows:
        json.dumps([row["target"], row["expected_effect"], row["action"], row["conflicts"]], allow_nan=False)


def test_the_effect_is_the_one_of_its_interval_and_the_rank_that_of_the_shrunken_one() -> None:
    found = recommend(and_finding(and_finding(nothing(), "cost", 0.4, r_shrunk=0.15), "word_count", 0.3))[0]
    assert found["feature"].tolist() == ["word_count", "cost"]
    effect = found["expected_effect"][1]
    assert effect["value"] == pytest.approx(np.sqrt(2 / np.pi) * 0.4)
    assert effect["ci"] == pytest.approx([np.sqrt(2 / np.pi) * 0.3, np.sqrt(2 / np.pi) * 0.5])


def test_the_length_is_recommended_once() -> None:
    learned = and_segment(and_finding(nothing(), "word_count", -0.4), "length_band", "short", 0.3)
    assert only(learned)["feature"] == "word_count"
    assert only(and_segment(nothing(), "length_band", "short", 0.3))["feature"] == "length_band"
