"""Whole columns as the text that COPY reads: a learning run of many agents is many numbers, and a row at a time is slow.

Columns are lazy. A part is put into text while the server stores the part before it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha1
from itertools import chain, islice, repeat
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.bulk import NAMESPACE
from feedback_pipeline.storage.database import Connection

Fields = Iterable[str]
"""A column, one field a row, as COPY reads it; to be read once."""

NULL: Final = r"\N"
_T = TypeVar("_T")
_ROWS_AT_ONCE: Final = 500  # more than a socket takes at once would wait for the server
_ESCAPES: Final = (("\\", r"\\"), ("\t", r"\t"), ("\n", r"\n"), ("\r", r"\r"))
_SEPARATOR: Final = "\0"  # no text of Postgres holds it


def fields(values: pd.Series) -> Fields:
    """A column of numbers, truth values or texts; what is missing or not finite is NULL."""
    if values.dtype.kind in "iub":
        return map(str, values.tolist())
    write = _shortest if values.dtype.kind == "f" else _texts
    whole = values.to_numpy(dtype=np.float64 if values.dtype.kind == "f" else object)
    return chain.from_iterable(write(whole[start : start + _ROWS_AT_ONCE]) for start in range(0, len(whole), _ROWS_AT_ONCE))


def _texts(values: npt.NDArray[Any]) -> list[str]:
    missing = pd.isna(values).tolist()
    return _escaped([None if absent else str(value) for value, absent in zip(values.tolist(), missing, strict=True)])


def _shortest(values: npt.NDArray[Any]) -> list[str]:
    """The shortest decimals that are read as the same numbers."""
    decimals: list[str] = pa.array(values, mask=~np.isfinite(values)).cast(pa.string()).fill_null(NULL).to_pylist()
    return decimals


def text_fields(values: Iterable[str | None]) -> Fields:
    """A column of texts; None is NULL."""
    return chain.from_iterable(map(_escaped, _parts(values)))


def _parts(values: Iterable[_T]) -> Iterator[list[_T]]:
    source = iter(values)
    return iter(lambda: list(islice(source, _ROWS_AT_ONCE)), [])


def _escaped(values: list[str | None]) -> list[str]:
    whole = _SEPARATOR.join("" if value is None else value for value in values)
    for character, escape in _ESCAPES:
        whole = whole.replace(character, escape)
    cells = whole.split(_SEPARATOR)
    if len(cells) != len(values):
        raise StoreError("a text to be published holds a NUL character, which Postgres cannot store; take it out of the source")
    return [NULL if value is None else cell for value, cell in zip(values, cells, strict=True)]


def json_numbers(values: pd.Series) -> Iterable[str]:
    """A column of numbers as JSON; what is missing or not finite is null."""
    return ("null" if value == NULL else value for value in fields(values.astype(np.float64)))


def json_texts(values: pd.Series) -> Iterable[str]:
    """A column of texts as JSON; what is missing is null. For columns of few different texts."""
    known: dict[Any, str] = {value: json.dumps(value) for value in values.dropna().unique()}
    return (known.get(value, "null") for value in values.tolist())


def json_objects(members: Mapping[str, Iterable[str]]) -> Fields:
    """A column of JSON objects, from columns that are JSON already."""
    template = "{" + ", ".join(f"{json.dumps(key).replace('%', '%%')}: %s" for key in members) + "}"
    return text_fields(template % row for row in zip(*members.values(), strict=True))


def stable_ids(*parts: Iterable[str]) -> Fields:
    """`bulk.stable_id` of whole columns, as 32 hexadecimal digits each."""
    return chain.from_iterable(map(_stable_ids, _parts(zip(*parts, strict=True))))


def _stable_ids(rows: list[tuple[str, ...]]) -> list[str]:
    namespace = NAMESPACE.bytes
    digests = b"".join(sha1(namespace + "\x1f".join(row).encode()).digest() for row in rows)  # noqa: S324
    bits = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 20)[:, :16].copy()
    bits[:, 6] = bits[:, 6] & 0x0F | 0x50  # version 5
    bits[:, 8] = bits[:, 8] & 0x3F | 0x80  # variant of RFC 9562
    digits = bits.tobytes().hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]


def copy_fields(connection: Connection, table: str, columns: Mapping[str, Fields | str], n: int) -> None:
    """Append n rows to a table by COPY.

    Args:
        connection: In a transaction.
        table: Its name.
        columns: By name; a text instead of a column is the same field in every row.
        n: Rows.

    Raises:
        StoreError: a text holds a NUL character, which Postgres cannot store.
    """
    whole = [repeat(column, n) if isinstance(column, str) else column for column in columns.values()]
    lines = map("\t".join, zip(*whole, strict=True))
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
        for _ in range(0, n, _ROWS_AT_ONCE):
            copy.write("\n".join([*islice(lines, _ROWS_AT_ONCE), ""]))


def stage_fields(connection: Connection, name: str, like: str, columns: Mapping[str, Fields | str], n: int) -> None:
    """Put n rows into a new temporary table shaped like some columns of `like`; it goes with the transaction."""
    connection.execute(f"CREATE TEMP TABLE {name} ON COMMIT DROP AS SELECT {', '.join(columns)} FROM {like} WHERE false")  # noqa: S608
    copy_fields(connection, name, columns, n)
