"""Pictures of a training of the quality predictor, as files of its run. Every number is of forecasts made before the review.

They name models and features; never a reviewer, an agent, or a piece of feedback.
"""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.orchestration.candidate_picture import candidates
from feedback_pipeline.orchestration.drawing import (
    BAND,
    BAR,
    GOOD,
    INK,
    MUTED,
    as_png,
    bare,
    drawable,
    label,
    new_figure,
    sentence_alone,
    short_number,
)
from feedback_pipeline.orchestration.residuals_picture import residuals_over_time

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

    from feedback_pipeline.learning.calibration import Reliability
    from feedback_pipeline.learning.conformal import Coverage
    from feedback_pipeline.learning.quality import Training

    Floats = np.ndarray[Any, np.dtype[np.float64]]

MAX_COLUMNS: Final = 15
MANY: Final = 400  # from so many reviews on, dots would hide each other
_Z: Final = 1.96
_NOTHING: Final = "no forecast has met its review yet"
_QUARTILES: Final = ("lowest", "second", "third", "highest")


def training_figures(training: "Training", importance: "pd.DataFrame") -> dict[str, bytes]:
    """The pictures of a training.

    Args:
        training: What came of it.
        importance: feature, increase, low, high of `learning.permutation_importance`.

    Returns:
        A PNG by file name; `calibration.png` only where decisions were enough for a probability of approval.
    """
    import pandas as pd

    forecast = drawable(pd.Series(training.chosen.prediction))
    score = drawable(pd.Series(training.rows.y))
    pictures = {
        "candidates.png": candidates(training),
        "predicted_v_actual.png": _predicted_and_actual(training, forecast, score),
        "residuals_over_time.png": residuals_over_time(training, score - forecast),
        "coverage_by_quartile.png": _coverage_by_quartile(training.coverage, training.predictor.conformal.target),
        "permutation_importance.png": _importance(importance, training.choice.name),
    }
    if training.predictor.approval is not None:
        pictures["calibration.png"] = _calibration(training)
    return pictures


