"""The picture of measured effects: the confidence sequence of every pattern on trial over its executions, one line a pattern."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.trial_states import ACTIVE, CANDIDATE, PATIENCE, PROBATION, WORTH
from feedback_pipeline.orchestration.drawing import (
    BAD,
    GOOD,
    INK,
    MUTED,
    SHORT_LABEL,
    WITHHELD,
    as_png,
    bare,
    label,
    new_figure,
    sentence_alone,
)
from feedback_pipeline.orchestration.plain_text import text_or_nothing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

MAX_LINES: Final = 12
NOTHING: Final = "no pattern has been on trial in 60 decided executions yet"
_COLOURS: Final = {CANDIDATE: WITHHELD, PROBATION: MUTED, ACTIVE: GOOD}
_ROOM: Final = 1.02  # between the last execution and the names
_WIDER: Final = 1.45  # the whole axis, with the names
_SHADE: Final = 0.3  # of all bands together
_BEYOND: Final = 0.15  # what is shown of the bounds
_APART: Final = 0.045  # of the height, between two names


def confidence_sequences(trials: "pd.DataFrame") -> bytes:
    """Uplift in approval of each pattern over its executions, with bounds that hold at every moment.

    Args:
        trials: Those with the most executions first: agent_name, kind, feature, trial, state, looks (rows of n, uplift, low,
            high).

    Returns:
        A PNG: at most 12 of them. Blue: kept; orange: retired; grey: on trial, pale where it is not recommended any more.
    """
    import numpy as np
    from matplotlib.ticker import FuncFormatter

    shown = [row for row in trials.to_dict("records") if len(row["looks"])]
    if not shown:
        return sentence_alone(NOTHING)
    drawn = shown[:MAX_LINES]
    paths = [np.asarray(row["looks"], dtype=np.float64).T for row in drawn]
    end = max(path[0, -1] for path in paths)
    figure = new_figure(9.5, 4.6)
    axes = figure.add_subplot()
    axes.hlines(0, 0, end, color=INK, linewidth=0.9)
    axes.hlines(WORTH, 0, end, color=WITHHELD, linewidth=0.8, linestyle=(0, (4, 3)))
    names = []
    for row, (n, uplift, low, high) in zip(drawn, paths, strict=True):
        colour = _COLOURS.get(row["state"], BAD)
        axes.plot(n, uplift, color=colour, linewidth=1.4, zorder=3)
        axes.fill_between(n, low, high, color=colour, alpha=_SHADE / len(drawn), linewidth=0)
        for bound in (low, high):
            axes.plot(n, bound, color=colour, linewidth=0.6, alpha=0.7)
        names.append((float(uplift[-1]), _name(row), colour))
    _limits(axes, paths, end)
    _names(axes, names, end)
    bare(axes, keep=("bottom", "left"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
    axes.set_xlabel("executions with a decision", fontsize=8, color=MUTED)
    axes.set_ylabel("approval with it less without [points]", fontsize=8, color=MUTED)
    rest = f", the {len(drawn)} of {len(shown)} with the most executions" if len(drawn) < len(shown) else ""
    title = f"Does applying it help? Uplift with 95 % bounds that hold at every moment{rest}"
    note = f"kept when its lower bound rises above 0; retired when its upper bound falls below {100 * WORTH:.0f} points (dashed)"
    figure.suptitle(f"{title}\n{note}, or unproven at {PATIENCE:,}", x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _name(row: "dict[Any, Any]") -> str:
    what = text_or_nothing(row["feature"]) or text_or_nothing(row["kind"]) or "question to a reviewer"
    number = f" (trial {row['trial']})" if row["trial"] > 1 else ""
    return f"{label(row['agent_name'], SHORT_LABEL)} · {label(what, SHORT_LABEL)}{number}"


def _limits(axes: "Axes", paths: "list[np.ndarray[Any, np.dtype[np.float64]]]", end: float) -> None:
    """The first bounds are as wide as anything: they are cut off a little beyond the uplifts."""
    low, high = (end_of(float(end_of(path[1])) for path in paths) for end_of in (min, max))
    axes.set_ylim(max(low - _BEYOND, -1.0), min(high + _BEYOND, 1.0))
    axes.set_xlim(0, end * _WIDER)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= end])


def _names(axes: "Axes", names: list[tuple[float, str, str]], end: float) -> None:
    """The names at the right, from below, none on another."""
    bottom, top = axes.get_ylim()
    step, place = _APART * (top - bottom), bottom
    for value, name, colour in sorted(names):
        place = max(value, place)
        axes.text(end * _ROOM, place, name, fontsize=7, color=colour, va="center")
        place += step
