"""What belongs to a reviewer, a review or a content: the keys of the rows that go when it is forgotten.

- reviewer: the reviews they gave, everything that is known of them, and what was forecast of them;
- feedback: one review;
- content: the workflows of the content, the reviews of it, and the executions that made it, with their runs and decisions. An
  execution that also has a workflow of another content stays.
"""

import uuid
from collections.abc import Mapping, Sequence
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
_NONE: Final[Mapping[str, Sequence[str]]] = dict.fromkeys(_KEYS, ())
Found = dict[str, set[str]]
"""Keys by what they are."""


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


def find_target(connection: Connection, kind: str, identifier: str, known: Mapping[str, Sequence[str]] = _NONE) -> Target:
    """The keys of all rows that go with an id; it may have none.

    Args:
        connection: In a transaction.
        kind: reviewer, feedback or content.
        identifier: Of it.
        known: Keys that were found before. They stay: rows that have come since may be named by them alone.
    """
    columns = source_columns(connection)
    own = identifier if kind == REVIEWER else _canonical(identifier)
    found = {what: set(keys) for what, keys in known.items()}
    if kind == CONTENT:
        _add_content(connection, columns, own, found)
    found["reviews"] |= _texts(
        connection,
        SQL("SELECT {} FROM review_feedback r WHERE {} = %s OR {} = ANY(%s)").format(
            columns.text("r", "review_feedback", "id"),
            columns.text("r", "review_feedback", {REVIEWER: "reviewer_id", FEEDBACK: "id", CONTENT: "content_id"}[kind]),
            columns.text("r", "review_feedback", "workflow_id"),
        ),
        own,
        list(found["workflows"]),
    )
    _add_whose(connection, columns, found)
    if kind == REVIEWER:
        found["reviewers"] = {own}
    return Target(kind, own, {what: sorted(found[what]) for what in _KEYS})


def _add_content(connection: Connection, columns: SourceColumns, own: str, found: Found) -> None:
    """Workflows, executions, runs and decisions of a content."""
    id_, content = (columns.text("w", "content_review_workflows", name) for name in ("id", "content_id"))
    execution = columns.text("w", "content_review_workflows", "workflow_execution_id")
    of_content = SQL("SELECT {} FROM content_review_workflows w WHERE {} = %s")
    found["workflows"] |= _texts(connection, of_content.format(id_, content), own)
    named = found["executions"] | _texts(connection, of_content.format(execution, content), own)
    shared = SQL("SELECT {} FROM content_review_workflows w WHERE {} = ANY(%s) AND {} <> %s").format(
        execution, execution, content
    )
    found["executions"] = named - _texts(connection, shared, list(named), own)
    run, of_execution = (columns.text("p", "agent_performance", name) for name in ("id", "execution_id"))
    runs = SQL("SELECT {} FROM agent_performance p WHERE {} = ANY(%s)").format(run, of_execution)
    found["runs"] |= _texts(connection, runs, list(found["executions"]))
    decision, of_run = (columns.text("d", "agent_decisions", name) for name in ("id", "performance_id"))
    decisions = SQL("SELECT {} FROM agent_decisions d WHERE {} = ANY(%s)").format(decision, of_run)
    found["decisions"] |= _texts(connection, decisions, list(found["runs"]))


def _add_whose(connection: Connection, columns: SourceColumns, found: Found) -> None:
    """The agents and reviewers of reviews."""
    review, reviewer = (columns.text("r", "review_feedback", name) for name in ("id", "reviewer_id"))
    people = SQL("SELECT DISTINCT {} FROM review_feedback r WHERE {} = ANY(%s)").format(reviewer, review)
    agents = SQL(
        "SELECT DISTINCT p.agent_name::text FROM review_feedback r JOIN content_review_workflows w ON {} "
        "JOIN agent_performance p ON {} WHERE {} = ANY(%s)"
    ).format(
        columns.equal(("r", "review_feedback", "workflow_id"), ("w", "content_review_workflows", "id")),
        columns.equal(("w", "content_review_workflows", "workflow_execution_id"), ("p", "agent_performance", "execution_id")),
        review,
    )
    found["reviewers"] |= _texts(connection, people, list(found["reviews"]))
    found["agents"] |= _texts(connection, agents, list(found["reviews"]))


def _texts(connection: Connection, query: Composed, *values: object) -> set[str]:
    return {row[0] for row in connection.execute(query, values)} - {None}


def _canonical(identifier: str) -> str:
    """A UUID as Postgres writes it; anything else as it is."""
    try:
        return str(uuid.UUID(identifier))
    except ValueError:
        return identifier
