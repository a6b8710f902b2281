"""Rows that clients send into the source tables: each item once, however often it is sent, into columns of any type."""

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.sql import SQL, Identifier

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Connection
from feedback_pipeline.storage.database_errors import public_message
from feedback_pipeline.storage.source_columns import SOURCE_TABLES, SourceColumns, source_columns

Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""Rows by table."""

_NAMESPACE: Final = uuid.UUID("0b9a0a4e-2f0c-5d43-9a55-6f1f0c7a7d10")
_OF_THE_ITEM: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.RaiseException)
_WHOLE: Final = frozenset({"smallint", "integer", "bigint"})
_TEXTS: Final = frozenset({"text", "character varying"})


@dataclass(frozen=True)
class Item:
    """One thing that was sent.

    Attributes:
        place: In the batch.
        kind: What it is.
        client_id: The id its client gave it.
        content: As it was sent.
    """

    place: int
    kind: str
    client_id: str
    content: Row

    @property
    def receipt(self) -> uuid.UUID:
        """By which it is known again; it does not show the id."""
        return derived_id("receipt", self.kind, self.client_id)


@dataclass(frozen=True)
class Intake:
    """What became of a batch: how many are new, how many had come before, which will never be stored as they are, and why."""

    stored: int
    known: int
    refused: list[tuple[int, str]]


class SourceTables:
    """The source tables of a connection, to be written to.

    Args:
        connection: In a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.columns: SourceColumns = source_columns(connection)
        computed = connection.execute(
            "SELECT name, attname FROM unnest(%s::text[]) AS name JOIN pg_attribute ON attrelid = to_regclass(name)"
            " WHERE attgenerated <> ''",
            [list(SOURCE_TABLES)],
        ).fetchall()
        self._computed = set(computed)
        ((self.now,),) = connection.execute("SELECT now()").fetchall()

    now: datetime
    """When this transaction began, by the clock of the database."""

    def ids(self, table: str, wanted: Sequence[uuid.UUID]) -> list[str | int]:
        """Ids of new rows: the wanted ones, or the next numbers of the table where it counts its rows.

        Raises:
            StoreError: the table makes ids of another kind.
        """
        kind = self.columns.type_of(table, "id")
        if kind == "uuid" or kind in _TEXTS:
            return [str(one) for one in wanted]
        sequence = self.connection.execute("SELECT pg_get_serial_sequence(%s, 'id')", [table]).fetchone() if kind else None
        if sequence is None or sequence[0] is None:
            raise StoreError(f"{table} has no id that can be made here: it needs a UUID, a text, or a number with a sequence")
        numbers = self.connection.execute("SELECT nextval(%s::regclass) FROM generate_series(1, %s)", (sequence[0], len(wanted)))
        return [number for (number,) in numbers]

    def insert(self, table: str, rows: Sequence[Row], *, unless: Sequence[str] = ()) -> None:
        """Insert rows; keys without a column and values that no row has are left to the table.

        Args:
            table: Its name.
            rows: Values as JSON has them; Postgres reads them as the type of their column.
            unless: Columns: a row that is the same in them as one that is there is left out.
        """
        kinds = self.columns.types[table]
        present = {name for row in rows for name, value in row.items() if value is not None}
        names = [name for name in kinds if name in present and (table, name) not in self._computed]
        typed = [{name: _as_json(row.get(name), kinds[name]) for name in names} for row in rows]
        same = SQL(" AND ").join(SQL("o.{0} IS NOT DISTINCT FROM r.{0}").format(Identifier(name)) for name in unless)
        statement = SQL(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {read}"
            " FROM jsonb_populate_recordset(NULL::{table}, %s::jsonb) AS r WHERE {absent} ON CONFLICT DO NOTHING"
        ).format(
            table=Identifier(table),
            columns=SQL(", ").join(map(Identifier, names)),
            read=SQL(", ").join(SQL("r.{}").format(Identifier(name)) for name in names),
            absent=SQL("NOT EXISTS (SELECT FROM {} o WHERE {})").format(Identifier(table), same) if unless else SQL("true"),
        )
        # Not in the text of the statement, which servers log when it fails.
        self.connection.execute(statement, [json.dumps(typed, ensure_ascii=False, allow_nan=False)])

    def keys(self, table: str, column: str, texts: Iterable[str]) -> tuple[str, list[str]]:
        """The type of a column of keys, and those of the texts that can be one of them."""
        kind = self.columns.type_of(table, column)
        if kind == "uuid":
            return kind, sorted({text for text in texts if _is_uuid(text)})
        if kind in _WHOLE:
            return "bigint", sorted({text for text in texts if text.isascii() and text.isdigit() and int(text) < 2**63})
        return "text", sorted(set(texts))


