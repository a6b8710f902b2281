"""Outputs that nobody has reviewed yet, with the features that the extraction gives an output once it is reviewed."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.sql import SQL, Composable, Literal

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.copying import copy_table
from feedback_pipeline.storage.database import Connection, Database
from feedback_pipeline.storage.day_assembly import usable_names, usable_outputs, with_custom
from feedback_pipeline.storage.day_ranges import moment
from feedback_pipeline.storage.day_reading import measured_texts
from feedback_pipeline.storage.day_tables import FEATURE_TABLE, OUTPUT_ORDER, in_order
from feedback_pipeline.storage.extraction_sql import DECISION_POINTS, OUTPUTS, OutputQueries, workflow_of_review
from feedback_pipeline.storage.refusals import Refusals
from feedback_pipeline.storage.source_columns import SourceColumns, source_columns

START: Final = pa.field("start_time", pa.timestamp("us", tz="UTC"))
_KEYS: Final = pa.schema([("content_id", pa.string()), START])
_RUN: Final = "agent_performance"
_WORKFLOW: Final = "content_review_workflows"
_TIMES: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "date"})
_TEXTS: Final = frozenset({"text", "character varying"})


def read_unreviewed(
    where: Database | Connection, settings: Settings, first: date | None, last: date, *, new_to: int | None = None
) -> pa.Table:
    """Read the outputs without a review that started on some days.

    An output is the last successful run of an agent in an execution, as in the extraction; it is unreviewed while no review of a
    workflow of its execution is finished. What cannot be used in it is missing, and goes to the ledger once it is reviewed. Of
    an agent with too many custom features those of most of its outputs read here are kept.

    Args:
        where: A database, or a connection inside a snapshot.
        settings: First day that counts.
        first: First UTC day, None = the first that counts.
        last: Last UTC day.
        new_to: A model version: only outputs of which it has made no forecast yet.

    Returns:
        Columns of FEATURE_TABLE, then start_time, then custom features by name; content_id is the smallest of its workflows, else
        the execution. In the order of agent and execution.

    Raises:
        StoreUnavailable: the database cannot be reached.
        StoreError: a table is missing.
    """
    with _reading(where) as conn:
        return _read(conn, _Unreviewed(source_columns(conn), first or settings.first_day, last, new_to))


def count_unreviewed(
    where: Database | Connection, settings: Settings, first: date | None, last: date, *, new_to: int | None = None
) -> int:
    """Count what `read_unreviewed` would read, without reading it."""
    with _reading(where) as conn:
        query = _Unreviewed(source_columns(conn), first or settings.first_day, last, new_to).counts()
        found = copy_table(conn, query, pa.schema([("agent_name", pa.string()), ("outputs", pa.int64())]))
    return int(pc.sum(found["outputs"].filter(usable_names(found["agent_name"])), min_count=0).as_py())


def read_outputs_of(where: Database | Connection, agent_name: str, execution_id: str) -> pa.Table:
    """Read one output, reviewed or not: a row as of `read_unreviewed`, or none where there is no such output.

    Args:
        where: A database, or a connection inside a snapshot.
        agent_name: The agent.
        execution_id: The execution.
    """
    with _reading(where) as conn:
        return _read(conn, _Named(source_columns(conn), agent_name, execution_id))


def finished_review(columns: SourceColumns, execution: Composable) -> Composable:
    """A condition: some review of an execution is finished.

    Args:
        columns: The source tables as they are.
        execution: Which execution: a condition on its workflows w.
    """
    return SQL(
        "EXISTS (SELECT FROM content_review_workflows w JOIN review_feedback r ON {} WHERE {} AND r.reviewed_at IS NOT NULL)"
    ).format(workflow_of_review(columns), execution)


def workflows_of(columns: SourceColumns, execution: Composable) -> Composable:
    """The condition on workflows w that they are of an execution, given as text."""
    return SQL("{} = {}::{}").format(
        columns.raw("w", _WORKFLOW, "workflow_execution_id"), execution, columns.key(_WORKFLOW, "workflow_execution_id")
    )


def is_execution(columns: SourceColumns, own: tuple[str, str, str], execution_id: str) -> Composable:
    """The condition that a column (alias, table, column) names an execution, by an index; false where it can name none such."""
    kind = columns.type_of(*own[1:])
    if kind in _TEXTS:
        return SQL("{} = {}").format(columns.raw(*own), Literal(execution_id))
    if kind == "uuid":
        try:
            return SQL("{} = {}::uuid").format(columns.raw(*own), Literal(str(uuid.UUID(execution_id))))
        except ValueError:
            return SQL("false")
    return SQL("{} = {}").format(columns.text(*own), Literal(execution_id))


@dataclass(frozen=True)
class _Unreviewed(OutputQueries):
    """Outputs without a review that started on the days first..last, and of which a model, if named, has said nothing yet."""

    first: date
    last: date
    new_to: int | None

    def executions(self) -> Composable:
        """Those with a successful run in these days and without a review."""
        c = self.columns
        return SQL(
            "SELECT DISTINCT {execution} FROM agent_performance p WHERE {started} AND {status} = 'success' AND NOT {reviewed}"
        ).format(
            execution=c.raw("p", _RUN, "execution_id"),
            started=self._in_days(c.raw("p", _RUN, "start_time", "NULL::timestamptz")),
            status=c.text("p", _RUN, "status"),
            reviewed=finished_review(c, c.equal(("w", _WORKFLOW, "workflow_execution_id"), ("p", _RUN, "execution_id"))),
        )

    def wanted(self) -> Composable:
        """Of several agents in an execution, those whose own last run lies in the days and is new to the model."""
        inside = self._in_days(SQL("started"))
        if self.new_to is None:
            return inside
        return SQL(
            "{} AND NOT EXISTS (SELECT FROM quality_forecasts f WHERE f.agent_name = ranked.agent_name "
            "AND f.execution_id = ranked.execution_id AND f.reviewer_id = '' AND f.model_version = {})"
        ).format(inside, Literal(self.new_to))

    def counts(self) -> Composable:
        """Outputs by agent."""
        return SQL("WITH {} SELECT agent_name, count(*) FROM runs GROUP BY 1").format(self._runs())

    def _in_days(self, started: Composable) -> Composable:
        if self.columns.type_of(_RUN, "start_time") not in _TIMES:
            return SQL("false")
        after = moment(self.last + timedelta(days=1))
        return SQL("{0} >= {1} AND {0} < {2}").format(started, moment(self.first), after)


@dataclass(frozen=True)
class _Named(OutputQueries):
    """The output of one agent in one execution."""

    agent_name: str
    execution_id: str

    def executions(self) -> Composable:
        """The one."""
        own = ("p", _RUN, "execution_id")
        return SQL("SELECT DISTINCT {} FROM agent_performance p WHERE {}").format(
            self.columns.raw(*own), is_execution(self.columns, own, self.execution_id)
        )

    def wanted(self) -> Composable:
        """Its output of the agent."""
        return SQL("agent_name = {}").format(Literal(self.agent_name))


@contextmanager
def _reading(where: Database | Connection) -> Iterator[Connection]:
    """A connection of one snapshot."""
    if isinstance(where, Database):
        with where.snapshot() as conn:
            yield conn
    else:
        yield where


def _read(conn: Connection, queries: OutputQueries) -> pa.Table:
    rows = copy_table(conn, queries.outputs(_keys(queries.columns)), pa.schema([*OUTPUTS, *_KEYS]))
    texts = measured_texts(conn, queries, rows["performance_id"])
    outputs = usable_outputs(rows.select(OUTPUTS.names), DECISION_POINTS.empty_table(), texts, Refusals())
    keys = rows.select(_KEYS.names).filter(usable_names(rows["agent_name"]))
    known = {name: (keys if name == "content_id" else outputs.table)[name] for name in FEATURE_TABLE.names}
    whole, _ = with_custom(pa.table(known), outputs.custom, np.arange(len(keys)))
    custom = sorted(set(whole.column_names) - {*FEATURE_TABLE.names, START.name})
    schema = pa.schema([*FEATURE_TABLE, START, *(pa.field(name, pa.float64()) for name in custom)])
    columns = {name: (keys if name == START.name else whole)[name] for name in schema.names}
    return in_order(pa.table(columns).cast(schema), OUTPUT_ORDER)


def _keys(columns: SourceColumns) -> Composable:
    """Columns `_KEYS` of run p."""
    started = "NULL"
    if columns.type_of(_RUN, "start_time") in _TIMES:
        # Moments beyond these years, and infinite ones, are none to any calendar but Postgres's own.
        started = "CASE WHEN feedback_utc_day(p.started) IS NOT NULL THEN p.started::timestamptz END"
    return SQL(
        ', coalesce((SELECT min({content} COLLATE "C") FROM content_review_workflows w WHERE {own}), p.execution_id), {started}'
    ).format(
        content=columns.text("w", _WORKFLOW, "content_id"),
        own=workflows_of(columns, SQL("p.execution_id")),
        started=SQL(started),
    )
