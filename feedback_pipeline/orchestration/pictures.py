"""Pictures for the metadata of the assets, as PNG inside Markdown. They name agents, features and aspects; never a person."""

import base64
import io
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.learning.features import numeric_columns, unit

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MAX_AGENTS: Final = 40
MAX_FEATURES: Final = 24
MAX_WIDTH: Final = 11.8  # inches: what the dialog of the web UI shows without scrolling
_DPI: Final = 100
_DARK: Final = 0.42  # beyond it a dark dot would drown in the colour of its cell
_INK, _MUTED, _BAR, _BAND = "#1f2933", "#7b8794", "#5b8db8", "#dfe9f2"


def markdown(png: bytes, alternative: str) -> str:
    """The picture as a Markdown image that needs no server."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def feature_distributions(features: "pa.Table", title: str) -> bytes:
    """Small multiples: a histogram of every numeric feature that has values, with its median and its middle 90 %.

    Args:
        features: rows of the feature table.
        title: what the rows are.

    Returns:
        A PNG.
    """
    present = [name for name in numeric_columns(features.column_names) if features[name].null_count < features.num_rows][
        :MAX_FEATURES
    ]
    columns = 4
    rows = max(1, -(-len(present) // columns))
    figure = _figure(11.5, 0.7 + 1.75 * rows)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=_INK)
    for position, name in enumerate(present):
        values = features[name].drop_null().to_numpy()
        _histogram(figure.add_subplot(rows, columns, position + 1), name, values, features[name].null_count / features.num_rows)
    if not present:
        figure.text(0.01, 0.4, "no numeric feature has a value", color=_MUTED)
    return _png(figure)


def _histogram(axes: "Axes", name: str, values: "np.ndarray[Any, Any]", missing: float) -> None:
    import numpy as np

    low, p5, median, p95, high = np.quantile(values, [0.005, 0.05, 0.5, 0.95, 0.995])
    if low < high:
        axes.axvspan(p5, p95, color=_BAND, linewidth=0)
        axes.hist(values, bins=24, range=(low, high), color=_BAR)
    else:
        axes.bar([low], [len(values)], color=_BAR)
    axes.axvline(median, color=_INK, linewidth=1)
    measured = f" [{unit(name)}]" if unit(name) else ""
    axes.set_title(name.replace("_", " ") + measured, fontsize=8.5, loc="left", color=_INK)
    gaps = f", {missing:.0%} missing" if missing else ""
    axes.set_xlabel(f"median {_short(median)}, 90 % in {_short(p5)} to {_short(p95)}{gaps}", fontsize=6.5, color=_MUTED)
    axes.set_yticks([])
    axes.tick_params(labelsize=6.5, colors=_MUTED, length=2)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def correlation_heat_map(findings: "pd.DataFrame") -> bytes:
    """Agents by features, a panel for each aspect; colour = shrunken correlation, a dot = published.

    Args:
        findings: agent_name, feature, aspect, r_shrunk and published; the fleet's rows (agent `*`) are left out. Of more than
            40 agents those with the strongest correlations are drawn.

    Returns:
        A PNG.
    """
    own = findings[(findings["agent_name"] != "*") & findings["r_shrunk"].notna()]
    if own.empty:
        figure = _figure(6, 1)
        figure.text(0.02, 0.5, "no pair of feature and aspect could be tested yet", color=_MUTED)
        return _png(figure)
    strength = own["r_shrunk"].abs().groupby(own["agent_name"]).max().sort_values(ascending=False, kind="stable")
    agents, aspects = sorted(strength.index[:MAX_AGENTS]), sorted(own["aspect"].unique())
    features = list(numeric_columns(own["feature"].unique()))[:MAX_FEATURES]
    across = 2 if len(aspects) > 1 else 1
    down = -(-len(aspects) // across)
    width = min(2.2 + across * (0.8 + 0.27 * len(features)), MAX_WIDTH)
    figure = _figure(width, 1.0 + down * (1.75 + 0.2 * len(agents)))
    image = None
    for position, aspect in enumerate(aspects):
        axes = figure.add_subplot(down, across, position + 1)
        image = _panel(axes, own[own["aspect"] == aspect], agents, features, first=position % across == 0)
        axes.set_title(aspect.replace("_", " "), fontsize=9.5, loc="left", color=_INK)
    subtitle = f", the {MAX_AGENTS} of {len(strength)} agents with the strongest" if len(strength) > MAX_AGENTS else ""
    figure.suptitle(
        f"Correlation of features with adjusted scores{subtitle} (dot = published)", x=0.01, ha="left", fontsize=11, color=_INK
    )
    if image is not None:
        bar = figure.colorbar(image, ax=figure.axes, shrink=min(1.0, 3.0 / figure.get_figheight()), aspect=18, pad=0.01)
        bar.ax.tick_params(labelsize=7, colors=_MUTED)
    return _png(figure)


def _panel(axes: "Axes", rows: "pd.DataFrame", agents: list[str], features: list[str], *, first: bool) -> "AxesImage":
    import numpy as np

    cells = rows.pivot_table(index="agent_name", columns="feature", values="r_shrunk").reindex(index=agents, columns=features)
    axes.set_facecolor("#eef0f2")
    image = axes.imshow(cells.to_numpy(float), cmap="RdBu_r", vmin=-0.6, vmax=0.6, aspect="auto", interpolation="nearest")
    published = rows[rows["published"] & rows["agent_name"].isin(agents) & rows["feature"].isin(features)]
    x = [features.index(name) for name in published["feature"]]
    y = [agents.index(name) for name in published["agent_name"]]
    axes.scatter(x, y, s=9, c=np.where(published["r_shrunk"].abs() > _DARK, "white", _INK), linewidth=0)
    axes.set_xticks(np.arange(len(features)), [name.replace("_", " ") for name in features], rotation=55, ha="right", fontsize=7)
    axes.set_yticks(np.arange(len(agents)), agents if first else [""] * len(agents), fontsize=7)
    axes.set_xticks(np.arange(-0.5, len(features)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(agents)), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0, colors=_INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
