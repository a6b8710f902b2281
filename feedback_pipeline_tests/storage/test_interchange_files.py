"""Files that are empty, incomplete or damaged, as a whole or in single rows."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from feedback_pipeline.errors import UserError
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.interchange import load_folder
from feedback_pipeline_tests.storage.interchange_folder import an_id, ledger, sound_rows, table_content, write_folder

pytestmark = pytest.mark.slow
SETTINGS = Settings()
OPEN_QUOTE = b'id,workflow_id\n1,2\n1,"' + b"2,3\n" * 5_000_000


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_files_without_rows(database: Database, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"review_feedback.{form}"
    if form == "parquet":
        parquet.write_table(pa.table({"id": pa.array([], pa.string()), "workflow_id": pa.array([], pa.string())}), path)
    else:
        path.write_text("id,workflow_id\n" if form == "csv" else "")
    assert load_folder(database, tmp_path, SETTINGS).line() == "loaded 0 reviews, 0 unchanged, 0 updated, rejected 0"


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_required_column_is_missing(database: Database, tmp_path: Path, form: str) -> None:
    rows = sound_rows()
    for row in rows["content_review_workflows"]:
        del row["workflow_execution_id"]
    with pytest.raises(UserError, match=rf"content_review_workflows\.{form} has no column workflow_execution_id"):
        load_folder(database, write_folder(tmp_path, rows, form), SETTINGS)
    assert table_content(database, "agent_performance") == []  # nothing half-done


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "notes.txt",
            b"",
            "looked for agent_performance, agent_decisions, content_review_workflows, review_feedback, each with one of",
        ),
        ("review_feedback.csv", b"", "review_feedback.csv cannot be read"),
        ("review_feedback.parquet", b"not parquet", "review_feedback.parquet cannot be read"),
        ("review_feedback.jsonl.gz", b"not gzip", "review_feedback.jsonl.gz cannot be read"),
        ("review_feedback.csv.gz", b"not gzip", "review_feedback.csv.gz cannot be read"),
        ("review_feedback.csv", b"id,workflow_id,id\n1,2,3\n", "has the column id twice"),
        ("review_feedback.csv", OPEN_QUOTE, "a quote that is never closed; write the file"),
    ],
    ids=["none of the tables", "no header", "not Parquet", "not gzip, lines", "not gzip, csv", "a column twice", "an open quote"],
)
def test_unusable_files(database: Database, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_folder(database, tmp_path, SETTINGS)


def test_unusable_folders(database: Database, empty_database: Database, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        load_folder(database, tmp_path / "absent", SETTINGS)
    write_folder(tmp_path, sound_rows(), "csv")
    with pytest.raises(UserError, match="feedback-pipeline migrate"):
        load_folder(empty_database, tmp_path, SETTINGS)
    write_folder(tmp_path, sound_rows(), "jsonl")
    with pytest.raises(UserError, match=r"agent_performance\.csv and agent_performance\.jsonl"):
        load_folder(database, tmp_path, SETTINGS)


def test_lines_that_are_no_rows(database: Database, tmp_path: Path) -> None:
    good = [json.dumps(row) for row in sound_rows()["content_review_workflows"]]
    write_folder(tmp_path, {"agent_performance": sound_rows()["agent_performance"]})
    lines = [
        b"\xef\xbb\xbf" + good[0].encode(),
        b"{broken",
        b"",
        b"   ",
        b'"text"',
        b"[1]",
        b'{"id": "\xff"}',
        b'{"id": "a\x00"}',
        b'{"id": "' + b"z" * (20 << 20) + b'"}',
        good[1].replace('"id"', '"id": 5, "id"').encode() + b"\r",
        b'{"other": {"deep": 1}, "id": null}',
    ]
    (tmp_path / "content_review_workflows.jsonl").write_bytes(b"\n".join(lines))
    report = load_folder(database, tmp_path, SETTINGS)
    assert report.tables[1].loaded == 2  # of the duplicate key the last value counts
    assert report.ignored_columns == {"content_review_workflows.jsonl": ("other",)}
    numbers = {int(row_id.rpartition(" ")[2]): reason for _, row_id, reason, _ in ledger(database)}
    assert numbers == {
        2: "broken JSON",
        5: "malformed row",
        6: "malformed row",
        7: "not UTF-8 text",
        8: "NUL character",
        9: "text over 1 MB",
        11: "missing key",
    }


def test_csv_records_of_the_wrong_length(database: Database, tmp_path: Path) -> None:
    write_folder(tmp_path, {"agent_performance": sound_rows()["agent_performance"]})
    ids = [an_id(str(n)) for n in range(4)]
    text = f'id,workflow_execution_id\n{ids[0]},run-1\n{ids[1]}\n{ids[2]},"run-1",x\n{ids[3]},"nowhere\n1"\n\xff,run-1\n'
    (tmp_path / "content_review_workflows.csv").write_bytes(text.encode("latin-1"))
    report = load_folder(database, tmp_path, SETTINGS)
    assert report.tables[1].rows == 5
    assert report.tables[1].loaded == 1
    place = "content_review_workflows.csv row "
    assert [entry[1:] for entry in ledger(database)] == sorted(
        [
            (place + "2", "malformed row", "1 values instead of 2"),
            (place + "3", "malformed row", "3 values instead of 2"),
            (ids[3], "dangling key", "workflow_execution_id"),
            (place + "5", "not UTF-8 text", "id"),
        ]
    )


def test_bytes_that_are_not_text_in_parquet(database: Database, tmp_path: Path) -> None:
    write_folder(tmp_path, {"agent_performance": sound_rows()["agent_performance"]})
    executions = pa.array([b"run-1", b"\xff\xfe", b"run-2"], pa.binary())
    ids = pa.array([an_id("a"), an_id("b"), an_id("c")])
    parquet.write_table(pa.table({"id": ids, "workflow_execution_id": executions}), tmp_path / "content_review_workflows.parquet")
    assert load_folder(database, tmp_path, SETTINGS).rejected == {"not UTF-8 text": 1}
    assert ledger(database)[0][1:] == (an_id("b"), "not UTF-8 text", "workflow_execution_id")
