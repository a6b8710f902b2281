"""What the assets tell of patterns, segments and recommendations, from frames as the learning pass returns them."""

import json
from typing import Any

import numpy as np
import pandas as pd

from feedback_pipeline.learning.pattern_frame import documents, pattern_frame
from feedback_pipeline.learning_pass.patterns import PatternOutcome
from feedback_pipeline.learning_pass.publication import PublishedRun
from feedback_pipeline.learning_pass.strategy import StrategyOutcome
from feedback_pipeline.orchestration import pattern_frames as frames
from feedback_pipeline.orchestration.metadata import MAX_ROWS
from feedback_pipeline.orchestration.pattern_report import (
    PICTURED_AGENTS,
    describe_patterns,
    describe_publication,
    describe_strategy,
    most_different_agents,
    picture_patterns,
    picture_strategy,
)

CURVE = {"x": [0.1, 0.9], "approval": [0.5, 0.8], "observed": [0.5, 0.8], "n": [20.0, 20.0]}


def _pattern(kind: str, **changes: Any) -> pd.DataFrame:
    """One published pattern with its documents."""
    row: dict[str, Any] = {
        "agent_name": "drafter",
        "pattern_type": kind,
        "description": kind,
        "feature": "cost",
        "unit": "approval",
    }
    row |= {"term": None, "aspect": None, "stage": None, "decision_point": None, "direction": 1.0, "effect": 0.2, "se": 0.05}
    row |= {"ci_low": 0.1, "ci_high": 0.3, "p_value": 0.001, "q_value": 0.01, "confidence": 0.9, "n_contents": 100}
    row |= {"n_reviewers": 5, "published": True, "sentence": "In words.", **changes}
    more: dict[str, dict[str, Any]] = {"inputs": {}, "characteristics": {}, "signals": {}}
    if kind == "quality_threshold":
        more["characteristics"] = {"cut": 0.5, "cut_interval": [0.4, 0.6], "curve": CURVE, "good_rate": 0.8, "bad_rate": 0.6}
        more["signals"] = {"n_good": 40, "n_bad": 60}
    if kind.endswith("_terms"):
        more["characteristics"], more["signals"] = {"points": 2 * row["effect"], "share": 0.2}, {"outcome": "score"}
    written = documents(row, **more) if row["published"] else {}
    return pattern_frame(row | written if not written else row | {key: [value] for key, value in written.items()}, 1)


def _term(term: str, **changes: Any) -> pd.DataFrame:
    return _pattern(
        "comment_terms", term=term, feature=None, aspect="tone", description=f"{term} | comment | aspect=tone", **changes
    )


