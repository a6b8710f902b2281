"""The step that finds what approved outputs have in common: contrasts, thresholds, rules and words."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from feedback_pipeline.learning.collinearity import collinear_pairs
from feedback_pipeline.learning.features import FLEET, numeric_columns
from feedback_pipeline.learning.pattern_frame import DOCUMENTS, concatenated
from feedback_pipeline.learning.patterns import find_patterns
from feedback_pipeline.learning.reviewer_contradictions import reviewer_shares
from feedback_pipeline.learning.term_patterns import find_terms
from feedback_pipeline.learning_pass.inputs import (
    DECISION_PATTERNS,
    QUALITY_CORRELATIONS,
    adjusted_panel,
    documents_as_text,
    read_of_run,
    window_of,
)
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.feature_store import FeatureStore
from feedback_pipeline.storage.term_texts import read_term_texts


@dataclass(frozen=True)
class PatternOutcome:
    """Result of `learn_patterns`: every candidate of every kind but correlations, and what came of each part of each agent."""

    learning_run_id: str
    facts: dict[str, Any]
    patterns: pd.DataFrame = field(repr=False)
    parts: pd.DataFrame = field(repr=False)


def learn_patterns(database: Database, store: FeatureStore, settings: Settings) -> PatternOutcome:
    """Contrasts, thresholds, rules and words of every agent and the fleet, on the adjusted scores of the latest run.

    Writes the artifact `decision_patterns`: frames `patterns` (documents as JSON text), `parts`, `term_tests` (the p-value of
    every tested word), `pairs` (features that go together) and `shares` (reviewers of each agent). Texts are read from the
    database and not kept.

    Raises:
        StoreError: there is no result of preference_models or quality_correlations for this run, or days were extracted again.
        LearningError: the agents are fine one by one but not together.
    """
    learning_run_id, panel, facts = adjusted_panel(store)
    findings = read_of_run(store, learning_run_id, QUALITY_CORRELATIONS)[0]["findings"]
    features = tuple(numeric_columns(panel.outputs.columns))
    points = store.read_decision_points(*window_of(facts).days).to_pandas()
    patterns, decisions = find_patterns(
        panel, points, settings.score_bounds, features, _published_features(findings), settings.seed
    )
    with database.connect() as connection:
        texts = read_term_texts(connection, panel, seed=settings.seed)
    terms, words, term_tests = find_terms(panel, texts, settings.score_bounds)
    found, parts = concatenated([patterns, terms]), pd.concat([decisions, words], ignore_index=True)
    outcome = {
        "n_candidates": len(patterns) + len(term_tests),
        "n_published": int(found["published"].sum()),
        "n_agents": len(panel.agents),
        "n_contents": len(panel.outputs),
    }
    frames = {
        "patterns": documents_as_text(found, DOCUMENTS),
        "parts": documents_as_text(parts, ("document",)),
        "term_tests": term_tests,
        "pairs": collinear_pairs(panel, features),
        "shares": reviewer_shares(panel),
    }
    store.write_result(learning_run_id, DECISION_PATTERNS, frames, outcome)
    return PatternOutcome(learning_run_id, outcome, found, parts)


def _published_features(findings: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Features with a published correlation by agent, the strongest first."""
    own = findings[findings["published"].astype(bool) & (findings["agent_name"] != FLEET)]
    ordered = own.loc[own["r_shrunk"].abs().sort_values(ascending=False, kind="stable").index]
    return {str(name): tuple(rows["feature"].drop_duplicates()) for name, rows in ordered.groupby("agent_name")}
