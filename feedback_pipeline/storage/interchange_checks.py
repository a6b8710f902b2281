"""Validation of a staged file in sets: every refused row of `load_raw` enters `load_refused`, the rest becomes `load_typed`.

First the rules that look at text and cannot fail, then the types, then what needs typed values: constraints, keys,
duplicates. A row has one reason, the first found, so that the counts add up.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from feedback_pipeline.storage.interchange_staging import Staged
from feedback_pipeline.storage.interchange_tables import DECISIONS, Column, ForeignKey, Kind, has_same_type
from feedback_pipeline.storage.interchange_text import TEXT_LIMIT
from feedback_pipeline.storage.ledger import Reason

Bounds = Mapping[str, tuple[float, float]]
Rule = tuple[Composable, Reason, str]

_SOUND = SQL("NOT EXISTS (SELECT FROM load_refused x WHERE x.load_ordinal = r.load_ordinal)")
# Postgres also reads 'now', 'infinity' and dates in the order of the session: nothing a file can mean.
_TIMESTAMP = r"^\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|z|UTC|[+-]\d{2}(:?\d{2})?)?)?\s*$"
_NOT_FINITE = r"^\s*[+-]?(nan|inf|infinity)\s*$"
_UNCASTABLE = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.StatementTooComplex, psycopg.errors.ProgramLimitExceeded)


def check(conn: Connection[Any], staged: Staged) -> None:
    """Fill `load_refused` and create `load_typed`: `load_ordinal` and the table's columns in their own types."""
    _refuse_by_rules(conn, staged)
    _create_typed(conn, staged)
    _refuse_by_values(conn, staged)
    for key in staged.target.keys:
        if key.column in staged.columns:
            _refuse_dangling(conn, staged, key)
    _refuse_duplicates(conn)


def check_scores(conn: Connection[Any], staged: Staged, bounds: Bounds) -> None:
    """Find the scores of `load_typed` that cannot be used: `load_scores` (row_id, reason, detail = the aspect).

    The rows stay as they are; whoever reads them leaves these scores out. Those of feedback_categories count where
    quality_scores has none.
    """
    conn.execute("CREATE TEMP TABLE load_scores (row_id text, reason text, detail text) ON COMMIT DROP")
    quality, categories = (
        SQL("s.{}::jsonb").format(Identifier(name)) if name in staged.columns else SQL("NULL::jsonb")
        for name in ("quality_scores", "feedback_categories")
    )
    conn.execute(
        SQL("""
INSERT INTO load_scores
SELECT s.id::text, {reason},
       CASE WHEN jsonb_typeof({quality}) NOT IN ('object', 'null') THEN 'quality_scores' ELSE 'feedback_categories' END
FROM load_typed s
WHERE jsonb_typeof({quality}) NOT IN ('object', 'null') OR jsonb_typeof({categories}) NOT IN ('object', 'null')
""").format(reason=Literal(str(Reason.SCORES_NOT_AN_OBJECT)), quality=quality, categories=categories)
    )
    conn.execute(
        SQL("""
INSERT INTO load_scores
SELECT s.id::text, CASE jsonb_typeof(entry.score) WHEN 'number' THEN {out} ELSE {nan} END, entry.aspect
FROM load_typed s
CROSS JOIN LATERAL (
    SELECT key AS aspect, CASE jsonb_typeof(value) WHEN 'object' THEN value -> 'score' ELSE value END AS score
    FROM jsonb_each(CASE WHEN jsonb_typeof({quality}) = 'object' AND {quality} <> '{{}}' THEN {quality}
                         WHEN jsonb_typeof({categories}) = 'object' THEN {categories} ELSE '{{}}' END)
) AS entry
WHERE CASE jsonb_typeof(entry.score) WHEN 'number' THEN NOT ({within}) WHEN 'null' THEN false ELSE entry.score IS NOT NULL END
""").format(
            out=Literal(str(Reason.SCORE_OUT_OF_BOUNDS)),
            nan=Literal(str(Reason.NOT_A_NUMBER)),
            quality=quality,
            categories=categories,
            within=_within(bounds),
        )
    )


