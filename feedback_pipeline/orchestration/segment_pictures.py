"""The picture of the segments: where an agent does well, with intervals, so that no lucky handful looks like a lead."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.orchestration.drawing import (
    BAND,
    BAR,
    INK,
    MUTED,
    as_png,
    bare,
    counts_at_the_right,
    drawable,
    label,
    new_figure,
    sentence_alone,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    Floats = np.ndarray[Any, np.dtype[np.float64]]

MAX_PAIRS: Final = 5  # at either end
_PAIR: Final = " x "
_ROW: Final = 0.2  # inches
_HEADINGS: Final = {"content_type": "content type", "length_band": "length"}


def segment_intervals(segments: "pd.DataFrame", whose: str, nothing: str) -> bytes:
    """Shrunken approval of the segments of one agent with 90 % intervals, by category; of pairs the two ends.

    Args:
        segments: Rows of `strategy.content_strategy` of one agent. Where no output has a decision, scores are drawn.
        whose: Whose segments they are.
        nothing: Why there is none, said where there is none.

    Returns:
        A PNG.
    """
    import numpy as np

    outcome, count = ("approval", "n") if (segments["n"] > 0).any() else ("score", "n_scored")
    names = {f"{outcome}{end}": f"value{end}" for end in ("", "_raw", "_low", "_high")} | {count: "count"}
    own = segments.rename(columns=names)[["family", "segment", *names.values()]]
    own = own[(own["count"] > 0) & np.isfinite(drawable(own["value"]))]
    if own.empty:
        return sentence_alone(nothing)
    shown = _rows(own)
    figure = new_figure(8.5, 1.3 + _ROW * len(shown))
    axes = figure.add_subplot()
    _intervals(axes, shown, _mean(own), percent=outcome == "approval")
    what = "approval" if outcome == "approval" else "adjusted score"
    title = f"Where outputs do well: {what} by segment, shrunken, with 90 % intervals: {label(whose)}"
    note = "line: all outputs of the agent; faint tick: raw value"
    figure.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _mean(own: "pd.DataFrame") -> float:
    """The raw mean over the category that is known of the most outputs."""
    singles = own[~own["family"].str.contains(_PAIR, regex=False)]
    if singles.empty:
        return float("nan")
    totals = singles.groupby("family")["count"].sum()
    widest = singles[singles["family"] == totals.sort_index().idxmax()]
    return float((widest["value_raw"] * widest["count"]).sum() / widest["count"].sum())


def _rows(own: "pd.DataFrame") -> "pd.DataFrame":
    """The rows from the top: every category under a heading (a row without a value), then the two ends of the pairs."""
    import pandas as pd

    ordered = own.sort_values(["value", "family", "segment"], ascending=[False, True, True])
    paired = ordered["family"].str.contains(_PAIR, regex=False)
    parts = []
    for family, rows in ordered[~paired].groupby("family", sort=True):
        parts += [_heading(_HEADINGS.get(str(family), str(family))), rows]
    pairs = ordered[paired]
    if len(pairs) > 2 * MAX_PAIRS:
        parts += [_heading(f"pairs: highest {MAX_PAIRS} of {len(pairs)}"), pairs.head(MAX_PAIRS)]
        parts += [_heading(f"pairs: lowest {MAX_PAIRS}"), pairs.tail(MAX_PAIRS)]
    elif len(pairs):
        parts += [_heading("pairs"), pairs]
    return pd.concat(parts, ignore_index=True)


def _heading(text: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"heading": [text]})


def _intervals(axes: "Axes", shown: "pd.DataFrame", mean: float, *, percent: bool) -> None:
    import numpy as np
    from matplotlib.ticker import PercentFormatter

    y = np.arange(len(shown), dtype=float)
    heading = shown["heading"].notna().to_numpy()
    value, raw, low, high = (drawable(shown[name]) for name in ("value", "value_raw", "value_low", "value_high"))
    axes.scatter(raw, y, s=46, marker="|", color=MUTED, alpha=0.65, linewidths=1.1, zorder=2)
    axes.hlines(y, low, high, color=BAR, linewidth=1.6)
    axes.scatter(value, y, s=20, color=INK, zorder=3)
    axes.axvline(mean, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(len(shown) - 0.3, -0.7)
    bare(axes)
    names = [label(row["heading"] if own else row["segment"], 44) for own, row in zip(heading, _dicts(shown), strict=True)]
    axes.set_yticks(y, names, fontsize=7.5, color=INK)
    for own, text in zip(heading, axes.get_yticklabels(), strict=True):
        text.set_fontweight("bold" if own else "normal")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=BAND, linewidth=0.6)
    axes.set_axisbelow(True)
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.margins(x=0.04)
    counts = shown["count"].map(lambda count: "" if count != count else f"{count:,.0f}")
    counts_at_the_right(axes, y, counts, "outputs")


def _dicts(shown: "pd.DataFrame") -> "list[dict[Any, Any]]":
    return shown.to_dict("records")
