"""A file's rows in temporary tables of text: `load_raw` (a row each) and `load_refused` (what is wrong with some)."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier, Literal

from feedback_pipeline.errors import UserError
from feedback_pipeline.storage.interchange_files import LINE, Reading, open_file
from feedback_pipeline.storage.interchange_tables import Target
from feedback_pipeline.storage.ledger import Reason

Progress = Callable[[str, int, int | None], None]

_TEMPORARY = ("load_raw", "load_lines", "load_refused", "load_typed", "load_scores")
# jsonb functions are not used bare: pg_input_is_valid is younger than the oldest server supported, and too deep a nesting
# escapes it.
_FUNCTIONS = """
CREATE OR REPLACE FUNCTION pg_temp.load_json(value text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN value::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION pg_temp.load_array(value text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF value IS NULL OR btrim(value) = 'null' THEN
        RETURN NULL;
    ELSIF left(btrim(value), 1) = '{' THEN
        RETURN value::text[];
    END IF;
    RETURN ARRAY(SELECT jsonb_array_elements_text(value::jsonb));
END $$;
"""


@dataclass(frozen=True)
class Staged:
    """A file in `load_raw`.

    Attributes:
        target: the table it is for.
        path: the file.
        columns: the columns both the file and the table have, in the table's order.
        ignored: the columns of the file which the table does not have.
        rows: the rows of the file.
    """

    target: Target
    path: Path
    columns: tuple[str, ...]
    ignored: tuple[str, ...]
    rows: int

    @property
    def places(self) -> str:
        """What the ledger calls a row without a usable id, up to its number."""
        return f"{self.path.name} row "

    def row_id(self, alias: str) -> Composed:
        """SQL for the ledger's name of a row of `load_raw`: its id, or its place in the file."""
        name = SQL("left(btrim({alias}.id), 200)").format(alias=Identifier(alias))
        if self.target.columns["id"].base == "uuid":
            name = SQL("lower({})").format(name)
        return SQL("coalesce({name}, {place} || {alias}.load_ordinal)").format(
            name=name, place=Literal(self.places), alias=Identifier(alias)
        )


def prepare(conn: Connection[Any]) -> None:
    """Create what staging needs in this session; the planner may use memory for large sets, in this transaction only."""
    conn.execute("SET LOCAL work_mem = '128MB'")
    conn.execute("SET LOCAL client_min_messages = warning")
    conn.execute(_FUNCTIONS)


def stage(conn: Connection[Any], target: Target, path: Path, progress: Progress | None) -> Staged:
    """Copy a file into `load_raw`.

    Raises:
        UserError: the file cannot be read, or lacks a required column.
    """
    name = target.table.name
    clear(conn)
    reading = open_file(path, target.columns)
    conn.execute("CREATE TEMP TABLE load_refused (load_ordinal bigint, row_id text, reason text, detail text) ON COMMIT DROP")
    if reading.columns is None:
        rows = _copy(conn, "load_lines", (LINE,), reading, name, progress)
        columns, ignored = _take_lines_apart(conn, target)
    else:
        columns = tuple(column for column in reading.columns if column in target.columns)
        ignored = tuple(column for column in reading.columns if column not in target.columns)
        _require(target, path, columns)
        rows = _copy(conn, "load_raw", columns, reading, name, progress)
        _refuse_malformed(conn, path, reading)
    if rows:
        _require(target, path, columns)
    conn.execute("ANALYZE load_raw")
    return Staged(target, path, tuple(column for column in target.columns if column in columns), ignored, rows)


def clear(conn: Connection[Any]) -> None:
    """Drop the temporary tables; emptied first, for what is only dropped keeps its disk space until the commit."""
    for table in _TEMPORARY:
        if conn.execute(SQL("SELECT to_regclass({})").format(Literal(f"pg_temp.{table}"))).fetchone() != (None,):
            conn.execute(SQL("TRUNCATE pg_temp.{table}; DROP TABLE pg_temp.{table}").format(table=Identifier(table)))


def _require(target: Target, path: Path, columns: tuple[str, ...]) -> None:
    absent = [column for column in target.table.required if column not in columns]
    if absent:
        raise UserError(f"{path.name} has no column {absent[0]}; add it, then load again (nothing was loaded)")


def _copy(
    conn: Connection[Any], table: str, columns: tuple[str, ...], reading: Reading, name: str, progress: Progress | None
) -> int:
    """COPY the batches into a new temporary table of text; the rows copied and set aside as malformed."""
    from pyarrow import csv

    names = [Identifier(column) for column in columns]
    conn.execute(
        SQL(
            "CREATE TEMP TABLE {table} (load_ordinal bigint, load_damage text, load_damage_field text, {columns}) ON COMMIT DROP"
        ).format(table=Identifier(table), columns=SQL(", ").join(SQL("{} text").format(column) for column in names))
    )
    into = SQL("COPY {table} (load_ordinal, load_damage, load_damage_field, {columns}) FROM STDIN (FORMAT csv)").format(
        table=Identifier(table), columns=SQL(", ").join(names)
    )
    rows = 0
    with conn.cursor() as cursor, cursor.copy(into) as copy:
        for batch in reading.batches():
            rendered = io.BytesIO()
            ordered = batch.select(["ordinal", "damage", "damage_field", *columns])
            csv.write_csv(ordered, rendered, csv.WriteOptions(include_header=False))
            copy.write(rendered.getbuffer())
            rows += batch.num_rows
            if progress:
                progress(name, rows, reading.rows)
    return rows + len(reading.malformed)


def _refuse_malformed(conn: Connection[Any], path: Path, reading: Reading) -> None:
    rows = reading.malformed
    if rows:
        conn.execute(
            "INSERT INTO load_refused SELECT ordinal, %(file)s || ' row ' || ordinal, %(reason)s, "
            "found || ' values instead of ' || expected "
            "FROM unnest(%(ordinals)s::bigint[], %(found)s::int[], %(expected)s::int[]) AS malformed (ordinal, found, expected)",
            {
                "file": path.name,
                "reason": str(Reason.MALFORMED_ROW),
                "ordinals": [row.ordinal for row in rows],
                "found": [row.found for row in rows],
                "expected": [row.expected for row in rows],
            },
        )


def _take_lines_apart(conn: Connection[Any], target: Target) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`load_lines` to `load_raw`; the known and the unknown keys that occur. A key a line lacks is NULL there."""
    names = list(target.columns)
    seen = SQL(" || ").join(SQL("(j ? {})::int::text").format(Literal(name)) for name in names)
    conn.execute(
        SQL("""
CREATE TEMP TABLE load_raw ON COMMIT DROP AS
SELECT load_ordinal,
       CASE WHEN load_damage IS NOT NULL THEN load_damage
            WHEN j IS NULL AND position('\\u0000' IN {line}) > 0 THEN {nul}
            WHEN j IS NULL THEN {broken}
            WHEN jsonb_typeof(j) <> 'object' THEN {malformed} END AS load_damage,
       NULL::text AS load_damage_field, {values},
       CASE WHEN jsonb_typeof(j) = 'object' THEN ({seen})::bit({width}) END AS load_seen,
       CASE WHEN jsonb_typeof(j) = 'object' AND j - {known}::text[] <> '{{}}'
            THEN ARRAY(SELECT jsonb_object_keys(j - {known}::text[])) END AS load_surplus
FROM (SELECT *, pg_temp.load_json({line}) AS j FROM load_lines OFFSET 0) AS parsed
""").format(
            line=Identifier(LINE),
            nul=Literal(str(Reason.NUL_CHARACTER)),
            broken=Literal(str(Reason.BROKEN_JSON)),
            malformed=Literal(str(Reason.MALFORMED_ROW)),
            values=SQL(", ").join(SQL("j ->> {} AS {}").format(Literal(name), Identifier(name)) for name in names),
            seen=seen,
            width=SQL(str(len(names))),
            known=Literal(names),
        )
    )
    found = _one(conn, SQL("SELECT bit_or(load_seen)::text FROM load_raw")) or "1" * len(names)  # no sound line says nothing
    surplus = conn.execute("SELECT DISTINCT unnest(load_surplus) FROM load_raw ORDER BY 1").fetchall()
    return tuple(name for name, bit in zip(names, found, strict=False) if bit == "1"), tuple(row[0] for row in surplus)


def _one(conn: Connection[Any], query: SQL | Composed) -> Any:
    row = conn.execute(query).fetchone()
    return None if row is None else row[0]
