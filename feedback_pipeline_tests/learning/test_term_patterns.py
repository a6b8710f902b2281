import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.panel import Panel
from feedback_pipeline.learning.pattern_frame import PATTERN_COLUMNS
from feedback_pipeline.learning.term_frames import HOLDS_ZERO, MOST_PUBLISHED, NOT_STRONGEST, REPEATED
from feedback_pipeline.learning.term_patterns import find_terms
from feedback_pipeline.learning.term_sentences import term_description, term_sentence
from feedback_pipeline.simulation.term_texts import TermSpec, simulate_terms
from feedback_pipeline_tests.term_worlds import BOUNDS, documents_of, panel_of, reasoning_of, texts_of

Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
WORLD = simulate_terms(TermSpec(documents=2_400, agents=2, seed=21))
PANEL = panel_of(WORLD)


@pytest.fixture(scope="module")
def reasoned() -> Frames:
    return find_terms(PANEL, reasoning_of(WORLD, PANEL), BOUNDS)


def statuses(parts: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {str(row["agent_name"]): row["document"] for row in parts.to_dict("records")}


def marked(n: int, words: dict[str, Sequence[int]], filler: str = "plain text here") -> list[str]:
    """Texts of equal length in which some say a word."""
    texts = [filler.split() for _ in range(n)]
    for place, (word, rows) in enumerate(words.items()):
        for row in rows:
            texts[row][place] = word
    return [" ".join(text) for text in texts]


def with_scores(panel: Panel, scores: np.ndarray[Any, np.dtype[np.float64]], aspects: tuple[str, ...]) -> Panel:
    return replace(panel, scores=scores, aspects=aspects)


def test_a_published_term_says_everything_an_agent_reads(reasoned: Frames) -> None:
    patterns, _, _ = reasoned
    assert tuple(patterns.columns) == PATTERN_COLUMNS
    published = patterns[patterns["published"]]
    own = published[published["agent_name"] == "agent-000"].set_index("term")
    row = own.loc[next(word for word in WORLD.good if word in own.index)]
    term = row.name
    assert row["description"] == f"{term} | reasoning"
    assert (row["pattern_type"], row["direction"], row["unit"], row["aspect"]) == ("reasoning_terms", 1.0, "sd", "overall")
    has = np.array([term in text.split() for text in WORLD.texts]) & (WORLD.agent == 0)
    characteristics, signals = row["output_characteristics"], row["human_feedback_signals"]
    assert row["input_features"] == {"term": term}
    judged = {"feedback_category": "overall", "outcome": "score", "scored_aspect": "overall", "n_reviewers": row["n_reviewers"]}
    assert signals == judged | {"n_documents": 1_200, "n_with": has.sum()}
    judges = set(WORLD.review_reviewer[has[WORLD.review_output]])
    assert row["n_reviewers"] == len(judges)
    assert row["n_contents"] == 1_200
    assert set(characteristics) == {"effect", "se", "p_value", "q_value", "direction", "unit", "ci", "points", "share"}
    assert characteristics["share"] == pytest.approx(has.sum() / 1_200)
    assert characteristics["points"] == pytest.approx(0.6, abs=0.4)
    assert row["gain"] == pytest.approx((1 - characteristics["share"]) * row["effect"])
    low, high = (characteristics["points"] * bound / row["effect"] for bound in characteristics["ci"])
    assert row["sentence"] == (
        f'outputs whose reasoning says "{term}" score {characteristics["points"]:+.2f} points [{low:.2f}, {high:.2f}], '
        f"{has.sum()} of 1,200 outputs"
    )
    assert 0.5 < row["confidence"] <= 1
    json.dumps([row[name] for name in ("input_features", "output_characteristics", "human_feedback_signals")], default=int)


def test_a_bad_term_is_to_be_avoided(reasoned: Frames) -> None:
    published = reasoned[0][reasoned[0]["published"]]
    bad = published[published["term"].isin(WORLD.bad)]
    assert len(bad)
    for row in bad.to_dict("records"):
        assert row["direction"] == -1
        assert row["ci_high"] < 0.2
        assert row["gain"] == pytest.approx(-row["output_characteristics"]["share"] * row["effect"])
        assert " score -0." in row["sentence"] or " score -1." in row["sentence"]


def test_all_tested_terms_are_counted_and_the_unlikely_ones_are_told_no_further(reasoned: Frames) -> None:
    patterns, parts, tested = reasoned
    found = statuses(parts)
    assert set(found) == {FLEET, "agent-000", "agent-001"}
    for name, own in tested.groupby("agent_name"):
        assert found[str(name)]["tested"] == len(own) > 300
        assert own["p_value"].between(0, 1).all()
        assert found[str(name)]["published"] == (patterns["published"] & (patterns["agent_name"] == name)).sum()
    others = patterns[~patterns["published"]]
    assert (others["q_value"] <= 0.5).all()
    assert others["reason"].isin(["q above 0.10", NOT_STRONGEST, HOLDS_ZERO]).all()
    published = patterns[patterns["published"]]
    assert (published["ci_low"] * published["ci_high"] > 0).all()
    assert others[["input_features", "sentence"]].isna().all(axis=None)
    assert patterns["confidence"].notna().all()


def test_at_most_ten_of_either_side_the_strongest_and_none_on_both() -> None:
    n = 3_000
    panel = panel_of(simulate_terms(TermSpec(documents=n, effect=0.0, seed=1)))
    rng = np.random.default_rng(0)
    words = [f"{'abcdefghijklmnopqrstuvwxyz'[i]}word" for i in range(26)]
    has = rng.random((n, 26)) < 0.2
    push = np.repeat([1.0, -1.0], 13) * np.tile(np.repeat([2.5, 5.0], [3, 10]), 2)
    panel = with_scores(panel, (has @ push + rng.normal(size=n))[panel.review_output][:, None], ("quality",))
    texts = [" ".join([*np.array(words)[row], *["filler"] * (26 - row.sum())]) for row in has]
    patterns = find_terms(panel, texts_of(panel, reasoning=documents_of(panel, range(n), texts)), BOUNDS)[0]
    own = patterns[patterns["agent_name"] == "agent-000"]
    published = own[own["published"]]
    assert published.groupby("direction").size().to_dict() == {-1.0: MOST_PUBLISHED, 1.0: MOST_PUBLISHED}
    assert not published["term"].duplicated().any()
    assert set(own.loc[own["reason"] == NOT_STRONGEST, "term"]) == {words[i] for i in (0, 1, 2, 13, 14, 15)}


def test_the_fleet_compares_within_agents() -> None:
    """A word that only the better agent uses is no good word."""
    n = 1_200
    panel = panel_of(simulate_terms(TermSpec(documents=n, agents=2, effect=0.0, seed=2)))
    rng = np.random.default_rng(7)
    second = panel.output_agent == 1
    score = rng.normal(size=n) + 3.0 * second
    real = np.flatnonzero(rng.random(n) < 0.1)
    score[real] += 1.0
    texts = marked(n, {"signature": np.flatnonzero(second & (rng.random(n) < 0.9)).tolist(), "useful": real.tolist()})
    panel = with_scores(panel, score[panel.review_output][:, None], ("quality",))
    patterns = find_terms(panel, texts_of(panel, reasoning=documents_of(panel, range(n), texts)), BOUNDS)[0]
    published = patterns[patterns["published"] & (patterns["agent_name"] == FLEET)]
    assert "useful" in set(published["term"])
    assert "signature" not in set(published["term"])
    (useful,) = published.loc[published["term"] == "useful", "output_characteristics"]
    assert useful["points"] == pytest.approx(1.0, abs=0.3)


@pytest.fixture(scope="module")
def commented() -> tuple[Panel, list[str]]:
    """Two aspects, two stages of 350 reviews and more, and a third of a few."""
    world = simulate_terms(TermSpec(documents=500, effect=0.0, seed=3))
    panel = panel_of(world)
    n = len(panel.reviews)
    rng = np.random.default_rng(2)
    stage = np.where(np.arange(n) % 20 == 0, "final_check", np.where(np.arange(n) % 2 == 0, "seo_review", "tone_review"))
    panel = replace(panel, reviews=panel.reviews.assign(stage=stage))
    vague, catchy, stiff = (rng.random(n) < 0.15 for _ in range(3))
    scores = rng.normal(6, 1, (n, 2))
    scores[:, 0] -= 1.5 * vague
    # One stage likes it as much as the other dislikes it.
    scores[:, 0] += 1.5 * stiff * np.select([stage == "seo_review", stage == "tone_review"], [1.0, -1.0], 0.0)
    scores[:, 1] += 1.5 * (catchy & (stage == "seo_review"))
    words = {"vague": vague, "catchy": catchy, "stiff": stiff}
    texts = marked(n, {word: np.flatnonzero(marks).tolist() for word, marks in words.items()})
    return with_scores(panel, scores, ("clarity", "seo")), texts


def test_comments_of_each_aspect_and_stage(commented: tuple[Panel, list[str]]) -> None:
    panel, texts = commented
    n = len(texts)
    documents = documents_of(panel, range(n), texts, reviews=True)
    patterns, parts, _ = find_terms(panel, texts_of(panel, comments=documents), BOUNDS)
    own = patterns[patterns["published"] & (patterns["agent_name"] == "agent-000")]
    found = set(own["description"])
    assert {
        "vague | comment | aspect=clarity", "vague | comment | aspect=overall", "catchy | comment | aspect=seo",
        "stiff | comment | aspect=clarity | stage=seo_review",
    } <= found  # fmt: skip
    # What holds for all stages is said once.
    assert "vague | comment | aspect=clarity | stage=seo_review" not in found
    repeated = patterns[(patterns["agent_name"] == "agent-000") & (patterns["reason"] == REPEATED)]
    assert "vague | comment | aspect=clarity | stage=seo_review" in set(repeated["description"])
    assert not repeated["published"].any()
    assert repeated["sentence"].isna().all()
    assert "catchy | comment | aspect=seo | stage=tone_review" not in found
    assert "vague | comment | aspect=seo" not in found
    assert not any("final_check" in description for description in patterns["description"])
    row = own.set_index("description").loc["stiff | comment | aspect=clarity | stage=seo_review"]
    assert row["input_features"] == {"term": "stiff", "stage": "seo_review"}
    assert row["human_feedback_signals"]["feedback_category"] == "clarity"
    assert row["sentence"].startswith('reviews of stage seo_review whose comment says "stiff" score +1.')
    assert " in clarity, " in row["sentence"]
    whole = own.set_index("description").loc["vague | comment | aspect=clarity"]
    used = np.array(["vague" in text for text in texts])
    assert whole["n_reviewers"] == len(set(panel.review_reviewer[used]))
    assert whole["n_contents"] == len(set(panel.review_output))
    assert whole["output_characteristics"]["points"] == pytest.approx(-1.5, abs=0.3)
    assert statuses(parts)["agent-000"]["comment"] == {"documents": n, "sampled_from": n, "status": "success", "reason": None}


def test_a_single_stage_is_not_told_twice() -> None:
    panel = panel_of(WORLD)
    texts = [WORLD.texts[output] for output in panel.review_output]
    patterns = find_terms(panel, texts_of(panel, comments=documents_of(panel, range(len(texts)), texts, reviews=True)), BOUNDS)[0]
    assert patterns["published"].any()
    assert patterns["stage"].isna().all()


def test_a_comment_term_needs_three_known_reviewers(commented: tuple[Panel, list[str]]) -> None:
    panel, texts = commented
    reviewer = np.where(np.array(["vague" in text for text in texts]), np.arange(len(texts)) % 2, panel.review_reviewer)
    documents = texts_of(panel, comments=documents_of(panel, range(len(texts)), texts, reviews=True))
    patterns = find_terms(replace(panel, review_reviewer=reviewer), documents, BOUNDS)[0]
    assert "vague" not in set(patterns["term"])
    assert "catchy" in set(patterns["term"])


def test_issues_of_an_aspect_that_is_not_scored_take_the_overall_score(commented: tuple[Panel, list[str]]) -> None:
    panel, texts = commented
    n = len(texts)
    rows = np.repeat(np.arange(n), 2)
    documents = documents_of(
        panel, rows.tolist(), [texts[row] for row in rows], ("clarity", "terminology"), [0, 1] * n, reviews=True
    )
    patterns, parts, _ = find_terms(panel, texts_of(panel, issues=documents), BOUNDS)
    own = patterns[patterns["published"] & (patterns["agent_name"] == FLEET)].set_index("description")
    scored, unscored = own.loc["vague | issue | aspect=clarity"], own.loc["vague | issue | aspect=terminology"]
    assert scored["output_characteristics"]["points"] == pytest.approx(-1.5, abs=0.3)
    assert unscored["output_characteristics"]["points"] == pytest.approx(-0.75, abs=0.3)
    assert unscored["human_feedback_signals"]["feedback_category"] == "terminology"
    assert 'reviews whose issues of terminology say "vague" score -0.' in unscored["sentence"]
    assert " in clarity, " in scored["sentence"]
    assert statuses(parts)[FLEET]["issue"]["documents"] == n


def test_without_scores_the_decisions_are_taken() -> None:
    panel = panel_of(WORLD)
    plain = with_scores(panel, np.empty((len(panel.reviews), 0)), ())
    comments = [WORLD.texts[output] for output in panel.review_output]
    texts = replace(reasoning_of(WORLD, panel), comments=documents_of(panel, range(len(comments)), comments, reviews=True))
    patterns = find_terms(plain, texts, BOUNDS)[0]
    published = patterns[patterns["published"]]
    by_type = published[published["term"].isin(WORLD.good + WORLD.bad) & (published["agent_name"] == FLEET)].groupby(
        "pattern_type"
    )
    assert set(by_type.groups) == {"reasoning_terms", "comment_terms"}
    for kind, rows in by_type:
        row = rows.iloc[0]
        signals = row["human_feedback_signals"]
        assert (signals["feedback_category"], signals["outcome"]) == ("decision", "approval")
        assert pd.isna(row["aspect"])
        points = row["output_characteristics"]["points"]
        assert 0.05 < abs(points) < 0.6
        assert f"have approval {100 * points:+.0f} points [" in row["sentence"]
        if kind == "comment_terms":
            assert row["description"] == f"{row['term']} | comment | aspect=decision"


def test_few_scores_do_not_hide_the_decisions() -> None:
    panel = panel_of(WORLD)
    scores = panel.scores.copy()
    scores[50:] = np.nan
    patterns = find_terms(with_scores(panel, scores, ("quality",)), reasoning_of(WORLD, panel), BOUNDS)[0]
    signals = patterns.loc[patterns["published"], "human_feedback_signals"]
    assert len(signals)
    assert {signal["outcome"] for signal in signals} == {"approval"}


def test_scores_alone_are_enough() -> None:
    panel = panel_of(WORLD, decisions=False)
    comments = [WORLD.texts[output] for output in panel.review_output]
    documents = documents_of(panel, range(len(comments)), comments, reviews=True)
    patterns = find_terms(panel, replace(reasoning_of(WORLD, panel), comments=documents), BOUNDS)[0]
    published = patterns[patterns["published"]]
    assert set(published["pattern_type"]) == {"reasoning_terms", "comment_terms"}
    assert {signals["outcome"] for signals in published["human_feedback_signals"]} == {"score"}


def test_decision_points_of_agents_with_several() -> None:
    panel = PANEL
    first = np.flatnonzero(panel.output_agent == 0)
    rows = np.sort(np.concatenate([np.arange(len(panel.outputs)), first]))
    second = np.concatenate([[False], rows[1:] == rows[:-1]])
    texts = [WORLD.texts[row] if not again else "plain text here" for row, again in zip(rows, second, strict=True)]
    points = documents_of(panel, rows.tolist(), texts, ("draft", "review"), second.astype(int).tolist())
    # Without the whole reasonings: what they say of all decision points would be said once.
    patterns = find_terms(panel, texts_of(panel, points=points), BOUNDS)[0]
    published = patterns[patterns["published"]]
    with_points = published[published["decision_point"].notna()]
    # The only decision point of the second agent would say the same again.
    assert set(with_points["agent_name"]) == {FLEET, "agent-000"}
    assert set(with_points["decision_point"]) == {"draft"}
    row = with_points[with_points["agent_name"] == "agent-000"].iloc[0]
    assert row["description"] == f"{row['term']} | reasoning | decision_point=draft"
    assert row["input_features"] == {"term": row["term"], "decision_point": "draft"}
    assert f'reasoning at draft says "{row["term"]}"' in row["sentence"]


def test_too_little_and_nothing_to_compare_are_results_with_reasons() -> None:
    world = simulate_terms(TermSpec(documents=299 + 400 + 400, agents=1, seed=5))
    panel = panel_of(world)
    agent = np.repeat([0, 1, 2], [299, 400, 400])
    panel = replace(panel, agents=np.array(["few", "same", "silent"], dtype=object), output_agent=agent)
    scores = panel.scores.copy()
    scores[agent[panel.review_output] == 1] = 7.0
    texts = [text if who < 2 else "🙂" for text, who in zip(world.texts, agent, strict=True)]
    found = find_terms(
        with_scores(panel, scores, ("quality",)), texts_of(panel, reasoning=documents_of(panel, range(1_099), texts)), BOUNDS
    )
    states = statuses(found[1])
    expected = {
        "few": ("insufficient_data", "299 outputs with reasonings, 300 needed"),
        "same": ("undefined", "the judgements do not vary"),
        "silent": ("undefined", "no word is used in enough of them"),
    }
    for name, (status, reason) in expected.items():
        assert (states[name]["reasoning"]["status"], states[name]["reasoning"]["reason"]) == (status, reason)
        assert states[name]["status"] == status
        assert states[name]["reason"].startswith(reason)
        assert (states[name]["published"], states[name]["tested"]) == (0, 0)
    assert states[FLEET]["status"] == "success"
    assert set(found[2]["agent_name"]) == {FLEET}


def test_agents_do_not_touch_each_other(reasoned: Frames) -> None:
    reviews = PANEL.review_agent == 1
    outputs = PANEL.output_agent == 1
    first_output = int(np.flatnonzero(outputs)[0])
    alone = replace(
        PANEL,
        agents=PANEL.agents[1:],
        outputs=PANEL.outputs[outputs].reset_index(drop=True),
        output_agent=np.zeros(outputs.sum(), dtype=np.intp),
        reviews=PANEL.reviews[reviews].reset_index(drop=True),
        review_output=PANEL.review_output[reviews] - first_output,
        review_reviewer=PANEL.review_reviewer[reviews],
        scores=PANEL.scores[reviews],
    )
    texts = texts_of(alone, reasoning=documents_of(alone, range(outputs.sum()), WORLD.texts[first_output:]))
    own = find_terms(alone, texts, BOUNDS)[0].query("agent_name == 'agent-001'")
    together = reasoned[0].query("agent_name == 'agent-001'")
    # Confidence is that among all agents.
    columns = ["description", "effect", "se", "p_value", "q_value", "published", "n_reviewers", "sentence"]
    pd.testing.assert_frame_equal(own[columns].reset_index(drop=True), together[columns].reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize(
    ("identity", "description"),
    [
        (("reasoning_terms", "vague", "overall", None, None), "vague | reasoning"),
        (("reasoning_terms", "vague", None, None, "draft"), "vague | reasoning | decision_point=draft"),
        (("comment_terms", "vague", None, None, None), "vague | comment | aspect=decision"),
        (("issue_terms", "vague", "seo", "seo_review", None), "vague | issue | aspect=seo | stage=seo_review"),
    ],
)
def test_descriptions(identity: tuple[str, str, str | None, str | None, str | None], description: str) -> None:
    assert term_description(*identity) == description


def test_sentences_of_decisions() -> None:
    row = {
        "pattern_type": "issue_terms", "term": "vague", "aspect": "seo", "judged": None, "stage": None, "decision_point": None,
        "points": -0.124, "points_low": -0.2, "points_high": -0.05, "n_with": 1_200, "n_documents": 9_000, "n_reviewers": 4,
    }  # fmt: skip
    expected = 'reviews whose issues of seo say "vague" have approval -12 points [-20, -5], 1,200 of 9,000 reviews, 4 reviewers'
    assert term_sentence(row) == expected
