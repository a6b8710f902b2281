"""Which combination of two features is approved more often: the best leaf of a small tree, judged on outputs it has not seen.

One candidate for each agent that has features with a published correlation and 300 outputs. The tree has depth 2 and splits
between quantile bins; its leaf is a rule that can be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from feedback_pipeline.learning.effects import MIN_CLASS
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.pattern_frame import DECISION_RULE, pattern_frame, with_confidence
from feedback_pipeline.learning.pattern_sentences import rule_sentence
from feedback_pipeline.learning.pattern_subject import Decided
from feedback_pipeline.learning.pattern_writing import Explanation, explained
from feedback_pipeline.learning.threshold_lift import folds, stratified_lift, widened
from feedback_pipeline.learning.threshold_scan import BINS, binned_values

MIN_RULED: Final = 300
MOST_FEATURES: Final = 8
ALGORITHM: Final = "depth_2_tree_cross_fitted"
_FOLDS = 5
_LEAF = (15, 0.1)  # outputs, share
_Z99: Final = float(special.ndtri(0.995))
_NOT_KEPT = "lift not clearly above 0 on outputs the rule was not chosen from"


@dataclass(frozen=True)
class Condition:
    """Outputs whose bin of a feature is above (or not above) a cut.

    Attributes:
        feature: Row of the feature.
        cut: Last bin below the cut.
        above: Whether the outputs above the cut are meant.
    """

    feature: int
    cut: int
    above: bool

    def holds(self, bins: Ints) -> npt.NDArray[np.bool_]:
        """Whether each output (n,) meets the condition, from the bins (J, n)."""
        meets: npt.NDArray[np.bool_] = (bins[self.feature] > self.cut) == self.above
        return meets


@dataclass(frozen=True)
class Rule:
    """A rule and what it is worth.

    Attributes:
        conditions: feature, operator (">=" or "<") and value of each part.
        lift: Keys of `stratified_lift`, cross-fitted, 95 % interval, no narrower than the test allows.
        low_99: Lower bound of Newcombe's 99 % interval.
        p_value: Of folds judged by the tree of the folds before them.
        n: Outputs used.
        approval: Share of approved outputs.
    """

    conditions: list[dict[str, Any]]
    lift: dict[str, float]
    low_99: float
    p_value: float
    n: int
    approval: float

    @property
    def kept(self) -> bool:
        """Whether both bounds are above 0: the 95 % bound alone, not widened, would keep 6 to 9 % of what trees find in noise."""
        return min(self.low_99, self.lift["lift_low"]) > 0


def find_rules(
    decided: Decided, testable: npt.NDArray[np.bool_], published_features: Mapping[str, Sequence[str]], seed: int
) -> pd.DataFrame:
    """The rule of every agent as a pattern frame; an agent without published features or with fewer than 300 outputs has none.

    A rule is published when the lower bounds of its cross-fitted lift are above 0 (`Rule.kept`).

    Args:
        decided: Outputs with a decision.
        testable: Groups that have candidates (G,).
        published_features: Features with a published correlation by agent, strongest first; the first eight are used.
        seed: Of the folds.
    """
    n_reviewers = decided.n_reviewers
    bounds = np.searchsorted(decided.group, np.arange(len(decided.agents) + 1))
    found: list[tuple[str, int, Rule]] = []
    for g in np.flatnonzero(testable):
        agent = str(decided.agents[g])
        names = [name for name in published_features.get(agent, ()) if name in decided.features][:MOST_FEATURES]
        if names and bounds[g + 1] - bounds[g] >= MIN_RULED:
            rows = slice(int(bounds[g]), int(bounds[g + 1]))
            x = decided.values[rows, [decided.features.index(name) for name in names]].T
            known = np.isfinite(x).all(axis=0)
            fold = folds(decided.content[rows], _FOLDS, (seed, int(decided.names[g])))
            rule = find_rule(x[:, known], decided.approved[rows][known], decided.stratum[rows][known], fold[known], names)
            if rule is not None:
                found.append((agent, int(n_reviewers[g]), rule))
    return with_confidence(_frame(found))


def find_rule(x: Floats, approved: Floats, stratum: Ints, fold: Ints, names: Sequence[str]) -> Rule | None:
    """The best leaf of the tree on all outputs and the cross-fitted lift of trees on four fifths of them.

    Args:
        x: Features (J, n), finite.
        approved: 1 or 0 (n,).
        stratum: Code of each output (n,); outcomes are compared within strata.
        fold: 0..4 (n,).
        names: Names of the features.

    Returns:
        None with fewer than 300 outputs, one outcome, or no split that leaves enough on both sides.
    """
    n = len(approved)
    if n < MIN_RULED or min(approved.sum(), n - approved.sum()) < MIN_CLASS:
        return None
    bins, edges = binned_values(x)
    _, own = np.unique(stratum, return_inverse=True)
    residual = approved - (np.bincount(own, approved) / np.bincount(own))[own]
    leaf = _best_leaf(bins, residual)
    good = np.zeros(n, dtype=bool)
    for k in range(_FOLDS):
        held = fold == k
        good[held] = _holds(_best_leaf(bins[:, ~held], residual[~held]), bins[:, held])
    if not leaf:
        return None
    side = np.bincount((own * 2 + approved.astype(np.intp)) * 2 + good, minlength=4 * int(own.max() + 1)).reshape(-1, 2, 2)
    p_value = _forward_p_value(bins, approved, residual, own, fold, good)
    raw = stratified_lift(side[..., 1], side[..., 0])
    lift = {name: float(value) for name, value in widened(raw, np.array(p_value)).items()}
    low = float(stratified_lift(side[..., 1], side[..., 0], _Z99)["lift_low"])
    return Rule(_readable(leaf, edges, names), lift, low, p_value, n, float(approved.mean()))


def _forward_p_value(
    bins: Ints, approved: Floats, residual: Floats, stratum: Ints, fold: Ints, good: npt.NDArray[np.bool_]
) -> float:
    """Two-sided p-value of approvals in leaves found on the folds before.

    Whatever leaf the earlier folds choose, under the null the approvals of a later fold's stratum fall into it at random: the sum
    of the differences from what is expected is a martingale, with the hypergeometric variances, and nearly normal. The
    cross-fitted lift over its standard error is not: in noise it is above 3 in 2 % of the cases.
    """
    surplus, variance = 0.0, 0.0
    n_strata = int(stratum.max()) + 1
    for k in range(1, _FOLDS):
        before, now = fold < k, fold == k
        # For the last fold, those before it are all the others: `good` is known from cross-fitting.
        last = k == _FOLDS - 1
        inside = good[now] if last else _holds(_best_leaf(bins[:, before], residual[before]), bins[:, now])
        own = stratum[now]
        size = np.bincount(own, minlength=n_strata).astype(np.float64)
        wins, leaf, won = (np.bincount(own, weight, n_strata) for weight in (approved[now], inside, approved[now] * inside))
        each = np.maximum(size, 1.0)
        surplus += float((won - leaf * wins / each).sum())
        spread = leaf * (size - leaf) * wins * (size - wins) / (each**2 * np.maximum(size - 1.0, 1.0))
        variance += float(spread.sum())
    return float(min(2.0 * special.ndtr(-surplus / np.sqrt(variance)), 1.0)) if variance > 0 else 1.0


def _best_leaf(bins: Ints, outcome: Floats) -> list[Condition]:
    """Conditions of the leaf with the highest mean outcome; none where nothing can be split."""
    smallest = max(_LEAF[0], _LEAF[1] * len(outcome))
    everything = np.ones(len(outcome), dtype=bool)
    root = _split(bins, outcome, everything, smallest)
    best: tuple[float, list[Condition]] = (-np.inf, [])
    for branch in root:
        inside = branch.holds(bins)
        leaves = [[branch, twig] for twig in _split(bins, outcome, inside, smallest)] or [[branch]]
        for leaf in leaves:
            mean = float(outcome[_holds(leaf, bins)].mean())
            best = max(best, (mean, leaf), key=lambda pair: pair[0])
    return best[1]


def _holds(conditions: Sequence[Condition], bins: Ints) -> npt.NDArray[np.bool_]:
    inside = np.full(bins.shape[1], bool(conditions))
    for condition in conditions:
        inside &= condition.holds(bins)
    return inside


def _split(bins: Ints, outcome: Floats, inside: npt.NDArray[np.bool_], smallest: float) -> list[Condition]:
    """The two sides of the split that leaves the least variance, each with at least `smallest` outputs; [] where none has."""
    part = bins[:, inside]
    key = (part + np.arange(len(bins))[:, None] * BINS).ravel()
    weights = np.broadcast_to(outcome[inside], part.shape).ravel()
    n = np.cumsum(np.bincount(key, minlength=BINS * len(bins)).reshape(-1, BINS), axis=1).astype(np.float64)
    total = np.cumsum(np.bincount(key, weights, minlength=BINS * len(bins)).reshape(-1, BINS), axis=1)
    below, above = n[:, :-1], n[:, -1:] - n[:, :-1]
    explained = total[:, :-1] ** 2 / np.maximum(below, 1) + (total[:, -1:] - total[:, :-1]) ** 2 / np.maximum(above, 1)
    explained = np.where(np.minimum(below, above) >= smallest, explained, -np.inf)
    feature, cut = np.unravel_index(int(np.argmax(explained)), explained.shape)
    if explained[feature, cut] == -np.inf:
        return []
    return [Condition(int(feature), int(cut), above=side) for side in (False, True)]


def _readable(leaf: Sequence[Condition], edges: Floats, names: Sequence[str]) -> list[dict[str, Any]]:
    """The conditions as documents, sorted by feature; of two on the same side of one feature only the narrower."""
    narrowest: dict[tuple[int, bool], int] = {}
    for part in leaf:
        key = part.feature, part.above
        cut = narrowest.get(key, part.cut)
        narrowest[key] = max(cut, part.cut) if part.above else min(cut, part.cut)
    conditions = [
        {"feature": names[feature], "operator": ">=" if above else "<", "value": float(edges[feature, cut + 1])}
        for (feature, above), cut in narrowest.items()
    ]
    return sorted(conditions, key=lambda one: (one["feature"], one["operator"]))


def _frame(found: Sequence[tuple[str, int, Rule]]) -> pd.DataFrame:
    rules = [rule for _, _, rule in found]
    lift = {name: np.array([rule.lift[name] for rule in rules]) for name in (rules[0].lift if rules else ())}
    if not rules:
        return pattern_frame({}, 0)
    features = [" x ".join(sorted({part["feature"] for part in rule.conditions})) for rule in rules]
    p_value = [rule.p_value for rule in rules]
    published = np.array([rule.kept for rule in rules])
    approval = np.array([rule.approval for rule in rules])
    bad_share = lift["n_bad"] / (lift["n_good"] + lift["n_bad"])
    columns: dict[str, Any] = {
        "agent_name": [agent for agent, _, _ in found],
        "pattern_type": DECISION_RULE,
        "description": [f"{name} | rule" for name in features],
        "feature": features,
        "unit": "approval",
        "direction": 1.0,
        "effect": lift["lift"],
        "se": lift["lift_se"],
        "ci_low": lift["lift_low"],
        "ci_high": lift["lift_high"],
        "p_value": p_value,
        "q_value": p_value,
        "accuracy_rate": lift["accuracy"],
        "gain": np.maximum(bad_share * lift["lift"] / np.sqrt(approval * (1.0 - approval)), 0.0),
        "n_contents": [rule.n for rule in rules],
        "n_reviewers": [n for _, n, _ in found],
        "published": published,
        "reason": [None if kept else _NOT_KEPT for kept in published],
        "algorithm": ALGORITHM,
    }

    def explain(i: int, row: dict[str, Any]) -> Explanation:
        rates = {"good_rate": rules[i].lift["good_rate"], "bad_rate": rules[i].lift["bad_rate"]}
        characteristics = {"conditions": rules[i].conditions, **rates}
        signals = {"n_good": int(rules[i].lift["n_good"]), "n_bad": int(rules[i].lift["n_bad"])}
        return characteristics, signals, rule_sentence(row, characteristics, signals)

    return explained(pattern_frame(columns, len(rules)), explain)