def _within(bounds: Bounds) -> Composed:
    score = SQL("entry.score::numeric")
    default = bounds["*"]
    own = [
        SQL("WHEN {} THEN {} BETWEEN {} AND {}").format(Literal(aspect), score, Literal(low), Literal(high))
        for aspect, (low, high) in bounds.items()
        if aspect != "*"
    ]
    usual = SQL("{} BETWEEN {} AND {}").format(score, Literal(default[0]), Literal(default[1]))
    return SQL("CASE entry.aspect {} ELSE {} END").format(SQL(" ").join(own), usual) if own else usual


def _refuse_by_rules(conn: Connection[Any], staged: Staged) -> None:
    conn.execute(
        SQL(
            "INSERT INTO load_refused SELECT r.load_ordinal, {row_id}, r.load_damage, r.load_damage_field "
            "FROM load_raw r WHERE r.load_damage IS NOT NULL"
        ).format(row_id=staged.row_id("r"))
    )
    _refuse_raw(conn, staged, list(_rules(staged)))


def _rules(staged: Staged) -> Iterator[Rule]:
    """(condition, reason, column), the weightiest first."""
    required = staged.target.table.required
    for name in required:
        yield SQL("coalesce(btrim(r.{}), '') = ''").format(Identifier(name)), Reason.MISSING_KEY, name
    for name in staged.columns:
        column = staged.target.columns[name]
        value = SQL("r.{}").format(Identifier(name))
        yield SQL("octet_length({}) > {}").format(value, Literal(TEXT_LIMIT)), Reason.TEXT_OVER_1_MB, name
        if column.length is not None and column.kind is Kind.TEXT:
            yield SQL("char_length({}) > {}").format(value, Literal(column.length)), Reason.TEXT_TOO_LONG, name
        if name == "agent_name":
            yield SQL("(btrim({value}) = '*' OR {value} ~ '[[:cntrl:]]')").format(value=value), Reason.UNUSABLE_AGENT_NAME, name
        if name == "decision":
            yield SQL("{} <> ALL({})").format(value, Literal(list(DECISIONS))), Reason.UNKNOWN_DECISION, name
        if column.kind in (Kind.NUMBER, Kind.INTEGER):
            yield SQL("{} ~* {}").format(value, Literal(_NOT_FINITE)), Reason.NOT_A_NUMBER, name
        if column.kind is Kind.TIMESTAMP:
            yield SQL("{} !~ {}").format(value, Literal(_TIMESTAMP)), Reason.NOT_A_TIMESTAMP, name
        if column.is_required and name not in required:
            yield SQL("{} IS NULL").format(value), Reason.MISSING_VALUE, name


def _refuse_raw(conn: Connection[Any], staged: Staged, rules: Sequence[Rule]) -> None:
    """Refuse the sound rows of `load_raw` for which a condition holds, for the first that does."""
    cases = [
        SQL("WHEN {} THEN ARRAY[{}, {}]").format(condition, Literal(str(reason)), Literal(name))
        for condition, reason, name in rules
    ]
    conn.execute(
        SQL(
            "INSERT INTO load_refused SELECT load_ordinal, "
            "CASE WHEN verdict[2] = 'id' THEN {place} || load_ordinal ELSE row_id END, verdict[1], verdict[2] "
            "FROM (SELECT r.load_ordinal, {row_id} AS row_id, CASE {cases} END AS verdict FROM load_raw r WHERE {sound}"
            ") AS judged WHERE verdict IS NOT NULL"
        ).format(place=Literal(staged.places), row_id=staged.row_id("r"), cases=SQL(" ").join(cases), sound=_SOUND)
    )


def _create_typed(conn: Connection[Any], staged: Staged) -> None:
    """Cast every sound row at once; only where that fails are the rows judged one by one."""
    values: list[Composable] = [SQL("r.load_ordinal")]
    for column in staged.target.columns.values():
        name = Identifier(column.name)
        value: Composable = SQL("NULL::{}").format(SQL(column.base_type))  # constraints may ask for columns the file lacks
        if column.name in staged.columns:
            value = column.cast(SQL("r.{}").format(name))
            if column.default is not None:
                value = SQL("coalesce({}, {})").format(value, SQL(column.default))
        values.append(SQL("{} AS {}").format(value, name))
    create = SQL("CREATE TEMP TABLE load_typed ON COMMIT DROP AS SELECT {} FROM load_raw r WHERE {}").format(
        SQL(", ").join(values), _SOUND
    )
    if not _succeeds(conn, create):
        _refuse_uncastable(conn, staged)
        conn.execute(create)
    conn.execute("ANALYZE load_typed")


