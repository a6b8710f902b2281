"""The ledger of refused input: which row (or score) could not be used and why. Table `rejected_feedback`.

An entry is (source, row id, reason): seen again it keeps `first_seen` and moves `last_seen`; a row that is fine when it is
read again leaves. A load and an extraction each take back what they can find themselves, see `ledger_settling`.
Details name a field or an aspect, never what the row says.
"""

import io
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from psycopg import Connection
from psycopg.sql import SQL, Composable, Identifier, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

DETAIL_LIMIT = 300  # characters; aspects are keys of somebody's JSON and can be long


class Reason(StrEnum):
    """Every reason for which a row or a score is refused."""

    BEFORE_FIRST_DAY = "before the first day"
    BROKEN_JSON = "broken JSON"
    CONFIDENCE_OUT_OF_BOUNDS = "confidence out of bounds"
    DANGLING_KEY = "dangling key"
    DUPLICATE_ID = "duplicate id"
    INVALID_TEXT = "not UTF-8 text"
    MALFORMED_ROW = "malformed row"
    MISSING_KEY = "missing key"
    MISSING_VALUE = "missing value"
    NOT_A_BOOLEAN = "not a boolean"
    NOT_A_FINITE_NUMBER = "not a finite number"
    NOT_A_NUMBER = "not a number"
    NOT_A_TIMESTAMP = "not a timestamp"
    NOT_A_UUID = "not a uuid"
    NOT_A_WHOLE_NUMBER = "not a whole number"
    NO_SUCCESSFUL_EXECUTION = "no successful execution"
    NUL_CHARACTER = "NUL character"
    NUMBER_OUT_OF_BOUNDS = "number out of bounds"
    REFUSED_BY_CONSTRAINT = "refused by a constraint"
    SCORE_OUT_OF_BOUNDS = "score out of bounds"
    SCORES_NOT_AN_OBJECT = "scores not an object"
    TEXT_TOO_LONG = "text too long"
    TEXT_OVER_1_MB = "text over 1 MB"
    TOO_MANY_FEATURES = "too many features"
    UNKNOWN_DECISION = "unknown decision"
    UNKNOWN_STAGE = "unknown stage"
    UNKNOWN_VALUE = "unknown value"
    UNUSABLE_AGENT_NAME = "unusable agent name"
    UNUSABLE_NAME = "unusable name"
    WRONG_TYPE = "wrong type"


# What only an extraction finds, on rows that are stored: such an entry is void once its row is gone.
EXTRACTION_REASONS = (
    *(Reason.BEFORE_FIRST_DAY, Reason.NO_SUCCESSFUL_EXECUTION, Reason.NOT_A_FINITE_NUMBER),
    *(Reason.NUMBER_OUT_OF_BOUNDS, Reason.TOO_MANY_FEATURES, Reason.UNUSABLE_NAME),
)
# What both find: the entry may stand for a row that a load refused, and that therefore never was stored.
SHARED_REASONS = (
    *(Reason.CONFIDENCE_OUT_OF_BOUNDS, Reason.DANGLING_KEY, Reason.NOT_A_NUMBER),
    *(Reason.SCORE_OUT_OF_BOUNDS, Reason.SCORES_NOT_AN_OBJECT, Reason.UNKNOWN_DECISION),
)
LOAD_REASONS = tuple(reason for reason in Reason if reason not in EXTRACTION_REASONS)


def record(conn: Connection[Any], rejections: "pa.Table") -> int:
    """Enter a set of rejections, in the caller's transaction.

    Args:
        conn: a connection; nothing is committed.
        rejections: text columns source, row_id, reason and detail (nullable), in any order. Several rows with the same
            source, row_id and reason become one entry that lists their details.

    Returns:
        The number of ledger entries written (new or seen again).
    """
    import pyarrow as pa
    from pyarrow import csv

    text = pa.schema([(name, pa.large_string()) for name in ("source", "row_id", "reason", "detail")])
    rendered = io.BytesIO()
    csv.write_csv(rejections.select(text.names).cast(text), rendered, csv.WriteOptions(include_header=False))
    with conn.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS ledger_entries (source text, row_id text, reason text, detail text)")
        cursor.execute("TRUNCATE ledger_entries")
        with cursor.copy("COPY ledger_entries FROM STDIN (FORMAT csv)") as copy:
            copy.write(rendered.getbuffer())
        return _upsert(conn, SQL("SELECT source, row_id, reason, detail FROM ledger_entries"))


def settle(conn: Connection[Any], source: str, reasons: "Sequence[Reason]", checked: Composable, rejections: Composable) -> int:
    """Make the ledger say of the rows just checked exactly what the check found.

    Entries of a checked row under `reasons` that were not found again are removed (the row is fine now, or refused for
    another reason); the rejections found are entered.

    Args:
        conn: a connection; nothing is committed.
        source: the source table.
        reasons: the reasons this check can find; entries with other reasons are left alone.
        checked: SELECT with one text column `row_id`: every row that was checked.
        rejections: SELECT with the columns source, row_id, reason, detail (all text): what was found.

    Returns:
        The number of entries removed.
    """
    gone = conn.execute(
        SQL(
            "DELETE FROM rejected_feedback old USING ({checked}) AS checked "
            "WHERE old.source = {source} AND old.reason = ANY({reasons}) AND old.row_id = checked.row_id "
            "AND NOT EXISTS (SELECT FROM ({rejections}) AS found "
            "WHERE found.source = old.source AND found.row_id = old.row_id AND found.reason = old.reason)"
        ).format(
            source=Literal(source), reasons=Literal([str(reason) for reason in reasons]), checked=checked, rejections=rejections
        )
    ).rowcount
    _upsert(conn, rejections)
    return gone


def _upsert(conn: Connection[Any], rejections: Composable) -> int:
    return conn.execute(
        SQL(
            "INSERT INTO {ledger} (source, row_id, reason, detail) "
            "SELECT source, row_id, reason, left(string_agg(DISTINCT detail, ', ' ORDER BY detail), {limit}) "
            "FROM ({rejections}) AS found GROUP BY source, row_id, reason "
            "ON CONFLICT (source, row_id, reason) DO UPDATE SET detail = excluded.detail, last_seen = excluded.last_seen"
        ).format(ledger=Identifier("rejected_feedback"), limit=SQL(str(DETAIL_LIMIT)), rejections=rejections)
    ).rowcount
