"""Where an agent does well: approval and adjusted score per segment, shrunken, and where its next outputs should go.

A segment is a level of a category (content type, tone, channel, structure, length band) or of two of them. No segment is
called the best for a lucky handful of outputs: rates and means are those of `shrinkage`, and what to try next is drawn.
"""

import itertools
import uuid
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.allocation import allocate
from feedback_pipeline.learning.features import CATEGORIES
from feedback_pipeline.learning.leniency import output_leniency
from feedback_pipeline.learning.panel import Floats, Ints, Panel, output_means, output_outcomes, overall_scores
from feedback_pipeline.learning.shrinkage import Cells, Fit, additive_fit, shrunken_means, shrunken_rates

LENGTH_BAND: Final = "length_band"
BANDS: Final = ("short", "medium", "long")
FAMILIES: Final = (*CATEGORIES, LENGTH_BAND)
MIN_OUTPUTS: Final = 20
MOST_LEVELS: Final = 12
LENGTH: Final = "word_count"
_FAIR: Final = "fair"  # share approved with the reviewers' leniency taken out, within this module


def content_strategy(
    panel: Panel, bounds: dict[str, tuple[float, float]], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Segments and the next allocation of every agent.

    Args:
        panel: Panel whose scores are severity-adjusted.
        bounds: (low, high) by aspect, "*" for the rest.
        seed: Of the draws.

    Returns:
        segments: One row per agent and segment: agent_name, family ("tone", "tone x channel"), segment ("warm", "warm x blog"),
            n (outputs with a decision), approval_raw, approval, approval_low, approval_high (with the reviewers' leniency taken
            out and shrunken, but for the raw share), n_scored, score_raw, score,
            score_low, score_high (90 % intervals).
        allocation: One row per agent, family of one category and level: agent_name, family, segment, n, outputs of the next
            batch, propensity.
        states: agent_name, status, reason.
    """
    levels, names = segment_levels(panel)
    approved = output_outcomes(panel)
    overall = overall_scores(panel.scores, panel.aspects, bounds)
    score = output_means(overall[:, None], panel.review_output, len(panel.outputs))[:, 0]
    agent, n_agents = panel.output_agent, len(panel.agents)
    enough = np.bincount(agent[~np.isnan(approved)], minlength=n_agents) >= MIN_OUTPUTS
    scored = np.bincount(agent[~np.isnan(score)], minlength=n_agents) >= MIN_OUTPUTS
    # As if every output had been judged by reviewers who approve as readily as the agent's do on average.
    lenient = output_leniency(panel)
    usual = pd.Series(lenient).groupby(agent).transform("mean").to_numpy(dtype=np.float64)
    fair = np.where(enough[agent], approved - (lenient - usual), np.nan)
    rates = _Outcome.of(levels, agent, n_agents, fair, logistic=True)
    means = _Outcome.of(levels, agent, n_agents, np.where(scored[agent], score, np.nan), logistic=False)
    parts, next_parts = [], []
    for size in (1, 2):
        for dims in itertools.combinations(range(len(FAMILIES)), size):
            segments = _segments(panel, levels, names, dims, approved, rates, means)
            parts.append(segments)
            if size == 1:
                next_parts.append(_allocation(segments, seed))
    segments = (
        pd.concat(parts, ignore_index=True)
        .drop(columns=_FAIR)
        .sort_values(["agent_name", "family", "segment"], ignore_index=True)
    )
    allocation = pd.concat(next_parts, ignore_index=True).sort_values(["agent_name", "family", "segment"], ignore_index=True)
    return segments, allocation, _states(panel, segments, enough | scored)


class _Outcome:
    """One outcome of the outputs that have it, with what main effects, and what the agent alone, say of each."""

    def __init__(self, rows: Ints, value: Floats, main: Fit, flat: Fit, logistic: bool) -> None:
        self.rows, self.value, self.main, self.flat, self.logistic = rows, value, main, flat, logistic

    @classmethod
    def of(cls, levels: Ints, agent: Ints, n_agents: int, value: Floats, *, logistic: bool) -> "_Outcome":
        rows = np.flatnonzero(~np.isnan(value))
        none = np.empty((len(rows), 0), dtype=np.intp)
        main = additive_fit(levels[rows], agent[rows], n_agents, value[rows], logistic=logistic)
        return cls(rows, value[rows], main, additive_fit(none, agent[rows], n_agents, value[rows], logistic=logistic), logistic)

    def cells(self, place: Ints, cell_agent: Ints, *, single: bool) -> Cells:
        """Posterior of each cell; `place` is the cell of each output (N,), -1 = none."""
        known = place[self.rows] >= 0
        # A level of one category is shrunken to the agent; its main effect would be the level itself.
        fit = self.flat if single else self.main
        own = Fit(fit.value[known], fit.rows, fit.parameters)
        shrunken = shrunken_rates if self.logistic else shrunken_means
        return shrunken(place[self.rows][known], cell_agent, self.value[known], own)


def segment_levels(panel: Panel) -> tuple[Ints, list[npt.NDArray[np.object_]]]:
    """Level of each output in each family (N, D), -1 = unknown or rare, and the names of the levels by agent and code."""
    columns, names = [], []
    for family in FAMILIES:
        labels = _bands(panel) if family == LENGTH_BAND else panel.outputs[family].to_numpy(dtype=object)
        codes, known = _codes(panel.output_agent, labels, len(panel.agents))
        columns.append(codes)
        names.append(known)
    return np.column_stack(columns).astype(np.intp), names


def _codes(agent: Ints, labels: npt.NDArray[np.object_], n_agents: int) -> tuple[Ints, npt.NDArray[np.object_]]:
    """Codes by frequency within the agent (N,), at most 12 levels, and their names (n_agents, 12)."""
    code, values = pd.factorize(labels, sort=True)
    known = code >= 0
    width = max(len(values), 1)
    key = agent * width + code
    found, count = np.unique(key[known], return_counts=True)
    owner, value = np.divmod(found, width)
    order = np.lexsort((value, -count, owner))
    rank = np.empty(len(found), dtype=np.intp)
    rank[order] = np.arange(len(found)) - np.searchsorted(owner[order], owner[order])
    # An agent without a choice has nothing to compare.
    rank[np.bincount(owner, minlength=n_agents)[owner] < 2] = MOST_LEVELS
    names = np.full((n_agents, MOST_LEVELS), None, dtype=object)
    kept = rank < MOST_LEVELS
    names[owner[kept], rank[kept]] = np.asarray(values, dtype=object)[value[kept]]
    coded = np.full(len(labels), -1, dtype=np.intp)
    coded[known] = rank[np.searchsorted(found, key[known])]
    return np.where(coded < MOST_LEVELS, coded, -1), names


def _bands(panel: Panel) -> npt.NDArray[np.object_]:
    """short, medium or long: thirds of the agent's own lengths."""
    length = pd.Series(panel.outputs[LENGTH].to_numpy(dtype=np.float64, na_value=np.nan))
    by_agent = length.groupby(panel.output_agent)
    low, high = (by_agent.transform("quantile", q) for q in (1 / 3, 2 / 3))
    band: npt.NDArray[np.object_] = np.array([*BANDS, None], dtype=object)
    which: Ints = np.select([length.isna() | (low == high), length <= low, length <= high], [3, 0, 1], 2)
    named: npt.NDArray[np.object_] = band[which]
    return named


def _segments(
    panel: Panel,
    levels: Ints,
    names: list[npt.NDArray[np.object_]],
    dims: Sequence[int],
    approved: Floats,
    rates: _Outcome,
    means: _Outcome,
) -> pd.DataFrame:
    known = (levels[:, list(dims)] >= 0).all(axis=1)
    key = panel.output_agent.astype(np.intp)
    for d in dims:
        key = key * MOST_LEVELS + levels[:, d]
    found, cell = np.unique(key[known], return_inverse=True)
    place = np.full(len(key), -1, dtype=np.intp)
    place[known] = cell
    owner, *codes = np.unravel_index(found, (len(panel.agents), *[MOST_LEVELS] * len(dims)))
    labels = [names[d][owner, code] for d, code in zip(dims, codes, strict=True)]
    approval = rates.cells(place, owner, single=len(dims) == 1)
    score = means.cells(place, owner, single=len(dims) == 1)
    frame = pd.DataFrame(
        {
            "agent_name": panel.agents[owner],
            "family": " x ".join(FAMILIES[d] for d in dims),
            "segment": [_joined(label) for label in zip(*labels, strict=True)],
            "n": approval.n.astype(np.intp),
            **{f"approval{suffix}": values for suffix, values in _columns(approval).items()},
            "approval_raw": _raw_shares(place[rates.rows], approved[rates.rows], len(found)),
            _FAIR: np.clip(_columns(approval)["_raw"], 0.0, 1.0),
            "n_scored": score.n.astype(np.intp),
            **{f"score{suffix}": values for suffix, values in _columns(score).items()},
        }
    )
    return frame[(frame["n"] > 0) | (frame["n_scored"] > 0)]


def _joined(labels: Sequence[str]) -> str:
    """Levels of a segment as one name; a level that holds the sign between them is told apart by another sign."""
    if len(labels) == 1:
        return labels[0]
    return " x ".join(label.replace("×", "××").replace(" x ", " × ") for label in labels)


def _raw_shares(place: Ints, approved: Floats, n_cells: int) -> Floats:
    known = place >= 0
    n = np.bincount(place[known], minlength=n_cells)
    won = np.bincount(place[known], approved[known], n_cells)
    shares: Floats = np.divide(won, n, out=np.full(n_cells, np.nan), where=n > 0)
    return shares


def _columns(cells: Cells) -> dict[str, Floats]:
    empty = cells.n == 0
    columns = {"_raw": cells.raw, "": cells.mean, "_low": cells.low, "_high": cells.high}
    return {suffix: np.where(empty, np.nan, values) for suffix, values in columns.items()}


def _allocation(segments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The next batch of every agent over the levels of one family; `segments` are in the order of the agents."""
    arms = segments.loc[segments["n"] > 0, ["agent_name", "family", "segment", "n"]].reset_index(drop=True)
    n = arms["n"].to_numpy(dtype=np.float64)
    approved = segments.loc[segments["n"] > 0, _FAIR].to_numpy(dtype=np.float64) * n
    agent, names = pd.factorize(arms["agent_name"])
    starts = np.searchsorted(agent, np.arange(len(names) + 1))
    outputs, propensity = np.zeros(len(n), dtype=np.intp), np.full(len(n), np.nan)
    for name, first, last in zip(names, starts[:-1], starts[1:], strict=True):
        if last - first > 1:
            # A number of the name: an agent's draws must not depend on who else there is.
            own = uuid.uuid5(uuid.NAMESPACE_OID, f"{name}\x1f{arms['family'].iloc[0]}").int % 2**32
            batch = allocate(approved[first:last], n[first:last], np.random.default_rng((seed, own)))
            outputs[first:last], propensity[first:last] = batch.outputs, batch.propensity
    return arms.assign(outputs=outputs, propensity=propensity).dropna(subset="propensity")


def _states(panel: Panel, segments: pd.DataFrame, enough: npt.NDArray[np.bool_]) -> pd.DataFrame:
    has = np.isin(panel.agents, segments["agent_name"].unique())
    status = np.select([~enough, ~has], ["insufficient_data", "undefined"], "success")
    reasons = {
        "insufficient_data": f"fewer than {MIN_OUTPUTS} outputs with a decision or a score",
        "undefined": "the outputs do not differ in content type, tone, channel, structure or length",
        "success": None,
    }
    return pd.DataFrame(
        {"agent_name": panel.agents, "status": status, "reason": pd.Series([reasons[one] for one in status], dtype=object)}
    )
