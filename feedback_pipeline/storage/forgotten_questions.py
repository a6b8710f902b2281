"""Questions to a reviewer: recommendations that ask them back, and trials of those that are not recommended any more.

The trial of a question keeps no document, and its id is a hash of agent, kind, feature and reviewer: whoever knows a reviewer can
compute it. So it is found the same way.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from feedback_pipeline.learning.features import NUMERIC_FEATURES
from feedback_pipeline.learning.recommendation_documents import question_identity
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.published_advice import dashed, recommendation_ids

_LISTED: Final = "SELECT recommendation_id::text FROM agent_recommendations WHERE action ->> 'reviewer_id' = ANY(%s)"
_TRIALS: Final = "SELECT DISTINCT pattern_id, agent_name FROM pattern_effects WHERE recommendation = '{}'"
# A question is about a feature that the agent was recommended, whose slope the model of the reviewer reports. Recommendations may
# have had no trial, and models are kept for ten versions: either names some that the other does not.
_RECOMMENDED: Final = """
    SELECT agent_name, recommendation ->> 'feature' FROM pattern_effects WHERE recommendation ->> 'feature' IS NOT NULL
    UNION SELECT agent_name, feature FROM agent_recommendations WHERE feature IS NOT NULL
    UNION SELECT agent_name, agent_output_feature FROM feedback_quality_correlations
"""
_SLOPES: Final = """
    SELECT DISTINCT jsonb_object_keys(style_preferences -> 'slopes') FROM human_preference_models
    WHERE reviewer_id = ANY(%s) AND jsonb_typeof(style_preferences -> 'slopes') = 'object'
"""


def questions_to(connection: Connection, reviewers: Sequence[str]) -> list[str]:
    """Ids of all questions to reviewers, listed or put aside, as the trials and their applications name them.

    Args:
        connection: In a transaction, before the models of the reviewers are deleted in it.
        reviewers: Their ids.
    """
    named = list(reviewers)
    listed = {question for (question,) in connection.execute(_LISTED, (named,)).fetchall()}
    trials = connection.execute(_TRIALS).fetchall()
    agents = pd.DataFrame({"agent_name": sorted({agent for _, agent in trials})}, dtype=object)
    slopes = [feature for (feature,) in connection.execute(_SLOPES, (named,)).fetchall()]
    everywhere = pd.DataFrame({"feature": [*NUMERIC_FEATURES, *slopes]}, dtype=object)
    recommended = pd.DataFrame(connection.execute(_RECOMMENDED).fetchall(), columns=["agent_name", "feature"], dtype=object)
    pairs = pd.concat([recommended.merge(agents), agents.merge(everywhere, how="cross")]).drop_duplicates()
    asked = pairs.merge(pd.DataFrame({"reviewer_id": named}, dtype=object), how="cross")
    identities = [question_identity(*pair) for pair in zip(asked["feature"], asked["reviewer_id"], strict=True)]
    computed = map(dashed, recommendation_ids(asked.assign(identity=np.array(identities, dtype=object))))
    return sorted(listed | {trial for trial, _ in trials} & set(computed))
