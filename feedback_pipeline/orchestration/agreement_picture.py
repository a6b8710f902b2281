"""The picture of the agreement of the reviewers for the metadata of preference_models."""

import math
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.orchestration.drawing import (
    BAR,
    INK,
    MAX_REASON,
    MUTED,
    SHORT_LABEL,
    as_png,
    bare,
    counts_at_the_right,
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

MAX_ASPECTS: Final = 24
# Krippendorff (2004): below .667 no conclusion, from .8 on reliable.
TENTATIVE, RELIABLE = 0.667, 0.8
_MIDDLE: Final = 0.5
_APART: Final = 0.14  # of the two marks of a row from its middle


def agreement_before_and_after(agreement: "pd.DataFrame") -> bytes:
    """Krippendorff's alpha of every aspect over all agents, before (white) and after severity is removed, with 95 % intervals.

    Args:
        agreement: rows of `agreement.agreement`; those of single agents are left out.

    Returns:
        A PNG. Of more than 24 aspects, those with the lowest alpha.
    """
    import numpy as np

    fleet = agreement[agreement["agent_name"] == FLEET]
    if fleet.empty:
        return sentence_alone("no agreement could be measured: no scores and no decisions")
    lowest = fleet.sort_values(["alpha", "aspect"]).head(MAX_ASPECTS)
    shown = lowest.sort_values("aspect", key=lambda names: names.map(rank), ignore_index=True)
    y = np.arange(len(shown), dtype=float)
    figure = new_figure(9.5, 1.6 + 0.36 * len(shown))
    axes = figure.add_subplot()
    _alphas(axes, shown, y - _APART, ("alpha", "ci_low", "ci_high"), MUTED, "white")
    _alphas(axes, shown, y + _APART, ("alpha_adjusted", "adjusted_ci_low", "adjusted_ci_high"), BAR, BAR)
    _reasons(axes, shown, y)
    _alpha_axis(axes, shown, y)
    rest = f", the {len(shown)} of {len(fleet)} lowest" if len(shown) < len(fleet) else ""
    title = f"Agreement of the reviewers: Krippendorff's alpha with 95 % intervals{rest}"
    note = f"white: as scored; blue: after severity is removed; dashed: {TENTATIVE:g} tentative, {RELIABLE:g} reliable"
    figure.suptitle(f"{title}\n{note}", x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _alphas(axes: "Axes", shown: "pd.DataFrame", y: "Floats", columns: tuple[str, str, str], colour: str, face: str) -> None:
    value, low, high = (shown[column].to_numpy(float) for column in columns)
    axes.hlines(y, low, high, color=colour, linewidth=1.6)
    axes.scatter(value, y, s=30, c=face, edgecolors=colour, linewidths=1.2, zorder=3)


def _reasons(axes: "Axes", shown: "pd.DataFrame", y: "Floats") -> None:
    """Why there is no alpha, in its free row, or no interval, beside the mark on the side where there is room."""
    for place, alpha, reason in zip(y, shown["alpha"], shown["reason"], strict=True):
        if isinstance(reason, str):
            side = "right" if alpha > _MIDDLE else "left"
            x, height = (0.02, place) if math.isnan(alpha) else (alpha + (-0.02 if side == "right" else 0.02), place - _APART)
            axes.text(x, height, label(reason, MAX_REASON), fontsize=6.5, color=MUTED, va="center", ha=side, clip_on=True)


def _alpha_axis(axes: "Axes", shown: "pd.DataFrame", y: "Floats") -> None:
    import numpy as np

    lowest = shown[["alpha", "ci_low", "alpha_adjusted", "adjusted_ci_low"]].min().min()
    axes.set_xlim(min(-0.05, max(lowest - 0.05, -1.05)) if np.isfinite(lowest) else -0.05, 1.02)
    axes.axvline(0, color=INK, linewidth=0.9)
    for mark in (TENTATIVE, RELIABLE):
        axes.axvline(mark, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.text(mark + 0.004, 1.015, f"{mark:g}", transform=axes.get_xaxis_transform(), fontsize=6.5, color=MUTED)
    bare(axes)
    axes.set_yticks(y, [label(name, SHORT_LABEL) for name in shown["aspect"]], fontsize=8, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    counts_at_the_right(axes, y, shown["n_outputs"], "shared outputs", above=14.0)
    axes.set_xlabel("0 = no better than chance, 1 = all agree", fontsize=8, color=MUTED)
