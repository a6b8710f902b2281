from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning import correlations
from feedback_pipeline.learning.correlations import Design
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.findings import find, find_what_can_be_found
from feedback_pipeline.learning.panel import output_means
from feedback_pipeline.learning.sentences import sentence
from feedback_pipeline.learning.subject import Subject


def subject(
    agents: int = 3, outputs: int = 120, reviewers: int = 12, effect: float = 0.8, seed: int = 1, features: tuple[str, ...] = ()
) -> Subject:
    """`word_count` drives `quality`, `cost` drives nothing; two reviews per output."""
    rng = np.random.default_rng(seed)
    names = features or ("word_count", "cost")
    n = agents * outputs
    values = rng.normal(size=(n, len(names)))
    output = np.repeat(np.arange(n), 2)
    scores = np.clip(6 + effect * values[output, :1] + rng.normal(0, 0.7, (2 * n, 1)), 0, 10)
    design = Design(
        np.repeat(np.arange(agents), outputs),
        np.arange(n),
        values,
        output_means(scores, output, n),
        output,
        rng.integers(0, reviewers, 2 * n),
        scores,
        np.arange(agents) + 1,  # 0 is the fleet
    )
    approved = (design.scores[:, 0] > 6).astype(float)
    labels = np.array([f"agent-{i}" for i in range(agents)], dtype=object)
    return Subject(design, labels, names, ("quality",), np.array([[0.0, 10.0]]), approved)


def row(findings: pd.DataFrame, agent: str, feature: str) -> pd.Series:
    found = findings[(findings["agent_name"] == agent) & (findings["feature"] == feature)]
    assert len(found) == 1
    return found.iloc[0]


def test_the_planted_effect_is_published_with_all_its_evidence() -> None:
    found = row(find(subject()), "agent-1", "word_count")
    assert found["published"]
    assert pd.isna(found["reason"])
    assert 0.5 < found["ci_low"] < found["r"] < found["ci_high"] < 0.95
    assert found["q_value"] < 1e-6
    assert found["confidence"] > 0.99
    assert found["n_contents"] == 120
    assert found["n_reviewers"] == 12
    assert found["scope"] == "reviewers in general"
    assert found["feature_range"]["shape"] == "rising"
    assert found["feature_range"]["max"] is None
    assert 0.5 < found["feedback_impact"]["negative_threshold"] < found["feedback_impact"]["positive_threshold"] < 0.75
    assert found["sentence"].startswith("longer texts go with higher quality: +0.")
    assert found["sentence"].endswith("120 outputs, 12 reviewers")


def test_what_drives_nothing_is_not_published_and_says_why() -> None:
    found = row(find(subject(seed=2)), "agent-1", "cost")
    assert not found["published"]
    assert found["reason"] == "could be chance: q above 0.10"
    assert pd.isna(found["feature_range"])
    assert pd.isna(found["sentence"])


@pytest.mark.parametrize(
    ("outputs", "reason"), [(9, "fewer than 10 outputs"), (19, "tentative: fewer than 20 outputs"), (20, None)]
)
def test_minimum_sizes(outputs: int, reason: str | None) -> None:
    found = row(find(subject(outputs=outputs, effect=3.0)), "agent-0", "word_count")
    assert found["reason"] == reason if reason else pd.isna(found["reason"])
    assert pd.isna(found["p_value"]) == (outputs < 10)


def test_no_data_and_constant_features_are_undefined_with_a_reason() -> None:
    base = subject(features=("word_count", "cost", "link_count"))
    features = base.design.features.copy()
    features[:, 1] = np.nan
    features[:, 2] = 3.0
    findings = find(replace(base, design=replace(base.design, features=features)))
    nothing, constant = row(findings, "agent-0", "cost"), row(findings, "agent-0", "link_count")
    assert (nothing["reason"], nothing["n_contents"]) == ("no data", 0)
    assert pd.isna(nothing["scope"])
    assert constant["reason"] == "constant feature"
    for found in (nothing, constant):
        assert found[["r", "r_pearson", "r_shrunk", "ci_low", "p_value", "q_value", "confidence"]].isna().all()


def test_constant_score() -> None:
    base = subject()
    design = replace(
        base.design, scores=np.full_like(base.design.scores, 7.0), review_scores=np.full_like(base.design.review_scores, 7.0)
    )
    found = row(find(replace(base, design=design)), "agent-0", "word_count")
    assert found["reason"] == "constant score"
    assert pd.isna(found["r"])


@pytest.mark.parametrize(
    ("reviewers", "scope", "words"),
    [
        (1, "one reviewer", "may be this person's taste"),
        (4, "these reviewers", "may be the taste of these reviewers"),
        (5, "reviewers in general", None),
    ],
)
def test_few_reviewers_narrow_the_scope(reviewers: int, scope: str, words: str | None) -> None:
    found = row(find(subject(reviewers=reviewers)), "agent-0", "word_count")
    assert found["scope"] == scope
    assert (words in found["sentence"]) if words else ("taste" not in found["sentence"])


