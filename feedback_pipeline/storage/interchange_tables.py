"""The four source tables: what a file must hold, and how the columns of a real database want their values.

The types are read from the catalogue, not assumed: in somebody's database an id may be a varchar, a stage an enum, the
alternatives an array.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from feedback_pipeline.errors import UserError
from feedback_pipeline.storage.ledger import Reason

DECISIONS = ("approve", "reject", "request_changes")
_TEXT_DOMAIN_REASONS = {"stage": Reason.UNKNOWN_STAGE, "decision": Reason.UNKNOWN_DECISION}
# A default without a function: the same value whenever it is used.
_CONSTANT = re.compile(r"^('([^']|'')*'|-?[0-9.]+|true|false)(::[\w\s\".\[\]()]+)?$")


@dataclass(frozen=True)
class ForeignKey:
    """Values of `column` must exist in `parent.parent_column`; the parent is written as SQL."""

    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True)
class SourceTable:
    """One table of the interchange form.

    Attributes:
        name: the table, and the name of its file.
        noun: what its rows are called, in the plural.
        required: columns every file must have and no row may leave empty.
        keys: what its rows must refer to.
        optional_null: columns that are NULL, not their default, where the file lacks them: the moment of loading is not
            when they happened.
    """

    name: str
    noun: str
    required: tuple[str, ...]
    keys: tuple[ForeignKey, ...] = ()
    optional_null: tuple[str, ...] = ()


# Parents first: a row that refers to a refused row is refused as well.
INTERCHANGE_TABLES = (
    SourceTable("agent_performance", "executions", ("id", "agent_name", "execution_id")),
    SourceTable(
        "agent_decisions",
        "decisions",
        ("id", "performance_id"),
        keys=(ForeignKey("performance_id", "agent_performance", "id"),),
        optional_null=("created_at",),
    ),
    SourceTable(
        "content_review_workflows",
        "workflows",
        ("id", "workflow_execution_id"),
        keys=(ForeignKey("workflow_execution_id", "agent_performance", "execution_id"),),
    ),
    SourceTable(
        "review_feedback",
        "reviews",
        ("id", "workflow_id"),
        keys=(ForeignKey("workflow_id", "content_review_workflows", "id"),),
    ),
)


class Kind(Enum):
    """How the text of a value is read."""

    ARRAY = auto()
    BOOLEAN = auto()
    ENUM = auto()
    INTEGER = auto()
    JSON = auto()
    NUMBER = auto()
    OTHER = auto()
    TEXT = auto()
    TIMESTAMP = auto()
    UUID = auto()


_REASONS = {
    Kind.ARRAY: Reason.BROKEN_JSON,
    Kind.BOOLEAN: Reason.NOT_A_BOOLEAN,
    Kind.ENUM: Reason.UNKNOWN_VALUE,
    Kind.INTEGER: Reason.NOT_A_WHOLE_NUMBER,
    Kind.JSON: Reason.BROKEN_JSON,
    Kind.NUMBER: Reason.NOT_A_NUMBER,
    Kind.OTHER: Reason.WRONG_TYPE,
    Kind.TEXT: Reason.REFUSED_BY_CONSTRAINT,
    Kind.TIMESTAMP: Reason.NOT_A_TIMESTAMP,
    Kind.UUID: Reason.NOT_A_UUID,
}
_BY_TYPE = {
    "json": Kind.JSON,
    "jsonb": Kind.JSON,
    "uuid": Kind.UUID,
    "bool": Kind.BOOLEAN,
    "timestamptz": Kind.TIMESTAMP,
    "timestamp": Kind.TIMESTAMP,
    "date": Kind.TIMESTAMP,
} | dict.fromkeys(("int2", "int4", "int8"), Kind.INTEGER)
_BY_CATEGORY = {"A": Kind.ARRAY, "E": Kind.ENUM, "N": Kind.NUMBER, "S": Kind.TEXT}


@dataclass(frozen=True)
class Column:
    """A column of the database's table.

    Attributes:
        name: its name.
        type: its type as SQL writes it.
        base: the name of the type under all domains.
        base_type: that type as SQL writes it.
        kind: how values are read.
        length: the most characters it takes, None without a limit.
        is_required: NOT NULL and without a constant default.
        default: the constant default a NULL is replaced by, None where NULL is allowed.
    """

    name: str
    type: str
    base: str
    base_type: str
    kind: Kind
    length: int | None
    is_required: bool
    default: str | None

    @property
    def reason(self) -> Reason:
        """Why a value that cannot be read as this column's type is refused."""
        return (
            _TEXT_DOMAIN_REASONS.get(self.name, _REASONS[self.kind])
            if self.kind in (Kind.TEXT, Kind.ENUM)
            else _REASONS[self.kind]
        )

    @property
    def is_comparable(self) -> bool:
        """Whether the type has an equality; json has none."""
        return self.base != "json"

    def cast(self, value: Composed | Identifier) -> Composed:
        """SQL that reads the text `value` as this column's type, or raises."""
        pattern = {
            Kind.ARRAY: "pg_temp.load_array({value})::{type}",
            Kind.INTEGER: "trim_scale({value}::numeric)::text::{type}",
            Kind.TIMESTAMP: "({value}::timestamptz AT TIME ZONE 'UTC')::{type}",
        }.get(self.kind, "{value}::{type}")
        if self.base == "timestamptz":
            pattern = "{value}::{type}"
        if self.base == "json":  # what json lets pass and jsonb does not would stop the first reader that takes it apart
            pattern = "CASE WHEN {value}::jsonb IS NOT NULL THEN {value}::{type} END"
        return SQL(pattern).format(value=value, type=SQL(self.type))


