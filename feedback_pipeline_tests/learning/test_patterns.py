import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feedback_pipeline.learning import patterns as subject
from feedback_pipeline.learning.effects import approval_effects
from feedback_pipeline.learning.features import DECISION_FEATURES
from feedback_pipeline.learning.panel import Floats, Panel, build_panel
from feedback_pipeline.learning.pattern_frame import PATTERN_COLUMNS
from feedback_pipeline.learning.pattern_subject import MOST_STRATA, Decided, strata
from feedback_pipeline.learning.patterns import find_patterns
from feedback_pipeline.learning.pooling import q_values
from feedback_pipeline.learning.recommendations import recommend
from feedback_pipeline.learning.rules import find_rules
from feedback_pipeline.simulation.spec import FEATURES, WorldSpec
from feedback_pipeline.simulation.world import simulate
from feedback_pipeline_tests.learning.pattern_worlds import decided_panel, no_points, planted_step, points_of
from feedback_pipeline_tests.worlds import BOUNDS, advice_of, learn, panel_of

Frames = tuple[pd.DataFrame, pd.DataFrame]
Published = dict[str, tuple[str, ...]]
NAMES = ("confidence_score", "word_count")


def find(
    panel: Panel,
    points: pd.DataFrame | None = None,
    features: tuple[str, ...] = NAMES,
    published: Published | None = None,
) -> Frames:
    return find_patterns(panel, no_points() if points is None else points, BOUNDS, features, published or {}, seed=1)


def step_panel(n: int = 800, agents: tuple[str, ...] = ("writer",)) -> Panel:
    """Approval steps up where confidence is above .85; word counts say nothing."""
    features, approved = {}, {}
    for i, agent in enumerate(agents):
        x, y, _, _ = planted_step(n, 1, 1.3, 10 + i)
        rng = np.random.default_rng(100 + i)
        features[agent] = {"confidence_score": x[:, 0], "word_count": rng.lognormal(5, 0.4, n)}
        approved[agent] = y
    return decided_panel(features, approved)


def rows_of(patterns: pd.DataFrame, agent: str) -> dict[str, Any]:
    """Rows of an agent by description."""
    return {str(row["description"]): row for row in patterns[patterns["agent_name"] == agent].to_dict("records")}


def document(parts: pd.DataFrame, agent: str) -> dict[str, Any]:
    (found,) = parts.loc[parts["agent_name"] == agent, "document"]
    return dict(found)


def test_a_planted_step_is_published_in_plain_words_with_all_its_documents() -> None:
    patterns, parts = find(step_panel())
    assert list(patterns.columns) == list(PATTERN_COLUMNS)
    row = rows_of(patterns, "writer")["confidence_score | threshold"]
    assert row["published"]
    made = row["output_characteristics"]
    assert made["cut"] == pytest.approx(0.85, abs=0.03)
    assert made["cut_interval"][0] <= 0.85 <= made["cut_interval"][1]
    assert made["ci"] == [row["ci_low"], row["ci_high"]]
    assert (made["unit"], made["direction"]) == ("approval", 1.0)
    assert len(made["curve"]["x"]) == len(made["curve"]["approval"]) == len(made["curve"]["n"]) <= 32
    assert sum(made["curve"]["n"]) == 800
    assert (np.diff(made["curve"]["approval"]) >= 0).all()
    signals = row["human_feedback_signals"]
    assert signals["n_good"] + signals["n_bad"] == 800
    assert signals["feedback_category"] == "decision"
    assert row["input_features"] == {"feature": "confidence_score"}
    good, bad = made["good_rate"], made["bad_rate"]
    points = f"{round(100 * row['effect']):+d} points [{round(100 * row['ci_low'])}, {round(100 * row['ci_high'])}]"
    assert row["sentence"] == (
        f"confidence of the agent above {made['cut']:.2f}: approval {100 * bad:.0f} % -> {100 * good:.0f} %, {points}, "
        f"{signals['n_bad']} v {signals['n_good']} outputs; may be this person's taste"
    )
    assert row["gain"] == pytest.approx(signals["n_bad"] / 800 * row["effect"] / 0.5, rel=0.05)
    assert document(parts, "writer")["status"] == "success"
    assert document(parts, "writer")["published"] == patterns.loc[patterns["agent_name"] == "writer", "published"].sum()


