"""The picture of the thresholds: how approval changes along a feature, and where it jumps."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import FLEET, unit
from feedback_pipeline.orchestration.drawing import (
    BAND,
    BAR,
    HUGE,
    INK,
    MUTED,
    as_png,
    bare,
    label,
    new_figure,
    sentence_alone,
    short_number,
)
from feedback_pipeline.orchestration.plain_text import text_or_nothing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    Floats = np.ndarray[Any, np.dtype[np.float64]]

MAX_CURVES: Final = 12
_ACROSS: Final = 3
_SKEWED: Final = 8.0  # largest over median from which an axis of positive values is logarithmic
_FLAT: Final = 1e-9  # relative to the values; closer ones cannot be told apart on an axis


def threshold_curves(curves: "pd.DataFrame", nothing: str) -> bytes:
    """Small multiples: share of approved outputs along a feature, with the cut and its interval where there is one.

    Args:
        curves: Rows of `pattern_frames.curves`. Those with a cut come first, then those with the larger lift; at most 12.
        nothing: Why there is none, said where there is none.

    Returns:
        A PNG.
    """
    drawn = [row for row in _strongest(curves) if row["x"].size]
    if not drawn:
        return sentence_alone(nothing)
    shown = drawn[:MAX_CURVES]
    across = min(_ACROSS, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(0.4 + 3.8 * across if across > 1 else 5.6, 0.6 + 2.35 * down)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    several = len({row["agent_name"] for row in drawn}) > 1
    low, high = min(row["observed"].min() for row in shown), max(row["observed"].max() for row in shown)
    for place, (axes, row) in enumerate(zip(panels, shown, strict=False)):
        _curve(axes, row, several=several)
        axes.set_ylim(max(low - 0.08, -0.04), min(high + 0.08, 1.04))
        axes.tick_params(labelleft=place % across == 0)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    rest = f", the {len(shown)} of {len(drawn)} with the largest lift" if len(shown) < len(drawn) else ""
    figure.suptitle(f"Share of approved outputs along a feature{rest}", x=0.01, ha="left", fontsize=10, color=INK)
    return as_png(figure)


def _strongest(curves: "pd.DataFrame") -> "list[dict[str, Any]]":
    """With a cut first, larger lift first; bins without a number are left out."""
    ordered = curves.assign(without=curves["cut"].isna(), strength=-curves["effect"].abs().fillna(0.0)).sort_values(
        ["without", "strength", "agent_name", "feature", "decision_point"]
    )
    return [_drawable(row) for row in ordered.to_dict("records")]


def _drawable(row: "dict[Any, Any]") -> "dict[str, Any]":
    import numpy as np

    x, observed, n = (np.asarray(row[name], dtype=np.float64) for name in ("x", "observed", "n"))
    kept = np.isfinite(x) & (np.abs(x) < HUGE) & np.isfinite(observed) & (n > 0)
    order = np.argsort(x[kept], kind="stable")
    return row | {"x": x[kept][order], "observed": observed[kept][order], "n": n[kept][order]}


def _curve(axes: "Axes", row: "dict[str, Any]", *, several: bool) -> None:
    import numpy as np
    from scipy.optimize import isotonic_regression

    x, observed, n = row["x"], row["observed"], row["n"]
    cut = row["cut"] if np.isfinite(row["cut"]) and abs(row["cut"]) < HUGE else None
    if cut is not None:
        ends = np.array([row["cut_low"], row["cut_high"]])
        if np.isfinite(ends).all() and (np.abs(ends) < HUGE).all():
            axes.axvspan(*ends, color=BAND, linewidth=0)
        axes.axvline(cut, color=INK, linewidth=1.1)
    line = isotonic_regression(observed, weights=n, increasing=bool(row["direction"] >= 0))
    axes.plot(x, line.x, color=BAR, linewidth=1.3, zorder=2)
    axes.scatter(x, observed, s=6 + 34 * n / n.max(), color=BAR, alpha=0.75, linewidths=0, zorder=3)
    _feature_axis(axes, x, cut)
    who = f"{_who(row['agent_name'])}\n" if several else ""
    point = text_or_nothing(row["decision_point"])
    at = f" at {label(point, 24)}" if point else ""
    axes.set_title(f"{who}{_measured(row['feature'], 40 if not at else 26)}{at}", fontsize=8.5, loc="left", color=INK)
    axes.set_xlabel(_caption(row, cut), fontsize=7, color=MUTED)


def _who(agent_name: str) -> str:
    return "all agents" if agent_name == FLEET else label(agent_name)


def _measured(feature: str, longest: int) -> str:
    """The feature with its unit, unless its name says it."""
    name, units = label(feature, longest), unit(feature)
    return name if not units or units in feature.split("_") else f"{name} [{units}]"


def _feature_axis(axes: "Axes", x: "Floats", cut: float | None) -> None:
    """A place for every value that axes can hold: logarithmic where a few large values would push the others together."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter

    bare(axes, keep=("bottom", "left"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    lowest, highest = x[0] if cut is None else min(x[0], cut), x[-1] if cut is None else max(x[-1], cut)
    if lowest > 0 and highest / float(np.median(x)) > _SKEWED:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(lowest / 1.3, highest * 1.3)
    else:
        margin = 0.05 * (highest - lowest)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if margin <= _FLAT * max(abs(lowest), abs(highest)):
            margin = max(abs(lowest), abs(highest), 1.0)
            axes.set_xticks([(lowest + highest) / 2])
        axes.set_xlim(lowest - margin, highest + margin)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def _caption(row: "dict[str, Any]", cut: float | None) -> str:
    if cut is None:
        return "rises, no clear cut" if row["direction"] >= 0 else "falls, no clear cut"
    interval = f" [{short_number(row['cut_low'])}, {short_number(row['cut_high'])}]" if row["cut_low"] == row["cut_low"] else ""
    side = "from {} on" if row["direction"] >= 0 else "below {}"
    lift = f"{100 * row['effect']:+.0f} points [{100 * row['ci_low']:.0f}, {100 * row['ci_high']:.0f}]"
    return f"{side.format(short_number(cut) + interval)}: {lift}\n{row['n_good']:,.0f} v {row['n_bad']:,.0f} outputs"