def _patterns(*rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(rows, ignore_index=True) if rows else pattern_frame({}, 0)


def _outcome(patterns: pd.DataFrame, parts: pd.DataFrame | None = None) -> PatternOutcome:
    none = pd.DataFrame(columns=["agent_name", "part", "document"])
    return PatternOutcome("run", {"n_published": 1}, patterns, none if parts is None else parts)


def _rows(value: Any) -> list[dict[str, Any]]:
    return [dict(record.data) for record in value.records]


def test_patterns_are_counted_by_type() -> None:
    withheld = _pattern("quality_threshold", published=False, reason="q above .10", description="other")
    found = _patterns(_pattern("quality_threshold"), withheld, withheld.assign(agent_name="editor"), _term("vague"))
    shown = describe_patterns(_outcome(found))
    assert _rows(shown["patterns by type"]) == [
        {"pattern_type": "comment_terms", "tested": 1, "published": 1, "agents": 1, "mostly withheld for": None},
        {"pattern_type": "quality_threshold", "tested": 3, "published": 1, "agents": 1, "mostly withheld for": "q above .10"},
    ]
    assert shown["dagster/row_count"] == 4
    assert [row["pattern_type"] for row in _rows(shown["patterns"])] == ["comment_terms", "quality_threshold"]
    assert _rows(shown["patterns"])[1]["sentence"] == "In words."


def test_the_most_certain_patterns_are_listed() -> None:
    many = _patterns(*(_pattern("decision_rule", description=f"d{k}", confidence=k / 300) for k in range(MAX_ROWS + 20)))
    listed = _rows(describe_patterns(_outcome(many))["patterns"])
    assert len(listed) == MAX_ROWS
    assert listed[0]["description"] == f"d{MAX_ROWS + 19}"


def test_parts_are_counted_with_a_reason() -> None:
    states = [{"status": "success", "reason": None}, {"status": "one_class", "reason": "all 30 approved"}]
    another = {"status": "one_class", "reason": "all 9 approved"}
    parts = pd.DataFrame(
        {"agent_name": ["a", "b", "c"], "part": "decisions", "document": [states[0], json.dumps(states[1]), another]}
    )
    assert _rows(describe_patterns(_outcome(_patterns(), parts))["parts"]) == [
        {"part": "decisions", "status": "one_class", "reason": "all 30 approved", "agents": 2},
        {"part": "decisions", "status": "success", "reason": "", "agents": 1},
    ]


def test_pictures_are_drawn_of_everything_and_of_nothing() -> None:
    everything = _patterns(_pattern("quality_threshold"), _pattern("successful_decisions", unit="sd"), _term("vague"))
    full, empty = picture_patterns(_outcome(everything)), picture_patterns(_outcome(_patterns()))
    for name in ("threshold curves", "effect sizes", "terms"):
        assert full[name].value.startswith(f"![{name}](data:image/png;base64,")
        assert len(full[name].value) > len(empty[name].value) > 1000


def test_words_of_all_agents_stand_for_those_of_each() -> None:
    own, pooled = _term("own"), _term("pooled", agent_name="*")
    both = picture_patterns(_outcome(_patterns(own, pooled)))["terms"].value
    assert both == picture_patterns(_outcome(_patterns(pooled)))["terms"].value
    assert both != picture_patterns(_outcome(_patterns(own)))["terms"].value


def test_numbers_come_out_of_the_documents() -> None:
    patterns = _patterns(
        _pattern("quality_threshold", decision_point="draft"), _term("vague", effect=-0.2, ci_low=-0.3, ci_high=-0.1)
    )
    (curve,) = frames.curves(patterns).to_dict("records")
    assert {name: curve[name] for name in ("x", "observed", "n")} == {name: CURVE[name] for name in ("x", "observed", "n")}
    assert (curve["cut"], curve["cut_low"], curve["cut_high"], curve["decision_point"]) == (0.5, 0.4, 0.6, "draft")
    assert (curve["n_good"], curve["n_bad"], curve["effect"]) == (40, 60, 0.2)
    (term,) = frames.terms(patterns).to_dict("records")
    # The interval is one of standard deviations; the picture shows points, twice as many here.
    assert (term["points"], term["low"], term["high"]) == (-0.4, -0.6, -0.2)
    assert (term["aspect"], term["outcome"], term["share"]) == ("tone", "score", 0.2)


def test_a_curve_without_a_cut_has_none() -> None:
    curve = _pattern("quality_threshold", unit="sd")
    curve["output_characteristics"].iloc[0].update(cut=None, cut_interval=None)
    (found,) = frames.curves(curve).to_dict("records")
    assert np.isnan([found["cut"], found["cut_low"], found["cut_high"]]).all()


def test_patterns_of_a_reader_draw_like_those_of_the_pass() -> None:
    patterns = _patterns(_pattern("quality_threshold"), _pattern("failure_patterns", effect=-0.2), _term("vague"))
    read = [
        {
            "type": row["pattern_type"],
            "input_features": row["input_features"],
            "output_characteristics": row["output_characteristics"],
            "feedback_signals": row["human_feedback_signals"],
            "sample_size": row["n_contents"],
        }
        for row in patterns.to_dict("records")
    ]
    again = frames.published_patterns("drafter", read)
    for of in (frames.curves, frames.contrasts, frames.terms):
        pd.testing.assert_frame_equal(of(again), of(patterns), check_dtype=False)
    empty = frames.published_patterns("drafter", [])
    assert [len(of(empty)) for of in (frames.curves, frames.contrasts, frames.terms)] == [0, 0, 0]


def _segments(agent: str, low: float, high: float, **changes: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"agent_name": agent, "family": ["tone", "tone", "tone x channel"], "segment": ["a", "b", "a x c"], "n": 30}
    )
    value = np.array([low, high, high])
    ends = {"": value, "_raw": value, "_low": value - 0.05, "_high": value + 0.05}
    frame = frame.assign(n_scored=30, **{f"approval{end}": column for end, column in ends.items()})
    return frame.assign(**{f"score{end}": 10 * column for end, column in ends.items()}).assign(**changes)


