"""What readers of the reviewers' tables get, from one REPEATABLE READ snapshot: models, agreement, who can be compared."""

import re
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from psycopg.rows import dict_row

from feedback_pipeline.errors import NotFound, NothingLearned
from feedback_pipeline.learning.features import DECISION, FLEET, OVERALL
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.reading import Document, agent_state, learned_run

# Rows without a learning run were in the table before this pipeline was.
_LIVE: Final = "superseded_by_run IS NULL AND learning_run_id IS NOT NULL"
# Pictures and metadata call reviewers R1, R2, ... in the order of their ids.
_MODELS: Final = f"""
    SELECT * FROM (
        SELECT *, 'R' || row_number() OVER (ORDER BY reviewer_id COLLATE "C") AS label FROM (
            SELECT DISTINCT ON (reviewer_id) reviewer_id, training_samples AS n_reviews, severity, content_preferences,
                   style_preferences, quality_standards, model_accuracy, baseline_accuracy, n_test, reason, model_version,
                   learning_run_id::text
            FROM human_preference_models WHERE {_LIVE} ORDER BY reviewer_id, model_version DESC
        ) live
    ) labelled
    WHERE %(reviewer_id)s::text IS NULL OR reviewer_id = %(reviewer_id)s
    ORDER BY (severity ->> 'overall')::float8 NULLS LAST, reviewer_id COLLATE "C"
"""  # noqa: S608 - constant text
_MONTHS: Final = """
    SELECT reviewer_id, month, severity, se, ci_low, ci_high, n_reviews, n_shared, reason
    FROM reviewer_severity_months
    WHERE %(reviewer_id)s::text IS NULL OR reviewer_id = %(reviewer_id)s
    ORDER BY reviewer_id, month
"""
_AGREEMENT: Final = """
    SELECT aspect, alpha, ci_low, ci_high, alpha_adjusted, adjusted_ci_low, adjusted_ci_high, n_outputs, n_reviewers,
           reason, adjusted_reason
    FROM reviewer_agreement WHERE agent_name = %s
    ORDER BY array_position(%s::text[], aspect) NULLS FIRST, aspect COLLATE "C"
"""
_SEVERITY: Final = ("overall", "aspects", "se", "comparable", "reasons", "drift")


def read_reviewers(database: Database, reviewer_id: str | None = None) -> list[Document]:
    """The current model of every reviewer, strictest first; those without a severity last.

    Args:
        database: A migrated database.
        reviewer_id: Only this one; the list has one entry. The label of a picture (R3) names a reviewer too, unless it is
            somebody's id.

    Raises:
        NothingLearned: nothing was learned of reviewers yet.
        NotFound: this reviewer has no model.
    """
    chosen = {"reviewer_id": reviewer_id}
    with database.snapshot() as connection:
        _learned_reviewers(connection)
        with connection.cursor(row_factory=dict_row) as cursor:
            models = cursor.execute(_MODELS, chosen).fetchall()
            if reviewer_id is not None and not models and re.fullmatch(r"R[0-9]+", reviewer_id):
                everybody = cursor.execute(_MODELS, {"reviewer_id": None}).fetchall()
                models = [model for model in everybody if model["label"] == reviewer_id]
                chosen = {"reviewer_id": models[0]["reviewer_id"]} if models else chosen
            if reviewer_id is not None and not models:
                raise NotFound(_unknown(connection, reviewer_id))
            months = cursor.execute(_MONTHS, chosen).fetchall()
    by_reviewer = {
        name: [_without(row, "reviewer_id") for row in rows] for name, rows in groupby(months, itemgetter("reviewer_id"))
    }
    models = [{"reviewer_id": model["reviewer_id"], "label": model["label"]} | model for model in models]
    for model in models:
        severity = model["severity"]
        model["severity"] = {key: severity[key] for key in _SEVERITY} | {"months": by_reviewer.get(model["reviewer_id"], [])}
    return models


def read_agreement(database: Database, agent_name: str = FLEET) -> Document:
    """How far the reviewers of an agent, or of all (`*`), agree; who can be compared at all, and what would connect the rest.

    Raises:
        NothingLearned: nothing was learned of reviewers yet.
        NotFound: the agent is not known.
    """
    with database.snapshot() as connection:
        run = _learned_reviewers(connection)
        state = None if agent_name == FLEET else agent_state(connection, agent_name)
        with connection.cursor(row_factory=dict_row) as cursor:
            aspects = cursor.execute(_AGREEMENT, (agent_name, [OVERALL, DECISION])).fetchall()
            components = cursor.execute(
                'SELECT array_agg(reviewer_id ORDER BY reviewer_id COLLATE "C") AS members FROM reviewer_components'
                " GROUP BY component ORDER BY component"
            ).fetchall()
            bridges = cursor.execute(
                "SELECT agent_name, execution_id, reviewer_id, component FROM reviewer_bridges ORDER BY component"
            ).fetchall()
    return {
        "agent_name": agent_name,
        "aspects": aspects,
        # An agent without reviews has no row at all.
        "reason": None if aspects or state is None else state["reason"],
        "components": [row["members"] for row in components],
        "bridges": bridges,
        "learning_run_id": str(run["learning_run_id"]),
    }


def _learned_reviewers(connection: Connection) -> Document:
    """The last learning run, which has always something to say of the agreement of all."""
    run = learned_run(connection)
    if connection.execute("SELECT FROM reviewer_agreement LIMIT 1").fetchone() is None:
        raise NothingLearned("the last learning run is older than what is learned of reviewers; run `feedback-pipeline learn`")
    return run


def _unknown(connection: Connection, reviewer_id: str) -> str:
    known = connection.execute("SELECT FROM human_preference_models WHERE reviewer_id = %s LIMIT 1", (reviewer_id,)).fetchone()
    if known is not None:
        return f"reviewer {reviewer_id!r} has no reviews in the window; widen it with `feedback-pipeline learn --lookback DAYS`"
    return f"no reviewer {reviewer_id!r} has been learned from; `feedback-pipeline reviewers --json` lists everybody"


def _without(row: Document, name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
