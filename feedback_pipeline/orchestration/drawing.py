"""What the pictures in the metadata of the assets share: figures without a display, labels that no name can break, colours.

Belongs here: how anything is drawn. Does not belong here: what is drawn (pictures and the modules named *_pictures).
"""

import base64
import io
import warnings
from typing import TYPE_CHECKING, Any, Final

from feedback_pipeline.orchestration.plain_text import one_line

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LABEL: Final = 40  # letters
SHORT_LABEL: Final = 26
MAX_REASON: Final = 95
MAX_SENTENCE: Final = 155
MAX_WIDTH: Final = 11.8  # inches: what the dialog of the web UI shows without scrolling
INK, MUTED, BAR, BAND = "#1f2933", "#7b8794", "#5b8db8", "#dfe9f2"
GOOD, BAD, WITHHELD = "#2f6f9f", "#c8743c", "#b4bdc7"  # told apart by the colour-blind, and in print
HUGE: Final = 1e100  # beyond it sums of the numbers of an axis are no numbers
_DPI: Final = 100


def markdown(png: bytes, alternative: str) -> str:
    """The picture as a Markdown image that needs no server."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})"


def new_figure(width: float, height: float) -> "Figure":
    """A white figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")


def as_png(figure: "Figure") -> bytes:
    """The figure as a PNG; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)  # drawn as a box
        # savefig would lay it out and draw it twice.
        canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def sentence_alone(text: str) -> bytes:
    """A PNG that says why there is nothing to draw."""
    said = label(text, MAX_SENTENCE)
    figure = new_figure(min(max(6.0, 0.5 + 0.072 * len(said)), MAX_WIDTH), 1)
    figure.text(0.02, 0.5, said, color=MUTED, fontsize=9)
    return as_png(figure)


def label(name: str, longest: int = MAX_LABEL) -> str:
    """A name as a label: on one line, not too long, and with no sign that matplotlib would read as a formula."""
    plain = one_line(name.replace("_", " "))
    short = plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
    return short.replace("$", r"\$")


def short_number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def drawable(values: "pd.Series") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The values as numbers, NaN where an axis has no place for them."""
    import numpy as np

    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.abs(numbers) < HUGE, numbers, np.nan)


def bare(axes: "Axes", *, keep: tuple[str, ...] = ("bottom",)) -> None:
    """Takes the frame away, but for the sides named in `keep`, and makes the ticks quiet."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(MUTED)
    axes.tick_params(labelsize=7, colors=MUTED, length=2)


def counts_at_the_right(
    axes: "Axes", y: "np.ndarray[Any, np.dtype[np.float64]]", counts: "pd.Series", what: str, *, above: float = 6.0
) -> None:
    """How many of what every row rests on, quietly at the right: numbers, or texts as they are."""
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    bare(right, keep=())
    right.set_yticks(y, [count if isinstance(count, str) else f"{count:,}" for count in counts], fontsize=6.5, color=MUTED)
    right.tick_params(axis="y", length=0)
    right.set_title(what, fontsize=6.5, color=MUTED, loc="right", pad=above)
