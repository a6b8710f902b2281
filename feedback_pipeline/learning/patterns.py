"""Decision patterns: what approved outputs have in common, from which value on, and in which combination; all agents in one pass.

Outputs of different agents are compared under the agent name `*` only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.effects import MIN_CLASS, MIN_OUTPUTS
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.panel import Floats, Panel
from feedback_pipeline.learning.pattern_contrasts import contrast, contrast_patterns, fleet_contrast
from feedback_pipeline.learning.pattern_frame import FAILURE_PATTERNS, SUCCESSFUL_DECISIONS, concatenated, pattern_frame
from feedback_pipeline.learning.pattern_subject import Decided
from feedback_pipeline.learning.pattern_thresholds import cut, threshold_patterns
from feedback_pipeline.learning.rules import find_rules
from feedback_pipeline.learning.thresholds import Thresholds

MIN_DECIDED: Final = 10
DECISIONS: Final = "decisions"
SUCCESS, INSUFFICIENT, TENTATIVE, ONE_CLASS, UNDEFINED, ERROR = (
    "success",
    "insufficient_data",
    "tentative",
    "one_class",
    "undefined",
    "error",
)
_FLEET_NAME = np.zeros(1, dtype=np.intp)
# What numpy and scipy raise for numbers they cannot work with.
_BROKEN = (ArithmeticError, ValueError, LearningError)


def find_patterns(
    panel: Panel,
    points: pd.DataFrame,
    bounds: Mapping[str, tuple[float, float]],
    features: Sequence[str],
    published_features: Mapping[str, Sequence[str]],
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Contrasts, thresholds and rules of every agent, and contrasts and thresholds of the fleet.

    Args:
        panel: Panel whose scores are severity-adjusted.
        points: Features of outputs by decision point: agent_name, execution_id, decision_point and the decision features.
        bounds: Limits of the scores; decisions have none, but every step of a pass is given the same.
        features: Numeric columns of the panel's outputs.
        published_features: Features with a published correlation by agent, strongest first.
        seed: Of all resampling.

    Returns:
        patterns: One row per candidate, columns `PATTERN_COLUMNS`, sorted.
        parts: agent_name, part ("decisions"), document {status, reason, published, n, decision_points}; one row per agent.

    Raises:
        LearningError: the agents are fine one by one but not together.
    """
    decided = Decided.of(panel, points, features)
    patterns, broken = _what_can_be_found(decided, published_features, seed)
    scored = np.zeros(len(panel.agents), dtype=bool)
    scored[panel.review_agent[(~np.isnan(panel.scores)).any(axis=1)]] = True
    return patterns, _parts(decided, scored, patterns, broken)


def _find(decided: Decided, published_features: Mapping[str, Sequence[str]], seed: int) -> pd.DataFrame:
    testable = np.array([status == SUCCESS for status, _ in _states(decided)], dtype=bool)
    comparisons = decided.comparisons()
    contrasts = contrast(comparisons, len(decided.agents), testable)
    cuts = cut(comparisons, decided.names, testable, seed)
    who = (decided.agents, decided.n_reviewers.tolist(), testable)
    own = contrast_patterns(contrasts, comparisons, *who, [_rates(one) for one in cuts])
    thresholds = _with_curve_confidence(threshold_patterns(cuts, comparisons, contrasts, *who), own)
    rules = find_rules(decided, testable, published_features, seed)
    return concatenated([own, thresholds, rules, *_descriptions(decided), *_fleet(decided, seed)])


def _fleet(decided: Decided, seed: int) -> list[pd.DataFrame]:
    if not len(decided.group):
        return []
    pooled, within = decided.fleet()
    everyone = np.ones(1, dtype=bool)
    cuts = cut([within], _FLEET_NAME, everyone, seed)
    contrasts = fleet_contrast(pooled, within)
    who = (np.array([FLEET], dtype=object), [len(np.unique(decided.judge))], everyone)
    own = contrast_patterns(contrasts, [pooled], *who, [_rates(one) for one in cuts])
    return [own, _with_curve_confidence(threshold_patterns(cuts, [within], contrasts, *who), own)]


def _rates(cuts: Thresholds) -> tuple[Floats, Floats, Floats]:
    return cuts.bad_rate, cuts.good_rate, cuts.direction


