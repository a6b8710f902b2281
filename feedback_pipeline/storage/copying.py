"""From a query to Arrow tables, block by block: COPY as CSV, parsed by Arrow while the next rows arrive."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import pyarrow as pa
from psycopg.sql import SQL, Composable
from pyarrow import csv

from feedback_pipeline.storage.database import Connection

BLOCK_BYTES: Final = 8 << 20


def copy_blocks(conn: Connection, query: Composable, schema: pa.Schema) -> Iterator[pa.Table]:
    """Run a query and yield its rows in blocks of about 8 MB.

    Args:
        conn: A connection in a transaction.
        query: SELECT whose columns are those of the schema, in order. It cannot have parameters.
        schema: Names and types. NULL becomes null, an empty text stays one. A number may be NaN or infinite.

    Yields:
        At least one table, possibly without rows.
    """
    convert = csv.ConvertOptions(
        column_types=schema,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["t"],
        false_values=["f"],
    )

    def parse(rows: list[bytes]) -> pa.Table:
        content = b"".join(rows)
        # One block: rows arrive whole, and texts hold line breaks.
        read = csv.ReadOptions(column_names=schema.names, use_threads=False, block_size=len(content) + 1)
        table = csv.read_csv(pa.BufferReader(content), read, csv.ParseOptions(newlines_in_values=True), convert)
        return table.cast(schema)

    statement = SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)
    parsing: Future[pa.Table] | None = None
    with ThreadPoolExecutor(1) as pool, conn.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for rows in _blocks(copy):
                if parsing is not None:
                    yield parsing.result()
                parsing = pool.submit(parse, rows)
        yield parsing.result() if parsing is not None else schema.empty_table()


def copy_table(conn: Connection, query: Composable, schema: pa.Schema) -> pa.Table:
    """Run a query and return all rows, each column in one chunk; see `copy_blocks`."""
    return pa.concat_tables(copy_blocks(conn, query, schema)).combine_chunks()


def _blocks(rows: Iterable[bytes | bytearray | memoryview]) -> Iterator[list[bytes]]:
    block: list[bytes] = []
    size = 0
    for row in rows:
        block.append(bytes(row))
        size += len(row)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
