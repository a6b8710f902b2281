"""A stand-in for the quality predictor: the same columns in and out, arithmetic that a test can do in its head."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.storage.tracking_models import CODE, Predictor

NUMERIC = ("word_count", "cost")
TEXT = ("tone", "agent_name", "reviewer_id")


@dataclass
class ScoringModel:
    """score = base + .01 word_count (missing: 0) - 1 for a known reviewer; the interval is one point wide on each side."""

    base: float = 5.0
    fleet: str = FLEET

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        reviewer = frame["reviewer_id"] if "reviewer_id" in frame else pd.Series(None, index=frame.index, dtype=object)
        score = self.base + 0.01 * frame["word_count"].fillna(0).to_numpy() - np.where(reviewer == "strict", 1.0, 0.0)
        return pd.DataFrame(
            {"score": score, "low": score - 1, "high": score + 1, "p_approve": 1 / (1 + np.exp(-score))}, index=frame.index
        )


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "word_count": [100.0, np.nan],
            "cost": [np.nan, np.nan],
            "tone": ["dry", None],
            "agent_name": ["writer", "someone new"],
            "reviewer_id": pd.Series([None, None], dtype=object),
        }
    )


def predictor(base: float = 5.0) -> Predictor:
    code = (*CODE, "feedback_pipeline_tests.storage.scoring_model", "feedback_pipeline.storage.tracking_models")
    return Predictor(ScoringModel(base), rows(), NUMERIC, TEXT, code=code)
