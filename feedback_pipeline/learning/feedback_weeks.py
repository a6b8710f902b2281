"""What people said by agent and week: a count of what is there, nothing estimated."""

from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.panel import Floats, Panel, output_means, output_outcomes, overall_scores

OVERALL: Final = "overall"


def feedback_weeks(panel: Panel, bounds: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Reviews, approvals and scores of every agent and ISO week that has any, by agent and week.

    A review belongs to the week it was given in, an output with its outcome and its scores to the week of its first review.

    Args:
        panel: Deduplicated reviews.
        bounds: (low, high) by aspect, "*" for the rest.

    Returns:
        agent_name, week (its Monday), reviews, reviewers (known ones), outputs, decided (outputs with a decision), approved
        (outputs that more than half of their decisions approve), approval_rate (None = nothing decided), scores {aspect or
        overall: mean over the outputs that have one}, in raw points.
    """
    week = _mondays(panel.reviews["reviewed_at"])
    overall = overall_scores(panel.scores, panel.aspects, bounds)
    names = [*panel.aspects, OVERALL]
    means = output_means(np.column_stack([panel.scores, overall]), panel.review_output, len(panel.outputs))
    first = pd.Series(week).groupby(panel.review_output).min().reindex(range(len(panel.outputs)))
    outcome = output_outcomes(panel)
    outputs = pd.DataFrame({"agent": panel.output_agent, "week": first.to_numpy(), "decided": ~np.isnan(outcome)})
    outputs["approved"] = np.nan_to_num(outcome)
    given = pd.DataFrame({"agent": panel.review_agent, "week": week, "reviewer": panel.review_reviewer})
    given["reviewer"] = given["reviewer"].where(given["reviewer"] >= 0)
    keys = ["agent", "week"]
    reviews = given.groupby(keys).agg(reviews=("week", "size"), reviewers=("reviewer", "nunique"))
    made = outputs.groupby(keys).agg(outputs=("decided", "size"), decided=("decided", "sum"), approved=("approved", "sum"))
    scored = pd.DataFrame(means, columns=names).groupby([outputs["agent"], outputs["week"]]).mean()
    whole = reviews.join(made).join(scored.add_prefix("score:"))
    counts = whole[["reviews", "reviewers", "outputs", "decided", "approved"]].fillna(0).astype(np.int64)
    return [
        {"agent_name": str(panel.agents[agent]), "week": pd.Timestamp(monday).date().isoformat()}
        | dict(zip(counts.columns, numbers, strict=True))
        | {"approval_rate": numbers[4] / numbers[3] if numbers[3] else None, "scores": _defined(names, scores)}
        for (agent, monday), numbers, scores in zip(
            whole.index, counts.to_numpy().tolist(), whole.filter(like="score:").to_numpy(dtype=np.float64), strict=True
        )
    ]


def _mondays(moments: pd.Series) -> "np.ndarray[tuple[int], np.dtype[np.datetime64]]":
    days = moments.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[D]")
    # 1970 began on a Thursday.
    mondays: np.ndarray[tuple[int], np.dtype[np.datetime64]] = days - ((days.astype(np.int64) + 3) % 7).astype("timedelta64[D]")
    return mondays


def _defined(names: list[str], values: Floats) -> dict[str, float]:
    return {name: value for name, value in zip(names, values.tolist(), strict=True) if not np.isnan(value)}
