"""All that one pass learns of the reviewers: their models, how far they agree, who can be compared, severity by month."""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd
from numpy.linalg import LinAlgError

from feedback_pipeline.errors import LearningError
from feedback_pipeline.learning.adjustment import Adjustment
from feedback_pipeline.learning.agreement import agreement
from feedback_pipeline.learning.connectivity import Connectivity, connectivity
from feedback_pipeline.learning.panel import Panel
from feedback_pipeline.learning.preference_documents import preference_models
from feedback_pipeline.learning.preferences import Preferences, learn_preferences
from feedback_pipeline.learning.severity_drift import severity_drift


@dataclass(frozen=True)
class ReviewerResults:
    """Frames of one learning run.

    Attributes:
        models: One row per reviewer, as `preference_documents.preference_models` returns them.
        agreement: One row per agent ('*' = all) and aspect, as `agreement.agreement` returns them.
        components: reviewer_id and component; severity cannot be compared between components, 0 is the largest.
        bridges: The fewest second reviews that would connect all components, as `connectivity.Connectivity` lists them.
        months: Severity of each reviewer by calendar month, as `severity_drift.SeverityDrift` lists it.
    """

    models: pd.DataFrame
    agreement: pd.DataFrame
    components: pd.DataFrame
    bridges: pd.DataFrame
    months: pd.DataFrame

    def frames(self) -> dict[str, pd.DataFrame]:
        """The frames by name."""
        return {name: getattr(self, name) for name in REVIEWER_FRAMES}


REVIEWER_FRAMES: Final = tuple(field.name for field in fields(ReviewerResults))


@dataclass(frozen=True)
class LearnedReviewers:
    """What `learn_reviewers` returns.

    Attributes:
        results: The frames.
        failures: Why a part could not be estimated, by part: `preferences`, or an aspect whose standards failed.
        accuracy: Share of all held-out decisions foreseen, None without any.
        baseline: Share that the reviewers' own majorities foresee.
        n_test: Held-out decisions.
    """

    results: ReviewerResults
    failures: dict[str, str]
    accuracy: float | None
    baseline: float | None
    n_test: int


def learn_reviewers(panel: Panel, adjustment: Adjustment, bounds: dict[str, tuple[float, float]], seed: int) -> LearnedReviewers:
    """Learn all of it; preferences that fail leave their reason and everything else as it is.

    Args:
        panel: Deduplicated reviews.
        adjustment: Severities of the same panel.
        bounds: (low, high) by aspect, "*" for the rest.
        seed: Of every resampling.
    """
    preferences = _preferences(panel, bounds, seed)
    drift = severity_drift(panel, adjustment)
    graph = connectivity(panel)
    results = ReviewerResults(
        models=preference_models(panel, adjustment, preferences, drift),
        agreement=agreement(panel, adjustment, seed=seed),
        components=_component_rows(graph),
        bridges=graph.bridges,
        months=drift.months,
    )
    if isinstance(preferences, str):
        return LearnedReviewers(results, {"preferences": preferences}, None, None, 0)
    forward = preferences.held_out
    n_test = int(forward.n_test.sum())
    accuracy, baseline = (forward.overall_accuracy, forward.overall_baseline) if n_test else (None, None)
    return LearnedReviewers(results, dict(preferences.failures), accuracy, baseline, n_test)


def _preferences(panel: Panel, bounds: dict[str, tuple[float, float]], seed: int) -> Preferences | str:
    try:
        return learn_preferences(panel, bounds, seed)
    except (LearningError, LinAlgError) as error:
        # Tastes that cannot be estimated must not take the severities with them.
        return str(error)


def _component_rows(graph: Connectivity) -> pd.DataFrame:
    size = [len(component) for component in graph.components]
    return pd.DataFrame(
        {
            "reviewer_id": pd.Series([name for component in graph.components for name in component], dtype=object),
            "component": np.repeat(np.arange(len(size)), size),
        }
    )
