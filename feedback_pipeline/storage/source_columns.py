"""The source tables as they are in this database: which columns exist, of which types, and how to read them safely."""

from dataclasses import dataclass
from typing import Final

from psycopg.sql import SQL, Composable, Identifier

from feedback_pipeline.errors import StoreError
from feedback_pipeline.storage.database import Connection

SOURCE_TABLES: Final = ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")
_EXACT: Final = frozenset({"numeric"})
_BINARY: Final = frozenset({"smallint", "integer", "bigint", "real", "double precision"})


@dataclass(frozen=True)
class SourceColumns:
    """Types of the columns of the source tables, by table and column."""

    types: dict[str, dict[str, str]]

    def type_of(self, table: str, column: str) -> str:
        """Return the type of a column, "" where it does not exist."""
        return self.types[table].get(column, "")

    def raw(self, alias: str, table: str, column: str, missing: str = "NULL::text") -> Composable:
        """Return the column itself, or a NULL where it does not exist."""
        return SQL("{}.{}").format(SQL(alias), Identifier(column)) if self.type_of(table, column) else SQL(missing)

    def text(self, alias: str, table: str, column: str) -> Composable:
        """Return the column as text, whatever its type."""
        return SQL("{}::text").format(self.raw(alias, table, column))

    def number(self, alias: str, table: str, column: str) -> Composable:
        """Return a numeric column without a cast that can fail; NULL where it does not hold numbers."""
        kind = self.type_of(table, column)
        if kind in _BINARY:
            return SQL("{}::float8").format(self.raw(alias, table, column))
        return self.raw(alias, table, column) if kind in _EXACT else SQL("NULL::float8")

    def json(self, alias: str, table: str, column: str) -> Composable:
        """Return a column as jsonb; other types than JSON become what `to_jsonb` makes of them."""
        kind = self.type_of(table, column)
        if kind in ("", "jsonb"):
            return self.raw(alias, table, column, "NULL::jsonb")
        return SQL("{}::jsonb" if kind == "json" else "to_jsonb({})").format(self.raw(alias, table, column))

    def equal(self, left: tuple[str, str, str], right: tuple[str, str, str]) -> Composable:
        """Return an equality of two (alias, table, column) that can use an index where the types are the same."""
        same = self.type_of(*left[1:]) == self.type_of(*right[1:])
        sides = [self.raw(*left), self.raw(*right)] if same else [self.text(*left), self.text(*right)]
        return SQL("{} = {}").format(*sides)

    def key(self, table: str, column: str) -> Composable:
        """Return the type to which a text key is cast before it is compared with the column."""
        kind = self.type_of(table, column)
        return SQL(kind if kind in {"uuid", "bigint", "integer"} else "text")


def source_columns(conn: Connection) -> SourceColumns:
    """Look up the columns of the four source tables on the connection's search path.

    Raises:
        StoreError: a table is missing.
    """
    rows = conn.execute(
        "SELECT name, attname, format_type(atttypid, NULL) FROM unnest(%s::text[]) AS name "
        "JOIN pg_attribute ON attrelid = to_regclass(name) WHERE attnum > 0 AND NOT attisdropped",
        [list(SOURCE_TABLES)],
    ).fetchall()
    types: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        types.setdefault(table, {})[column] = kind
    missing = [table for table in SOURCE_TABLES if table not in types]
    if missing:
        raise StoreError(f"the database has no table {', '.join(missing)}; run `feedback-pipeline migrate`")
    return SourceColumns(types)