def _with_curve_confidence(thresholds: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """A curve is as sure as the contrast it draws."""
    keys = ["agent_name", "feature", "decision_point"]
    sure = dict(zip(zip(*(contrasts[key] for key in keys), strict=True), contrasts["confidence"], strict=True))
    curves = np.flatnonzero(thresholds["unit"] == "sd")
    confidence = thresholds["confidence"].to_numpy(dtype=np.float64, copy=True)
    rows = thresholds.iloc[curves]
    confidence[curves] = [sure[key] for key in zip(*(rows[key] for key in keys), strict=True)]
    return thresholds.assign(confidence=confidence)


def _states(decided: Decided) -> list[tuple[str, str | None]]:
    """Status and reason of each agent's decisions."""
    n = np.bincount(decided.group, minlength=len(decided.agents))
    wins = np.bincount(decided.group, decided.approved, minlength=len(decided.agents)).astype(np.intp)
    return [_state(int(total), int(won)) for total, won in zip(n, wins, strict=True)]


def _state(n: int, approved: int, needed: int = MIN_DECIDED, what: str = "a decision") -> tuple[str, str | None]:
    if n < needed:
        return INSUFFICIENT, f"{n} outputs with {what}, {needed} needed"
    if approved == n:
        return ONE_CLASS, "all approved"
    if approved == 0:
        return ONE_CLASS, "none approved"
    if n < MIN_OUTPUTS:
        return TENTATIVE, f"{n} outputs with {what}, {MIN_OUTPUTS} needed to publish"
    if approved < MIN_CLASS:
        return ONE_CLASS, f"fewer than {MIN_CLASS} approved outputs"
    if n - approved < MIN_CLASS:
        return ONE_CLASS, f"fewer than {MIN_CLASS} other outputs"
    return SUCCESS, None


def _descriptions(decided: Decided) -> list[pd.DataFrame]:
    """For agents with one outcome only: what their outputs are like, as one unpublished row each."""
    frames = []
    bounds = np.searchsorted(decided.group, np.arange(len(decided.agents) + 1))
    for g, (status, _) in enumerate(_states(decided)):
        if status != ONE_CLASS:
            continue
        rows = slice(int(bounds[g]), int(bounds[g + 1]))
        approves = 2 * decided.approved[rows].sum() > bounds[g + 1] - bounds[g]
        columns = {
            "agent_name": decided.agents[g],
            "pattern_type": SUCCESSFUL_DECISIONS if approves else FAILURE_PATTERNS,
            "description": "all features | description",
            "confidence": 0.0,
            "n_contents": bounds[g + 1] - bounds[g],
            "n_reviewers": decided.n_reviewers[g],
            "reason": ONE_CLASS,
            "algorithm": "description",
        }
        described = {
            name: facts for name, x in zip(decided.features, decided.values[rows].T, strict=True) if (facts := _description(x))
        }
        document = pd.Series([described], dtype=object)
        frames.append(pattern_frame(columns, 1).assign(output_characteristics=document))
    return frames


def _description(x: Floats) -> dict[str, float] | None:
    known = x[np.isfinite(x)]
    if not len(known):
        return None
    return {"mean": float(known.mean()), "std": float(known.std()), "min": float(known.min()), "max": float(known.max())}


def _parts(decided: Decided, scored: npt.NDArray[np.bool_], patterns: pd.DataFrame, broken: Mapping[str, str]) -> pd.DataFrame:
    published = patterns.loc[patterns["published"], "agent_name"].value_counts()
    n = np.bincount(decided.group, minlength=len(decided.agents))
    points = _points(decided)
    documents = []
    for g, (agent, (status, reason)) in enumerate(zip(decided.agents, _states(decided), strict=True)):
        if agent in broken:
            status, reason = ERROR, broken[agent]
        elif not n[g] and scored[g]:
            status, reason = UNDEFINED, "no decisions, only scores"
        document: dict[str, Any] = {"status": status, "reason": reason, "published": int(published.get(agent, 0)), "n": int(n[g])}
        documents.append(document | {"decision_points": {} if status == ERROR else points[g]})
    return pd.DataFrame({"agent_name": decided.agents, "part": DECISIONS, "document": pd.Series(documents, dtype=object)})


def _points(decided: Decided) -> list[dict[str, dict[str, str | None]]]:
    """Status and reason of each decision point of each agent."""
    n = decided.outputs_by_point()
    key = decided.group[decided.point_output] * len(decided.points) + decided.point_code
    wins = np.bincount(key, decided.approved[decided.point_output], minlength=n.size).reshape(n.shape)
    result: list[dict[str, dict[str, str | None]]] = []
    for g in range(len(decided.agents)):
        found = {}
        for code in np.flatnonzero(n[g]):
            status, reason = _state(int(n[g, code]), int(wins[g, code]), MIN_OUTPUTS, "this decision point and a decision")
            found[decided.points[code]] = {"status": status, "reason": reason}
        result.append(found)
    return result


def _what_can_be_found(
    decided: Decided, published_features: Mapping[str, Sequence[str]], seed: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The patterns, leaving out agents whose data break them; also the reason for each of those."""
    try:
        return _find(decided, published_features, seed), {}
    except _BROKEN:
        agents = decided.agents
        reasons = {agent: _why_broken(decided.only(agents == agent), published_features, seed) for agent in agents}
    broken = {agent: reason for agent, reason in reasons.items() if reason is not None}
    try:
        return _find(decided.only(~np.isin(agents, list(broken))), published_features, seed), broken
    except _BROKEN as error:
        raise LearningError(f"patterns failed over all agents ({error}); report this with the data of one agent") from error


def _why_broken(alone: Decided, published_features: Mapping[str, Sequence[str]], seed: int) -> str | None:
    try:
        _find(alone, published_features, seed)
    except _BROKEN as error:
        return f"{type(error).__name__}: decision patterns of this agent cannot be computed"
    return None
