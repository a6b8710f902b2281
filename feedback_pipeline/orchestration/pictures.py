"""Pictures for the metadata of the assets, as PNG inside Markdown. They name agents, features and aspects; never a person."""

import math
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import numeric_columns, unit
from feedback_pipeline.orchestration.drawing import (
    BAND,
    BAR,
    HUGE,
    INK,
    MAX_WIDTH,
    MUTED,
    as_png,
    label,
    new_figure,
    sentence_alone,
    short_number,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MAX_AGENTS: Final = 40
MAX_ASPECTS: Final = 12
MAX_FEATURES: Final = 24
_DARK: Final = 0.42  # beyond it a dark dot would drown in the colour of its cell
_FLAT: Final = 1e-9  # relative to the values; closer ones share a bar
_TINY: Final = 1e-100


def feature_distributions(features: "pa.Table", title: str) -> bytes:
    """Small multiples: a histogram of every numeric feature that has values, with its median and its middle 90 %.

    Args:
        features: rows of the feature table.
        title: what the rows are.

    Returns:
        A PNG.
    """
    import numpy as np

    present: dict[str, np.ndarray[Any, Any]] = {}
    for name in numeric_columns(features.column_names):
        values = features[name].drop_null().to_numpy()
        finite = values[np.isfinite(values)]
        if len(finite) and len(present) < MAX_FEATURES:
            present[name] = finite
    columns = 4
    rows = max(1, -(-len(present) // columns))
    figure = new_figure(11.5, 0.7 + 1.75 * rows)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    for position, (name, values) in enumerate(present.items(), start=1):
        _histogram(figure.add_subplot(rows, columns, position), name, values, 1 - len(values) / features.num_rows)
    if not present:
        figure.text(0.01, 0.4, "no numeric feature has a value", color=MUTED)
    return as_png(figure)


def _histogram(axes: "Axes", name: str, values: "np.ndarray[Any, Any]", missing: float) -> None:
    import numpy as np

    # A quarter: the distance between two of the largest numbers is no number.
    low, p5, median, p95, high = np.quantile(values / 4, [0.005, 0.05, 0.5, 0.95, 0.995]) * 4
    power = _power_of_ten(low, high)
    scale = 10.0**power
    if high / scale - low / scale > max(_FLAT * max(abs(low), abs(high)) / scale, _TINY):
        inside = values[(values >= low) & (values <= high)] / scale
        axes.axvspan(p5 / scale, p95 / scale, color=BAND, linewidth=0)
        axes.hist(inside, bins=24, range=(low / scale, high / scale), color=BAR)
        axes.axvline(median / scale, color=INK, linewidth=1)
    else:
        # A place of its own instead of the value's: around 1e17 an axis cannot hold a bar of width 1.
        axes.bar([0], [len(values)], color=BAR)
        axes.set_xlim(-1.5, 1.5)
        axes.set_xticks([0], [short_number(median)])
    units = " ".join(part for part in (f"1e{power}" if power else "", unit(name)) if part)
    axes.set_title(label(name) + (f" [{units}]" if units else ""), fontsize=8.5, loc="left", color=INK)
    gaps = f", {missing:.0%} missing" if missing else ""
    middle = f"90 % in {short_number(p5)} to {short_number(p95)}"
    axes.set_xlabel(f"median {short_number(median)}, {middle}{gaps}", fontsize=6.5, color=MUTED)
    axes.set_yticks([])
    axes.tick_params(labelsize=6.5, colors=MUTED, length=2)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def _power_of_ten(low: float, high: float) -> int:
    """By which power of ten an axis is scaled; 0 unless its numbers are so large that their sums are no numbers."""
    largest = max(abs(low), abs(high))
    return math.floor(math.log10(largest)) if largest > HUGE else 0


def correlation_heat_map(findings: "pd.DataFrame") -> bytes:
    """Agents by features, a panel for each aspect; colour = shrunken correlation, a dot = published.

    Args:
        findings: agent_name, feature, aspect, r_shrunk and published; the fleet's rows (agent `*`) are left out. Of more than
            40 agents, and of more than 12 aspects, those with the strongest correlations are drawn.

    Returns:
        A PNG.
    """
    import numpy as np

    own = findings[(findings["agent_name"] != "*") & np.isfinite(findings["r_shrunk"].astype(float))]
    if own.empty:
        return sentence_alone("no pair of feature and aspect could be tested yet")
    agents, aspects = _strongest(own, "agent_name", MAX_AGENTS), _strongest(own, "aspect", MAX_ASPECTS)
    features = list(numeric_columns(own["feature"].unique()))[:MAX_FEATURES]
    across = 2 if len(aspects) > 1 else 1
    down = -(-len(aspects) // across)
    width = min(2.2 + across * (0.8 + 0.27 * len(features)), MAX_WIDTH)
    figure = new_figure(width, 1.0 + down * (1.75 + 0.2 * len(agents)))
    image = None
    for position, aspect in enumerate(aspects):
        axes = figure.add_subplot(down, across, position + 1)
        image = _panel(axes, own[own["aspect"] == aspect], agents, features, first=position % across == 0)
        axes.set_title(label(aspect), fontsize=9.5, loc="left", color=INK)
    title = f"Correlation of features with adjusted scores{_left_out(own, agents, aspects)} (dot = published)"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    if image is not None:
        bar = figure.colorbar(image, ax=figure.axes, shrink=min(1.0, 3.0 / figure.get_figheight()), aspect=18, pad=0.01)
        bar.ax.tick_params(labelsize=7, colors=MUTED)
    return as_png(figure)


def _strongest(findings: "pd.DataFrame", column: str, limit: int) -> list[str]:
    """The names with the strongest correlations, in order of the alphabet."""
    strength = findings["r_shrunk"].abs().groupby(findings[column]).max().sort_values(ascending=False, kind="stable")
    return sorted(strength.index[:limit])


def _left_out(findings: "pd.DataFrame", agents: list[str], aspects: list[str]) -> str:
    shown = (("agents", len(agents), findings["agent_name"].nunique()), ("aspects", len(aspects), findings["aspect"].nunique()))
    parts = [f"{drawn} of {total} {what}" for what, drawn, total in shown if drawn < total]
    return f", the {' and '.join(parts)} with the strongest" if parts else ""


def _panel(axes: "Axes", rows: "pd.DataFrame", agents: list[str], features: list[str], *, first: bool) -> "AxesImage":
    import numpy as np

    cells = rows.pivot_table(index="agent_name", columns="feature", values="r_shrunk").reindex(index=agents, columns=features)
    axes.set_facecolor("#eef0f2")
    image = axes.imshow(cells.to_numpy(float), cmap="RdBu_r", vmin=-0.6, vmax=0.6, aspect="auto", interpolation="nearest")
    published = rows[rows["published"] & rows["agent_name"].isin(agents) & rows["feature"].isin(features)]
    x = [features.index(name) for name in published["feature"]]
    y = [agents.index(name) for name in published["agent_name"]]
    axes.scatter(x, y, s=9, c=np.where(published["r_shrunk"].abs() > _DARK, "white", INK), linewidth=0)
    axes.set_xticks(np.arange(len(features)), [label(name) for name in features], rotation=55, ha="right", fontsize=7)
    axes.set_yticks(np.arange(len(agents)), [label(name) for name in agents] if first else [""] * len(agents), fontsize=7)
    axes.set_xticks(np.arange(-0.5, len(features)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(agents)), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image
