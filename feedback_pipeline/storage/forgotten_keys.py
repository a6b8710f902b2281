"""What belongs to a reviewer, a review or a content: the keys of the rows that go when it is forgotten.

- reviewer: the reviews they gave, everything that is known of them, and what was forecast of them;
- feedback: one review;
- content: the workflows of the content, the reviews of it, and the executions that made it, with their runs and decisions. An
  execution that also has a workflow of another content stays.
"""

import uuid
from dataclasses import dataclass
from typing import Any, Final

from psycopg.sql import SQL, Composed

from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns

REVIEWER: Final = "reviewer"
FEEDBACK: Final = "feedback"
CONTENT: Final = "content"
KINDS: Final = (REVIEWER, FEEDBACK, CONTENT)

_KEYS: Final = ("reviews", "workflows", "executions", "runs", "decisions", "agents", "reviewers")


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


def _texts(connection: Connection, query: Composed, *values: object) -> list[str]:
    return sorted({row[0] for row in connection.execute(query, values)} - {None})


def _canonical(identifier: str) -> str:
    """A UUID as Postgres writes it; anything else as it is."""
    try:
        return str(uuid.UUID(identifier))
    except ValueError:
        return identifier
