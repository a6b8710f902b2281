"""The rows that go when a reviewer, a review or a content is forgotten.

- reviewer: the reviews they gave, everything that is known of them, and what was forecast of them;
- feedback: one review;
- content: the workflows of the content, the reviews of it, and the executions that made it, with their runs and decisions. An
  execution that also has a workflow of another content stays.

With them goes what names them by key: entries of the ledger, forecasts, applications, places in a queue, recommendations that ask
a reviewer back, their ids in the evidence of patterns. What is learned from them is not repaired here: that is learned again.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from psycopg.sql import SQL, Composable

from feedback_pipeline.learning.features import FLEET
from feedback_pipeline.storage.bulk import copy_rows
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns

REVIEWER: Final = "reviewer"
FEEDBACK: Final = "feedback"
CONTENT: Final = "content"
KINDS: Final = (REVIEWER, FEEDBACK, CONTENT)

_KEYS: Final = ("reviews", "workflows", "executions", "runs", "decisions", "agents", "reviewers")
# By source table: the keys of its rows, and those that name its rows in feedback_changes.
_SOURCES: Final = {
    "review_feedback": ("reviews", "reviews"),
    "content_review_workflows": ("workflows", "workflows"),
    "agent_decisions": ("decisions", "runs"),
    "agent_performance": ("runs", "executions"),
}
_BY_REVIEWER: Final = (
    *("human_preference_models", "reviewer_components", "reviewer_bridges", "reviewer_severity_months", "quality_forecasts"),
)
_BY_EXECUTION: Final = ("reviewer_bridges", "quality_forecasts", "queue_draws", "learning_applications")
_STAGED: Final = "forgotten"


@dataclass(frozen=True)
class Target:
    """What is forgotten.

    Attributes:
        kind: reviewer, feedback or content.
        id: As the database writes it.
        keys: Of its rows, as text, by what they are: reviews, workflows, executions, runs (agent_performance), decisions; and the
            agents and reviewers these belong to.
    """

    kind: str
    id: str
    keys: dict[str, list[str]]

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Target":
        """From what `document` made."""
        return cls(document["kind"], document["id"], document["keys"])

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"kind": self.kind, "id": self.id, "keys": self.keys}

    def named_in_days(self) -> dict[str, list[str]]:
        """By column of the feature store: the values that must not be found there."""
        own = {REVIEWER: "reviewer_id", CONTENT: "content_id"}
        named = {own[self.kind]: [self.id]} if self.kind in own else {}
        return named | {"feedback_id": self.keys["reviews"], "execution_id": self.keys["executions"]}


def find_target(connection: Connection, kind: str, identifier: str) -> Target:
    """The keys of all rows that go with an id; it may have none."""
    columns = source_columns(connection)
    own = identifier if kind == REVIEWER else _canonical(identifier)
    workflows, executions, runs, decisions = _of_content(connection, columns, own) if kind == CONTENT else ([], [], [], [])
    reviews = _texts(
        connection,
        SQL("SELECT {} FROM review_feedback r WHERE {} = %s OR {} = ANY(%s)").format(
            columns.text("r", "review_feedback", "id"),
            columns.text("r", "review_feedback", {REVIEWER: "reviewer_id", FEEDBACK: "id", CONTENT: "content_id"}[kind]),
            columns.text("r", "review_feedback", "workflow_id"),
        ),
        own,
        workflows,
    )
    people = SQL("SELECT DISTINCT {} FROM review_feedback r WHERE {} = ANY(%s)").format(
        columns.text("r", "review_feedback", "reviewer_id"), columns.text("r", "review_feedback", "id")
    )
    agents = SQL(
        "SELECT DISTINCT p.agent_name::text FROM review_feedback r JOIN content_review_workflows w ON {} "
        "JOIN agent_performance p ON {} WHERE {} = ANY(%s)"
    ).format(
        columns.equal(("r", "review_feedback", "workflow_id"), ("w", "content_review_workflows", "id")),
        columns.equal(("w", "content_review_workflows", "workflow_execution_id"), ("p", "agent_performance", "execution_id")),
        columns.text("r", "review_feedback", "id"),
    )
    reviewers = [own] if kind == REVIEWER else _texts(connection, people, reviews)
    found = (reviews, workflows, executions, runs, decisions, _texts(connection, agents, reviews), reviewers)
    return Target(kind, own, dict(zip(_KEYS, found, strict=True)))


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
        for table, (keys, _) in _SOURCES.items()
    }
    return {table: n for table, n in (source | derived).items() if n}


def sweep_rows(connection: Connection, target: Target) -> None:
    """Delete what was written of a target since, and what older learning runs left of it, in the caller's transaction.

    Patterns of its agents that are not found any more go; of those that were applied the numbers go and the counters stay. So do
    older versions of the models of its reviewers.
    """
    _stage(connection, target)
    _delete_derived(connection, target)
    for table, (_, keys) in _SOURCES.items():
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
    """Have Postgres drop the deleted rows from its pages, and values it keeps as statistics; what it may not, it leaves."""
    tables = (*_SOURCES, *_BY_REVIEWER, *_BY_EXECUTION, "rejected_feedback", "feedback_changes", "forget_receipts")
    tables += ("agent_learning_patterns", "agent_recommendations", "pattern_effects")
    with database.connect(autocommit=True) as connection:
        connection.execute(f"VACUUM (ANALYZE, SKIP_LOCKED) {', '.join(dict.fromkeys(tables))}".encode())


def _of_content(connection: Connection, columns: SourceColumns, own: str) -> tuple[list[str], ...]:
    """Workflows, executions, runs and decisions of a content."""
    id_, content = (columns.text("w", "content_review_workflows", name) for name in ("id", "content_id"))
    execution = columns.text("w", "content_review_workflows", "workflow_execution_id")
    workflows = _texts(connection, SQL("SELECT {} FROM content_review_workflows w WHERE {} = %s").format(id_, content), own)
    executions = _texts(
        connection,
        SQL("SELECT {0} FROM content_review_workflows w WHERE {0} IS NOT NULL GROUP BY 1 HAVING bool_or({1} = %s)").format(
            execution, content
        )
        + SQL(" AND NOT coalesce(bool_or({} <> %s), false)").format(content),
        own,
        own,
    )
    runs = _texts(
        connection,
        SQL("SELECT {} FROM agent_performance p WHERE {} = ANY(%s)").format(
            columns.text("p", "agent_performance", "id"), columns.text("p", "agent_performance", "execution_id")
        ),
        executions,
    )
    decisions = _texts(
        connection,
        SQL("SELECT {} FROM agent_decisions d WHERE {} = ANY(%s)").format(
            columns.text("d", "agent_decisions", "id"), columns.text("d", "agent_decisions", "performance_id")
        ),
        runs,
    )
    return workflows, executions, runs, decisions


def _delete_derived(connection: Connection, target: Target) -> dict[str, int]:
    """Delete what names the staged keys outside of the source tables."""
    counts: dict[str, int] = {}

    def count(table: str, statement: Composable) -> None:
        counts[table] = counts.get(table, 0) + connection.execute(statement).rowcount

    for source, (keys, _) in _SOURCES.items():
        entries = SQL("DELETE FROM rejected_feedback WHERE source = {} AND {}").format(source, _one_of(SQL("row_id"), keys))
        count("rejected_feedback", entries)
    for table in _BY_EXECUTION:
        count(table, SQL("DELETE FROM {} WHERE {}").format(SQL(table), _one_of(SQL("execution_id"), "executions")))
    if target.kind == REVIEWER:
        for table in _BY_REVIEWER:
            count(table, SQL("DELETE FROM {} WHERE {}").format(SQL(table), _one_of(SQL("reviewer_id"), "reviewers")))
        asked = SQL("(SELECT recommendation_id::text FROM agent_recommendations WHERE {})").format(
            _one_of(SQL("action ->> 'reviewer_id'"), "reviewers")
        )
        for table in ("learning_applications", "pattern_effects"):
            count(table, SQL("DELETE FROM {} WHERE pattern_id IN {}").format(SQL(table), asked))
        count("agent_recommendations", SQL("DELETE FROM agent_recommendations WHERE recommendation_id::text IN {}").format(asked))
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
    connection.execute(f"CREATE TEMP TABLE {_STAGED} (what text, key text) ON COMMIT DROP".encode())
    copy_rows(connection, _STAGED, ((what, key) for what, keys in target.keys.items() for key in keys), ("what", "key"))
    connection.execute(f"ANALYZE {_STAGED}".encode())


def _one_of(key: Composable, what: str) -> Composable:
    return SQL("{} IN (SELECT key FROM {} WHERE what = {})").format(key, SQL(_STAGED), what)


def _texts(connection: Connection, query: Composable, *values: object) -> list[str]:
    return sorted(_known(row[0] for row in connection.execute(query, values)))


def _known(values: Iterable[str | None]) -> set[str]:
    return {value for value in values if value is not None}


def _canonical(identifier: str) -> str:
    """A UUID as Postgres writes it; anything else as it is."""
    try:
        return str(uuid.UUID(identifier))
    except ValueError:
        return identifier
