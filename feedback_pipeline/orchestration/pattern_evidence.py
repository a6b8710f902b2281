"""What the checks of patterns, segments and recommendations observe: plain counts over data frames, no Dagster."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from feedback_pipeline.orchestration.day_evidence import Evidence

if TYPE_CHECKING:
    import pandas as pd

IDENTITY: Final = ["agent_name", "pattern_type", "description"]
SEGMENT: Final = ["agent_name", "family", "segment"]
LONGEST_TERM: Final = 40
MOST_RECOMMENDED: Final = 10
LARGEST_Q: Final = 0.05
_PROBABILITIES: Final = ("confidence", "q_value", "p_value", "accuracy_rate")
_DOCUMENTS: Final = ("input_features", "output_characteristics", "human_feedback_signals", "sentence")
_ROUNDING: Final = 1e-6
# These rest on the tests of segments, and on what a reviewer wants.
_WITHOUT_PATTERN: Final = ("prefer_category", "ask_reviewer_standard")


def unusable_patterns(patterns: "pd.DataFrame") -> Evidence:
    """Candidates that repeat an identity, leave a range, are published incomplete or withheld without a reason, or leak a text.

    A term must be one lower-case word of letters, which its description begins with: free text of people must not leave Postgres,
    and this is the last look before it would.
    """
    published = patterns["published"].astype(bool)
    bad = {"repeated identities": int(patterns.duplicated(IDENTITY).sum())}
    for name in _PROBABILITIES:
        bad[f"{name} out of range"] = _outside(patterns[name], 0.0, 1.0)
    bad["empty intervals"] = int((patterns["ci_low"] > patterns["ci_high"]).sum())
    bad["published without a value"] = int((published & patterns["effect"].isna()).sum())
    for name in _DOCUMENTS:
        bad[f"published without {name}"] = int((published & patterns[name].isna()).sum())
    bad["withheld without a reason"] = int((~published & patterns["reason"].isna()).sum())
    bad["terms that are no single word"] = _no_words(patterns)
    return _counted(len(patterns), "candidates", bad)


def _no_words(patterns: "pd.DataFrame") -> int:
    of_terms = patterns[patterns["pattern_type"].str.endswith("_terms") | patterns["term"].notna()]
    term = of_terms["term"].astype("str").fillna("")
    word = term.str.isalpha() & (term == term.str.lower()) & (term.str.len() <= LONGEST_TERM)
    named = of_terms["description"].astype("str").str.split(" | ", n=1, regex=False).str[0] == term
    return int((~(word & named)).sum())


def unusable_segments(segments: "pd.DataFrame", allocation: "pd.DataFrame") -> Evidence:
    """Segments that repeat, leave a range or lie outside their interval, and allocations that are no probabilities."""
    bad = {"repeated segments": int(segments.duplicated(SEGMENT).sum())}
    for name in ("approval_raw", "approval", "approval_low", "approval_high"):
        bad[f"{name} out of range"] = _outside(segments[name], -_ROUNDING, 1.0 + _ROUNDING)
    for outcome in ("approval", "score"):
        low, value, high = (segments[f"{outcome}{end}"] for end in ("_low", "", "_high"))
        bad[f"{outcome} outside its interval"] = int(((value < low - _ROUNDING) | (value > high + _ROUNDING)).sum())
    bad["repeated allocations"] = int(allocation.duplicated(SEGMENT).sum())
    bad["propensity out of range"] = _outside(allocation["propensity"], 0.0, 1.0)
    total = allocation.groupby(["agent_name", "family"])["propensity"].sum()
    bad["propensities that do not add up"] = int(((total - 1.0).abs() > _ROUNDING).sum())
    return _counted(len(segments), "segments", bad)


def unusable_recommendations(recommendations: "pd.DataFrame") -> Evidence:
    """Recommendations that repeat, are too many, badly ranked or too uncertain, or say nothing that can be acted on."""
    by_agent = recommendations.groupby("agent_name")["rank"]
    of_patterns = ~recommendations["kind"].isin(_WITHOUT_PATTERN)
    bad = {
        "repeated identities": int(recommendations.duplicated(["agent_name", "identity"]).sum()),
        "agents with too many": int((by_agent.size() > MOST_RECOMMENDED).sum()),
        "ranks that are not 1, 2, ...": int((by_agent.rank(method="first") != recommendations["rank"]).sum()),
        "confidence out of range": _outside(recommendations["confidence"], 0.0, 1.0),
        "q_value above .05": int((~(recommendations["q_value"] <= LARGEST_Q)).sum()),
        "without a text": _empty(recommendations["text"]),
        "without a pattern": int((of_patterns & ~recommendations["pattern_keys"].map(bool)).sum()),
        "without an output": int((recommendations["n_contents"] < 1).sum()),
        "without an action": sum(not (action or {}).get("kind") for action in recommendations["action"]),
    }
    return _counted(len(recommendations), "recommendations", bad)


def _outside(values: "pd.Series", low: float, high: float) -> int:
    return int(((values < low) | (values > high)).sum())


def _empty(texts: Iterable[object]) -> int:
    return sum(not (isinstance(text, str) and text.strip()) for text in texts)


def _counted(size: int, what: str, bad: dict[str, int]) -> Evidence:
    return Evidence(sum(bad.values()), 0, {what: size, **{name: count for name, count in bad.items() if count}})