def test_what_is_published_is_json_and_what_is_not_says_why() -> None:
    patterns, _ = find(step_panel(agents=("a", "b")))
    published = patterns[patterns["published"]]
    for name in ("input_features", "output_characteristics", "human_feedback_signals"):
        assert all(json.loads(json.dumps(value, allow_nan=False)) == value for value in published[name])
    assert published["reason"].isna().all()
    assert published["sentence"].str.len().gt(20).all()
    rest = patterns[~patterns["published"]]
    assert rest["reason"].str.len().gt(5).all()
    assert rest["output_characteristics"].isna().all()
    assert not patterns.duplicated(["agent_name", "pattern_type", "description"]).any()
    assert not patterns["description"].str.contains(r"\d").any()


def test_every_feature_keeps_its_honest_lift_whether_published_or_not() -> None:
    patterns, _ = find(step_panel())
    own = patterns[(patterns["agent_name"] == "writer") & (patterns["unit"] == "approval")].set_index("feature")
    assert set(own.index) == set(NAMES)
    assert np.isfinite(own[["effect", "se", "ci_low", "ci_high", "p_value", "q_value", "accuracy_rate", "confidence"]]).all(
        axis=None
    )
    assert not own.loc["word_count", "published"]
    assert own["confidence"].to_dict()["confidence_score"] > 0.9 > own["confidence"].to_dict()["word_count"]


def test_contrasts_agree_with_the_effects_and_q_values_are_of_one_family_over_points() -> None:
    world = simulate(WorldSpec(agents=2, executions=300, reviewers=1, reviews_per_content=0.0, seed=4))
    panel, points = panel_of(world), points_of(world)
    patterns, _ = find(panel, points, FEATURES)
    agent = str(panel.agents[1])
    own = patterns[
        (patterns["agent_name"] == agent) & patterns["pattern_type"].isin(["successful_decisions", "failure_patterns"])
    ]
    assert len(own) == len(FEATURES) + 3 * len(DECISION_FEATURES)
    decided = Decided.of(panel, points, FEATURES)
    rows = decided.group == 1
    effect = approval_effects(decided.values[rows], decided.approved[rows], np.zeros(rows.sum(), dtype=int), 1)
    whole = own[own["decision_point"].isna()].set_index("feature").loc[list(FEATURES)]
    np.testing.assert_allclose(whole["effect"], effect.g[0])
    np.testing.assert_allclose(whole["p_value"], effect.p_value[0])
    p = own["p_value"].to_numpy(dtype=np.float64)
    np.testing.assert_allclose(own["q_value"].to_numpy(dtype=np.float64), q_values(p[None])[0])
    published = (own["q_value"] <= 0.1) & (own["effect"].abs() >= 0.1)
    assert (own["published"] == published).all()
    assert (own["pattern_type"] == np.where(own["effect"] < 0, "failure_patterns", "successful_decisions")).all()


def test_a_feature_that_matters_without_a_clear_cut_gets_a_curve() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=80)
    y = (rng.random(80) < 1 / (1 + np.exp(2.0 * x))).astype(float)
    panel = decided_panel({"writer": {"confidence_score": x, "word_count": rng.normal(size=80)}}, {"writer": y})
    patterns, _ = find(panel, published={"writer": ("word_count",)})
    own = rows_of(patterns, "writer")
    assert own["confidence_score | threshold"]["reason"] == "fewer than 100 outputs"
    curve, contrast = own["confidence_score | curve"], own["confidence_score | approved v other"]
    assert (curve["published"], curve["unit"], curve["direction"]) == (True, "sd", -1.0)
    for name in ("effect", "se", "ci_low", "ci_high", "p_value", "q_value", "confidence"):
        assert curve[name] == contrast[name]
    made = curve["output_characteristics"]
    assert (made["cut"], made["cut_interval"]) == (None, None)
    assert (np.diff(made["curve"]["approval"]) <= 0).all()
    assert curve["sentence"].startswith("approval falls with confidence of the agent: ")
    # A published correlation says nothing of decisions.
    assert "word_count | curve" not in own


def test_decision_points_get_their_own_patterns_where_there_are_two() -> None:
    panel = step_panel(600, agents=("one", "two"))
    rng = np.random.default_rng(8)
    outputs = panel.outputs
    rows = [outputs.assign(decision_point="draft"), outputs[outputs["agent_name"] == "two"].assign(decision_point="plan")]
    points = pd.concat(rows, ignore_index=True)[["agent_name", "execution_id", "decision_point"]]
    for name in DECISION_FEATURES:
        points[name] = rng.normal(size=len(points))
    at_draft = points["decision_point"] == "draft"
    points.loc[at_draft, "confidence_score"] = outputs["confidence_score"].to_numpy()
    points = pd.concat([points[at_draft], points[~at_draft].iloc[:15]])
    patterns, parts = find(panel, points.sample(frac=1.0, random_state=1))
    by_agent = {agent: {row["decision_point"] for row in rows_of(patterns, agent).values()} for agent in ("*", "one", "two")}
    assert by_agent == {"*": {None}, "one": {None}, "two": {None, "draft", "plan"}}
    found = rows_of(patterns, "two")["confidence_score | threshold | decision_point=draft"]
    assert found["published"]
    assert " at draft: approval " in found["sentence"]
    assert found["input_features"] == {"feature": "confidence_score", "decision_point": "draft"}
    states = document(parts, "two")["decision_points"]
    assert states == {
        "draft": {"status": "success", "reason": None},
        "plan": {"status": "insufficient_data", "reason": "15 outputs with this decision point and a decision, 20 needed"},
    }
    missing = patterns[(patterns["decision_point"] == "plan")]
    assert set(missing["reason"]) == {"fewer than 20 outputs"}