def test_the_agents_whose_segments_differ_most_are_shown() -> None:
    agents = {f"agent {k}": _segments(f"agent {k}", 0.5 - k / 20, 0.5 + k / 20) for k in range(7)}
    segments = pd.concat(list(agents.values()), ignore_index=True)
    assert most_different_agents(segments) == ["agent 6", "agent 5", "agent 4", "agent 3"]
    scored = segments.assign(**{f"approval{end}": np.nan for end in ("", "_raw", "_low", "_high")})
    assert most_different_agents(scored) == ["agent 6", "agent 5", "agent 4", "agent 3"]
    allocation = pd.DataFrame(
        {"agent_name": list(agents), "family": "tone", "segment": "a", "n": 30, "outputs": 20, "propensity": 1.0}
    )
    states = pd.DataFrame({"agent_name": list(agents), "status": "success", "reason": None})
    outcome = StrategyOutcome("run", {}, segments, allocation, states, pd.DataFrame())
    shown = describe_strategy(outcome)
    pictures = picture_strategy(outcome)["segments of the agents that differ most"].value
    assert pictures.count("data:image/png") == PICTURED_AGENTS
    assert [row["agent_name"] for row in _rows(shown["next allocation"])] == ["agent 6", "agent 5", "agent 4", "agent 3"]
    assert [row["family"] for row in _rows(shown["segments"])] == ["tone"] * 8 + ["tone x channel"] * 4
    assert _rows(shown["parts"]) == [{"part": "strategy", "status": "success", "reason": "", "agents": 7}]


def test_a_strategy_of_nothing_is_shown() -> None:
    segments = _segments("a", 0.5, 0.6).head(0)
    allocation = pd.DataFrame(columns=["agent_name", "family", "segment", "n", "outputs", "propensity"])
    states = pd.DataFrame({"agent_name": ["a"], "status": ["insufficient_data"], "reason": ["8 outputs, 20 needed"]})
    outcome = StrategyOutcome("run", {}, segments, allocation, states, pd.DataFrame())
    shown = describe_strategy(outcome)
    assert picture_strategy(outcome)["segments of the agents that differ most"].value.count("data:image/png") == 1
    assert _rows(shown["parts"])[0]["reason"] == "8 outputs, 20 needed"


def test_recommendations_are_listed_without_ids() -> None:
    recommendations = pd.DataFrame(
        {
            "agent_name": ["b", "a", "a"],
            "rank": [1, 1, 2],
            "identity": ["x", "y", "ask_reviewer_standard | cost | person-1"],
            "kind": "set_threshold",
            "text": ["one", "two", "ask R1"],
            "feature": "cost",
            "confidence": [0.9, 0.95, 0.8],
            "q_value": 0.01,
            "n_contents": 200,
            "n_reviewers": 4,
            "action": [{}, {}, {"kind": "ask_reviewer_standard", "reviewer_id": "person-1"}],
            "conflicts": [[], ["R1 wants the opposite", "R2 too"], []],
        }
    )
    shown = describe_publication(PublishedRun("run", {"feedback_quality_correlations": 7}, recommendations))
    assert [(row["agent_name"], row["text"]) for row in _rows(shown["recommendations"])] == [
        ("a", "two"),
        ("b", "one"),
        ("a", "ask R1"),
    ]
    assert _rows(shown["recommendations"])[0]["conflicts"] == "R1 wants the opposite; R2 too"
    assert shown["agents with a recommendation"] == 2
    assert "person-1" not in str(shown)
