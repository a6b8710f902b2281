"""Learning runs made up of any size, as the steps of a pass would hand them to the publication."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.pattern_frame import (
    COMMENT_TERMS,
    DECISION_RULE,
    QUALITY_THRESHOLD,
    SUCCESSFUL_DECISIONS,
    pattern_frame,
)
from feedback_pipeline.learning.preference_documents import MODEL_DOCUMENTS
from feedback_pipeline.storage.publication_rows import AgentState, Publication

PUBLISHED_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
ASPECTS = ("clarity", "seo", "brand_voice", "accuracy")
ONE_CLASS_STATE = {"status": "one_class", "reason": "all 96 decided outputs are approved", "published": 0}
_SHRUNKEN = ("_raw", "", "_low", "_high")
_KINDS = (SUCCESSFUL_DECISIONS, QUALITY_THRESHOLD, DECISION_RULE, COMMENT_TERMS)


def agent_names(n: int) -> list[str]:
    return [f"agent_{i:04}" for i in range(n)]


def publication(agents: int = 3, *, seed: int = 1, tick: int = 0, **changes: Any) -> Publication:
    """A run with rows in every table for every agent and the fleet.

    Args:
        agents: How many.
        seed: Other numbers; what is found differs a little.
        tick: Seconds after `PUBLISHED_AT`.
        changes: Sizes per agent (pairs, correlations, patterns, candidates, recommendations, segments, arms, reviews) or, by the
            names of Publication's fields, what stands instead of what is made here.
    """
    sizes = {"pairs": 8, "correlations": 3, "patterns": 4, "candidates": 2, "recommendations": 2, "segments": 4, "arms": 3}
    sizes = {name: changes.pop(name, size) for name, size in (sizes | {"reviews": 5, "reviewers": 3}).items()}
    generator, names = np.random.default_rng(seed), agent_names(agents)
    patterns = _patterns([FLEET, *names], sizes["patterns"], sizes["candidates"], generator)
    made: dict[str, Any] = {
        "learning_run_id": str(uuid.UUID(bytes=generator.bytes(16), version=4)),
        "dagster_run_id": None,
        "started_at": PUBLISHED_AT - timedelta(seconds=30),
        "published_at": PUBLISHED_AT + timedelta(seconds=tick),
        "window_start": "2026-10-02",
        "window_end": "2026-10-31",
        "lookback_days": 30,
        **{"n_reviews": 100 * agents, "n_contents": 80 * agents, "n_agents": agents, "n_reviewers": sizes["reviewers"]},
        "code_version": "1",
        "agents": [state(name) for name in names],
        "findings": _findings([FLEET, *names], sizes["pairs"], sizes["correlations"], generator),
        "evidence": pd.DataFrame(
            {
                "agent_name": np.repeat(names, sizes["reviews"]),
                "feedback_id": [str(uuid.UUID(bytes=generator.bytes(16))) for _ in range(agents * sizes["reviews"])],
            }
        ),
        "reviewers": _reviewers(names, sizes["reviewers"]),
        "consumed": np.empty(0, dtype=np.int64),
        "patterns": patterns,
        "recommendations": _recommendations(names, sizes["recommendations"], patterns, generator),
        "segments": _segments(names, sizes["segments"], generator),
        "allocation": _allocation(names, sizes["arms"], generator),
    }
    return Publication(**made | changes)


def state(name: str, status: str = "success", reason: str | None = None, **parts: Any) -> AgentState:
    success = {"status": "success", "reason": None}
    return AgentState(name, "writer", status, reason, {"correlations": success, "strategy": success} | parts, 100, 80, 7)


def _columns(names: list[str], per_agent: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.repeat(np.array(names, dtype=object), per_agent), np.tile(np.arange(per_agent), len(names))


def _findings(names: list[str], pairs: int, published: int, generator: np.random.Generator) -> pd.DataFrame:
    agent, place = _columns(names, pairs)
    n, shown = len(agent), place < published
    r = np.round(generator.uniform(-0.8, 0.8, n), 3) + generator.uniform(0, 1e-4, n)
    features = [f"feature_{i // len(ASPECTS):02}" for i in place]
    aspects = [ASPECTS[i % len(ASPECTS)] for i in place]
    ranges = json.dumps({"min": 12.5, "max": None, "best": 20.25, "p5": 3.0, "p95": 40.125, "shape": "rising"})
    impact = json.dumps({"positive_threshold": 0.8125, "negative_threshold": 0.25})
    said = [
        f"{feature} goes with higher {aspect}: {value:+.2f} [{value - 0.1:.2f}, {value + 0.1:.2f}], 640 outputs, 12 reviewers"
        for feature, aspect, value in zip(features, aspects, r, strict=True)
    ]
    return pd.DataFrame(
        {
            **{"agent_name": agent, "feature": features, "aspect": aspects, "r": r, "r_pearson": r / 3, "r_shrunk": r / 1.1},
            "r_within": np.where(agent == FLEET, r / 2, np.nan),
            "confounded_with_agent": _where(agent == FLEET, True),
            **{
                "ci_low": r - 0.1,
                "ci_high": r + 0.1,
                "p_value": generator.uniform(0, 1, n),
                "q_value": generator.uniform(0, 1, n),
            },
            "confidence": generator.uniform(0.4, 1, n),
            **{"n_contents": 640, "n_reviewers": 12, "scope": "reviewers in general", "method": "spearman"},
            **{"published": shown, "reason": _where(~shown, "could be chance: q above 0.10")},
            **{"feature_range": _where(shown, ranges), "feedback_impact": _where(shown, impact), "sentence": said},
        }
    )


def _where(condition: Any, value: object) -> list[object]:
    """The value where the condition holds, None elsewhere."""
    return [value if holds else None for holds in condition]


def _patterns(names: list[str], published: int, candidates: int, generator: np.random.Generator) -> pd.DataFrame:
    agent, place = _columns(names, published + candidates)
    n = len(agent)
    effect = generator.normal(0, 0.5, n)
    kind = [_KINDS[i % len(_KINDS)] for i in place]
    x = np.round(generator.uniform(0, 1, (n, 12)), 4).tolist()
    inputs = [json.dumps({"feature": f"feature_{i:02}", "decision_point": "draft"}) for i in place]
    characteristics = [
        json.dumps(
            {"effect": e, "se": 0.1, "ci": [e - 0.2, e + 0.2], "unit": "approval", "direction": 1, "p_value": 0.001}
            | {"q_value": 0.01, "cut": 0.7, "cut_interval": [0.6, 0.8], "good_rate": 0.84, "bad_rate": 0.61}
            | {"curve": {"x": points, "approval": points, "observed": points, "n": list(range(12))}}
        )
        for e, points in zip(effect.tolist(), x, strict=True)
    ]
    signals = json.dumps({"feedback_category": "decision", "n_reviewers": 12, "n_good": 212, "n_bad": 640})
    return pattern_frame(
        {
            "agent_name": agent,
            "pattern_type": kind,
            "description": [f"feature_{i:02} | {each} | decision_point=draft" for i, each in zip(place, kind, strict=True)],
            "feature": [f"feature_{i:02}" for i in place],
            **{"effect": effect, "se": 0.1, "confidence": generator.uniform(0.4, 1, n), "accuracy_rate": 0.75, "gain": 0.1},
            **{"n_contents": 850, "n_reviewers": 12, "published": place < published},
            "reason": [None if i < published else "could be chance: q above 0.05" for i in place],
            **{"input_features": inputs, "output_characteristics": characteristics, "human_feedback_signals": [signals] * n},
            "algorithm": "maximal_likelihood_ratio_cut",
            "sentence": [
                f"feature_{i:02} above 0.7: approval 61 % -> 84 %, +23 points [14, 31], 212 v 640 outputs" for i in place
            ],
        },
        n,
    )


def _recommendations(names: list[str], n: int, patterns: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    agent, place = _columns(names, n)
    keys = patterns.loc[patterns["published"], ["pattern_type", "description"]].drop_duplicates().to_numpy().tolist()
    effect = {"outcome": "approval", "unit": "share", "value": 0.23, "ci": [0.14, 0.31], "from": 0.61, "to": 0.84}
    return pd.DataFrame(
        {
            **{"agent_name": agent, "rank": place + 1, "identity": [f"set_threshold | feature_{i:02} | more" for i in place]},
            **{"kind": "set_threshold", "feature": [f"feature_{i:02}" for i in place], "direction": "more"},
            "target": [{"min": 0.7, "interval": [0.6, 0.8]} for _ in place],
            "expected_effect": [effect | {"level": 0.95, "n_good": 212, "n_bad": 640} for _ in place],
            **{"confidence": generator.uniform(0.9, 1, len(agent)), "q_value": 0.001, "gain": 0.2},
            "pattern_keys": [keys[i % max(len(keys), 1) :][:2] for i in place],
            **{"n_contents": 850, "n_reviewers": 12},
            "text": [f"Ask for feature_{i:02} above 0.7: approval 61 % -> 84 %, +23 points [14, 31], 212 v 640" for i in place],
            "action": [{"kind": "set_threshold", "feature": f"feature_{i:02}", "min": 0.7} for i in place],
            "conflicts": [["feature_01 pulls the other way"] if i == 0 else [] for i in place],
        }
    )


def _segments(names: list[str], n: int, generator: np.random.Generator) -> pd.DataFrame:
    agent, place = _columns(names, n)
    values = {
        f"{outcome}{suffix}": generator.uniform(0, 1, len(agent)) for outcome in ("approval", "score") for suffix in _SHRUNKEN
    }
    counts = {"n": generator.integers(1, 300, len(agent)), "n_scored": generator.integers(1, 300, len(agent))}
    family = ["tone" if i < n / 2 else "tone x channel" for i in place]
    return pd.DataFrame({"agent_name": agent, "family": family, "segment": [f"level_{i:02}" for i in place], **counts, **values})


def _allocation(names: list[str], arms: int, generator: np.random.Generator) -> pd.DataFrame:
    agent, place = _columns(names, arms)
    counts = {"n": generator.integers(1, 300, len(agent)), "outputs": generator.integers(0, 20, len(agent))}
    segments = [f"level_{i:02}" for i in place]
    return pd.DataFrame({"agent_name": agent, "family": "tone", "segment": segments, **counts, "propensity": 1 / arms})


def _reviewers(names: list[str], n: int) -> dict[str, pd.DataFrame]:
    ids = [f"reviewer_{i:03}" for i in range(n)]
    agent, place = _columns([FLEET, *names], len(ASPECTS) + 2)
    numbers = ("alpha", "ci_low", "ci_high", "alpha_adjusted", "adjusted_ci_low", "adjusted_ci_high")
    severity = json.dumps({"overall": 0.1, "aspects": {}, "se": {}, "comparable": True, "reasons": {}, "drift": {}})
    models = pd.DataFrame({"reviewer_id": ids, **dict.fromkeys(MODEL_DOCUMENTS, "{}"), "severity": severity})
    models = models.assign(
        training_samples=300, model_accuracy=0.8, baseline_accuracy=0.6, n_test=60, reason=None, reviews_digest="d"
    )
    agreement = pd.DataFrame({"agent_name": agent, "aspect": [(*ASPECTS, "overall", "decision")[i] for i in place]})
    months = {"month": "2026-10", "severity": 0.1, "se": 0.1, "ci_low": -0.1, "ci_high": 0.3, "n_reviews": 300, "n_shared": 200}
    counts = {"n_outputs": 80, "n_reviewers": 7}
    return {
        "models": models,
        "agreement": agreement.assign(**dict.fromkeys(numbers, 0.5), **counts, reason=None, adjusted_reason=None),
        "components": pd.DataFrame({"reviewer_id": ids, "component": 0}),
        "bridges": pd.DataFrame(columns=["component", "agent_name", "execution_id", "reviewer_id"]),
        "months": pd.DataFrame({"reviewer_id": ids, **months, "reason": None}),
    }
