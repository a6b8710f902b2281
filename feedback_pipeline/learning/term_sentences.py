"""Words that go with good or bad judgements, in plain words."""

from collections.abc import Mapping
from typing import Any, Final

from feedback_pipeline.learning.features import DECISION, OVERALL
from feedback_pipeline.learning.pattern_frame import COMMENT_TERMS, ISSUE_TERMS, REASONING_TERMS

SOURCES: Final = {REASONING_TERMS: "reasoning", COMMENT_TERMS: "comment", ISSUE_TERMS: "issue"}


def term_description(kind: str, term: str, aspect: str | None, stage: str | None, decision_point: str | None) -> str:
    """The identity of a term pattern, without numbers."""
    parts = [term, SOURCES[kind]]
    if kind != REASONING_TERMS:
        parts.append(f"aspect={aspect or DECISION}")
    parts += [f"{key}={value}" for key, value in (("stage", stage), ("decision_point", decision_point)) if value is not None]
    return " | ".join(parts)


def term_sentence(row: Mapping[str, Any]) -> str:
    """What documents with the term are judged like, with the interval and what it rests on.

    Args:
        row: pattern_type, term, aspect, judged (the aspect whose score it is, None = approval), stage, decision_point, points,
            points_low, points_high, n_with, n_documents, n_reviewers.
    """
    size = f"{row['n_with']:,} of {row['n_documents']:,}"
    if row["pattern_type"] == REASONING_TERMS:
        at = "" if row["decision_point"] is None else f" at {row['decision_point']}"
        return f'outputs whose reasoning{at} says "{row["term"]}" {_effect(row)}, {size} outputs'
    stage = "" if row["stage"] is None else f" of stage {row['stage']}"
    where = "comment says" if row["pattern_type"] == COMMENT_TERMS else f"issues of {row['aspect']} say"
    return f'reviews{stage} whose {where} "{row["term"]}" {_effect(row)}, {size} reviews, {row["n_reviewers"]:,} reviewers'


def _effect(row: Mapping[str, Any]) -> str:
    points = [row["points"], row["points_low"], row["points_high"]]
    if row["judged"] is None:
        effect, low, high = (f"{100 * value:.0f}" for value in points)
        return f"have approval {'+' if points[0] > 0 else ''}{effect} points [{low}, {high}]"
    effect, low, high = (f"{value:.2f}" for value in points)
    of = "" if row["judged"] == OVERALL else f" in {row['judged']}"
    return f"score {'+' if points[0] > 0 else ''}{effect} points [{low}, {high}]{of}"
