"""Writing the documents and the sentence of every published candidate into its row."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.pattern_frame import DOCUMENTS, documents
from feedback_pipeline.learning.sentences import taste

_WRITTEN: Final = (*DOCUMENTS, "sentence")
Explanation = tuple[dict[str, Any], dict[str, Any], str]
"""What a kind adds to output_characteristics and to human_feedback_signals, and the sentence."""


def explained(frame: pd.DataFrame, explain: Callable[[int, dict[str, Any]], Explanation]) -> pd.DataFrame:
    """The frame with documents and sentences of what is published.

    Args:
        frame: Candidates.
        explain: What to say of the candidate at a position, given its row.
    """
    written: dict[str, list[object]] = {name: [None] * len(frame) for name in _WRITTEN}
    published = np.flatnonzero(frame["published"])
    rows = frame.iloc[published]
    names = [str(name) for name in rows.columns]
    for i, values in zip(published.tolist(), zip(*(rows[name].tolist() for name in names), strict=True), strict=True):
        row = dict(zip(names, values, strict=True))
        characteristics, signals, text = explain(i, row)
        written["sentence"][i] = text + taste(int(row["n_reviewers"]))
        for name, document in documents(row, inputs={}, characteristics=characteristics, signals=signals).items():
            written[name][i] = document
    return frame.assign(**{name: pd.Series(values, dtype=object, index=frame.index) for name, values in written.items()})
