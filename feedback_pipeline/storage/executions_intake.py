"""What agents send of their executions, into agent_performance, agent_decisions and content_review_workflows."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.intake import Intake, Item, Row, Rows, SourceTables, derived_id, take_in

KIND: Final = "execution"
_OWN: Final = ("agent_name", "agent_type", "execution_id", "start_time", "status", "input_tokens", "output_tokens", "cost")
_OF_A_DECISION: Final = ("decision_point", "decision_type", "input_data", "output_data", "reasoning", "confidence_score")


def insert_executions(where: Database | Connection, executions: Sequence[Mapping[str, Any]]) -> Intake:
    """Store a batch of executions; each of them whole or not at all.

    Args:
        where: A database, or a connection whose transaction this joins.
        executions: As `schemas.executions.Execution` dumps them as JSON.

    Raises:
        StoreError: the tables cannot be written to as they are.
        StoreUnavailable: the database cannot be reached.
    """
    items = [Item(place, KIND, str(one["client_id"]), dict(one)) for place, one in enumerate(executions)]
    if isinstance(where, Database):
        with where.connect() as connection:
            return take_in(connection, items, _build, _write)
    return take_in(where, items, _build, _write)


def _write(tables: SourceTables, rows: Rows) -> None:
    tables.insert("agent_performance", rows["agent_performance"])
    if rows.get("agent_decisions"):
        tables.insert("agent_decisions", rows["agent_decisions"])
    if rows.get("content_review_workflows"):
        tables.insert(
            "content_review_workflows", rows["content_review_workflows"], unless=("workflow_execution_id", "content_id")
        )


def _build(tables: SourceTables, items: Sequence[Item]) -> list[Rows | str]:
    executions = [item.content for item in items]
    ids = tables.ids("agent_performance", [uuid.UUID(item.client_id) for item in items])
    decisions = [_decisions(item, own) for item, own in zip(items, ids, strict=True)]
    made = iter(tables.ids("agent_decisions", [row["id"] for rows in decisions for row in rows]))
    with_content = [one for one in executions if one.get("content_id")]
    workflow_ids = tables.ids("content_review_workflows", [_workflow_id(one) for one in with_content])
    workflows = {id(one): {"id": own} | _workflow(one) for one, own in zip(with_content, workflow_ids, strict=True)}
    return [
        {
            "agent_performance": [{"id": own} | _performance(one)],
            "agent_decisions": [row | {"id": next(made)} for row in rows],
            "content_review_workflows": [workflows[id(one)]] if id(one) in workflows else [],
        }
        for one, own, rows in zip(executions, ids, decisions, strict=True)
    ]


def _performance(execution: Row) -> Row:
    error = execution.get("error")
    return {name: execution.get(name) for name in _OWN} | {
        "end_time": _end(execution),
        "duration": execution.get("duration_ms"),
        "metadata": execution.get("metadata", {}) | ({"error": error} if error else {}),
    }


def _end(execution: Row) -> str | None:
    duration = execution.get("duration_ms")
    if duration is None:
        return None
    try:
        return (datetime.fromisoformat(execution["start_time"]) + timedelta(milliseconds=duration)).isoformat()
    except OverflowError:
        return None


def _decisions(item: Item, performance_id: str | int) -> list[Row]:
    """The rows of the decisions; what the execution says of input and output goes to the last, which makes the output."""
    execution = item.content
    own = {name: execution.get(name) for name in ("input_data", "output_data") if execution.get(name) is not None}
    sent: list[Row] = [*execution.get("decisions", [])] or ([{}] if own else [])
    if sent:
        last = {name: value for name, value in sent[-1].items() if value is not None}
        sent[-1] = own | last
    ended = _end(execution) or execution["start_time"]
    return [
        {name: decision.get(name) for name in _OF_A_DECISION}
        | {
            "id": derived_id("decision", item.client_id, str(place)),
            "performance_id": performance_id,
            "alternatives_considered": decision.get("alternatives"),
            "created_at": decision.get("created_at") or ended,
        }
        for place, decision in enumerate(sent)
    ]


def _workflow_id(execution: Row) -> uuid.UUID:
    return derived_id("workflow", execution["execution_id"], execution["content_id"])


def _workflow(execution: Row) -> Row:
    return {
        "content_id": execution["content_id"],
        "workflow_execution_id": execution["execution_id"],
        "created_at": _end(execution) or execution["start_time"],
    }
