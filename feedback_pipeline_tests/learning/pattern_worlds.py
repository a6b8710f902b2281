"""What decision patterns are learned from in tests and benchmarks: simulated worlds with decision points, and planted steps."""

import numpy as np
import pandas as pd
from scipy.special import expit

from feedback_pipeline.learning.features import DECISION_FEATURES
from feedback_pipeline.learning.panel import Floats, Ints, Panel, build_panel
from feedback_pipeline.simulation.world import World

POINTS = np.array(["draft", "plan", "revise"], dtype=object)


def points_of(world: World) -> pd.DataFrame:
    """Features of every output of a world by decision point: one decision is a draft, the first of several is the plan."""
    decisions = world.outputs.decisions
    count = np.diff(decisions.start)
    output = np.repeat(np.arange(len(count)), count)
    step = np.arange(len(output)) - np.repeat(decisions.start[:-1], count)
    point = np.where(count[output] == 1, 0, np.where(step == 0, 1, np.where(step == 1, 0, 2)))
    measured = pd.DataFrame(
        {
            "output": output,
            "decision_point": POINTS[point],
            "confidence_score": decisions.confidence,
            "min_confidence": decisions.confidence,
            "alternatives_count": decisions.alternatives.astype(float),
            "reasoning_length": decisions.reasoning_length.astype(float),
            "decision_count": 1.0,
        }
    )
    how = dict.fromkeys(DECISION_FEATURES, "mean") | {"min_confidence": "min", "decision_count": "sum"}
    points = measured.groupby(["output", "decision_point"], as_index=False).agg(how)
    keys = world.executions[["agent_name", "execution_id"]].take(points["output"].to_numpy()).reset_index(drop=True)
    return pd.concat([keys, points.drop(columns="output")], axis=1)


def planted_step(n: int, worlds: int, logit: float, seed: int) -> tuple[Floats, Floats, Ints, float]:
    """Approval rises by `logit` where x > .85, other logit noise with sd 1: x, outcome, world; and the true lift."""
    rng = np.random.default_rng(seed)
    x = rng.beta(5, 2, n * worlds)
    noise = rng.normal(size=n * worlds)
    p = expit(noise + logit * (x > 0.85))
    lift = float(expit(rng.normal(size=400_000) + logit).mean() - 0.5)
    return x[:, None], (rng.random(n * worlds) < p).astype(float), np.repeat(np.arange(worlds), n), lift


def planted_and(n: int, worlds: int, lift: float, seed: int) -> tuple[Floats, Floats]:
    """Seven even features (worlds, 7, n); approval .45, and `lift` more where the first two are both above a half (worlds, n)."""
    rng = np.random.default_rng(seed)
    x = rng.random((worlds, 7, n))
    p = 0.45 + lift * ((x[:, 0] > 0.5) & (x[:, 1] > 0.5))
    return x, (rng.random((worlds, n)) < p).astype(float)


def decided_panel(
    features: dict[str, dict[str, Floats]],
    approved: dict[str, Floats],
    reviewer: dict[str, Ints] | None = None,
    scores: dict[str, Floats] | None = None,
) -> Panel:
    """Outputs of some agents, one review each.

    Args:
        features: Values by agent and feature.
        approved: 1, 0 or NaN (no decision) by agent.
        reviewer: Number of the reviewer by agent, -1 = unknown; None = always the same.
        scores: Scores by agent; None = none.
    """
    parts, tables, given = [], [], []
    for agent, y in approved.items():
        n = len(y)
        ids = [f"{agent}-{i:05d}" for i in range(n)]
        who = np.zeros(n, dtype=np.intp) if reviewer is None else reviewer[agent]
        parts.append(
            pd.DataFrame(
                {
                    "agent_name": agent,
                    "execution_id": ids,
                    "content_id": [f"c-{one}" for one in ids],
                    "feedback_id": [f"f-{one}" for one in ids],
                    "reviewer_id": pd.Series([None if k < 0 else f"R{k}" for k in who], dtype="str"),
                    "stage": "quality_check",
                    "decision": pd.Series([None if np.isnan(v) else "approve" if v else "reject" for v in y], dtype="str"),
                    "reviewed_at": pd.Timestamp("2026-06-01", tz="UTC"),
                    "is_training_data": True,
                }
            )
        )
        keys = {"agent_name": agent, "execution_id": ids, "content_id": [f"c-{one}" for one in ids]}
        tables.append(pd.DataFrame(keys | features[agent]))
        given.append(np.full(n, np.nan) if scores is None else scores[agent])
    reviews, table = pd.concat(parts, ignore_index=True), pd.concat(tables, ignore_index=True)
    return build_panel(reviews, np.concatenate(given)[:, None], ("content_quality",), table)


def no_points() -> pd.DataFrame:
    """Decision points of outputs that have none."""
    texts = {name: pd.Series([], dtype="str") for name in ("agent_name", "execution_id", "decision_point")}
    return pd.DataFrame(texts | {name: pd.Series([], dtype=float) for name in DECISION_FEATURES})
