"""The page of one agent, in Markdown: everything that is known of it, from what to do down to why.

Belongs here: what stands on the page, in which order. Does not belong here: how anything is drawn (*_pictures), and where it is
read (agent_documents).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from feedback_pipeline.orchestration.agent_frames import allocation_of, findings_of, recommended, segments_of
from feedback_pipeline.orchestration.plain_text import escaped, markdown_table

if TYPE_CHECKING:
    from feedback_pipeline.orchestration.agent_documents import AgentDocuments

MAX_FINDINGS: Final = 24
MAX_RULES: Final = 10
_NO_PICTURE: Final = "decision_rule"


def page(agent: "AgentDocuments") -> str:
    """The page; what there is nothing of says why."""
    sections = [*_state(agent), *_recommendations(agent), *_patterns(agent), *_correlations(agent), *_strategy(agent)]
    return "\n\n".join(sections)


def _state(agent: "AgentDocuments") -> Iterator[str]:
    state, window = agent.patterns, agent.findings["window"]
    yield f"# {escaped(agent.agent_name)}"
    reason = f": {escaped(state['reason'])}" if state["reason"] else ""
    yield f"**{escaped(state['status'])}**{reason}"
    days = f"{window['first'] or 'the beginning'} to {window['last'] or 'no review'}"
    counts = f"{agent.findings['n_contents']:,} outputs, {agent.findings['n_reviewers']:,} reviewers, {days}"
    yield escaped(f"{counts}; learning run {state['learning_run_id']}")
    parts = [(name, part.get("status"), part.get("published"), part.get("reason")) for name, part in state["parts"].items()]
    yield markdown_table(["part", "status", "published", "reason"], parts)


def _recommendations(agent: "AgentDocuments") -> Iterator[str]:
    yield "## What to do"
    found = recommended(agent)
    if found.empty:
        yield escaped(f"No recommendation: {agent.reason('recommendations')}.")
    else:
        yield markdown_table([str(column) for column in found.columns], found.itertuples(index=False))


def _patterns(agent: "AgentDocuments") -> Iterator[str]:
    from feedback_pipeline.orchestration import pattern_frames as frames
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.effect_pictures import effect_sizes
    from feedback_pipeline.orchestration.term_pictures import term_effects
    from feedback_pipeline.orchestration.threshold_pictures import threshold_curves

    listed = agent.patterns["patterns"]
    patterns, nothing = frames.published_patterns(agent.agent_name, listed), agent.reason("decisions")
    yield "## Thresholds"
    yield markdown(threshold_curves(frames.curves(patterns), f"no threshold: {nothing}"), "threshold curves")
    rules = [(rule["sentence"], rule["confidence"]) for rule in listed if rule["type"] == _NO_PICTURE]
    if rules:
        yield markdown_table(["rule", "confidence"], rules[:MAX_RULES])
    yield "## Approved and other outputs"
    yield markdown(effect_sizes(frames.contrasts(patterns), f"no difference: {nothing}"), "effect sizes")
    yield "## Words"
    yield markdown(term_effects(frames.terms(patterns), agent.agent_name, f"no word: {agent.reason('terms')}"), "terms")


def _correlations(agent: "AgentDocuments") -> Iterator[str]:
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.effect_pictures import correlation_intervals

    yield "## Features and scores"
    found = findings_of(agent)
    yield markdown(correlation_intervals(found, f"no correlation: {agent.reason('correlations')}"), "correlations")
    if len(found):
        shown = found.head(MAX_FINDINGS)[["feature", "aspect", "r", "ci_low", "ci_high", "q_value", "n_contents", "sentence"]]
        yield markdown_table(["feature", "aspect", "r", "from", "to", "q", "outputs", "in words"], shown.itertuples(index=False))


def _strategy(agent: "AgentDocuments") -> Iterator[str]:
    from feedback_pipeline.orchestration.drawing import markdown
    from feedback_pipeline.orchestration.segment_pictures import segment_intervals

    yield "## Segments and the next allocation"
    nothing = f"no segments: {agent.strategy['reason'] or agent.reason('strategy')}"
    yield markdown(segment_intervals(segments_of(agent), agent.agent_name, nothing), "segments")
    allocation = allocation_of(agent)
    if len(allocation):
        shown = allocation[["family", "segment", "n", "outputs", "propensity"]]
        yield markdown_table(
            ["category", "level", "outputs so far", "of the next batch", "chance"], shown.itertuples(index=False)
        )