def test_agents_do_not_depend_on_each_other_nor_on_the_order_of_rows() -> None:
    world = simulate(WorldSpec(agents=3, executions=150, reviewers=6, seed=5))
    # How readily a reviewer approves is learned from all agents: here each has reviewers of its own.
    world = replace(world, reviews=world.reviews.assign(reviewer_id=world.reviews["agent_name"] + world.reviews["reviewer_id"]))
    whole, points = panel_of(world), points_of(world)
    published: Published = {str(agent): ("word_count", "confidence_score") for agent in whole.agents}
    together, parts = find(whole, points, FEATURES, published)
    agent = str(whole.agents[1])
    mine = world.reviews[world.reviews["agent_name"] == agent].sample(frac=1.0, random_state=2)
    table = world.executions[world.executions["agent_name"] == agent].sample(frac=1.0, random_state=3)
    alone_panel = build_panel(
        mine.assign(is_training_data=True), mine[list(whole.aspects)].to_numpy(dtype=float), whole.aspects, table
    )
    alone, alone_parts = find(alone_panel, points.sample(frac=1.0, random_state=4), FEATURES, published)
    keep = [name for name in PATTERN_COLUMNS if name != "confidence"]  # pooled over agents on purpose
    left, right = (frame[frame["agent_name"] == agent][keep].reset_index(drop=True) for frame in (together, alone))
    pd.testing.assert_frame_equal(left, right, check_exact=False, rtol=1e-9)
    assert document(parts, agent) == document(alone_parts, agent)
    again, _ = find(whole, points.sample(frac=1.0, random_state=6), FEATURES, published)
    pd.testing.assert_frame_equal(together, again, check_exact=True)


def opposed() -> Panel:
    """Agent a writes short texts and is approved, b long ones and is not; within each, longer texts are approved more."""
    rng = np.random.default_rng(6)
    features, approved = {}, {}
    for agent, level, base in (("a", 100.0, 0.8), ("b", 400.0, 0.2)):
        x = rng.normal(size=400)
        features[agent] = {"word_count": level + 40 * x, "confidence_score": rng.random(400)}
        approved[agent] = (rng.random(400) < np.clip(base + 0.15 * x, 0, 1)).astype(float)
    return decided_panel(features, approved)


def test_agents_are_never_compared_with_each_other_but_in_the_fleet_which_says_so() -> None:
    patterns, _ = find(opposed())
    for agent in ("a", "b"):
        assert rows_of(patterns, agent)["word_count | approved v other"]["effect"] > 0.1
    fleet = rows_of(patterns, "*")["word_count | approved v other"]
    made = fleet["output_characteristics"]
    assert fleet["effect"] < -0.5 < 0.1 < made["effect_within"]
    assert made["confounded_with_agent"] is True
    assert f"confounded with the agent: g {made['effect_within']:+.2f} within agents" in fleet["sentence"]
    cut = rows_of(patterns, "*")["word_count | threshold"]
    assert cut["direction"] == 1.0  # agents are the strata of cuts
    clear, _ = find(step_panel(agents=("a", "b")))
    step = rows_of(clear, "*")["confidence_score | approved v other"]
    assert step["output_characteristics"]["confounded_with_agent"] is False


def test_strict_reviewers_who_get_long_texts_make_no_pattern() -> None:
    rng = np.random.default_rng(7)
    strict = rng.integers(0, 2, 600)
    x = rng.normal(size=600) + 2.0 * strict
    y = (rng.random(600) < np.where(strict == 1, 0.25, 0.8)).astype(float)
    panel = decided_panel({"writer": {"word_count": x, "confidence_score": x}}, {"writer": y}, {"writer": strict})
    patterns, _ = find(panel)
    assert not patterns["published"].any()
    assert (patterns["n_reviewers"] == 2).all()
    unknown = decided_panel({"writer": {"word_count": x, "confidence_score": x}}, {"writer": y}, {"writer": strict * 0 - 1})
    blind, _ = find(unknown)
    assert blind["published"].any()
    assert (blind["n_reviewers"] == 0).all()


