"""Which features of an agent's outputs go together: advice about one of them is advice about the other."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from feedback_pipeline.learning.panel import Floats, Panel

TOGETHER = 0.5
_MIN_OUTPUTS = 20


def collinear_pairs(panel: Panel, features: Sequence[str]) -> pd.DataFrame:
    """Pairs of features with |Spearman correlation| >= .5 over the outputs of an agent that have both.

    Args:
        panel: Outputs with their features; an agent with fewer than 20 of them has no pairs.
        features: Columns of the outputs.

    Returns:
        agent_name, feature, other, rho; every pair once, in the order of `features`.
    """
    values = panel.outputs[list(features)].to_numpy(dtype=np.float64).reshape(len(panel.outputs), len(features))
    bounds = np.searchsorted(panel.output_agent, np.arange(len(panel.agents) + 1))
    parts = []
    for name, first, last in zip(panel.agents, bounds[:-1], bounds[1:], strict=True):
        rho = _spearman(values[first:last])
        left, right = np.nonzero(np.triu(np.abs(rho) >= TOGETHER, 1))
        named = (np.array(features, dtype=object)[side] for side in (left, right))
        parts.append(
            pd.DataFrame(dict(zip(("feature", "other"), named, strict=True)) | {"rho": rho[left, right]}).assign(agent_name=name)
        )
    empty = pd.DataFrame({"agent_name": [], "feature": [], "other": [], "rho": []}).astype({"rho": float})
    found = pd.concat([part for part in parts if len(part)] or [empty], ignore_index=True)
    return found[["agent_name", "feature", "other", "rho"]]


def _spearman(values: Floats) -> Floats:
    """Rank correlations (J, J) over the rows (n, J) where both are present, by ranks of each column alone; NaN = undefined."""
    present = np.isfinite(values).astype(np.float64)
    n = present.T @ present
    if len(values) < _MIN_OUTPUTS:
        return np.full(n.shape, np.nan)
    ranks = np.where(present > 0, stats.rankdata(np.where(present > 0, values, np.inf), axis=0), 0.0)
    # Sums over the rows of each pair: row j, column k is about column j where k is present too.
    total, squares = ranks.T @ present, (ranks * ranks).T @ present
    count = np.maximum(n, 1.0)
    covariance, spread = ranks.T @ ranks - total * total.T / count, squares - total * total / count
    with np.errstate(invalid="ignore"):
        rho: Floats = np.where(n >= _MIN_OUTPUTS, _ratio(covariance, np.sqrt(np.maximum(spread * spread.T, 0.0))), np.nan)
    return rho


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    ratio: Floats = np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
    return ratio
