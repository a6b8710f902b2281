"""Whether assignments were what they should have been: the share that applied a pattern, and the hash that decides it."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from scipy import special

from feedback_pipeline.learning.holdout import assign, salt_of
from feedback_pipeline.learning.panel import Floats

ALARM: Final = 0.01
"""Probability of any false alarm over all trials, where every assignment is right."""
MOST_RECOMPUTED: Final = 5_000


def shares(applications: pd.DataFrame) -> pd.DataFrame:
    """Share that applied each pattern beside the one that was asked for (sample ratio).

    Args:
        applications: pattern_id, trial, applied, propensity.

    Returns:
        pattern_id, trial, n, applied (share), expected (share), p_value (two-sided, normal), off: whether that could hardly be
        chance, at `ALARM` over all trials.
    """
    rows = applications.assign(variance=applications["propensity"] * (1.0 - applications["propensity"]))
    grouped = rows.groupby(["pattern_id", "trial"], sort=True)
    frame = grouped.agg(
        n=("applied", "size"), applied=("applied", "mean"), expected=("propensity", "mean"), variance=("variance", "sum")
    ).reset_index()
    deviation: Floats = ((frame["applied"] - frame["expected"]) * frame["n"] / np.sqrt(frame["variance"])).to_numpy(np.float64)
    p_value = 2.0 * special.ndtr(-np.abs(deviation))
    return frame.drop(columns="variance").assign(p_value=p_value, off=p_value < ALARM / max(len(frame), 1))


def count_broken(applications: pd.DataFrame, installation_id: str) -> tuple[int, int]:
    """Of the newest applications, how many are not what the hash of their execution says, and how many were looked at.

    Args:
        applications: pattern_id, trial, execution_id, applied, propensity, assigned_at.
        installation_id: Part of the salt.
    """
    newest = applications.sort_values(["assigned_at", "execution_id", "pattern_id"]).tail(MOST_RECOMPUTED)
    broken = sum(_is_broken(row, installation_id) for row in newest.to_dict("records"))
    return broken, len(newest)


def _is_broken(row: Mapping[object, object], installation_id: str) -> bool:
    salt = salt_of(installation_id, int(str(row["trial"])))
    said = assign(salt, str(row["pattern_id"]), str(row["execution_id"]), float(str(row["propensity"])))
    return said != bool(row["applied"])
