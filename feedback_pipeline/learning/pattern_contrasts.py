"""What approved outputs have more or less of than others: one candidate for each agent, feature and decision point."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.effects import (
    CONFOUNDED,
    CONSTANT,
    INSUFFICIENT_DATA,
    MIN_OUTPUTS,
    ONE_CLASS,
    Effects,
    approval_effects,
)
from feedback_pipeline.learning.panel import Floats
from feedback_pipeline.learning.pattern_frame import (
    FAILURE_PATTERNS,
    SUCCESSFUL_DECISIONS,
    pattern_frame,
    with_confidence,
)
from feedback_pipeline.learning.pattern_sentences import confounding, contrast_sentence
from feedback_pipeline.learning.pattern_subject import Comparison
from feedback_pipeline.learning.pattern_writing import Explanation, explained
from feedback_pipeline.learning.pooling import q_values

MAX_Q: Final = 0.10
MIN_EFFECT: Final = 0.10
_CONFOUNDED = 0.4  # standard deviations: .2 as a correlation
ALGORITHM: Final = "hedges_g_van_elteren"
UNTESTABLE: Final = {
    INSUFFICIENT_DATA: f"fewer than {MIN_OUTPUTS} outputs",
    ONE_CLASS: "fewer than 10 approved or 10 other outputs",
    CONFOUNDED: "no set of reviewers both approved and did not approve outputs",
    CONSTANT: "constant feature",
}


@dataclass(frozen=True)
class Contrasts:
    """Effects of every comparison, with q-values over all of a group's.

    Attributes:
        effects: By comparison, each (G, J).
        q_value: Likewise.
        within: Effects within agents, for the fleet alone.
    """

    effects: list[Effects]
    q_value: list[Floats]
    within: Effects | None = None

    def published(self, comparison: int) -> npt.NDArray[np.bool_]:
        """Whether each contrast is published (G, J)."""
        effect, q = self.effects[comparison], self.q_value[comparison]
        n = effect.n_approved + effect.n_other
        kept: npt.NDArray[np.bool_] = (q <= MAX_Q) & (np.abs(effect.g) >= MIN_EFFECT) & (n >= MIN_OUTPUTS)
        return kept


def contrast(comparisons: Sequence[Comparison], n_groups: int, testable: npt.NDArray[np.bool_]) -> Contrasts:
    """Compare approved with other outputs in every feature of every comparison.

    Args:
        comparisons: What is compared.
        n_groups: G.
        testable: Groups whose contrasts count as tests (G,).
    """
    effects = [_effects(one, n_groups) for one in comparisons]
    return Contrasts(effects, split_q_values([effect.p_value for effect in effects], testable))


def _effects(one: Comparison, n_groups: int) -> Effects:
    return approval_effects(one.values, one.approved, one.group, n_groups, one.stratum, one.by_value)


def split_q_values(p: Sequence[Floats], testable: npt.NDArray[np.bool_]) -> list[Floats]:
    """Benjamini-Hochberg over the columns of all matrices (G, J) together, row by row; NaN where a row is not testable."""
    together = np.where(testable[:, None], np.concatenate(p, axis=1), np.nan)
    return np.split(q_values(together), np.cumsum([one.shape[1] for one in p])[:-1], axis=1)


def fleet_contrast(pooled: Comparison, within: Comparison) -> Contrasts:
    """The contrasts of all agents as one group, beside the same ones within agents."""
    found = contrast([pooled], 1, np.ones(1, dtype=bool))
    return Contrasts(found.effects, found.q_value, _effects(within, 1))


def contrast_patterns(
    found: Contrasts,
    comparisons: Sequence[Comparison],
    agents: npt.NDArray[np.object_],
    n_reviewers: Sequence[int],
    testable: npt.NDArray[np.bool_],
    rates: Sequence[tuple[Floats, Floats, Floats]],
) -> pd.DataFrame:
    """The candidates as a pattern frame.

    Args:
        found: Result of `contrast` for these comparisons.
        comparisons: What was compared.
        agents: Name of each group (G,).
        n_reviewers: Reviewers of each group (G,).
        testable: Groups that have candidates (G,).
        rates: By comparison, approval on the bad and on the good side of each feature's best cut (G, J), NaN where unknown.
    """
    parts = []
    for k, (one, effect, q) in enumerate(zip(comparisons, found.effects, found.q_value, strict=True)):
        group, column = at = one.candidates(testable)
        g, feature = effect.g[at], np.array(one.features, dtype=object)[column]
        suffix = "" if one.decision_point is None else f" | decision_point={one.decision_point}"
        n = (effect.n_approved + effect.n_other)[at]
        frame = pattern_frame(
            {
                "agent_name": agents[group],
                "pattern_type": np.where(g < 0, FAILURE_PATTERNS, SUCCESSFUL_DECISIONS).astype(object),
                "description": [f"{name} | approved v other{suffix}" for name in feature],
                "feature": feature,
                "decision_point": one.decision_point,
                "unit": "sd",
                "direction": np.nan_to_num(np.sign(g)),
                "effect": g,
                "se": effect.se[at],
                "ci_low": effect.ci_low[at],
                "ci_high": effect.ci_high[at],
                "p_value": effect.p_value[at],
                "q_value": q[at],
                "n_contents": n,
                "n_reviewers": np.asarray(n_reviewers)[group],
                "published": found.published(k)[at],
                "reason": _reasons(effect.reason[at], q[at], g),
                "algorithm": ALGORITHM,
            },
            len(group),
        )
        parts.append(_explained(frame, effect, at, rates[k], found.within))
    return with_confidence(pd.concat(parts, ignore_index=True))


def _reasons(untestable: npt.NDArray[np.object_], q: Floats, g: Floats) -> npt.NDArray[np.object_]:
    reason = np.full(len(q), None, dtype=object)
    reason[~(np.abs(g) >= MIN_EFFECT)] = f"too small: |g| below {MIN_EFFECT:.2f}"
    reason[~(q <= MAX_Q)] = f"could be chance: q above {MAX_Q:.2f}"
    for code, why in UNTESTABLE.items():
        reason[untestable == code] = why
    return reason


def _explained(
    frame: pd.DataFrame,
    effect: Effects,
    at: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    rates: tuple[Floats, Floats, Floats],
    within: Effects | None,
) -> pd.DataFrame:
    """The frame with documents and sentences of what is published."""

    def explain(i: int, row: dict[str, Any]) -> Explanation:
        cell = at[0][i], at[1][i]
        measured = {"hedges_g": effect.g, "cliffs_delta": effect.cliff}
        measured |= {"mean_approved": effect.mean_approved, "mean_other": effect.mean_other}
        characteristics: dict[str, Any] = {name: float(values[cell]) for name, values in measured.items()}
        signals = {"n_approved": int(effect.n_approved[cell]), "n_other": int(effect.n_other[cell])}
        bad, good, direction = (float(values[cell]) for values in rates)
        # A cut the other way round is another story: the feature rises and falls.
        lift = (bad, good) if good > bad and direction == row["direction"] else None
        text = contrast_sentence(row, signals["n_approved"], signals["n_other"], lift)
        if within is not None:
            compared = within_agents(float(effect.g[cell]), float(within.g[cell]))
            characteristics |= compared
            text += confounding(float(within.g[cell])) if compared["confounded_with_agent"] else ""
        return characteristics, signals, text

    return explained(frame, explain)


def within_agents(effect: float, effect_within: float) -> dict[str, float | bool | None]:
    """The effect within agents, and whether the one over all agents is confounded with the agent; None where unknown."""
    if np.isnan(effect_within):
        return {"effect_within": None, "confounded_with_agent": None}
    differs = abs(effect - effect_within) > _CONFOUNDED or effect * effect_within < 0
    return {"effect_within": effect_within, "confounded_with_agent": differs}