Build = Callable[[SourceTables, Sequence[Item]], list[Rows | str]]
"""The rows of each item, or why there are none."""
Write = Callable[[SourceTables, Rows], None]


def take_in(connection: Connection, items: Sequence[Item], build: Build, write: Write) -> Intake:
    """Store the items that are new, all that can be stored, in the transaction of the connection.

    Args:
        connection: Its transaction is joined.
        items: In any order.
        build: Makes the rows of items that are new.
        write: Inserts them.

    Raises:
        StoreError: the source tables cannot be written to as they are.
    """
    unseen = _unseen(connection, items)
    if not unseen:
        return Intake(0, len(items), [])
    tables = SourceTables(connection)
    built = list(zip(unseen, build(tables, unseen), strict=True))
    refused = [(item, rows) for item, rows in built if isinstance(rows, str)]
    # Sorted by receipt: two batches with the same items wait for each other in one order.
    ready = sorted(((item, rows) for item, rows in built if not isinstance(rows, str)), key=lambda pair: pair[0].receipt)
    try:
        stored = _store(tables, ready, write)
    except _OF_THE_ITEM:
        stored, unfit = _one_by_one(tables, ready, write)
        refused += unfit
    return Intake(
        stored=stored,
        known=len(items) - stored - len(refused),
        refused=sorted((item.place, reason) for item, reason in refused),
    )


def _unseen(connection: Connection, items: Sequence[Item]) -> list[Item]:
    """The items without a receipt; of several with the same one the first."""
    by_receipt = {item.receipt: item for item in reversed(items)}
    found = connection.execute("SELECT receipt FROM intake_receipts WHERE receipt = ANY(%s)", [list(by_receipt)])
    for (receipt,) in found.fetchall():
        del by_receipt[receipt]
    return sorted(by_receipt.values(), key=lambda item: item.place)


def _store(tables: SourceTables, ready: Sequence[tuple[Item, Rows]], write: Write) -> int:
    """Write receipts and rows, or none of both; returns how many items no other session has stored meanwhile."""
    with tables.connection.transaction():
        claimed = tables.connection.execute(
            "INSERT INTO intake_receipts (receipt) SELECT * FROM unnest(%s::uuid[]) ON CONFLICT DO NOTHING RETURNING receipt",
            [[item.receipt for item, _ in ready]],
        )
        own = {receipt for (receipt,) in claimed.fetchall()}
        mine = sorted((pair for pair in ready if pair[0].receipt in own), key=lambda pair: pair[0].place)
        if mine:
            write(tables, _together(rows for _, rows in mine))
    return len(mine)


def _one_by_one(tables: SourceTables, ready: Sequence[tuple[Item, Rows]], write: Write) -> tuple[int, list[tuple[Item, str]]]:
    """How many were stored, and which cannot be; these leave no receipt, since they may come again once the cause is gone."""
    stored, unfit = 0, []
    for pair in ready:
        try:
            stored += _store(tables, [pair], write)
        except _OF_THE_ITEM as error:
            unfit.append((pair[0], public_message(error)))
    return stored, unfit


def _together(parts: Iterable[Rows]) -> Rows:
    whole: Rows = {}
    for part in parts:
        for table, rows in part.items():
            whole.setdefault(table, []).extend(rows)
    return whole


def derived_id(*parts: str) -> uuid.UUID:
    """The same id for the same thing, whoever sends it, and however often."""
    return uuid.uuid5(_NAMESPACE, "\x1f".join(parts))


def _as_json(value: object, kind: str) -> object:
    return round(value) if kind in _WHOLE and isinstance(value, float) else value


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
