"""What readers of the content strategy get, from one REPEATABLE READ snapshot: segments, and the next allocation."""

from itertools import groupby
from operator import itemgetter
from typing import Final

from psycopg.rows import dict_row

from feedback_pipeline.errors import UserError
from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.reading import Document
from feedback_pipeline.storage.reading_patterns import learned_state

# By the shrunken values: the plain rate of a few outputs is luck.
_SEGMENTS: Final = """
    SELECT family, segment, n, approval_raw, approval, approval_low, approval_high,
           n_scored, score_raw, score, score_low, score_high
    FROM content_segments WHERE agent_name = %s
    ORDER BY family COLLATE "C", approval DESC NULLS LAST, score DESC NULLS LAST, segment COLLATE "C"
"""
_ALLOCATION: Final = """
    SELECT family, segment, n, outputs, propensity
    FROM content_allocations WHERE learning_run_id = %s AND agent_name = %s
    ORDER BY family COLLATE "C", propensity DESC, segment COLLATE "C"
"""


def read_strategy(database: Database, agent_name: str) -> Document:
    """How an agent does per segment, and how its next outputs should be spread.

    Returns:
        agent_name, status, reason (of this part, where it was learned), segments, allocation {family: [{segment, n, outputs,
        propensity}]}, learning_run_id, computed_at.

    Raises:
        NothingLearned: nothing was learned yet.
        NotFound: the agent is not known.
        UserError: it is `*`.
    """
    if agent_name == FLEET:
        raise UserError("a content strategy is that of one agent, not of '*'; name an agent")
    with database.snapshot() as connection:
        state = learned_state(connection, agent_name)
        with connection.cursor(row_factory=dict_row) as cursor:
            segments = cursor.execute(_SEGMENTS, (agent_name,)).fetchall()
            allocated = cursor.execute(_ALLOCATION, (state["learning_run_id"], agent_name)).fetchall()
    part = state["parts"].get("strategy", state)
    return {
        "agent_name": agent_name,
        "status": part["status"],
        "reason": part["reason"],
        "segments": segments,
        "allocation": {
            family: [{key: row[key] for key in ("segment", "n", "outputs", "propensity")} for row in rows]
            for family, rows in groupby(allocated, itemgetter("family"))
        },
        "learning_run_id": state["learning_run_id"],
        "computed_at": state["computed_at"],
    }
