"""The step that correlates every feature with every aspect."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from feedback_pipeline.learning.agents import agent_states, correlation_part, review_sample
from feedback_pipeline.learning.features import FLEET, numeric_columns
from feedback_pipeline.learning.findings import find_what_can_be_found
from feedback_pipeline.learning.subject import Subject, score_spreads
from feedback_pipeline.learning_pass.inputs import QUALITY_CORRELATIONS, adjusted_panel, documents_as_text
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.feature_store import FeatureStore


@dataclass(frozen=True)
class CorrelationOutcome:
    """Result of `learn_correlations`: every tested pair in `findings`."""

    learning_run_id: str
    facts: dict[str, Any]
    findings: pd.DataFrame = field(repr=False)


def learn_correlations(store: FeatureStore, settings: Settings, *, only: Sequence[str] | None = None) -> CorrelationOutcome:
    """Correlate every feature with every aspect for every agent and the fleet, on the adjusted scores of the latest run.

    `only` names the features to learn from; None = all.

    Writes the artifact `quality_correlations`: frames `findings`, `agents` (one row per agent: counts, status,
    parts), `evidence` (a sample of reviews) and `spreads` (of the adjusted scores).

    Raises:
        StoreError: there is no result of preference_models, or days were extracted again since.
        LearningError: a reviewed output has no features in the store.
    """
    learning_run_id, panel, facts = adjusted_panel(store)
    features = tuple(only or numeric_columns(panel.outputs.columns))
    subject = Subject.of(panel, panel.scores, features, settings.score_bounds, settings.seed)
    findings, broken = find_what_can_be_found(subject)
    fleet = findings[findings["agent_name"] == FLEET]
    n_scored = int(np.isfinite(subject.design.scores).any(axis=1).sum())
    agents = agent_states(panel, findings, facts["severity_parts"], broken)
    evidence = review_sample(panel, settings.seed)
    outcome = {
        "n_pairs": len(findings),
        "n_published": int(findings["published"].sum()),
        "n_agents": len(panel.agents),
        "n_contents": len(panel.outputs),
        "features": list(subject.features),
        "aspects": list(panel.aspects),
        "fleet": correlation_part(len(panel.outputs), n_scored, int(fleet["published"].sum())),
    }
    findings_text = documents_as_text(findings, ("feature_range", "feedback_impact"))
    frames = {
        "findings": findings_text,
        "agents": documents_as_text(agents, ("parts",)),
        "evidence": evidence,
        "spreads": score_spreads(subject),
    }
    store.write_result(learning_run_id, QUALITY_CORRELATIONS, frames, outcome)
    return CorrelationOutcome(learning_run_id, outcome, findings)


def read_subject(store: FeatureStore, settings: Settings, *, only: Sequence[str]) -> Subject:
    """The latest adjusted scores beside the features named in `only`: what `learn_correlations` computes on."""
    panel = adjusted_panel(store)[1]
    return Subject.of(panel, panel.scores, only, settings.score_bounds, settings.seed)