@pytest.mark.parametrize(
    ("n", "wins", "status", "reason"),
    [
        (5, 3, "insufficient_data", "5 outputs with a decision, 10 needed"),
        (15, 8, "tentative", "15 outputs with a decision, 20 needed to publish"),
        (96, 96, "one_class", "all approved"),
        (40, 0, "one_class", "none approved"),
        (40, 9, "one_class", "fewer than 10 approved outputs"),
        (40, 31, "one_class", "fewer than 10 other outputs"),
        (20, 10, "success", None),
    ],
)
def test_states(n: int, wins: int, status: str, reason: str | None) -> None:
    y = (np.arange(n) < wins).astype(float)
    x = np.random.default_rng(n).normal(size=n)
    other = step_panel(300)
    panel = decided_panel(
        {
            "poor": {"confidence_score": x, "word_count": np.full(n, np.nan)},
            "rich": {name: other.outputs[name].to_numpy() for name in NAMES},
        },
        {"poor": y, "rich": np.tile([0.0, 1.0], 150)},
    )
    patterns, parts = find(panel, published={"poor": NAMES})
    own = patterns[patterns["agent_name"] == "poor"]
    assert (document(parts, "poor")["status"], document(parts, "poor")["reason"]) == (status, reason)
    assert document(parts, "rich")["status"] == "success"
    if status == "one_class":
        assert own["description"].tolist() == ["all features | description"]
        assert own["pattern_type"].tolist() == ["successful_decisions" if 2 * wins > n else "failure_patterns"]
        (row,) = own.to_dict("records")
        assert (row["published"], row["reason"], row["confidence"], row["n_contents"]) == (False, "one_class", 0.0, n)
        assert set(row["output_characteristics"]) == {"confidence_score"}  # a feature nobody has is not described
        assert row["output_characteristics"]["confidence_score"]["mean"] == pytest.approx(x.mean())
    elif status != "success":
        assert own.empty
    else:
        assert set(own["feature"]) == set(NAMES)


def test_only_scores_is_undefined_and_nothing_at_all_is_an_empty_result() -> None:
    n = 30
    silent = {"writer": np.full(n, np.nan)}
    x = {"writer": {"confidence_score": np.random.default_rng(1).random(n), "word_count": np.ones(n)}}
    patterns, parts = find(decided_panel(x, silent, scores={"writer": np.full(n, 7.0)}))
    assert patterns.empty
    assert document(parts, "writer")["status"] == "undefined"
    assert document(parts, "writer")["reason"] == "no decisions, only scores"
    _, parts = find(decided_panel(x, silent))
    assert document(parts, "writer")["status"] == "insufficient_data"


def test_hostile_features() -> None:
    n = 300
    rng = np.random.default_rng(9)
    x = rng.normal(size=n)
    values = {"flat": np.ones(n), "huge": x * 1e300, "tiny": x * 1e-300, "gone": np.full(n, np.nan)}
    values |= {"holes": np.where(rng.random(n) < 0.9, np.nan, x), "same": x, "two": (x > 0).astype(float)}
    y = (rng.random(n) < 1 / (1 + np.exp(-1.5 * x))).astype(float)
    patterns, _ = find(decided_panel({"writer": values}, {"writer": y}), features=tuple(values))
    own = rows_of(patterns, "writer")
    assert own["flat | threshold"]["reason"] == "constant feature"
    assert own["gone | approved v other"]["reason"] == "fewer than 20 outputs"
    for name in ("huge", "tiny", "same"):
        assert own[f"{name} | threshold"]["published"]
        assert own[f"{name} | threshold"]["p_value"] == own["same | threshold"]["p_value"]
        assert np.isfinite(own[f"{name} | threshold"]["output_characteristics"]["cut"])
    assert own["two | approved v other"]["published"]


def test_one_agents_poison_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(decided: Decided, testable: Any, published: Any, seed: int) -> pd.DataFrame:
        if "bad" in decided.agents:
            raise FloatingPointError("overflow")
        return find_rules(decided, testable, published, seed)

    monkeypatch.setattr(subject, "find_rules", poisoned)
    patterns, parts = find(step_panel(300, agents=("bad", "good")))
    assert set(patterns["agent_name"]) == {"*", "good"}
    assert document(parts, "bad")["status"] == "error"
    assert document(parts, "bad")["reason"] == "FloatingPointError: decision patterns of this agent cannot be computed"
    assert document(parts, "bad")["published"] == 0
    assert document(parts, "good")["status"] == "success"


