"""What people said and what came of it, by agent and week, from the days that were extracted."""

from datetime import date, timedelta
from typing import Any

from feedback_pipeline.learning.feedback_weeks import feedback_weeks
from feedback_pipeline.learning.panel import build_panel
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.day_tables import score_matrix
from feedback_pipeline.storage.feature_store import FeatureStore

DAYS_A_WEEK = 7


def read_feedback_weeks(store: FeatureStore, settings: Settings, weeks: int, today: date) -> list[dict[str, Any]]:
    """Every agent and week of the last `weeks` weeks with reviews, the running one among them; see `feedback_weeks`.

    The last week is that of the newest extracted day, not in the future.
    """
    extracted = [day for day, manifest in store.days().items() if manifest["trainable_rows"] and day <= today]
    if not extracted:
        return []
    last = max(extracted)
    monday = last - timedelta(days=last.weekday())
    feedback, features = store.read_tables(monday - timedelta(days=DAYS_A_WEEK * (weeks - 1)), last, ordered=False)
    scores, aspects = score_matrix(feedback["aspects"], feedback["scores"])
    panel = build_panel(feedback.drop_columns(["aspects", "scores"]).to_pandas(), scores, aspects, features.to_pandas())
    return feedback_weeks(panel, settings.score_bounds)
