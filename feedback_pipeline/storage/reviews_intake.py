"""What people say of outputs, into review_feedback, with a workflow for an execution that has none."""

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from psycopg.sql import SQL, Identifier

from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.intake import Intake, Item, Row, Rows, SourceTables, derived_id, take_in

KIND: Final = "review"
Bounds = Mapping[str, tuple[float, float]]
Workflow = tuple[str, str | None]
"""Id and content of a workflow."""

_COPIED: Final = (
    *("reviewer_id", "stage", "decision", "comments", "improvement_suggestions", "feedback_confidence", "is_training_data"),
)
_WORKFLOWS: Final = "content_review_workflows"
_NO_EXECUTION: Final = "no execution has this execution_id; send the execution first"


def may_pass(reason: str) -> bool:
    """Whether a review that was refused for this reason may be stored later as it is."""
    return reason == _NO_EXECUTION


def insert_reviews(where: Database | Connection, reviews: Sequence[Mapping[str, Any]], bounds: Bounds | None = None) -> Intake:
    """Store a batch of reviews.

    Args:
        where: A database, or a connection whose transaction this joins.
        reviews: As `schemas.reviews.Review` dumps them as JSON.
        bounds: (low, high) by aspect, "*" for the rest: a score outside is refused. None = any score.

    Raises:
        StoreError: the tables cannot be written to as they are.
        StoreUnavailable: the database cannot be reached.
    """
    items = [Item(place, KIND, str(one["client_id"]), dict(one)) for place, one in enumerate(reviews)]
    build = partial(_build, bounds or {})
    if isinstance(where, Database):
        with where.connect() as connection:
            return take_in(connection, items, build, _write)
    return take_in(where, items, build, _write)


def _write(tables: SourceTables, rows: Rows) -> None:
    if rows.get(_WORKFLOWS):
        tables.insert(_WORKFLOWS, list({row["id"]: row for row in rows[_WORKFLOWS]}.values()))
    if rows.get("review_feedback"):
        tables.insert("review_feedback", rows["review_feedback"])


def _build(bounds: Bounds, tables: SourceTables, items: Sequence[Item]) -> list[Rows | str]:
    wanted = {item.content["execution_id"] for item in items if item.content.get("execution_id")}
    named = _workflows(tables, "id", {item.content["workflow_id"] for item in items if item.content.get("workflow_id")})
    known = _workflows(tables, "workflow_execution_id", wanted)
    bare = _executions(tables, wanted - set(known))
    made = dict(zip(bare, tables.ids(_WORKFLOWS, [derived_id("workflow", one) for one in bare]), strict=True))
    ids = tables.ids("review_feedback", [uuid.UUID(item.client_id) for item in items])
    return [_rows(tables, item.content, own, bounds, _Targets(named, known, made)) for item, own in zip(items, ids, strict=True)]


class _Targets:
    """What reviews may be of: workflows by id, workflows by execution, and new ones for executions that have none."""

    def __init__(self, named: Mapping[str, Workflow], known: Mapping[str, Workflow], made: Mapping[str, str | int]) -> None:
        self._named, self._known, self._made = named, known, made

    def workflow(self, review: Row) -> tuple[Workflow, Row | None] | str:
        """The workflow of a review, with its row where it is new; or why there is none."""
        execution, workflow = review.get("execution_id"), review.get("workflow_id")
        if execution is None:
            found = self._named.get(str(workflow))
            return (found, None) if found else "no workflow has this workflow_id"
        if execution in self._known:
            return self._known[execution], None
        if execution in self._made:
            own = self._made[execution]
            return (str(own), None), {"id": own, "workflow_execution_id": execution}
        return _NO_EXECUTION


def _rows(tables: SourceTables, review: Row, own: str | int, bounds: Bounds, targets: _Targets) -> Rows | str:
    target = targets.workflow(review)
    if isinstance(target, str):
        return target
    scores, outside = _scores(review, bounds)
    if outside:
        return outside
    (workflow_id, content_id), new = target
    now = tables.now.isoformat()
    row = {name: review.get(name) for name in _COPIED} | {
        "id": own,
        "workflow_id": workflow_id,
        "content_id": content_id,
        "reviewed_at": review.get("reviewed_at") or now,
        "quality_scores": {aspect: given["score"] for aspect, given in scores.items() if given["score"] is not None},
        "feedback_categories": {aspect: given for aspect, given in scores.items() if given["issues"]},
    }
    return {"review_feedback": [row], _WORKFLOWS: [new | {"created_at": now}] if new else []}


def _scores(review: Row, bounds: Bounds) -> tuple[dict[str, Row], str]:
    """Score and issues by aspect, and which of them lies outside its bounds."""
    given = {
        aspect: value if isinstance(value, dict) else {"score": value, "issues": []}
        for aspect, value in review.get("quality_scores", {}).items()
        if value is not None
    }
    for place, (aspect, value) in enumerate(given.items()):
        low, high = bounds.get(aspect) or bounds.get("*") or (None, None)
        if low is not None and high is not None and value["score"] is not None and not low <= value["score"] <= high:
            return given, f"score {place + 1} of quality_scores lies outside [{low:g}, {high:g}]"
    return given, ""


def _workflows(tables: SourceTables, column: str, texts: set[str]) -> dict[str, Workflow]:
    """The newest workflow by a column of keys, as text."""
    kind, keys = tables.keys(_WORKFLOWS, column, texts)
    if not keys:
        return {}
    query = SQL(
        "SELECT DISTINCT ON (w.{key}) w.{key}::text, w.id::text, {content} FROM content_review_workflows w"
        " WHERE w.{key} = ANY(%s::{kind}[]) ORDER BY w.{key}, {created} DESC NULLS LAST, w.id DESC"
    ).format(
        key=Identifier(column),
        content=tables.columns.text("w", _WORKFLOWS, "content_id"),
        kind=SQL(kind),
        created=tables.columns.raw("w", _WORKFLOWS, "created_at"),
    )
    return {key: (own, content) for key, own, content in tables.connection.execute(query, [keys]).fetchall()}


def _executions(tables: SourceTables, texts: set[str]) -> list[str]:
    """Those of the executions that some agent has run."""
    kind, keys = tables.keys("agent_performance", "execution_id", texts)
    if not keys:
        return []
    query = SQL("SELECT DISTINCT execution_id::text FROM agent_performance WHERE execution_id = ANY(%s::{}[]) ORDER BY 1")
    return [key for (key,) in tables.connection.execute(query.format(SQL(kind)), [keys]).fetchall()]
