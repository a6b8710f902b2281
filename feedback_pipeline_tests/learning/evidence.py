"""Evidence made by hand: what a learning run could have found of one agent, one piece at a time."""

import json
from dataclasses import replace
from typing import Any

import pandas as pd

from feedback_pipeline.learning.pattern_frame import documents, pattern_frame
from feedback_pipeline.learning.recommendation_supports import Learned

AGENT = "writer"


def nothing() -> Learned:
    """An agent of whom nothing was found."""
    return Learned(
        agents=[AGENT],
        findings=pd.DataFrame(
            columns=[
                *("agent_name", "feature", "aspect", "r", "r_shrunk", "ci_low", "ci_high", "p_value", "confidence", "n_contents"),
                *("n_reviewers", "scope", "published", "feature_range"),
            ]
        ).astype(dict.fromkeys(("r", "r_shrunk", "p_value", "confidence"), float)),
        spreads=pd.DataFrame(
            {"agent_name": [AGENT] * 2, "aspect": ["clarity", "tone_fit"], "mean": 6.0, "sd": 1.0, "n_scored": 400}
        ),
        patterns=pattern_frame({}, 0),
        term_tests=pd.DataFrame({"agent_name": [], "pattern_type": [], "p_value": []}).astype({"p_value": float}),
        segments=pd.DataFrame(
            columns=[
                *("agent_name", "family", "segment", "n", "approval_raw", "approval", "approval_low", "approval_high"),
                *("n_scored", "score_raw", "score", "score_low", "score_high"),
            ]
        ),
        segment_tests=pd.DataFrame(
            columns=["agent_name", "family", "segment", "r", "p_value", "confidence", "n", "n_others", "n_reviewers", "outcome"]
        ).astype({"r": float, "p_value": float}),
        pairs=pd.DataFrame(columns=["agent_name", "feature", "other", "rho"]),
        shares=pd.DataFrame(columns=["agent_name", "reviewer_id", "n", "share"]),
        models=pd.DataFrame({"reviewer_id": ["anna", "ben"], "style_preferences": '{"slopes": {}, "unit": null}'}),
    )


def and_finding(learned: Learned, feature: str, r: float, aspect: str = "clarity", **given: Any) -> Learned:
    """The same with a published correlation, its interval .1 to either side."""
    shape = {"min": None, "max": None, "best": None, "p5": 1.0, "p50": 5.0, "p95": 9.0, "shape": "rising" if r > 0 else "falling"}
    row = {
        **{
            "agent_name": AGENT,
            "feature": feature,
            "aspect": aspect,
            "r": r,
            "r_shrunk": r,
            "ci_low": r - 0.1,
            "ci_high": r + 0.1,
        },
        **{"p_value": 1e-6, "confidence": 0.99},
        **{"n_contents": 400, "n_reviewers": 20, "scope": "reviewers in general"},
        **{"published": True, "feature_range": json.dumps(shape | given.pop("range", {}))},
    }
    return replace(learned, findings=_appended(learned.findings, row | given))


def and_threshold(learned: Learned, feature: str, cut: float, direction: float = 1.0, **given: Any) -> Learned:
    """The same with a published threshold: 61 % below, 84 % above."""
    row = {
        **{"agent_name": AGENT, "pattern_type": "quality_threshold", "feature": feature, "direction": direction},
        **{
            "description": f"{feature} | threshold",
            "effect": 0.23,
            "se": 0.04,
            "ci_low": 0.14,
            "ci_high": 0.31,
            "unit": "approval",
            "cut": cut,
        },
        **{
            "p_value": 1e-6,
            "q_value": 1e-5,
            "confidence": 0.99,
            "gain": 0.2,
            "n_contents": 852,
            "n_reviewers": 20,
            "published": True,
        },
    } | given
    shown = {"cut": cut, "cut_interval": [cut - 0.05, cut + 0.05], "good_rate": 0.84, "bad_rate": 0.61}
    return _and_pattern(learned, row, characteristics=shown, signals={"n_good": 640, "n_bad": 212})


