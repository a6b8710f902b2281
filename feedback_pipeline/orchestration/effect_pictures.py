"""Forest plots: what differs between approved and other outputs, and what goes with better or worse scores."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.orchestration.drawing import (
    BAD,
    BAND,
    GOOD,
    INK,
    MUTED,
    SHORT_LABEL,
    WITHHELD,
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
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    Floats = np.ndarray[Any, np.dtype[np.float64]]

MAX_EFFECTS: Final = 40
MAX_CORRELATIONS: Final = 24
_ROW: Final = 0.2  # inches
_SEVERAL_TIMES: Final = 2.5  # the largest effect; an interval beyond it is cut off
_SMALLEST: Final = 0.05


def effect_sizes(contrasts: "pd.DataFrame", nothing: str) -> bytes:
    """Hedges g of approved against other outputs with 95 % intervals, the published ones; of a single agent all that were tested.

    Args:
        contrasts: Rows of `pattern_frames.contrasts`; of more than 40 the published and the largest.
        nothing: Why there is none, said where there is none.

    Returns:
        A PNG. Blue: more of it in approved outputs; orange: less; grey: not published; white: may be the agents' difference.
    """
    several = contrasts["agent_name"].nunique() > 1
    candidates = contrasts[contrasts["published"]] if several else contrasts
    rows = candidates.assign(value=candidates["effect"], low=candidates["ci_low"], high=candidates["ci_high"])
    rows = rows.assign(name=[_name(row, several=several) for row in rows.to_dict("records")])
    shown, total = _largest(rows, MAX_EFFECTS)
    if shown.empty:
        return sentence_alone(nothing)
    title = f"Approved against other outputs: Hedges g with 95 % intervals{_rest(len(shown), total)}"
    return _forest(shown, title, "← more in the others        standard deviations        more in approved outputs →")


def correlation_intervals(findings: "pd.DataFrame", nothing: str) -> bytes:
    """Correlations of one agent's features with adjusted scores, with 95 % intervals; of more than 24 the strongest.

    Args:
        findings: feature, aspect, r, ci_low, ci_high, n_contents, published.
        nothing: Why there is none, said where there is none.

    Returns:
        A PNG.
    """
    rows = findings.assign(value=findings["r"], low=findings["ci_low"], high=findings["ci_high"], confounded=False)
    names = [f"{label(f, SHORT_LABEL)} · {label(a, SHORT_LABEL)}" for f, a in zip(rows["feature"], rows["aspect"], strict=True)]
    shown, total = _largest(rows.assign(name=names), MAX_CORRELATIONS)
    if shown.empty:
        return sentence_alone(nothing)
    title = f"Features and adjusted scores: Spearman correlations with 95 % intervals{_rest(len(shown), total)}"
    return _forest(shown, title, "← worse scores        correlation        better scores →")


def _rest(shown: int, total: int) -> str:
    return f", the {shown} strongest of {total}" if shown < total else ""


def _name(row: "dict[Any, Any]", *, several: bool) -> str:
    who = [("all agents" if row["agent_name"] == FLEET else label(row["agent_name"], SHORT_LABEL))] if several else []
    point = text_or_nothing(row["decision_point"])
    at = f" at {label(point, SHORT_LABEL)}" if point else ""
    return " · ".join([*who, label(row["feature"], SHORT_LABEL) + at])


def _largest(rows: "pd.DataFrame", limit: int) -> "tuple[pd.DataFrame, int]":
    """The rows to draw, from the most positive to the most negative, and how many there were with a number."""
    import numpy as np

    known = rows[np.isfinite(drawable(rows["value"]))]
    order = known.assign(withheld=~known["published"].astype(bool), size=-known["value"].abs())
    kept = order.sort_values(["withheld", "size", "name"]).head(limit)
    return kept.sort_values(["value", "name"], ascending=[False, True], ignore_index=True), len(known)


def _forest(shown: "pd.DataFrame", title: str, axis: str) -> bytes:
    import numpy as np

    y = np.arange(len(shown), dtype=float)
    value, low, high = drawable(shown["value"]), drawable(shown["low"]), drawable(shown["high"])
    published, confounded = shown["published"].to_numpy(bool), shown["confounded"].to_numpy(bool)
    colours: list[str] = np.where(published, np.where(value > 0, GOOD, BAD), WITHHELD).tolist()
    figure = new_figure(9.5, 1.35 + _ROW * len(shown))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.hlines(y, low, high, colors=colours, linewidth=1.5)
    axes.scatter(value, y, s=24, c=np.where(confounded, "white", colours), edgecolors=colours, linewidths=1.2, zorder=3)
    _rows(axes, shown, y, _limits(value, low, high))
    axes.set_xlabel(axis, fontsize=8, color=MUTED)
    notes = ["grey: tested, not published"] if not published.all() else []
    notes += ["white: may be a difference between the agents"] if confounded.any() else []
    figure.suptitle("\n".join([title, *(["; ".join(notes)] if notes else [])]), x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _rows(axes: "Axes", shown: "pd.DataFrame", y: "Floats", limits: tuple[float, float]) -> None:
    axes.set_xlim(*limits)
    axes.set_ylim(len(shown) - 0.3, -0.7)
    bare(axes)
    axes.set_yticks(y, list(shown["name"]), fontsize=7.5, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=BAND, linewidth=0.6)
    axes.set_axisbelow(True)
    counts_at_the_right(axes, y, shown["n_contents"], "outputs")


def _limits(value: "Floats", low: "Floats", high: "Floats") -> tuple[float, float]:
    """The ends of the axis: all effects, and their intervals unless one is far wider than any effect."""
    import numpy as np

    most = _SEVERAL_TIMES * max(float(np.abs(value).max()), _SMALLEST)
    first = max(float(np.nanmin(np.concatenate([low, value, [0.0]]))), -most)
    last = min(float(np.nanmax(np.concatenate([high, value, [0.0]]))), most)
    margin = max(0.04 * (last - first), _SMALLEST * (first == last))
    return first - margin, last + margin
