"""Loading a folder: counts, idempotency, forms, files as a whole."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from feedback_pipeline.errors import StoreError
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage import interchange_files
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.interchange import load_folder
from feedback_pipeline_tests.storage.interchange_folder import (
    TABLES,
    an_id,
    changes,
    ledger,
    sound_rows,
    table_content,
    write_folder,
)

pytestmark = pytest.mark.slow
SETTINGS = Settings()
FORMS = ("parquet", "csv", "csv.gz", "jsonl", "jsonl.gz")


@pytest.mark.parametrize(
    ("name", "bounds", "counts"),
    [("summeval_op", (1.0, 5.0), (416, 416, 416, 1248)), ("wmt_ted_ende", (-25.0, 0.0), (7406, 7406, 7406, 7406))],
)
def test_real_data_loads_whole_and_once(
    database: Database, shared_data: Path, name: str, bounds: tuple[float, float], counts: tuple[int, ...]
) -> None:
    settings = Settings(score_bounds={"*": bounds})
    first = load_folder(database, shared_data / name, settings)
    assert tuple(table.loaded for table in first.tables) == counts
    assert first.rejected == {}
    assert first.rejected_scores == {}
    assert [len(table_content(database, table)) for table in TABLES] == list(counts)
    assert len(changes(database)) == sum(counts)
    second = load_folder(database, shared_data / name, settings)
    assert (second.loaded, second.updated, second.unchanged, second.rejected) == (0, 0, sum(counts), {})
    assert changes(database) == []


def test_real_values_arrive_as_they_are(database: Database, shared_data: Path) -> None:
    load_folder(database, shared_data / "summeval_op", SETTINGS)
    expected = {row["id"]: row for row in parquet.read_table(shared_data / "summeval_op" / "review_feedback.parquet").to_pylist()}
    with database.connect() as conn:
        rows = conn.execute(
            'SELECT id::text, reviewer_id, stage, decision::text, to_char(reviewed_at, \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\'), '
            "quality_scores = %s::jsonb, comments FROM review_feedback WHERE id = %s",
            (expected["f551e8e9-22b4-57a0-a3a2-625667c7b7f8"]["quality_scores"], "f551e8e9-22b4-57a0-a3a2-625667c7b7f8"),
        ).fetchone()
        seconds = conn.execute("SELECT count(*) FROM agent_decisions WHERE created_at IS NOT NULL").fetchone()
    one = expected["f551e8e9-22b4-57a0-a3a2-625667c7b7f8"]
    assert rows == (one["id"], one["reviewer_id"], one["stage"], one["decision"], one["reviewed_at"], True, one["comments"])
    assert seconds == (0,)  # a decision's moment is unknown, not the moment of loading


def test_the_last_line_counts(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    rows["review_feedback"][0]["quality_scores"] = "{broken"
    rows["review_feedback"][1]["workflow_id"] = an_id("nowhere")
    rows["review_feedback"][2]["quality_scores"] = '{"clarity": {"score": 70}, "tone": {"score": 71}}'
    report = load_folder(database, write_folder(tmp_path, rows), SETTINGS)
    assert report.line() == (
        "loaded 2 reviews, 2 workflows, 2 decisions, 2 executions, 0 unchanged, 0 updated, "
        "rejected 2: broken JSON 1, dangling key 1, scores left out 2: score out of bounds 2"
    )
    assert report.as_json()["rejected"] == {"broken JSON": 1, "dangling key": 1}


def test_every_form_gives_the_same_content(database: Database, tmp_path: Path) -> None:
    write_folder(tmp_path / "first", sound_rows())
    load_folder(database, tmp_path / "first", SETTINGS)
    content = {table: table_content(database, table) for table in TABLES}
    assert '"improvement_suggestions": ["shorter", "say \\"why\\""]' in content["review_feedback"][0]
    for form in FORMS:
        with database.connect() as conn:
            conn.execute("TRUNCATE agent_performance, agent_decisions, content_review_workflows, review_feedback")
        report = load_folder(database, write_folder(tmp_path / form, sound_rows(), form), SETTINGS)
        assert report.loaded == 10
        assert {table: table_content(database, table) for table in TABLES} == content, form


def test_native_parquet_types_give_the_same_content(database: Database, tmp_path: Path) -> None:
    load_folder(database, write_folder(tmp_path / "text", sound_rows()), SETTINGS)
    content = table_content(database, "review_feedback")
    scores = pa.struct([("clarity", pa.struct([("score", pa.int64())])), ("tone", pa.struct([("score", pa.float64())]))])
    text = parquet.read_table(tmp_path / "text" / "review_feedback.parquet")
    native = text.to_pylist()
    columns = {name: text[name] for name in text.column_names} | {
        "id": pa.array([bytes.fromhex(row["id"].replace("-", "")) for row in native], pa.uuid()),
        "decision": text["decision"].dictionary_encode(),
        "reviewed_at": text["reviewed_at"].cast(pa.timestamp("ns", "UTC")).cast(pa.timestamp("ns", "America/New_York")),
        "quality_scores": pa.array([{"clarity": {"score": 7}, "tone": None}] * 4, scores),
        "improvement_suggestions": pa.array([["shorter", 'say "why"']] * 4, pa.list_(pa.string())),
        "feedback_confidence": pa.array([0.75] * 4),
        "is_training_data": pa.array([True] * 4),
    }
    (tmp_path / "native").mkdir()
    parquet.write_table(pa.table(columns), tmp_path / "native" / "review_feedback.parquet")
    with database.connect() as conn:
        conn.execute("DELETE FROM review_feedback")
    assert load_folder(database, tmp_path / "native", SETTINGS).loaded == 4
    null_tone = '"quality_scores": {"tone": null, "clarity": {"score": 7}}'
    assert [
        row.replace(null_tone, '"quality_scores": {"clarity": {"score": 7}}')
        for row in table_content(database, "review_feedback")
    ] == content


def test_only_the_changed_row_is_updated(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    load_folder(database, write_folder(tmp_path, rows), SETTINGS)
    changes(database)
    rows["review_feedback"][2]["decision"] = "reject"
    rows["review_feedback"][1]["quality_scores"] = '{ "clarity" :{"score":7} }'  # the same value, written otherwise
    report = load_folder(database, write_folder(tmp_path, rows), SETTINGS)
    assert (report.loaded, report.unchanged, report.updated) == (0, 9, 1)
    assert changes(database) == [("review_feedback", "UPDATE", rows["review_feedback"][2]["id"])]
    assert '"decision": "reject"' in next(
        row for row in table_content(database, "review_feedback") if rows["review_feedback"][2]["id"] in row
    )


def test_a_column_the_file_lacks_keeps_its_value(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    load_folder(database, write_folder(tmp_path / "whole", rows), SETTINGS)
    part = [
        {"id": row["id"], "workflow_id": row["workflow_id"], "comments": "changed", "mood": "good"}
        for row in rows["review_feedback"]
    ]
    report = load_folder(database, write_folder(tmp_path / "part", {"review_feedback": part}, "csv"), SETTINGS)
    assert report.updated == 4
    assert report.ignored_columns == {"review_feedback.csv": ("mood",)}
    content = table_content(database, "review_feedback")
    assert all('"decision": "approve"' in row and '"comments": "changed"' in row for row in content)


def test_a_file_alone_refers_to_rows_already_loaded(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    reviews = {"review_feedback": rows.pop("review_feedback")}
    load_folder(database, write_folder(tmp_path / "first", rows), SETTINGS)
    assert (
        load_folder(database, write_folder(tmp_path / "then", reviews, "jsonl"), SETTINGS)
        .line()
        .startswith("loaded 4 reviews, 0 unch")
    )


def test_batches_and_blocks_of_any_size(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interchange_files, "BATCH_BYTES", 1500)
    monkeypatch.setattr(interchange_files, "BATCH_ROWS", 3)
    rows = sound_rows()
    rows["review_feedback"] = [
        row | {"id": an_id(str(n)), "comments": "x" * (n + 1)} for n in range(40) for row in rows["review_feedback"][:1]
    ]
    seen: list[tuple[str, int, int | None]] = []
    for form in ("parquet", "csv", "jsonl"):
        report = load_folder(database, write_folder(tmp_path / form, rows, form), SETTINGS, lambda *step: seen.append(step))
        assert report.loaded == (46 if form == "parquet" else 0)
        assert report.unchanged == (0 if form == "parquet" else 46)
    steps = [step for step in seen if step[0] == "review_feedback"]
    assert len(steps) > 10
    assert {(done, total) for _, done, total in steps if done == 40} == {(40, 40), (40, None)}


def test_what_no_check_foresaw_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    with database.connect() as conn:
        conn.execute("CREATE UNIQUE INDEX one_review_each ON review_feedback (reviewer_id)")
    with pytest.raises(StoreError, match="one_review_each") as caught:
        load_folder(database, write_folder(tmp_path, sound_rows()), SETTINGS)
    assert "ann" not in str(caught.value)
    assert all(table_content(database, table) == [] for table in TABLES)
    assert ledger(database) == []


def test_an_interrupted_load_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    def interrupt(table: str, _done: int, _total: int | None) -> None:
        if table == "review_feedback":
            raise KeyboardInterrupt

    rows = sound_rows()
    rows["agent_performance"][0]["agent_name"] = "*"
    with pytest.raises(KeyboardInterrupt):
        load_folder(database, write_folder(tmp_path, rows), SETTINGS, interrupt)
    assert all(table_content(database, table) == [] for table in TABLES)
    assert (ledger(database), changes(database)) == ([], [])


def test_two_loads_of_one_folder_at_once(database: Database, tmp_path: Path) -> None:
    write_folder(tmp_path, sound_rows())
    with ThreadPoolExecutor(2) as pool:
        reports = [job.result() for job in [pool.submit(load_folder, database, tmp_path, SETTINGS) for _ in range(2)]]
    assert sorted(report.loaded for report in reports) == [0, 10]
    assert sorted(report.unchanged for report in reports) == [0, 10]
