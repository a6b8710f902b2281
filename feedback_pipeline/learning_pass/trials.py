"""The step that holds what is recommended against what is on trial, before it is published."""

import pandas as pd

from feedback_pipeline.learning.agents import SUCCESS
from feedback_pipeline.learning.trial_openings import Settled, settle
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.published_advice import dashed, recommendation_ids
from feedback_pipeline.storage.published_effects import read_newest_trials


def settle_recommendations(
    database: Database, recommendations: pd.DataFrame, states: pd.DataFrame, reviews: pd.DataFrame
) -> tuple[Settled, pd.DataFrame]:
    """What is published of the recommendations, and the states of the agents with what was held back.

    Args:
        database: A migrated database.
        recommendations: Of `learning.recommendations.recommend`.
        states: Of the same.
        reviews: Reviews of the window: agent_name, reviewed_at.

    Returns:
        What to publish, and `states` with what is published and held_back.
    """
    with database.snapshot() as connection:
        known = read_newest_trials(connection)
    found = recommendations.assign(pattern_id=[dashed(digits) for digits in recommendation_ids(recommendations)])
    first = {str(agent): moment for agent, moment in reviews.groupby("agent_name")["reviewed_at"].min().items()}
    testable = set(states.loc[states["status"] == SUCCESS, "agent_name"])
    settled = settle(found, known, first, testable)
    published = settled.recommendations.groupby("agent_name").size()
    counts = states["agent_name"].map(published).fillna(0).astype(int)
    held_back = states["agent_name"].map(settled.held_back).fillna(0).astype(int)
    retired = [f"what was found is retired: applying it did not help ({n:,})" if n else None for n in held_back]
    reasons = [None if n else why or reason for n, why, reason in zip(counts, retired, states["reason"].tolist(), strict=True)]
    return settled, states.assign(published=counts, held_back=held_back, reason=pd.Series(reasons, dtype=object))
