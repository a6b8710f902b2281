"""The picture of the words: which of them go with better and with worse outputs, and how common they are."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.orchestration.drawing import (
    BAD,
    GOOD,
    INK,
    MUTED,
    SHORT_LABEL,
    as_png,
    bare,
    counts_at_the_right,
    drawable,
    label,
    new_figure,
    sentence_alone,
)
from feedback_pipeline.orchestration.plain_text import text_or_nothing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_TERMS: Final = 10  # on either side of a panel
_ROW: Final = 0.22  # inches
_HEAD: Final = 0.85
SOURCES: Final = {
    "reasoning_terms": "in the reasoning of the agent",
    "comment_terms": "in the comments of the reviewers",
    "issue_terms": "in the issues named by the reviewers",
}
_UNITS: Final = {"score": "score points", "approval": "percentage points of approval"}


def term_effects(terms: "pd.DataFrame", whose: str, nothing: str) -> bytes:
    """Two-sided bars, a panel for each kind of text: words that go with better outputs to the right, worse to the left.

    Args:
        terms: Rows of `pattern_frames.terms`; of a panel the 10 surest of either side.
        whose: Whose words they are.
        nothing: Why there is none, said where there is none.

    Returns:
        A PNG.
    """
    import numpy as np

    known = terms[np.isfinite(drawable(terms["points"])) & (terms["points"] != 0)]
    panels = [(source, *_strongest(known[known["source"] == source])) for source in SOURCES]
    drawn = [(source, shown, total) for source, shown, total in panels if len(shown)]
    if not drawn:
        return sentence_alone(nothing)
    several = known["agent_name"].nunique() > 1
    heights = [_HEAD + _ROW * len(shown) for _, shown, _ in drawn]
    figure = new_figure(8.5, 0.55 + sum(heights))
    axes = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=heights).ravel()
    for panel, (source, shown, total) in zip(axes, drawn, strict=True):
        _bars(panel, shown, several=several)
        rest = f", {len(shown)} of {total}" if len(shown) < total else ""
        panel.set_title(f"{SOURCES[source]}{rest}", fontsize=8.5, loc="left", color=INK, pad=14)
    title = f"Words that go with better (right) and worse (left) outputs, with 95 % intervals: {label(whose)}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _strongest(terms: "pd.DataFrame") -> "tuple[pd.DataFrame, int]":
    """The rows of a panel, best first, and how many there were: a word once on either side, one outcome in one panel."""
    import numpy as np
    import pandas as pd

    if terms.empty:
        return terms, 0
    # Points of a score and points of approval have no common axis: the commoner outcome is drawn.
    outcome = terms["outcome"].value_counts().sort_index(ascending=False).idxmax()
    own = terms[terms["outcome"] == outcome]
    # The end of the interval next to 0: a rare word must not lead for a large but loose effect.
    sure = own["points"].abs() - (own["high"] - own["low"]).fillna(np.inf) / 2
    order = own.assign(size=-sure, good=own["points"] > 0).sort_values(
        ["size", "term", "agent_name", "aspect", "stage", "decision_point"]
    )
    once = order.drop_duplicates(["term", "good"])
    kept = pd.concat([once[once["good"]].head(MAX_TERMS), once[~once["good"]].head(MAX_TERMS)])
    return kept.sort_values(["points", "term"], ascending=[False, True], ignore_index=True), len(once)


def _bars(axes: "Axes", shown: "pd.DataFrame", *, several: bool) -> None:
    import numpy as np

    y = np.arange(len(shown), dtype=float)
    outcome = shown["outcome"].iloc[0]
    scale = 100.0 if outcome == "approval" else 1.0
    points, low, high = (scale * drawable(shown[name]) for name in ("points", "low", "high"))
    axes.barh(y, points, height=0.62, color=np.where(points > 0, GOOD, BAD), alpha=0.75)
    axes.hlines(y, low, high, color=INK, linewidth=0.9)
    axes.axvline(0, color=INK, linewidth=0.9)
    most = float(np.nanmax(np.abs(np.concatenate([points, low, high]))))
    axes.set_xlim(-1.06 * most, 1.06 * most)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    bare(axes)
    names = [_name(row, several=several) for row in shown.to_dict("records")]
    axes.set_yticks(y, names, fontsize=7.5, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(_UNITS.get(outcome, "points"), fontsize=7.5, color=MUTED)
    counts_at_the_right(axes, y, shown["share"].map(_share), "of the texts", above=2.0)


def _share(share: float) -> str:
    if share != share:
        return ""
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"


def _name(row: "dict[Any, Any]", *, several: bool) -> str:
    """The word, and in which list it stands."""
    who = [("all agents" if row["agent_name"] == FLEET else label(row["agent_name"], 20))] if several else []
    lists = [label(row[key], 20) for key in ("aspect", "stage", "decision_point") if text_or_nothing(row[key])]
    return f"{label(row['term'], SHORT_LABEL)}{''.join(f' · {part}' for part in [*lists, *who])}"
