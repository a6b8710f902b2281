"""From which value of a feature on outputs are approved more often: one candidate for each agent, feature and decision point.

Where no cut can be published but the feature matters, approval over the feature is: a monotone curve without a cut.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.panel import Ints
from feedback_pipeline.learning.pattern_contrasts import UNTESTABLE, Contrasts, split_q_values, within_agents
from feedback_pipeline.learning.pattern_frame import QUALITY_THRESHOLD, pattern_frame, with_confidence
from feedback_pipeline.learning.pattern_sentences import confounding, curve_sentence, threshold_sentence
from feedback_pipeline.learning.pattern_subject import Comparison
from feedback_pipeline.learning.pattern_writing import Explanation, explained
from feedback_pipeline.learning.thresholds import Thresholds, approval_curve, find_thresholds, why_unpublished

ALGORITHM: Final = "maximal_likelihood_ratio_cut"
CURVE: Final = "isotonic_approval_curve"


def cut(comparisons: Sequence[Comparison], names: Ints, testable: npt.NDArray[np.bool_], seed: int) -> list[Thresholds]:
    """Best cuts of every comparison, with q-values over all of a group's candidates.

    Args:
        comparisons: What is compared.
        names: A stable number of each group (G,).
        testable: Groups whose cuts count as tests (G,).
        seed: Of all resampling.
    """
    found = []
    for one in comparisons:
        rows = testable[one.group]
        found.append(
            find_thresholds(
                one.values[rows],
                one.approved[rows],
                one.group[rows],
                names,
                seed=seed,
                stratum=one.stratum[rows],
                content=one.content[rows],
            )
        )
    q = split_q_values([each.p_value for each in found], testable)
    return [why_unpublished(each, own) for each, own in zip(found, q, strict=True)]


def threshold_patterns(
    found: Sequence[Thresholds],
    comparisons: Sequence[Comparison],
    contrasts: Contrasts,
    agents: npt.NDArray[np.object_],
    n_reviewers: Sequence[int],
    testable: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    """The candidates as a pattern frame: every cut that was looked for, and curves of published contrasts without a clear cut.

    Args:
        found: Result of `cut` for these comparisons.
        comparisons: What was compared.
        contrasts: The contrasts of the same comparisons.
        agents: Name of each group (G,).
        n_reviewers: Reviewers of each group (G,).
        testable: Groups that have candidates (G,).
    """
    cuts, curves = [], []
    for k, (one, threshold) in enumerate(zip(comparisons, found, strict=True)):
        at = one.candidates(testable)
        frame = _cut_frame(threshold, one, at, agents, np.asarray(n_reviewers))
        rows = _GroupRows(one, len(agents))
        cuts.append(_explained_cuts(frame, threshold, at, rows))
        effect = contrasts.effects[k]
        wanted = contrasts.published(k) & pd.isna(effect.reason) & testable[:, None] & ~pd.isna(threshold.reason)
        curves.append(_curves(contrasts, k, np.nonzero(wanted), rows, agents, np.asarray(n_reviewers)))
    # Curves repeat the contrasts' effects: they are not cuts to estimate a prior from.
    return pd.concat([with_confidence(pd.concat(cuts, ignore_index=True)), *curves], ignore_index=True)


class _GroupRows:
    """The values and outcomes of one group and feature of a comparison."""

    def __init__(self, comparison: Comparison, n_groups: int) -> None:
        self.comparison = comparison
        self._order = np.argsort(comparison.group, kind="stable")
        self._bounds = np.searchsorted(comparison.group[self._order], np.arange(n_groups + 1))

    def curve(self, group: int, column: int, direction: int) -> dict[str, list[float]]:
        """Approval over the feature by bin: x, approval (monotone), observed, n."""
        rows = self._order[self._bounds[group] : self._bounds[group + 1]]
        x = self.comparison.values[rows, column]
        known = np.isfinite(x)
        at, share, observed, n = approval_curve(x[known], self.comparison.approved[rows][known], direction)
        return {"x": at.tolist(), "approval": share.tolist(), "observed": observed.tolist(), "n": n.tolist()}


def _cut_frame(
    found: Thresholds, one: Comparison, at: tuple[Ints, ...], agents: npt.NDArray[np.object_], n_reviewers: Ints
) -> pd.DataFrame:
    group, column = at
    feature = np.array(one.features, dtype=object)[column]
    suffix = "" if one.decision_point is None else f" | decision_point={one.decision_point}"
    share = found.approval[at]
    n = np.maximum(found.n_good + found.n_bad, 1)[at]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.maximum(found.n_bad[at] / n * found.lift[at] / np.sqrt(share * (1.0 - share)), 0.0)
    why = found.reason[at]
    reason = np.array([UNTESTABLE.get(code, code) for code in why], dtype=object)
    return pattern_frame(
        {
            "agent_name": agents[group],
            "pattern_type": QUALITY_THRESHOLD,
            "description": [f"{name} | threshold{suffix}" for name in feature],
            "feature": feature,
            "decision_point": one.decision_point,
            "unit": "approval",
            "direction": found.direction[at],
            "effect": found.lift[at],
            "se": found.lift_se[at],
            "ci_low": found.lift_low[at],
            "ci_high": found.lift_high[at],
            "p_value": found.p_value[at],
            "q_value": found.q_value[at],
            "accuracy_rate": found.accuracy[at],
            "gain": gain,
            "cut": found.cut[at],
            "n_contents": found.n[at],
            "n_reviewers": n_reviewers[group],
            "published": pd.isna(why),
            "reason": reason,
            "algorithm": ALGORITHM,
        },
        len(group),
    )


def _explained_cuts(frame: pd.DataFrame, found: Thresholds, at: tuple[Ints, ...], rows: _GroupRows) -> pd.DataFrame:
    """The frame with documents and sentences of what is published."""

    def explain(i: int, row: dict[str, Any]) -> Explanation:
        group, column = int(at[0][i]), int(at[1][i])
        cell = group, column
        characteristics: dict[str, Any] = {
            "cut": float(found.cut[cell]),
            "cut_interval": [float(found.cut_low[cell]), float(found.cut_high[cell])],
            "stability": float(found.stability[cell]),
            "curve": rows.curve(group, column, int(row["direction"])),
            "good_rate": float(found.good_rate[cell]),
            "bad_rate": float(found.bad_rate[cell]),
        }
        if row["agent_name"] == FLEET:
            # Cuts of the fleet are found within agents in the first place.
            characteristics |= within_agents(float(row["effect"]), float(row["effect"]))
        signals = {"n_good": int(found.n_good[cell]), "n_bad": int(found.n_bad[cell])}
        return characteristics, signals, threshold_sentence(row, characteristics, signals)

    return explained(frame, explain)


def _curves(
    contrasts: Contrasts,
    comparison: int,
    at: tuple[Ints, ...],
    rows: _GroupRows,
    agents: npt.NDArray[np.object_],
    n_reviewers: Ints,
) -> pd.DataFrame:
    effect, one = contrasts.effects[comparison], rows.comparison
    group, column = at
    suffix = "" if one.decision_point is None else f" | decision_point={one.decision_point}"
    frame = pattern_frame(
        {
            "agent_name": agents[group],
            "pattern_type": QUALITY_THRESHOLD,
            "description": [f"{one.features[j]} | curve{suffix}" for j in column],
            "feature": [one.features[j] for j in column],
            "decision_point": one.decision_point,
            "unit": "sd",
            "direction": np.sign(effect.g[at]),
            "effect": effect.g[at],
            "se": effect.se[at],
            "ci_low": effect.ci_low[at],
            "ci_high": effect.ci_high[at],
            "p_value": effect.p_value[at],
            "q_value": contrasts.q_value[comparison][at],
            "n_contents": (effect.n_approved + effect.n_other)[at],
            "n_reviewers": n_reviewers[group],
            "published": True,
            "algorithm": CURVE,
        },
        len(group),
    )

    def explain(i: int, row: dict[str, Any]) -> Explanation:
        curve = rows.curve(int(group[i]), int(column[i]), int(row["direction"]))
        characteristics: dict[str, Any] = {"cut": None, "cut_interval": None, "stability": None, "curve": curve}
        characteristics |= {"good_rate": None, "bad_rate": None}
        text = curve_sentence(row, curve)
        if contrasts.within is not None:
            within = float(contrasts.within.g[group[i], column[i]])
            compared = within_agents(float(row["effect"]), within)
            characteristics |= compared
            text += confounding(within) if compared["confounded_with_agent"] else ""
        return characteristics, {"n_good": None, "n_bad": None}, text

    return explained(frame, explain)