def test_unknown_reviewers_are_no_evidence_for_reviewers_in_general() -> None:
    base = subject()
    unknown = replace(base.design, review_reviewer=np.full_like(base.design.review_reviewer, -1))
    found = row(find(replace(base, design=unknown)), "agent-0", "word_count")
    assert found["scope"] == "unknown reviewers"
    assert found["n_reviewers"] == 0
    assert found["published"]


def test_an_aspect_an_agent_never_got_is_not_listed_for_it() -> None:
    base = subject()
    scores, reviews = base.design.scores.copy(), base.design.review_scores.copy()
    rows = base.design.group == 2
    scores[rows] = np.nan
    reviews[rows[base.design.review_output]] = np.nan
    findings = find(replace(base, design=replace(base.design, scores=scores, review_scores=reviews)))
    assert set(findings["agent_name"]) == {FLEET, "agent-0", "agent-1"}
    assert row(findings, FLEET, "word_count")["n_contents"] == 240


def test_fleet_row_flags_what_only_separates_the_agents() -> None:
    """Agents with longer texts get better scores; within an agent length does nothing."""
    base = subject(agents=10, effect=0.0, outputs=60)
    shift = base.design.group.astype(float)
    features = base.design.features + np.column_stack([shift * 2, np.zeros_like(shift)])
    scores = base.design.scores + shift[:, None] * 0.3
    reviews = base.design.review_scores + shift[base.design.review_output][:, None] * 0.3
    findings = find(replace(base, design=replace(base.design, features=features, scores=scores, review_scores=reviews)))
    fleet = row(findings, FLEET, "word_count")
    assert fleet["published"]
    assert fleet["confounded_with_agent"] is True
    assert abs(fleet["r_within"]) < 0.15 < 0.5 < fleet["r"]
    assert "confounded with the agent" in fleet["sentence"]
    own = findings[(findings["agent_name"] != FLEET) & (findings["feature"] == "word_count")]
    assert own["published"].sum() <= 1
    assert own["confounded_with_agent"].isna().all()


def test_fleet_row_without_confounding_is_not_flagged() -> None:
    fleet = row(find(subject(agents=9)), FLEET, "word_count")
    assert fleet["confounded_with_agent"] is False
    assert fleet["r_within"] == pytest.approx(fleet["r"], abs=0.05)


def test_no_agents_at_all() -> None:
    nothing = np.empty(0, dtype=int)
    design = Design(nothing, nothing, np.empty((0, 2)), np.empty((0, 0)), nothing, nothing, np.empty((0, 0)), nothing)
    empty = Subject(design, np.empty(0, dtype=object), ("word_count", "cost"), (), np.empty((0, 2)), np.empty(0))
    findings = find(empty)
    assert len(findings) == 0
    assert {"agent_name", "r", "published", "sentence"} <= set(findings.columns)


def test_sentence_of_a_falling_feature() -> None:
    findings = find(subject(effect=-0.8))
    text = sentence(row(findings, "agent-0", "word_count").to_dict())
    assert text.startswith("longer texts go with lower quality: -0.")


def test_huge_values_do_not_break_the_ranges() -> None:
    base = subject()
    features = base.design.features.copy()
    features[:, 0] *= 1e306
    found = row(find(replace(base, design=replace(base.design, features=features))), "agent-1", "word_count")
    plain = row(find(base), "agent-1", "word_count")
    assert found["feature_range"]["min"] == pytest.approx(plain["feature_range"]["min"] * 1e306, rel=1e-9)


def test_an_agent_that_breaks_the_pass_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    base = subject()
    good = find(base.only(np.array([True, False, True])))
    of = correlations._Block.of

    def poisoned(design: Design, first: int, last: int) -> object:
        if base.design.names[1] in design.names:
            raise np.linalg.LinAlgError("SVD did not converge")
        return of(design, first, last)

    monkeypatch.setattr(correlations._Block, "of", poisoned)
    findings, broken = find_what_can_be_found(base)
    assert broken == {"agent-1": "LinAlgError: correlations of this agent cannot be computed"}
    pd.testing.assert_frame_equal(findings, good)


def test_only_keeps_the_outputs_and_reviews_of_some_agents() -> None:
    base = subject()
    kept = base.only(np.array([False, False, True]))
    assert kept.agents.tolist() == ["agent-2"]
    assert kept.design.group.tolist() == [0] * 120
    own = row(find(kept), "agent-2", "word_count")
    both = row(find(base), "agent-2", "word_count")
    assert (own["r"], own["p_value"], own["n_reviewers"]) == (both["r"], both["p_value"], both["n_reviewers"])