def _succeeds(conn: Connection[Any], statement: Composed) -> bool:
    try:
        with conn.transaction():
            conn.execute(statement)
    except _UNCASTABLE:
        return False
    return True


def _refuse_uncastable(conn: Connection[Any], staged: Staged) -> None:
    columns = [staged.target.columns[name] for name in staged.columns]
    whole = SQL("SELECT count({}) FROM load_raw r WHERE {}")
    failing = [c for c in columns if not _succeeds(conn, whole.format(c.cast(SQL("r.{}").format(Identifier(c.name))), _SOUND))]
    rules = [rule for number, column in enumerate(failing) for rule in _cast_rules(conn, column, f"load_castable_{number}")]
    _refuse_raw(conn, staged, rules)


def _cast_rules(conn: Connection[Any], column: Column, function: str) -> Iterator[Rule]:
    """Rules for the values of a column that its type does not take, by a function that tries.

    PERFORM, not an expression: PostgreSQL 18 evaluates `value::domain` wrongly the second time after it has raised.
    """
    conn.execute(
        SQL("""
CREATE OR REPLACE FUNCTION pg_temp.{function}(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    PERFORM {cast};
    RETURN true;
EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
    RETURN false;
END $body$""").format(function=Identifier(function), cast=column.cast(Identifier("value")))
    )
    value = SQL("r.{}").format(Identifier(column.name))
    fails = SQL("NOT pg_temp.{}({})").format(Identifier(function), value)
    if column.kind in (Kind.JSON, Kind.ARRAY):
        yield SQL("{} AND position('\\u0000' IN {}) > 0").format(fails, value), Reason.NUL_CHARACTER, column.name
    yield fails, column.reason, column.name


def _refuse_by_values(conn: Connection[Any], staged: Staged) -> None:
    if "feedback_confidence" in staged.columns:
        outside = SQL("s.feedback_confidence NOT BETWEEN 0 AND 1")
        _refuse_typed(conn, outside, Reason.CONFIDENCE_OUT_OF_BOUNDS, "feedback_confidence")
    for name, expression in staged.target.checks.items():
        _refuse_typed(conn, SQL("NOT ({})").format(SQL(expression)), Reason.REFUSED_BY_CONSTRAINT, name)


def _refuse_dangling(conn: Connection[Any], staged: Staged, key: ForeignKey) -> None:
    condition = SQL(
        "s.{child} IS NOT NULL AND NOT EXISTS (SELECT FROM {parent} p WHERE p.{column}{cast} = s.{child}{cast})"
    ).format(
        child=Identifier(key.column),
        parent=SQL(key.parent),
        column=Identifier(key.parent_column),
        cast=SQL("" if has_same_type(conn, staged.target, key) else "::text"),
    )
    _refuse_typed(conn, condition, Reason.DANGLING_KEY, key.column)


def _refuse_typed(conn: Connection[Any], condition: Composed | SQL, reason: Reason, detail: str) -> None:
    conn.execute(
        SQL(
            "WITH gone AS (DELETE FROM load_typed s WHERE {condition} RETURNING s.load_ordinal, s.id::text AS row_id) "
            "INSERT INTO load_refused SELECT load_ordinal, row_id, {reason}, {detail} FROM gone"
        ).format(condition=condition, reason=Literal(str(reason)), detail=Literal(detail))
    )


def _refuse_duplicates(conn: Connection[Any]) -> None:
    """Of several rows with one id the first of the file counts."""
    later = SQL(
        "EXISTS (SELECT FROM (SELECT id, min(load_ordinal) AS first FROM load_typed GROUP BY id HAVING count(*) > 1) AS twice "
        "WHERE twice.id = s.id AND twice.first < s.load_ordinal)"
    )
    _refuse_typed(conn, later, Reason.DUPLICATE_ID, "id")
