"""Metadata of what follows from the findings: patterns, segments and recommendations as tables and pictures."""

from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.orchestration.learned_columns import (
    ALLOCATION,
    PARTS,
    PATTERN_COUNTS,
    PATTERNS,
    RECOMMENDATIONS,
    SEGMENTS,
)
from feedback_pipeline.orchestration.metadata import MAX_ROWS, plain_facts, table

if TYPE_CHECKING:
    import pandas as pd

    from feedback_pipeline.learning_pass.patterns import PatternOutcome
    from feedback_pipeline.learning_pass.publication import PublishedRun
    from feedback_pipeline.learning_pass.strategy import StrategyOutcome

PICTURED_AGENTS: Final = 4
_ALL_AGENTS: Final = "all agents"
# Beside the counts of the tables, "published" alone would say nothing.
_FINDINGS: Final = {"n_published": "correlations published"}


def describe_patterns(outcome: "PatternOutcome") -> dict[str, Any]:
    """Counts by type, the most certain of the published patterns, and what came of each part; no picture."""
    patterns = outcome.patterns
    return {
        **plain_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(patterns),
        "patterns by type": table(_counts(patterns), PATTERN_COUNTS),
        "parts": table(_parts(outcome.parts), PARTS),
        "patterns": table(_most_certain(patterns[patterns["published"]]), PATTERNS),
    }


def _counts(patterns: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for kind, own in patterns.groupby("pattern_type", sort=True):
        found, reasons = own[own["published"]], own.loc[~own["published"], "reason"].value_counts()
        # Of equally common reasons the first of the alphabet: a picture of the same data is the same.
        commonest = reasons[reasons == reasons.max()].index.min() if len(reasons) else None
        rows.append((kind, len(own), len(found), found["agent_name"].nunique(), commonest))
    return pd.DataFrame(rows, columns=[column.name for column in PATTERN_COUNTS.columns])


def _most_certain(published: "pd.DataFrame") -> "pd.DataFrame":
    """The most certain patterns of every type, as many of each as the table has room for."""
    ordered = published.sort_values(
        ["pattern_type", "confidence", "n_contents", "agent_name", "description"], ascending=[True, False, False, True, True]
    )
    return ordered.groupby("pattern_type").head(MAX_ROWS // max(ordered["pattern_type"].nunique(), 1))


def _parts(parts: "pd.DataFrame") -> "pd.DataFrame":
    """How many agents have which status in each part of decision_patterns."""
    import pandas as pd

    from feedback_pipeline.orchestration.pattern_frames import as_document

    documents = [as_document(document) for document in parts["document"]]
    states = pd.DataFrame(
        {
            "part": parts["part"].to_numpy(),
            "status": [document["status"] for document in documents],
            "reason": [document.get("reason") or "" for document in documents],
        }
    )
    return _counted(states)


def _counted(states: "pd.DataFrame") -> "pd.DataFrame":
    """Agents by part and status, with the reason of one of them: reasons hold the numbers of the agent."""
    by_status = states.groupby(["part", "status"], as_index=False).agg(agents=("reason", "size"), reason=("reason", "min"))
    return by_status.sort_values(["part", "agents", "status"], ascending=[True, False, True])


def picture_patterns(outcome: "PatternOutcome") -> dict[str, Any]:
    """Curves of the thresholds, sizes of the effects, words."""
    from feedback_pipeline.orchestration import pattern_frames as frames
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.effect_pictures import effect_sizes
    from feedback_pipeline.orchestration.term_pictures import term_effects
    from feedback_pipeline.orchestration.threshold_pictures import threshold_curves

    patterns = outcome.patterns
    words = frames.terms(patterns)
    pooled = words[words["agent_name"] == FLEET]
    drawn = {
        "threshold curves": threshold_curves(frames.curves(patterns), "no threshold and no curve was published"),
        "effect sizes": effect_sizes(
            frames.contrasts(patterns), "no difference between approved and other outputs was published"
        ),
        "terms": term_effects(pooled if len(pooled) else words, _ALL_AGENTS, "no word was published"),
    }
    return {name: dg.MetadataValue.md(markdown(png, name)) for name, png in drawn.items()}


def picture_strategy(outcome: "StrategyOutcome") -> dict[str, Any]:
    """A picture of each of the agents whose segments differ most."""
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.segment_pictures import segment_intervals

    segments, nothing = outcome.segments, "no agent has segments to compare"
    shown = most_different_agents(segments)
    pictures = [segment_intervals(segments[segments["agent_name"] == name], name, nothing) for name in shown]
    pictures = pictures or [segment_intervals(segments[:0], _ALL_AGENTS, nothing)]
    text = "\n\n".join(markdown(png, "segments of an agent") for png in pictures)
    return {"segments of the agents that differ most": dg.MetadataValue.md(text)}


def describe_strategy(outcome: "StrategyOutcome") -> dict[str, Any]:
    """Counts, segments and next allocation of the agents whose segments differ most; no picture."""
    segments, states = outcome.segments, outcome.states.assign(part="strategy", reason=outcome.states["reason"].fillna(""))
    shown = most_different_agents(segments)
    own = segments[segments["agent_name"].isin(shown)]
    return {
        **plain_facts(outcome.learning_run_id, outcome.facts),
        "dagster/row_count": len(segments),
        "parts": table(_counted(states), PARTS),
        "next allocation": table(_of(outcome.allocation, shown), ALLOCATION),
        "segments": table(_singles_first(own, shown), SEGMENTS),
    }


def most_different_agents(segments: "pd.DataFrame") -> list[str]:
    """The agents whose segments differ most, beyond what their intervals leave open: at most four, the most different first.

    Args:
        segments: Rows of `strategy.content_strategy`; of single categories alone the difference counts.
    """
    single = segments[~segments["family"].str.contains(" x ", regex=False)]
    by_agent = single.groupby("agent_name", sort=True)
    # Points of a score weigh a tenth: both outcomes then run from 0 to 1.
    approval = by_agent["approval_low"].max() - by_agent["approval_high"].min()
    score = (by_agent["score_low"].max() - by_agent["score_high"].min()) / 10.0
    apart = approval.fillna(score).dropna().sort_values(ascending=False, kind="stable")
    return [str(name) for name in apart.index[:PICTURED_AGENTS]]


def _of(frame: "pd.DataFrame", agents: list[str]) -> "pd.DataFrame":
    """The rows of these agents, in their order."""
    own = frame[frame["agent_name"].isin(agents)]
    return own.sort_values("agent_name", key=lambda names: names.map(agents.index), kind="stable")


def _singles_first(segments: "pd.DataFrame", agents: list[str]) -> "pd.DataFrame":
    """Single categories of all the agents before any pair: the table ends after 100 rows."""
    ordered = _of(segments, agents)
    return ordered.sort_values("family", key=lambda families: families.str.contains(" x ", regex=False), kind="stable")


def describe_publication(outcome: "PublishedRun") -> dict[str, Any]:
    """Counts of what was published, and the recommendations, the best of every agent first."""
    recommendations = outcome.recommendations
    ordered = recommendations.sort_values(["rank", "confidence", "agent_name"], ascending=[True, False, True])
    texts = ["; ".join(conflicts) for conflicts in ordered["conflicts"]]
    return {
        "agents with a recommendation": int(recommendations["agent_name"].nunique()),
        "recommendations": table(ordered.assign(conflicts=texts), RECOMMENDATIONS),
        **plain_facts(outcome.learning_run_id, {_FINDINGS.get(key, key): value for key, value in outcome.facts.items()}),
        "dagster/row_count": outcome.facts["feedback_quality_correlations"],
    }
