"""The rows that go when a reviewer, a review or a content is forgotten: its own, and those that name them.

With the rows of `forgotten_keys` go entries of the ledger, forecasts, applications, places in a queue, recommendations that ask a
reviewer back with all their trials, and their ids in the evidence of patterns. What was learned from them is not repaired here:
that is learned again.
"""

from contextlib import suppress
from typing import Final

import psycopg
from psycopg.sql import SQL, Composable, Composed

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.storage.bulk import copy_rows
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.forgotten_keys import REVIEWER, Target
from feedback_pipeline.storage.forgotten_questions import questions_to
from feedback_pipeline.storage.source_columns import source_columns

# By source table: the keys of its rows, and those that name its rows in feedback_changes.
SOURCES: Final = {
    "review_feedback": ("reviews", "reviews"),
    "content_review_workflows": ("workflows", "workflows"),
    "agent_decisions": ("decisions", "runs"),
    "agent_performance": ("runs", "executions"),
}
_BY_REVIEWER: Final = (
    *("human_preference_models", "reviewer_components", "reviewer_bridges", "reviewer_severity_months", "quality_forecasts"),
)
_BY_EXECUTION: Final = ("reviewer_bridges", "quality_forecasts", "queue_draws", "learning_applications")
_BY_QUESTION: Final = {
    "learning_applications": "pattern_id",
    "pattern_effects": "pattern_id",
    "agent_recommendations": "recommendation_id::text",
}
_TABLES: Final = (
    *SOURCES,
    *sorted({*_BY_REVIEWER, *_BY_EXECUTION, *_BY_QUESTION}),
    *("rejected_feedback", "feedback_changes", "agent_learning_patterns", "forget_receipts"),
)
_STAGED: Final = "forgotten"
_CLEAR: Final = SQL(
    "SELECT pg_clear_attribute_stats(schemaname::text, tablename::text, attname::text, inherited) FROM pg_stats "
    "WHERE format('%I.%I', schemaname, tablename)::regclass = {}::regclass AND NOT EXISTS (SELECT FROM {})"
)
_LOCK_TIMEOUT: Final = "60s"
_CLEARS_STATISTICS: Final = 180_000
"""First version of Postgres with pg_clear_attribute_stats."""


def delete_rows(connection: Connection, target: Target) -> dict[str, int]:
    """Delete the rows of a target and what names them, in the caller's transaction.

    Returns:
        Rows by table, where there were any; of agent_learning_patterns those whose evidence named a review.
    """
    columns = source_columns(connection)
    _stage(connection, target)
    derived = _delete_derived(connection, target)
    source = {
        table: connection.execute(
            SQL("DELETE FROM {} AS s WHERE {}").format(SQL(table), _one_of(columns.text("s", table, "id"), keys))
        ).rowcount
        for table, (keys, _) in SOURCES.items()
    }
    return {table: n for table, n in (source | derived).items() if n}


def sweep_rows(connection: Connection, target: Target) -> None:
    """Delete what was written of a target since, and what older learning runs left of it, in the caller's transaction.

    Patterns of its agents that are not found any more go; of those that were applied the numbers go and the counters stay. So do
    older versions of the models of its reviewers.
    """
    _stage(connection, target)
    _delete_derived(connection, target)
    for table, (_, keys) in SOURCES.items():
        connection.execute(
            SQL("DELETE FROM feedback_changes WHERE source = {} AND {}").format(table, _one_of(SQL("row_id"), keys))
        )
    connection.execute(
        SQL("DELETE FROM human_preference_models WHERE superseded_by_run IS NOT NULL AND {}").format(
            _one_of(SQL("reviewer_id"), "reviewers")
        )
    )
    agents = [*target.keys["agents"], FLEET]
    connection.execute(
        "DELETE FROM agent_learning_patterns p WHERE superseded_by_run IS NOT NULL AND agent_name = ANY(%s) AND times_applied = 0"
        " AND NOT EXISTS (SELECT FROM pattern_effects e WHERE p.id = ANY(e.pattern_ids))",
        (agents,),
    )
    connection.execute(
        "UPDATE agent_learning_patterns SET output_characteristics = '{}', human_feedback_signals = '{}', sentence = NULL,"
        " confidence_score = NULL, accuracy_rate = NULL, sample_size = 0, learned_from_feedback_ids = NULL"
        " WHERE superseded_by_run IS NOT NULL AND agent_name = ANY(%s)",
        (agents,),
    )


def clean_pages(database: Database) -> None:
    """Have Postgres drop the deleted rows from its pages, and values it keeps as statistics; what it may not, it leaves.

    Raises:
        psycopg.errors.LockNotAvailable: a table stayed locked.
    """
    with database.connect(autocommit=True) as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_TIMEOUT,))
        connection.execute(f"VACUUM (ANALYZE) {', '.join(_TABLES)}".encode())
        if connection.info.server_version < _CLEARS_STATISTICS:
            return
        # ANALYZE leaves the statistics of a table that has become empty as they were.
        for table in _TABLES:
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(_CLEAR.format(table, SQL(table)))


def _delete_derived(connection: Connection, target: Target) -> dict[str, int]:
    """Delete what names the staged keys outside of the source tables."""
    counts: dict[str, int] = {}

    def count(table: str, statement: Composed) -> None:
        counts[table] = counts.get(table, 0) + connection.execute(statement).rowcount

    for source, (keys, _) in SOURCES.items():
        entries = SQL("DELETE FROM rejected_feedback WHERE source = {} AND {}").format(source, _one_of(SQL("row_id"), keys))
        count("rejected_feedback", entries)
    for table in _BY_EXECUTION:
        count(table, SQL("DELETE FROM {} WHERE {}").format(SQL(table), _one_of(SQL("execution_id"), "executions")))
    if target.kind == REVIEWER:
        asked = SQL("ANY({}::text[])").format(questions_to(connection, target.keys["reviewers"]))
        for table, key in _BY_QUESTION.items():
            count(table, SQL("DELETE FROM {} WHERE {} = {}").format(SQL(table), SQL(key), asked))
        for table in _BY_REVIEWER:
            count(table, SQL("DELETE FROM {} WHERE {}").format(SQL(table), _one_of(SQL("reviewer_id"), "reviewers")))
    # These rows stay, and keep their other reviews.
    count(
        "agent_learning_patterns",
        SQL(
            "UPDATE agent_learning_patterns SET learned_from_feedback_ids = ARRAY("
            "SELECT id FROM unnest(learned_from_feedback_ids) WITH ORDINALITY AS kept (id, place) WHERE NOT {} ORDER BY place) "
            "WHERE EXISTS (SELECT FROM unnest(learned_from_feedback_ids) AS named (id) WHERE {})"
        ).format(_one_of(SQL("kept.id::text"), "reviews"), _one_of(SQL("named.id::text"), "reviews")),
    )
    return counts


def _stage(connection: Connection, target: Target) -> None:
    """The keys as a temporary table: there may be a hundred thousand."""
    connection.execute(f"DROP TABLE IF EXISTS pg_temp.{_STAGED}".encode())
    connection.execute(f"CREATE TEMP TABLE {_STAGED} (what text, key text) ON COMMIT DROP".encode())
    copy_rows(connection, _STAGED, ((what, key) for what, keys in target.keys.items() for key in keys), ("what", "key"))
    connection.execute(f"ANALYZE {_STAGED}".encode())


def _one_of(key: Composable, what: str) -> Composable:
    return SQL("{} IN (SELECT key FROM {} WHERE what = {})").format(key, SQL(_STAGED), what)