def test_strata_are_sets_of_reviewers_within_the_agent_and_rare_sets_go_by_leniency() -> None:
    group = np.repeat([0, 1], [72, 25])
    sets = np.r_[np.full(12, 5), np.arange(100, 160), np.full(25, 5)]
    lenient = np.r_[np.zeros(12), np.random.default_rng(1).permutation(60) / 60, np.zeros(25)]
    found = strata(group, sets, lenient)
    assert len(set(found[:12])) == 1
    assert found[72] == found[0] == MOST_STRATA
    rare = found[12:72]
    # Three parts of 20, the readiest to approve together.
    assert np.bincount(rare, minlength=MOST_STRATA)[-3:].tolist() == [20, 20, 20]
    assert (np.diff(lenient[12:72][np.argsort(rare, kind="stable")].reshape(3, 20).mean(axis=1)) < 0).all()
    alone = strata(group[:72], sets[:72], lenient[:72])
    assert np.array_equal(alone, found[:72])


def test_equal_leniency_is_one_stratum_and_few_outputs_are_too() -> None:
    group, sets = np.zeros(60, dtype=np.intp), np.arange(60)
    assert len(set(strata(group, sets, np.full(60, 0.1)))) == 1
    assert len(set(strata(group[:39], sets[:39], np.arange(39.0)))) == 1
    assert strata(group[:0], sets[:0], np.zeros(0)).shape == (0,)


def test_strict_reviewers_of_many_who_get_long_texts_make_no_pattern_and_no_advice() -> None:
    """Forty reviewers: nearly every output has a set of its own."""
    spec = WorldSpec(agents=20, executions=500, reviewers=40, seed=1, confounded_assignment=True)
    evidence = advice_of(learn(replace(spec, effects=False, tastes=False, best_length=False)))
    about_length = evidence.patterns[evidence.patterns["feature"] == "word_count"]
    assert about_length["published"].sum() <= 3
    assert recommend(evidence)[0]["agent_name"].nunique() <= 2


def test_outputs_of_one_content_count_as_one() -> None:
    rng = np.random.default_rng(4)
    y = np.repeat(rng.integers(0, 2, 60), 5).astype(float)
    x = np.repeat(rng.normal(size=60), 5) + rng.normal(0, 0.01, 300)
    panel = decided_panel({"w": {"x": x}}, {"w": y})
    panel = replace(panel, output_content=np.repeat(np.arange(60), 5))
    decided = Decided.of(panel, no_points(), ("x",))
    assert len(decided.approved) == 60
    assert np.array_equal(decided.approved, y[::5])
    assert decided.values[:, 0] == pytest.approx(x.reshape(60, 5).mean(axis=1))
    patterns, parts = find(panel, features=("x",))
    assert patterns["n_contents"].max() == 60
    assert document(parts, "w")["n"] == 60


def test_sets_of_reviewers_count_a_person_once_and_only_who_decided() -> None:
    base = decided_panel({"w": {"x": np.arange(4.0)}}, {"w": np.array([1.0, 0.0, 1.0, 0.0])}, {"w": np.array([1, 1, 1, -1])})
    reviews = base.reviews.copy()
    extra = reviews.assign(feedback_id=reviews["feedback_id"] + "b")
    extra = extra.assign(reviewer_id=pd.Series(["R1", "R2", "R3", "R1"], dtype="str"), stage="brand_check")
    extra.loc[2, "decision"] = None
    panel = build_panel(pd.concat([reviews, extra]), np.full((8, 1), np.nan), ("content_quality",), base.outputs)
    decided = Decided.of(panel, no_points(), ("x",))
    first, both, commented, unknown = decided.reviewer_set
    assert first == commented == unknown  # R1 twice; R1 and a comment of R3; R1 and somebody unknown
    assert both != first
    assert decided.n_reviewers.tolist() == [2]


def test_accuracy_is_the_share_on_the_right_side() -> None:
    x: Floats = np.repeat([0.0, 1.0], 200)
    y = np.r_[np.zeros(150), np.ones(50), np.zeros(20), np.ones(180)]
    order = np.random.default_rng(2).permutation(400)
    panel = decided_panel({"w": {"confidence_score": x[order], "word_count": x[order]}}, {"w": y[order]})
    patterns, _ = find(panel)
    row = rows_of(patterns, "w")["confidence_score | threshold"]
    assert row["accuracy_rate"] == pytest.approx((150 + 180) / 400)
    assert row["effect"] == pytest.approx(180 / 200 - 50 / 200)
    assert row["p_value"] < 1e-10
