"""Looks for words in everything an installation keeps: every row of its databases, every file, Parquet unpacked."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql
from pyarrow import csv

from feedback_pipeline.storage.database import Database


def traces(words: Iterable[str], databases: Iterable[Database], folders: Iterable[Path]) -> set[tuple[str, str]]:
    """(word, table or file) of every find."""
    sought = list(words)
    kept = [*(each for database in databases for each in _tables(database)), *(each for path in folders for each in _files(path))]
    return {(word, where) for where, content in kept for word in sought if _holds(content, word)}


def _holds(content: bytes, word: str) -> bool:
    """As it is or, in a column of bytes, in hexadecimal digits."""
    return word.encode() in content or word.encode().hex().encode() in content


def _tables(database: Database) -> Iterator[tuple[str, bytes]]:
    with database.connect() as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        # What Postgres noted down of the columns.
        tables.append(("pg_catalog", "pg_statistic"))
        for schema, table in tables:
            statement = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                yield f"{database.name}.{table}", b"".join(bytes(part) for part in copy)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        yield str(path.relative_to(folder)), content
        yield str(path.relative_to(folder)), str(path).encode()
        if path.suffix == ".parquet":
            yield str(path.relative_to(folder)), _unpacked(content)


def _unpacked(content: bytes) -> bytes:
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    flat = [table[name].cast(pa.string()) if not pa.types.is_nested(table[name].type) else None for name in table.column_names]
    texts = {name: column for name, column in zip(table.column_names, flat, strict=True) if column is not None}
    nested = [str(table[name].to_pylist()).encode() for name in table.column_names if name not in texts]
    sink = io.BytesIO()
    if texts:
        csv.write_csv(pa.table(texts), sink)
    return sink.getvalue() + b"".join(nested)
