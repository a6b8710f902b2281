"""Writing a world into the four source tables, as the platform of a content agency would have left them."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv

from feedback_pipeline.errors import UserError
from feedback_pipeline.simulation.rows import Rows
from feedback_pipeline.simulation.world import World
from feedback_pipeline.storage.database import Connection, Database

Progress = Callable[[int, int], None]
"""Called with (outputs and reviews written so far, all of them)."""

_OUTPUTS_AT_ONCE = 2_000
_REVIEWS_AT_ONCE = 20_000


def write_world(database: Database, world: World, *, progress: Progress | None = None) -> dict[str, int]:
    """Write the world in one transaction: all of it or nothing. The same spec always writes the same rows.

    Args:
        database: a migrated database; rows that are there already stay.
        world: what to write.
        progress: told after every chunk.

    Returns:
        Rows written to each table.

    Raises:
        UserError: this world, or one of the same seed, is in the database already.
        StoreUnavailable: the database cannot be reached.
    """
    rows = Rows(world)
    total = len(world.executions) + len(world.reviews)
    written = dict.fromkeys(("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback"), 0)
    done = 0
    with database.connect() as connection:
        for first, last in _chunks(len(world.executions), _OUTPUTS_AT_ONCE):
            for table, frame in rows.of_outputs(first, last).items():
                written[table] += _copy(connection, table, frame)
            done += last - first
            if progress:
                progress(done, total)
        for first, last in _chunks(len(world.reviews), _REVIEWS_AT_ONCE):
            written["review_feedback"] += _copy(connection, "review_feedback", rows.of_reviews(first, last))
            done += last - first
            if progress:
                progress(done, total)
    return written


def _chunks(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + size, count)) for first in range(0, count, size))


def _copy(connection: Connection, table: str, frame: pd.DataFrame) -> int:
    """COPY the frame into the columns of its names; a missing value is NULL."""
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(sql.Identifier(table), columns)
    sink = pa.BufferOutputStream()
    # Arrow quotes every string and no NULL, which is how Postgres tells an empty text from NULL.
    csv.write_csv(pa.table({name: _arrow(frame[name]) for name in frame.columns}), sink, csv.WriteOptions(include_header=False))
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(memoryview(sink.getvalue()))
    except psycopg.errors.UniqueViolation:
        raise UserError("a world of this seed is already in the database: choose another --seed, or an empty database") from None
    return len(frame)


def _arrow(column: "pd.Series[Any]") -> pa.Array | pa.ChunkedArray:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # Handing Arrow the zoned column itself makes pandas warn.
        return pa.array(column.dt.tz_convert(None).to_numpy(), type=pa.timestamp("us", "UTC"))
    return pa.array(column, from_pandas=True)
