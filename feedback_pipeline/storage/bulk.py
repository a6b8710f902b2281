"""Many rows into Postgres at once, and the same id for the same thing everywhere."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from feedback_pipeline.storage.database import Connection

NAMESPACE = uuid.UUID("5ad9f1f4-6f4c-5c65-9a46-3d5c3b8e2a11")


def stable_id(*parts: str) -> uuid.UUID:
    """The same id for the same thing in every run and every database."""
    return uuid.uuid5(NAMESPACE, "\x1f".join(parts))


def stage(connection: Connection, name: str, like: str, rows: Iterable[tuple[Any, ...]], columns: Sequence[str]) -> None:
    """Put rows into a new temporary table shaped like some columns of `like`; it goes with the transaction."""
    connection.execute(f"CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {', '.join(columns)} FROM {like} WHERE false")  # noqa: S608
    copy_rows(connection, name, rows, columns)


def copy_rows(connection: Connection, table: str, rows: Iterable[tuple[Any, ...]], columns: Sequence[str]) -> None:
    """Append rows to a table by COPY."""
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def nullable(values: pd.Series) -> list[Any]:
    """Python values with None for missing ones."""
    return [None if missing else value for value, missing in zip(values.tolist(), values.isna(), strict=True)]
