"""The picture of the errors of the quality predictor over time: whether its forecasts have stayed right on average."""

from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.orchestration.drawing import BAR, INK, MUTED, as_png, bare, new_figure, sentence_alone

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from feedback_pipeline.learning.quality import Training

    Floats = np.ndarray[Any, np.dtype[np.float64]]

MIN_WEEK: Final = 10  # reviews; fewer give no interval worth drawing
_Z: Final = 1.96


def residuals_over_time(training: "Training", residual: "Floats") -> bytes:
    """Mean of review less forecast by week, with 95 % intervals by contents.

    Args:
        training: Says when the reviews were given and what they are about.
        residual: Review less forecast of each review (M,), points, NaN = none.

    Returns:
        A PNG.
    """
    import numpy as np
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    weeks = _weekly(residual, training)
    if weeks.empty:
        return sentence_alone(training.chosen.metrics.reason or "no forecast has met its review yet")
    figure = new_figure(8.5, 3.4)
    axes = figure.add_subplot()
    day, mean, enough = weeks["monday"].to_numpy(), weeks["mean"].to_numpy(), weeks["n"].to_numpy() >= MIN_WEEK
    margin = np.where(enough, _Z * weeks["se"], np.nan)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.vlines(day, mean - margin, mean + margin, color=BAR, linewidth=1.4)
    axes.plot(day, mean, color=INK, linewidth=0.7)
    axes.scatter(day, mean, s=18, c=np.where(enough, INK, "white"), edgecolors=INK, linewidths=0.8, zorder=3)
    # A single week is no range of dates to put ticks on.
    axes.set_xlim(day[0] - np.timedelta64(7, "D"), day[-1] + np.timedelta64(7, "D"))
    locator = AutoDateLocator(maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.xaxis.get_offset_text().set(fontsize=7, color=MUTED)
    axes.margins(y=0.1)
    bare(axes, keep=("bottom", "left"))
    axes.set_ylabel("review less forecast [points]", fontsize=8, color=MUTED)
    title = f"Mean error of the forecasts by week of the review, with 95 % intervals; reviews: {weeks['n'].sum():,}"
    thin = "" if enough.all() else f"\nwhite: fewer than {MIN_WEEK} reviews, no interval"
    figure.suptitle(title + thin, x=0.01, ha="left", fontsize=9.5, color=INK)
    return as_png(figure)


def _weekly(residual: "Floats", training: "Training") -> "pd.DataFrame":
    """monday, n, mean, se of each week; se by contents, NaN with fewer than two."""
    import numpy as np
    import pandas as pd

    from feedback_pipeline.learning.quality_drift import monday, week_of

    met = np.isfinite(residual)
    rows = pd.DataFrame(
        {"week": week_of(training.rows.moment[met]), "content": training.rows.content[met], "residual": residual[met]}
    )
    by_week = rows.groupby("week")["residual"]
    n, mean = by_week.size(), by_week.mean()
    off = (rows["residual"] - rows["week"].map(mean)).groupby([rows["week"], rows["content"]]).sum()
    contents = off.groupby(level="week").size()
    several = contents.where(contents > 1)
    se = np.sqrt(several / (several - 1) * off.pow(2).groupby(level="week").sum()) / n
    mondays = [np.datetime64(monday(week), "D") for week in n.index]
    return pd.DataFrame({"monday": mondays, "n": n.to_numpy(), "mean": mean.to_numpy(), "se": se.to_numpy()})
