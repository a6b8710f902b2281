"""What is published of one agent as data frames: the rows of the tables and pictures of its report."""

from typing import TYPE_CHECKING, Final

from feedback_pipeline.orchestration.learned_columns import ALLOCATION, CORRELATIONS, REPORT, SEGMENTS

if TYPE_CHECKING:
    import pandas as pd

    from feedback_pipeline.orchestration.agent_documents import AgentDocuments, Document

_POINTS: Final = {"share": ("points", 100.0, ".0f"), "points": ("points", 1.0, ".2g")}


def recommended(agent: "AgentDocuments") -> "pd.DataFrame":
    """The recommendations in the columns of the report, in their order."""
    import pandas as pd

    rows = [
        {
            "rank": found["rank"],
            "text": found["text"],
            "expected effect": _expected(found["expected_effect"] or {}),
            "confidence": found["confidence"],
            "q_value": found["q_value"],
            "evidence": _evidence(found["evidence"] or {}),
            "conflicts": "; ".join(found["conflicts"] or []),
        }
        for found in agent.improvements["recommendations"]
    ]
    return pd.DataFrame(rows, columns=[column.name for column in REPORT.columns])


def _expected(effect: "Document") -> str:
    """'approval +23 points [14, 31]'; nothing where there is no value."""
    value, ci, outcome = effect.get("value"), effect.get("ci"), effect.get("outcome")
    if value is None or outcome is None:
        return ""
    word, scale, digits = _POINTS.get(str(effect.get("unit")), (str(effect.get("unit") or ""), 1.0, ".2g"))
    interval = f" [{', '.join(format(scale * end, digits) for end in ci)}]" if ci and None not in ci else ""
    return f"{outcome} {format(scale * value, '+' + digits)} {word}{interval}"


def _evidence(evidence: "Document") -> str:
    """'852 outputs, 12 reviewers, 2026-05-01 to 2026-06-30'."""
    window = evidence.get("window") or {}
    first, last = window.get("first"), window.get("last")
    days = [f"{first} to {last}" if first else f"up to {last}"] if last else []
    counts = [
        f"{evidence[key]:,} {word}" for key, word in (("n_contents", "outputs"), ("n_reviewers", "reviewers")) if key in evidence
    ]
    return ", ".join([*counts, *days])


def findings_of(agent: "AgentDocuments") -> "pd.DataFrame":
    """The published correlations, strongest first."""
    import pandas as pd

    columns = [column.name for column in CORRELATIONS.columns]
    frame = pd.DataFrame(agent.findings["findings"], columns=[*columns, "sentence"]).assign(agent_name=agent.agent_name)
    return frame.assign(published=frame["published"].astype(bool))


def patterns_of(agent: "AgentDocuments") -> "pd.DataFrame":
    """The published patterns, most certain first, in the columns of decision_patterns."""
    import pandas as pd

    from feedback_pipeline.orchestration.pattern_frames import published_patterns

    listed = agent.patterns["patterns"]
    numbers = [pattern["output_characteristics"] or {} for pattern in listed]
    signals = [pattern["feedback_signals"] or {} for pattern in listed]
    texts = pd.DataFrame(
        {
            "description": [pattern["description"] for pattern in listed],
            "sentence": [pattern["sentence"] for pattern in listed],
            "confidence": [pattern["confidence"] for pattern in listed],
            "unit": [number.get("unit") for number in numbers],
            "q_value": [number.get("q_value") for number in numbers],
            "n_reviewers": [signal.get("n_reviewers") for signal in signals],
        }
    )
    return pd.concat([published_patterns(agent.agent_name, listed), texts], axis=1)


def segments_of(agent: "AgentDocuments") -> "pd.DataFrame":
    """The segments in the columns of content_strategy, single categories before pairs."""
    import pandas as pd

    columns = [column.name for column in SEGMENTS.columns]
    frame = pd.DataFrame(agent.strategy["segments"], columns=columns).assign(agent_name=agent.agent_name)
    frame = frame.astype(
        {name: float for name in columns if name.startswith(("approval", "score"))} | {"n": int, "n_scored": int}
    )
    pairs = frame["family"].astype("str").str.contains(" x ", regex=False)
    return pd.concat([frame[~pairs], frame[pairs]], ignore_index=True)


def allocation_of(agent: "AgentDocuments") -> "pd.DataFrame":
    """The next batch of outputs by category and level."""
    import pandas as pd

    rows = [
        {"agent_name": agent.agent_name, "family": family} | level
        for family, levels in agent.strategy["allocation"].items()
        for level in levels
    ]
    return pd.DataFrame(rows, columns=[column.name for column in ALLOCATION.columns])
