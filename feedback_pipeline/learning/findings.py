"""From correlations to findings: what is published, what is not and why, and the sentence that says it."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.correlations import MAX_R, MIN_REVIEWERS, MIN_TESTED, Correlations, correlate
from feedback_pipeline.learning.curves import ApprovalThresholds, FeatureRanges, approval_thresholds, feature_ranges
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.panel import Floats, Ints
from feedback_pipeline.learning.pooling import confidence, pool, q_values, shrink
from feedback_pipeline.learning.sentences import SCOPE_GENERAL, SCOPE_ONE, SCOPE_THESE, SCOPE_UNKNOWN, sentence
from feedback_pipeline.learning.subject import Subject

MIN_PUBLISHED = 20  # outputs
MAX_Q = 0.10
MIN_EFFECT = 0.10
_CONFOUNDED = 0.2
_RANGE_CELLS = 4_000_000
# What numpy and scipy raise for numbers they cannot work with.
_BROKEN = (ArithmeticError, ValueError, LearningError)


def find(subject: Subject) -> pd.DataFrame:
    """Every tested agent x feature x aspect and, under agent_name `*`, every feature x aspect over the fleet.

    A finding is published with q <= .10 within its agent, a shrunken |r| >= .10 (r itself for the fleet) and 20 outputs or more.

    Returns:
        One row per pair: agent_name, feature, aspect, r, r_pearson, r_shrunk, r_within, confounded_with_agent, ci_low, ci_high,
        p_value, q_value, confidence, n_contents, n_reviewers, scope, method, published, reason, feature_range, feedback_impact,
        sentence; sorted by agent, fleet first.
    """
    correlations = correlate(subject.design)
    own = _frame(subject, subject.agents, correlations, _shrunken(correlations))
    everyone = subject.as_one(FLEET)
    pooled = correlate(everyone.design)
    fleet = _frame(everyone, everyone.agents, pooled, pooled.r)
    z = np.arctanh(np.clip(correlations.r, -MAX_R, MAX_R))
    tested = correlations.n >= MIN_TESTED
    z = np.where(tested, z, np.nan).reshape(len(z), z.shape[1] * z.shape[2])
    fleet["r_within"] = np.tanh(pool(z, correlations.z_variance.reshape(z.shape)).mean)
    known = np.isfinite(fleet["r_within"]) & np.isfinite(fleet["r"])
    differs = (np.abs(fleet["r"] - fleet["r_within"]) > _CONFOUNDED) | (fleet["r"] * fleet["r_within"] < 0)
    fleet["confounded_with_agent"] = pd.Series(differs, dtype=object).where(known, None)
    own["r_within"], own["confounded_with_agent"] = np.nan, None
    parts = [_with_details(fleet, everyone), _with_details(own, subject)]
    findings = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    # An aspect that nobody scores for an agent is not a test of that agent.
    scored = findings.groupby(["agent_name", "aspect"])["n_scored"].transform("max") > 0
    findings = findings[scored].drop(columns="n_scored").reset_index(drop=True)
    said = [sentence(row) for row in findings[findings["published"]].to_dict("records")]
    findings["sentence"] = pd.Series(said, index=findings.index[findings["published"]], dtype="str")
    return findings


def find_what_can_be_found(subject: Subject) -> tuple[pd.DataFrame, dict[str, str]]:
    """The findings of `find`, leaving out agents whose data break it; also the reason for each of those.

    Raises:
        LearningError: the agents are fine one by one but not together.
    """
    try:
        return find(subject), {}
    except _BROKEN:
        broken = {agent: reason for agent in subject.agents if (reason := _why_broken(subject, subject.agents == agent))}
    kept = ~np.isin(subject.agents, list(broken))
    try:
        return find(subject.only(kept)), broken
    except _BROKEN as error:
        raise LearningError(f"correlations failed over all agents ({error}); report this with the data of one agent") from error


def _why_broken(subject: Subject, alone: npt.NDArray[np.bool_]) -> str | None:
    try:
        find(subject.only(alone))
    except _BROKEN as error:
        return f"{type(error).__name__}: correlations of this agent cannot be computed"
    return None


def _shrunken(correlations: Correlations) -> Floats:
    shape = correlations.r.shape
    z = np.arctanh(np.clip(correlations.r, -MAX_R, MAX_R)).reshape(shape[0], shape[1] * shape[2])
    z = np.where(correlations.n.reshape(z.shape) >= MIN_TESTED, z, np.nan)
    return np.tanh(shrink(z, correlations.z_variance.reshape(z.shape))).reshape(shape)


def _frame(subject: Subject, agents: npt.NDArray[np.object_], c: Correlations, shrunken: Floats) -> pd.DataFrame:
    """The pairs as a long frame, decided but without ranges and sentences."""
    shape = c.r.shape
    group, feature, aspect = (index.ravel() for index in np.indices(shape))
    low, high = c.interval()
    tested = np.isfinite(c.p_value)
    frame = pd.DataFrame(
        {
            "agent_name": agents[group],
            "feature": np.array(subject.features, dtype=object)[feature],
            "aspect": np.array(subject.aspects, dtype=object)[aspect],
            "r": c.r.ravel(),
            "r_pearson": c.r_pearson.ravel(),
            "r_shrunk": shrunken.ravel(),
            "ci_low": low.ravel(),
            "ci_high": high.ravel(),
            "p_value": c.p_value.ravel(),
            "q_value": q_values(c.p_value.reshape(shape[0], shape[1] * shape[2])).ravel(),
            "confidence": confidence(np.where(tested, np.arctanh(np.clip(c.r, -MAX_R, MAX_R)), np.nan), c.z_variance).ravel(),
            "n_contents": c.n.ravel(),
            "n_reviewers": c.n_reviewers.ravel(),
            "scope": _scope(c.n, c.n_reviewers).ravel(),
            "method": np.where(c.permuted, "spearman, permutation", "spearman").ravel(),
            "group": group,
            "feature_code": feature,
            "aspect_code": aspect,
        }
    )
    frame["n_scored"] = _scored(subject, shape[0])[group, aspect]
    frame["reason"] = _reasons(frame, c)
    frame["published"] = frame["reason"].isna()
    return frame


def _scored(subject: Subject, n_groups: int) -> Ints:
    present = ~np.isnan(subject.design.scores)
    scored = np.zeros((n_groups, present.shape[1]), dtype=np.intp)
    groups, starts = np.unique(subject.design.group, return_index=True)
    if len(starts):
        scored[groups] = np.add.reduceat(present.astype(np.intp), starts, axis=0)
    return scored


def _scope(n: Ints, n_reviewers: Ints) -> npt.NDArray[np.object_]:
    conditions = [n == 0, n_reviewers >= MIN_REVIEWERS, n_reviewers > 1, n_reviewers == 1]
    scopes = np.array([None, SCOPE_GENERAL, SCOPE_THESE, SCOPE_ONE, SCOPE_UNKNOWN], dtype=object)
    return _first_true(conditions, scopes)


def _reasons(frame: pd.DataFrame, c: Correlations) -> npt.NDArray[np.object_]:
    """Why a pair is not published; None where it is."""
    n, q = frame["n_contents"], frame["q_value"]
    conditions = [
        n == 0,
        c.constant_feature.ravel(),
        c.constant_score.ravel(),
        n < MIN_TESTED,
        n < MIN_PUBLISHED,
        ~(q <= MAX_Q),
        ~(frame["r_shrunk"].abs() >= MIN_EFFECT),
    ]
    reasons = [
        "no data",
        "constant feature",
        "constant score",
        f"fewer than {MIN_TESTED} outputs",
        f"tentative: fewer than {MIN_PUBLISHED} outputs",
        f"could be chance: q above {MAX_Q:.2f}",
        f"too small: shrunken effect below {MIN_EFFECT:.2f}",
        None,
    ]
    return _first_true([np.asarray(condition) for condition in conditions], np.array(reasons, dtype=object))


def _first_true(conditions: list[npt.NDArray[np.bool_]], values: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """The value of the first condition that holds, the last value where none does."""
    which = np.argmax(np.stack([*conditions, np.ones_like(conditions[0])]), axis=0)
    chosen: npt.NDArray[np.object_] = values[which]
    return chosen


def _with_details(frame: pd.DataFrame, subject: Subject) -> pd.DataFrame:
    """Add feature_range and feedback_impact to the published pairs, as dicts."""
    low, high = subject.bounds.T if len(subject.bounds) else (np.empty(0), np.empty(0))
    scaled = (subject.design.scores - low) / (high - low)
    thresholds = approval_thresholds(subject.design.group, len(subject.agents), scaled, subject.approved)
    published = np.flatnonzero(frame["published"])
    ranges: list[object] = [None] * len(frame)
    impacts: list[object] = [None] * len(frame)
    for pairs in _chunks(published, frame["n_contents"].to_numpy()):
        for position, value in zip(pairs, _range_records(frame.iloc[pairs], subject, high - low), strict=True):
            ranges[position] = value
    groups, aspects = frame["group"].to_numpy(), frame["aspect_code"].to_numpy()
    for position in published:
        impacts[position] = _impact(thresholds, groups[position], aspects[position])
    return frame.drop(columns=["group", "feature_code", "aspect_code"]).assign(
        feature_range=pd.Series(ranges, dtype=object, index=frame.index),
        feedback_impact=pd.Series(impacts, dtype=object, index=frame.index),
    )


def _chunks(published: Ints, n: Ints) -> list[Ints]:
    if not len(published):
        return []
    boundary = np.flatnonzero(np.diff(np.cumsum(n[published]) // _RANGE_CELLS)) + 1
    return np.split(published, boundary)


def _range_records(pairs: pd.DataFrame, subject: Subject, width: Floats) -> list[dict[str, float | str | None]]:
    design = subject.design
    group = pairs["group"].to_numpy()
    starts, ends = np.searchsorted(design.group, [group, group + 1])
    length = ends - starts
    pair = np.repeat(np.arange(len(pairs)), length)
    row = np.arange(len(pair)) - np.repeat(np.cumsum(length) - length, length) + np.repeat(starts, length)
    x = design.features[row, pairs["feature_code"].to_numpy()[pair]]
    y = design.scores[row, pairs["aspect_code"].to_numpy()[pair]]
    known = np.isfinite(x) & np.isfinite(y)
    found = feature_ranges(x[known], y[known], pair[known], pairs["r"].to_numpy(), width[pairs["aspect_code"].to_numpy()])
    return _as_records(found)


def _as_records(ranges: FeatureRanges) -> list[dict[str, float | str | None]]:
    columns = {"min": ranges.low, "max": ranges.high, "best": ranges.best, "p5": ranges.p5, "p50": ranges.p50, "p95": ranges.p95}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [
        {name: _null(value) for name, value in zip(columns, row, strict=True)} | {"shape": shape}
        for row, shape in zip(rows, ranges.shape.tolist(), strict=True)
    ]


def _impact(thresholds: ApprovalThresholds, group: int, aspect: int) -> dict[str, float | str | None]:
    positive, negative = float(thresholds.positive[group, aspect]), float(thresholds.negative[group, aspect])
    impact: dict[str, float | str | None] = {"positive_threshold": _null(positive), "negative_threshold": _null(negative)}
    reason = thresholds.reason[group, aspect]
    if reason is None and np.isnan([positive, negative]).any():
        reason = "outside the score scale"
    return impact | ({"reason": reason} if reason else {})


def _null(value: float) -> float | None:
    return None if np.isnan(value) else value
