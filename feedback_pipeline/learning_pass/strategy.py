"""The step that learns where an agent does well and where its next outputs should go."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from feedback_pipeline.learning.segment_tests import segment_tests
from feedback_pipeline.learning.strategy import content_strategy
from feedback_pipeline.learning_pass.inputs import CONTENT_STRATEGY, adjusted_panel
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.feature_store import FeatureStore


@dataclass(frozen=True)
class StrategyOutcome:
    """Result of `learn_strategy`: the frames of `learning.strategy.content_strategy`, and the tests of single categories."""

    learning_run_id: str
    facts: dict[str, Any]
    segments: pd.DataFrame = field(repr=False)
    allocation: pd.DataFrame = field(repr=False)
    states: pd.DataFrame = field(repr=False)
    tests: pd.DataFrame = field(repr=False)


def learn_strategy(store: FeatureStore, settings: Settings) -> StrategyOutcome:
    """Approval and adjusted score per segment, the test of every single category, the next allocation.

    Writes the artifact `content_strategy`: frames `segments`, `allocation`, `states` and `tests`.

    Raises:
        StoreError: there is no result of preference_models, or days were extracted again since.
    """
    learning_run_id, panel, _ = adjusted_panel(store)
    segments, allocation, states = content_strategy(panel, settings.score_bounds, settings.seed)
    tests = segment_tests(panel, settings.score_bounds, settings.seed)
    facts = {
        "n_segments": len(segments),
        "n_tested": len(tests),
        "n_allocated": int(allocation["outputs"].sum()),
        "n_agents": len(panel.agents),
        "n_contents": len(panel.outputs),
    }
    frames = {"segments": segments, "allocation": allocation, "states": states, "tests": tests}
    store.write_result(learning_run_id, CONTENT_STRATEGY, frames, facts)
    return StrategyOutcome(learning_run_id, facts, segments, allocation, states, tests)