@dataclass(frozen=True)
class Target:
    """A source table as it is in this database."""

    table: SourceTable
    columns: Mapping[str, Column]
    keys: tuple[ForeignKey, ...]
    checks: Mapping[str, str]


_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT attnum, atttypid AS type, atttypmod AS modifier FROM pg_attribute
    WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    UNION ALL
    SELECT base.attnum, t.typbasetype, t.typtypmod FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype = 'd'
)
SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typname, format_type(base.type, base.modifier), t.typcategory,
       CASE WHEN t.typname IN ('varchar', 'bpchar') AND base.modifier > 4 THEN base.modifier - 4 END,
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
FROM base JOIN pg_type t ON t.oid = base.type AND t.typtype <> 'd'
JOIN pg_attribute a ON a.attrelid = %(table)s::regclass AND a.attnum = base.attnum
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
ORDER BY a.attnum
"""
_KEYS = """
SELECT a.attname, c.confrelid::regclass::text, p.attname FROM pg_constraint c
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
JOIN pg_attribute p ON p.attrelid = c.confrelid AND p.attnum = c.confkey[1]
WHERE c.conrelid = %(table)s::regclass AND c.contype = 'f' AND cardinality(c.conkey) = 1 AND c.confrelid <> c.conrelid
ORDER BY c.conname
"""
_CHECKS = """
SELECT conname, pg_get_expr(conbin, conrelid) FROM pg_constraint
WHERE conrelid = %(table)s::regclass AND contype = 'c' ORDER BY conname
"""


def read_target(conn: Connection[Any], table: SourceTable) -> Target:
    """Read a source table's columns, keys and checks from the catalogue.

    Raises:
        UserError: the table is absent or lacks a column that every file has.
    """
    named = {"table": table.name}
    found = conn.execute("SELECT to_regclass(%(table)s)", named).fetchone()
    if found is None or found[0] is None:
        raise UserError(f"the database has no table {table.name}; run `feedback-pipeline migrate` first")
    columns = {row[0]: _column(*row) for row in conn.execute(_COLUMNS, named)}
    absent = [name for name in table.required if name not in columns]
    if absent:
        raise UserError(f"table {table.name} of the database has no column {absent[0]}; add it, then load again")
    keys = [ForeignKey(*row) for row in conn.execute(_KEYS, named)]
    checks = {row[0]: row[1] for row in conn.execute(_CHECKS, named)}
    return Target(table, columns, tuple(dict.fromkeys([*table.keys, *keys])), checks)


def has_same_type(conn: Connection[Any], target: Target, key: ForeignKey) -> bool:
    """Whether a key and what it refers to have one type; if not, they are compared as text."""
    row = conn.execute(
        "SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
        (key.parent, key.parent_column),
    ).fetchone()
    own = conn.execute(
        "SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
        (target.table.name, key.column),
    ).fetchone()
    return row == own


def _column(
    name: str, type_: str, base: str, base_type: str, category: str, length: int | None, not_null: bool, default: str | None
) -> Column:
    kind = _BY_TYPE.get(base) or _BY_CATEGORY.get(category, Kind.OTHER)
    constant = default if not_null and default is not None and _CONSTANT.match(default) else None
    return Column(name, type_, base, base_type, kind, length, not_null and constant is None, constant)
