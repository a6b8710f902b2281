"""The picture of the models that competed: how well each forecast later reviews, and how well any could."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.orchestration.drawing import (
    BAD,
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

    from feedback_pipeline.learning.quality import Training

    Floats = np.ndarray[Any, np.dtype[np.float64]]

FLOOR: Final = -0.5  # of the axis: a model that is much worse than the mean must not squeeze the others


def candidates(training: "Training") -> bytes:
    """Forward R² of each candidate with its 95 % interval, the chosen one filled, from the simplest down.

    Returns:
        A PNG.
    """
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame(
        [(name, each.metrics.r2.value, each.metrics.r2.low, each.metrics.r2.high) for name, each in training.candidates.items()],
        columns=["name", "value", "low", "high"],
    )
    frame = frame.assign(**{name: drawable(frame[name]) for name in ("value", "low", "high")})
    if frame["value"].isna().all():
        return sentence_alone(f"no candidate has an R²: {training.chosen.metrics.reason or 'the mean is never wrong'}")
    y = np.arange(len(frame), dtype=float)
    figure = new_figure(8.0, 1.7 + 0.32 * len(frame))
    axes = figure.add_subplot()
    axes.set_ylim(len(frame) - 0.4, -0.6)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    _whiskers(axes, frame, y, training.choice.name)
    _ceilings(axes, training)
    bare(axes)
    axes.set_yticks(y, [label(name) for name in frame["name"]], fontsize=8, color=INK)
    axes.tick_params(axis="y", length=0)
    counts_at_the_right(axes, y, frame.apply(_written, axis=1), "R² [95 % interval]")
    axes.set_xlabel("R² of forecasts of later reviews: 0 = no better than the mean so far", fontsize=8, color=MUTED)
    figure.suptitle(_title(training), x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _whiskers(axes: "Axes", frame: "pd.DataFrame", y: "Floats", chosen: str) -> None:
    import numpy as np

    value, low, high = (frame[name].clip(lower=FLOOR).to_numpy() for name in ("value", "low", "high"))
    axes.hlines(y, low, high, color=BAR, linewidth=1.6)
    beyond = frame["value"].to_numpy() < FLOOR
    fill = np.where(frame["name"] == chosen, INK, "white")
    for those, marker in ((~beyond, "o"), (beyond, "<")):
        axes.scatter(value[those], y[those], s=34, c=fill[those], marker=marker, edgecolors=INK, linewidths=0.9, zorder=3)


def _ceilings(axes: "Axes", training: "Training") -> None:
    """As lines, where they are known: what reviewers of one output disagree about, no forecast explains."""
    for ceiling, style, who in ((training.ceiling, ":", "unknown"), (training.residual_ceiling, "--", "known")):
        if ceiling.share is not None:
            axes.axvline(ceiling.share, color=BAD, linewidth=1.2, linestyle=style, label=f"noise ceiling, reviewer {who}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=7, frameon=False, labelcolor=MUTED)


def _written(row: "pd.Series") -> str:
    if row["value"] != row["value"]:
        return "undefined"
    value, low, high = (f"{round(row[name], 2) + 0.0:.2f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if row["low"] == row["low"] else value


def _title(training: "Training") -> str:
    chosen = training.chosen.metrics
    lines = [f"Candidates for forecasting {chosen.n:,} later reviews of {chosen.n_contents:,} contents; dark: chosen"]
    if training.choice.little_to_predict:
        lines.append("nothing was shown to forecast better than the mean")
    elif training.choice.too_few_to_tell:
        lines.append("too few contents to tell the candidates apart")
    if training.reason is not None:
        lines.append(label(training.reason, 110))
    return "\n".join(lines)
