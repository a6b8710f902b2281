"""Pictures of the reviewers for the metadata of preference_models. Reviewers are numbers here: R1, R2, ... and never an id."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import OVERALL
from feedback_pipeline.orchestration.drawing import (
    BAND,
    BAR,
    INK,
    MAX_REASON,
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
from feedback_pipeline.orchestration.reviewer_frames import rank

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    Floats = np.ndarray[Any, np.dtype[np.float64]]

MAX_REVIEWERS: Final = 60
MAX_ASPECTS: Final = 24
MAX_DRIFTED: Final = 12
_Z: Final = 1.96
_ROW: Final = 0.165  # inches
_GAP: Final = 2.0  # rows left free where reviewers are not shown


def severity_caterpillar(severities: "pd.DataFrame") -> bytes:
    """Overall severity of every reviewer with its 95 % interval, strictest at the top; of more than 60 the two ends.

    Args:
        severities: reviewer, aspect, severity, se, n_reviews, comparable, method, reason.

    Returns:
        A PNG.
    """
    import numpy as np

    from feedback_pipeline.learning.severity import NOT_ESTIMATED

    estimated = severities[(severities["aspect"] == OVERALL) & (severities["method"] != NOT_ESTIMATED)]
    own = estimated[np.isfinite(drawable(estimated["severity"]))].sort_values(["severity", "reviewer"], ignore_index=True)
    if own.empty:
        reasons = severities.loc[severities["aspect"] == OVERALL, "reason"].dropna()
        return sentence_alone(f"no severity could be estimated: {reasons.iloc[0] if len(reasons) else 'no scores'}")
    shown, y = _both_ends(own)
    figure = new_figure(8.5, 1.5 + _ROW * (y[-1] + 1))
    axes = figure.add_subplot()
    value, margin = drawable(shown["severity"]), _Z * drawable(shown["se"])
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.hlines(y, value - margin, value + margin, color=BAR, linewidth=1.4)
    filled = shown["comparable"].to_numpy(bool)
    axes.scatter(value, y, s=20, c=np.where(filled, INK, "white"), edgecolors=INK, linewidths=0.9, zorder=3)
    _name_reviewers(axes, shown, y, hidden=len(own) - len(shown))
    counts_at_the_right(axes, y, shown["n_reviews"], "reviews")
    axes.set_xlabel(
        "← stricter        points more than the average reviewer gives        more generous →", fontsize=8, color=MUTED
    )
    figure.suptitle(_severity_title(shown, len(own)), x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _severity_title(shown: "pd.DataFrame", total: int) -> str:
    title = f"Severity of {_reviewers(total)}, overall, with 95 % intervals"
    method, reason = shown["method"].iloc[0], shown["reason"].iloc[0]
    lines = [title, f"method: {method}" + (f" ({label(reason, MAX_REASON)})" if isinstance(reason, str) else "")]
    if not shown["comparable"].all():
        lines.append("white: cannot be compared with most of the others")
    return "\n".join(lines)


def _reviewers(count: int) -> str:
    return f"{count:,} reviewer{'' if count == 1 else 's'}"


def _both_ends(own: "pd.DataFrame") -> "tuple[pd.DataFrame, Floats]":
    """The rows to show, in the order of `own`, and their places from the top down."""
    import numpy as np
    import pandas as pd

    if len(own) <= MAX_REVIEWERS:
        return own, np.arange(len(own), dtype=float)
    half = MAX_REVIEWERS // 2
    y = np.arange(MAX_REVIEWERS, dtype=float)
    return pd.concat([own.head(half), own.tail(half)]), y + _GAP * (y >= half)


def _name_reviewers(axes: "Axes", shown: "pd.DataFrame", y: "Floats", *, hidden: int) -> None:
    axes.set_ylim(y[-1] + 0.8, -0.8)
    bare(axes)
    axes.set_yticks(y, [f"R{number}" for number in shown["reviewer"]], fontsize=7, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=BAND, linewidth=0.6)
    axes.set_axisbelow(True)
    if hidden:
        middle = MAX_REVIEWERS // 2 - 0.5 + _GAP / 2
        axes.annotate(
            f"{_reviewers(hidden)} between",
            (0.01, middle),
            xycoords=("axes fraction", "data"),
            fontsize=7.5,
            color=MUTED,
            va="center",
        )


def quality_standards(standards: "pd.DataFrame") -> bytes:
    """From which overall score on a reviewer approves every second output (s50) and four of five (s80), strictest at the top.

    Above it the same for the reviewers together, by aspect.

    Args:
        standards: reviewer, aspect, s50, s80, se, censored.

    Returns:
        A PNG.
    """
    import numpy as np

    known = standards[np.isfinite(drawable(standards["s50"])) & np.isfinite(drawable(standards["s80"]))]
    own = known[known["aspect"] == OVERALL].sort_values(["s50", "reviewer"], ascending=[False, True], ignore_index=True)
    if own.empty:
        reasons = standards.loc[standards["aspect"] == OVERALL, "reason"].dropna()
        return sentence_alone(
            f"no standard could be estimated: {reasons.iloc[0] if len(reasons) else 'no decisions with a score'}"
        )
    shown, y = _both_ends(own)
    aspects = sorted(known["aspect"].unique(), key=rank)
    heights = [0.5 + 0.27 * min(len(aspects), MAX_ASPECTS), 0.5 + _ROW * (y[-1] + 1)]
    figure = new_figure(8.5, 0.9 + sum(heights))
    above, below = figure.subplots(2, 1, height_ratios=heights)
    _population(above, known, aspects)
    _dumbbells(below, shown, y)
    _name_reviewers(below, shown, y, hidden=len(own) - len(shown))
    title = f"Quality standards of {_reviewers(len(own))}: the score at which half (dark) and four of five (blue) are approved"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _dumbbells(axes: "Axes", shown: "pd.DataFrame", y: "Floats") -> None:
    s50, s80, margin = drawable(shown["s50"]), drawable(shown["s80"]), _Z * drawable(shown["se"])
    axes.hlines(y, s50, s80, color=BAR, linewidth=3.5, alpha=0.35)
    axes.hlines(y, s50 - margin, s50 + margin, color=INK, linewidth=0.8)
    axes.scatter(s80, y, s=20, color=BAR, zorder=3)
    censored = shown["censored"].fillna("").to_numpy()
    for state, marker in (("", "o"), ("all approved", "<"), ("none approved", ">")):
        those = censored == state
        axes.scatter(s50[those], y[those], s=20 if marker == "o" else 34, color=INK, marker=marker, zorder=4)
    title = "overall, by reviewer [points]; line: 95 % interval of the dark mark"
    if (censored != "").any():
        title += "\n◂ approved everything, the standard is there or lower; ▸ nothing, it is there or higher"
    axes.set_title(title, fontsize=8.5, loc="left", color=INK)


def _population(axes: "Axes", known: "pd.DataFrame", aspects: list[str]) -> None:
    """Median and middle 80 % of the reviewers, per aspect."""
    import numpy as np

    total, aspects = len(aspects), aspects[-MAX_ASPECTS:]
    for place, (column, colour) in enumerate((("s50", INK), ("s80", BAR))):
        by_aspect = known.groupby("aspect")[column]
        low, middle, high = (by_aspect.quantile(q).reindex(aspects).to_numpy(float) for q in (0.1, 0.5, 0.9))
        y = np.arange(len(aspects)) + 0.3 * place - 0.15
        axes.hlines(y, low, high, color=colour, linewidth=1.2)
        axes.scatter(middle, y, s=18, color=colour, zorder=3)
    bare(axes)
    axes.set_yticks(np.arange(len(aspects)), [label(name, SHORT_LABEL) for name in aspects], fontsize=7, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(aspects) - 0.4, -0.6)
    rest = f", {len(aspects)} of {total} aspects" if len(aspects) < total else ""
    axes.set_title(f"by aspect: median and middle 80 % of the reviewers [points]{rest}", fontsize=8.5, loc="left", color=INK)


def severity_by_month(months: "pd.DataFrame", drifted: "list[int]") -> bytes:
    """Small multiples: overall severity by month of the reviewers whose severity changes, with 95 % intervals.

    Args:
        months: reviewer, month ('2026-03'), severity, ci_low, ci_high.
        drifted: Reviewers to draw, clearest change first; of more than 12 the first.

    Returns:
        A PNG.
    """
    import numpy as np

    known = months[months["reviewer"].isin(drifted[:MAX_DRIFTED]) & np.isfinite(drawable(months["severity"]))]
    if known.empty:
        return sentence_alone("no reviewer's severity is known to change")
    first = known["month"].min()
    own, drawn = known.assign(place=_months_since(known["month"], first)), drifted[:MAX_DRIFTED]
    across = min(4, len(drawn))
    down = -(-len(drawn) // across)
    figure = new_figure(1.2 + 2.6 * across, 0.9 + 1.7 * down)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for place, (axes, reviewer) in enumerate(zip(panels, drawn, strict=False)):
        _months_of(axes, own[own["reviewer"] == reviewer], reviewer)
        axes.tick_params(labelbottom=place + across >= len(drawn))
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    ticks = np.unique(np.linspace(0, own["place"].max(), 4).round().astype(int))
    panels[0].set_xticks(ticks, np.datetime_as_string(np.datetime64(first, "M") + ticks, unit="M"))
    rest = f", {len(drawn)} of {len(drifted)}" if len(drawn) < len(drifted) else ""
    title = f"Reviewers whose severity changes{rest}\npoints more than the average reviewer, by month"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _months_since(month: "pd.Series", first: str) -> "Floats":
    import numpy as np

    moments = month.to_numpy(dtype="datetime64[M]")
    return (moments - np.datetime64(first, "M")).astype(np.float64)


def _months_of(axes: "Axes", own: "pd.DataFrame", reviewer: int) -> None:
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.vlines(own["place"], drawable(own["ci_low"]), drawable(own["ci_high"]), color=BAR, linewidth=1.4)
    axes.plot(own["place"], own["severity"], color=INK, linewidth=0.8, marker="o", markersize=3)
    axes.margins(x=0.12)  # room for the months below, beside those of the next panel
    bare(axes, keep=("bottom", "left"))
    axes.set_title(f"R{reviewer}", fontsize=8.5, loc="left", color=INK)