def _predicted_and_actual(training: "Training", forecast: "Floats", score: "Floats") -> bytes:
    """Each later review against its forecast, and the line on which both are equal."""
    import numpy as np

    met = np.isfinite(forecast) & np.isfinite(score)
    if not met.any():
        return sentence_alone(training.chosen.metrics.reason or _NOTHING)
    x, y = forecast[met], score[met]
    figure = new_figure(5.8, 5.4)
    axes = figure.add_subplot()
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.04 * (high - low) if high - low > 1e-9 * max(abs(low), abs(high), 1.0) else 1.0
    limits = low - margin, high + margin
    if len(x) >= MANY:
        _honeycomb(axes, x, y, limits)
    else:
        axes.scatter(x, y, s=14, color=BAR, alpha=0.55, linewidths=0)
    axes.plot(limits, limits, color=INK, linewidth=1)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    bare(axes, keep=("bottom", "left"))
    axes.set_xlabel("forecast [points]", fontsize=8, color=MUTED)
    axes.set_ylabel("score that came [points]", fontsize=8, color=MUTED)
    title = (
        f"Score of {_counted(len(x), 'later review')} against the forecast of “{label(training.choice.name)}”\n{_r2(training)}"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _honeycomb(axes: "Axes", x: "Floats", y: "Floats", limits: tuple[float, float]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("reviews", [BAND, BAR, GOOD, INK])
    cells = axes.hexbin(x, y, gridsize=32, extent=(*limits, *limits), mincnt=1, cmap=colours, linewidths=0.2)
    bar = axes.figure.colorbar(cells, ax=axes, shrink=0.6, aspect=24, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, colors=MUTED, length=2)
    bar.set_label("reviews", fontsize=7, color=MUTED)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _r2(training: "Training") -> str:
    r2 = training.chosen.metrics.r2
    if r2.value != r2.value:
        return "R² is undefined: the mean of earlier scores is never wrong"
    return f"R² {r2.value:.2f}" + (
        f" [{r2.low:.2f}, {r2.high:.2f}]" if r2.low == r2.low else ", too few contents for an interval"
    )


def _calibration(training: "Training") -> bytes:
    """Share that was approved against the probability that was forecast, in ten bins, above how many there are in each."""
    import numpy as np

    from feedback_pipeline.learning.calibration import reliability

    found = reliability(training.p_approve, training.rows.approved)
    total = int(found.n.sum())
    if not total:
        return sentence_alone("no decision has met a forecast of its probability yet")
    figure = new_figure(5.4, 5.9)
    above, below = figure.subplots(2, 1, height_ratios=[4.2, 1], sharex=True)
    above.plot([0, 1], [0, 1], color=INK, linewidth=1)
    _reliability_dots(above, found)
    above.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    below.bar((np.arange(len(found.n)) + 0.5) / len(found.n), found.n, width=0.9 / len(found.n), color=BAND)
    below.set_ylabel("decisions", fontsize=8, color=MUTED)
    below.set_xlabel("forecast probability of approval", fontsize=8, color=MUTED)
    above.set_ylabel("share approved, with 95 % intervals", fontsize=8, color=MUTED)
    for axes in (above, below):
        bare(axes, keep=("bottom", "left"))
        axes.label_outer()
    title = f"Forecast approval of {_counted(total, 'decision')} and what came true\n{_calibrated(training, found.ece)}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _calibrated(training: "Training", ece: float) -> str:
    """The error, and how far it is measured on what the calibration was fitted on."""
    error = f"expected calibration error {ece:.3f}"
    platt = training.predictor.approval.platt if training.predictor.approval is not None else None
    if platt is None:
        return error
    if platt.reason is not None:
        return f"{error}; {label(platt.reason, 60)}"
    return f"{error}, after calibration on the latest {platt.n:,} of them"


def _reliability_dots(axes: "Axes", found: "Reliability") -> None:
    """Observed shares with Wilson's intervals (1927)."""
    import numpy as np

    filled = found.n > 0
    n, x, share = found.n[filled], found.forecast[filled], found.observed[filled]
    spread = _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * np.sqrt(share * (1 - share) / n + spread / (4 * n))
    axes.vlines(x, middle - half, middle + half, color=BAR, linewidth=1.4)
    axes.scatter(x, share, s=24, color=INK, zorder=3)


def _coverage_by_quartile(coverage: "Coverage", target: float) -> bytes:
    """Share of reviews inside their interval, by how high the forecast was, beside the share that was promised."""
    import numpy as np

    if not coverage.n:
        return sentence_alone("no review has met an interval yet: too few earlier forecasts")
    promised, known = 1.0 - target, np.isfinite(coverage.quartiles)
    chance = _Z * float(np.sqrt(promised * target / (coverage.n / 4)))
    figure = new_figure(5.8, 3.8)
    axes = figure.add_subplot()
    axes.axhspan(max(promised - chance, 0.0), min(promised + chance, 1.0), color=BAND, linewidth=0)
    axes.axhline(promised, color=INK, linewidth=1)
    places, shares = np.flatnonzero(known), coverage.quartiles[known]
    axes.scatter(places, shares, s=36, color=GOOD, zorder=3)
    for place, share in zip(places, shares, strict=True):
        axes.annotate(
            _share(share), (place, share), xytext=(0, 7), textcoords="offset points", fontsize=8, ha="center", color=INK
        )
    named = [f"{name}\n{_counted(n, 'review')}" for name, n in zip(_QUARTILES, coverage.n_quartiles.tolist(), strict=True)]
    axes.set_xticks(range(len(_QUARTILES)), named)
    axes.set_xlim(-0.5, 3.5)
    axes.set_ylim(max(min(0.78, shares.min() - 0.04, promised - chance - 0.02), -0.02), 1.03)
    _percent(axes)
    axes.set_xlabel("quartile of the forecast", fontsize=8, color=MUTED)
    title = (
        f"{_share(coverage.overall)} of {_counted(coverage.n, 'later review')} lay inside their interval, "
        f"{100 * promised:.0f} % are promised\nband: what chance alone does to a quarter of them"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _percent(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    bare(axes, keep=("bottom", "left"))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def _importance(importance: "pd.DataFrame", model: str) -> bytes:
    """How much worse the forecast gets when a column is shuffled, with intervals; of many columns the first."""
    import numpy as np

    numbers = {name: drawable(importance[name]) for name in ("increase", "low", "high")}
    known = importance.assign(**numbers).dropna(subset=["increase"])
    if known.empty:
        return sentence_alone("no column could be shuffled: no later review has met a forecast")
    shown = known.sort_values(["increase", "feature"], ascending=[False, True]).head(MAX_COLUMNS)
    y = np.arange(len(shown))
    figure = new_figure(7.4, 1.2 + 0.24 * len(shown))
    axes = figure.add_subplot()
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.hlines(y, shown["low"], shown["high"], color=BAR, linewidth=1.6)
    axes.scatter(shown["increase"], y, s=26, c=np.where(shown["low"] > 0, INK, "white"), edgecolors=INK, linewidths=0.9, zorder=3)
    bare(axes)
    axes.set_yticks(y, [label(str(name)) for name in shown["feature"]], fontsize=8, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    axes.set_xlabel("growth of the mean squared error of later reviews [points²]", fontsize=8, color=MUTED)
    rest = f", the first {len(shown)} of {len(known)}" if len(shown) < len(known) else ""
    title = f"What “{label(model)}” rests on: one column shuffled at a time{rest}\nwith 95 % intervals; white: may be nothing"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)