def and_contrast(learned: Learned, feature: str, g: float, **given: Any) -> Learned:
    """The same with a published contrast between 200 approved and 200 other outputs."""
    kind = "successful_decisions" if g > 0 else "failure_patterns"
    row = {
        **{"agent_name": AGENT, "pattern_type": kind, "feature": feature, "direction": 1.0 if g > 0 else -1.0, "unit": "sd"},
        **{"description": f"{feature} | approved v other", "effect": g, "se": 0.1, "ci_low": g - 0.2, "ci_high": g + 0.2},
        **{"p_value": 1e-6, "q_value": 1e-5, "confidence": 0.99, "n_contents": 400, "n_reviewers": 20, "published": True},
    } | given
    shown = {"hedges_g": g, "mean_approved": 5.0 + g, "mean_other": 5.0}
    return _and_pattern(learned, row, characteristics=shown, signals={"n_approved": 200, "n_other": 200})


def and_term(learned: Learned, term: str, effect: float, kind: str = "reasoning_terms", **given: Any) -> Learned:
    """The same with a published word that 60 of 400 documents have."""
    row = {
        **{"agent_name": AGENT, "pattern_type": kind, "term": term, "direction": 1.0 if effect > 0 else -1.0, "unit": "sd"},
        **{"description": f"{term} | reasoning", "effect": effect, "se": 0.1, "ci_low": effect - 0.2, "ci_high": effect + 0.2},
        **{
            "p_value": 1e-6,
            "q_value": 1e-5,
            "confidence": 0.99,
            "gain": 0.15 * abs(effect),
            "n_contents": 400,
            "published": True,
        },
    } | given
    shown = {"points": 1.2 * effect, "share": 0.15}
    made = _and_pattern(
        learned,
        row,
        characteristics=shown,
        signals={"n_documents": 400, "n_with": 60, "outcome": "score", "scored_aspect": row.get("aspect") or "overall"},
    )
    tests = _appended(learned.term_tests, {"agent_name": AGENT, "pattern_type": kind, "p_value": row["p_value"]})
    return replace(made, term_tests=tests)


def and_segment(learned: Learned, family: str, level: str, r: float, **given: Any) -> Learned:
    """The same with a tested category: 150 outputs, score 6.6 [6.3, 6.9] beside 6.0 of the other 250."""
    test = {
        **{"agent_name": AGENT, "family": family, "segment": level, "r": r, "p_value": 1e-6, "confidence": 0.99, "n": 150},
        **{"n_others": 250, "n_reviewers": 20, "outcome": "score"},
    }
    own = {
        **{"agent_name": AGENT, "family": family, "segment": level, "n": 150, "approval_raw": 0.7, "approval": 0.66},
        **{"approval_low": 0.6, "approval_high": 0.72, "n_scored": 150, "score_raw": 6.7, "score": 6.6, "score_low": 6.3},
        "score_high": 6.9,
    }
    other = own | {"segment": f"not {level}", "n": 250, "n_scored": 250, "score_raw": 6.0, "score": 6.0, "approval_raw": 0.5}
    segments = _appended(_appended(learned.segments, own), other)
    return replace(learned, segment_tests=_appended(learned.segment_tests, test | given), segments=segments)


def _and_pattern(learned: Learned, row: dict[str, Any], **documented: Any) -> Learned:
    whole = pattern_frame({name: [value] for name, value in row.items()}, 1)
    made = documents(whole.iloc[0].to_dict(), inputs={}, **documented)
    whole = whole.assign(**{name: [json.dumps(document)] for name, document in made.items()})
    return replace(learned, patterns=whole if learned.patterns.empty else pd.concat([learned.patterns, whole], ignore_index=True))


def _appended(frame: pd.DataFrame, row: dict[str, Any]) -> pd.DataFrame:
    added = pd.DataFrame([row])
    return added if frame.empty else pd.concat([frame, added], ignore_index=True)
