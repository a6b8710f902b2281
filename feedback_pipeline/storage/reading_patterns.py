"""What readers of patterns and recommendations get, from one REPEATABLE READ snapshot: never two learning runs in one answer."""

from typing import Any, Final

from psycopg.rows import dict_row

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.learning.trial_states import RETIRED
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.reading import Document, agent_state, fleet_state, learned_run
from feedback_pipeline.storage.reading_effects import retired_patterns, trials_of_recommendations

HIGH_CONFIDENCE: Final = 0.8
USABLE_CONFIDENCE: Final = 0.5

# Rows without a learning run were in the table before this pipeline was. A rate of no application is undefined, whatever default
# the table once had; JSON has no NaN.
_PATTERNS: Final = """
    SELECT id::text, pattern_type AS type, pattern_description AS description, sentence, input_features, output_characteristics,
           human_feedback_signals AS feedback_signals, confidence_score AS confidence, sample_size, accuracy_rate,
           coalesce(times_applied, 0) AS applied_count,
           CASE WHEN times_applied > 0 THEN nullif(success_rate, 'NaN') END AS success_rate,
           nullif(success_rate_held_out, 'NaN') AS success_rate_held_out, last_applied, learning_algorithm AS algorithm
    FROM agent_learning_patterns
    WHERE agent_name = %s AND superseded_by_run IS NULL AND published AND learning_run_id IS NOT NULL
    ORDER BY confidence_score DESC NULLS LAST, sample_size DESC, pattern_type COLLATE "C", pattern_description COLLATE "C"
"""
_RECOMMENDATIONS: Final = """
    SELECT recommendation_id::text AS id, rank, kind, feature, direction, target, expected_effect, confidence_score AS confidence,
           q_value, evidence, text, action, conflicts
    FROM agent_recommendations WHERE agent_name = %s ORDER BY rank
"""
# What an agent that applies patterns itself is used to get of each.
_APPLICABLE: Final = (
    *("type", "description", "input_features", "output_characteristics", "feedback_signals", "confidence", "sample_size"),
    *("applied_count", "success_rate", "success_rate_held_out"),
)


def read_patterns(database: Database, agent_name: str) -> Document:
    """The patterns of an agent, or of the fleet for `*`, most certain first.

    Returns:
        agent_name, status, reason, parts, learning_run_id, computed_at, patterns: those found by the last learning run and
        published.

    Raises:
        NothingLearned: nothing was learned yet.
        NotFound: the agent is not known.
    """
    with database.snapshot() as connection:
        state = learned_state(connection, agent_name)
        patterns = _rows(connection, _PATTERNS, agent_name)
    for pattern in patterns:
        pattern["last_applied"] = pattern["last_applied"] and pattern["last_applied"].isoformat()
    return state | {"patterns": patterns}


def read_improvements(database: Database, agent_name: str) -> Document:
    """What an agent can apply: its patterns with a confidence above .5, and its recommendations, best first, with their trials.

    What applying has shown not to help is left out.

    Raises:
        NothingLearned: nothing was learned yet.
        NotFound: the agent is not known.
        UserError: it is `*`.
    """
    if agent_name == FLEET:
        raise UserError(
            "improvements are those of one agent, not of '*'; name an agent, or see `feedback-pipeline patterns --fleet` for "
            "what holds over all agents"
        )
    with database.snapshot() as connection:
        state = learned_state(connection, agent_name)
        patterns = _rows(connection, _PATTERNS, agent_name)
        recommendations = _rows(connection, _RECOMMENDATIONS, agent_name)
        trials = trials_of_recommendations(connection, agent_name)
        retired = retired_patterns(connection, agent_name)
    recommendations = [one | {"trial": trials[one["id"]]} for one in recommendations if trials[one["id"]]["state"] != RETIRED]
    usable = [
        pattern for pattern in patterns if (pattern["confidence"] or 0.0) > USABLE_CONFIDENCE and pattern["id"] not in retired
    ]
    return {
        "agent_name": agent_name,
        "status": state["status"],
        "reason": state["reason"],
        "total_patterns": len(usable),
        "high_confidence_patterns": sum(pattern["confidence"] > HIGH_CONFIDENCE for pattern in usable),
        "patterns": [{key: pattern[key] for key in _APPLICABLE} for pattern in usable],
        "recommendations": recommendations,
        "learning_run_id": state["learning_run_id"],
        "computed_at": state["computed_at"],
    }


def learned_state(connection: Connection, agent_name: str) -> Document:
    """What is known of an agent, or of the fleet for `*`: agent_name, status, reason, parts, learning_run_id, computed_at.

    Raises:
        NothingLearned: nothing was learned yet.
        NotFound: the agent is not known.
    """
    run = learned_run(connection)
    if agent_name == FLEET:
        state = fleet_state(run)
        computed_at = run["published_at"]
    else:
        state = agent_state(connection, agent_name)
        ((computed_at,),) = connection.execute(
            "SELECT computed_at FROM agent_learning_state WHERE agent_name = %s", (agent_name,)
        ).fetchall()
    known = {key: state[key] for key in ("status", "reason", "parts", "learning_run_id")}
    return {"agent_name": agent_name} | known | {"computed_at": computed_at.isoformat()}


def _rows(connection: Connection, query: str, agent_name: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), (agent_name,)).fetchall()
