"""The ledger: entries, their first and last sighting, and leaving it."""

import pyarrow as pa
import pytest
from psycopg.sql import SQL

from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.ledger import (
    DETAIL_LIMIT,
    EXTRACTION_REASONS,
    LOAD_REASONS,
    SHARED_REASONS,
    Reason,
    record,
    settle,
)
from feedback_pipeline_tests.storage.interchange_folder import ledger


def as_table(*entries: tuple[str, str, str, str | None]) -> pa.Table:
    schema = pa.schema([(name, pa.string()) for name in ("source", "row_id", "reason", "detail")])
    return pa.Table.from_pylist([dict(zip(schema.names, entry, strict=True)) for entry in entries], schema)


def test_every_reason_of_an_extraction_is_settled_by_exactly_one_party() -> None:
    assert not set(EXTRACTION_REASONS) & set(LOAD_REASONS)
    assert set(SHARED_REASONS) < set(LOAD_REASONS)


@pytest.mark.slow
def test_seen_again_keeps_the_first_sighting(database: Database) -> None:
    one = as_table(("review_feedback", "a", Reason.BROKEN_JSON, "quality_scores"))
    with database.connect() as conn:
        assert record(conn, one) == 1
        conn.execute("UPDATE rejected_feedback SET first_seen = '2020-01-01', last_seen = '2020-01-01'")
        assert record(conn, one) == 1
        seen = conn.execute("SELECT first_seen = '2020-01-01', last_seen = now() FROM rejected_feedback").fetchall()
    assert seen == [(True, True)]


@pytest.mark.slow
def test_details_of_one_entry_are_listed_once_and_bounded(database: Database) -> None:
    reason = Reason.NOT_A_NUMBER
    rejections = [("t", "a", reason, detail) for detail in ("tone", "clarity", "tone", None)]
    rejections += [("t", 'b "\n\\', reason, None), ("t", "c", reason, "k" * 5000)]
    with database.connect() as conn:
        assert record(conn, as_table(*rejections)) == 3
        assert record(conn, as_table()) == 0
    assert ledger(database) == [
        ("t", "a", "not a number", "clarity, tone"),
        ("t", 'b "\n\\', "not a number", None),
        ("t", "c", "not a number", "k" * DETAIL_LIMIT),
    ]


@pytest.mark.slow
def test_record_takes_columns_in_any_order_and_kind(database: Database) -> None:
    table = pa.table(
        {"reason": ["r"], "detail": pa.array([None], pa.null()), "source": pa.array(["s"]).dictionary_encode(), "row_id": ["i"]}
    )
    with database.connect() as conn:
        record(conn, table)
    assert ledger(database) == [("s", "i", "r", None)]


@pytest.mark.slow
def test_settle_touches_checked_rows_and_named_reasons_only(database: Database) -> None:
    entries = [("a", Reason.BROKEN_JSON), ("a", Reason.BEFORE_FIRST_DAY), ("b", Reason.BROKEN_JSON), ("c", Reason.BROKEN_JSON)]
    checked = SQL("SELECT unnest(ARRAY['a', 'b', 'd']) AS row_id")
    found = SQL("SELECT 't' AS source, unnest(ARRAY['b', 'd']) AS row_id, 'broken JSON' AS reason, NULL AS detail")
    with database.connect() as conn:
        record(conn, as_table(*((source, row_id, reason, None) for source in ("t", "u") for row_id, reason in entries)))
        assert settle(conn, "t", [Reason.BROKEN_JSON], checked, found) == 1
    assert [entry[1:3] for entry in ledger(database) if entry[0] == "t"] == [
        ("a", "before the first day"),
        ("b", "broken JSON"),
        ("c", "broken JSON"),
        ("d", "broken JSON"),
    ]
    assert len([entry for entry in ledger(database) if entry[0] == "u"]) == 4
