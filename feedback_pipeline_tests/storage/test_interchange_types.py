"""Loading into somebody's own tables: other types, constraints and columns than a new database has."""

import json
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.interchange import load_folder
from feedback_pipeline.storage.interchange_report import LoadReport
from feedback_pipeline.storage.migrations import migrate
from feedback_pipeline_tests.storage.interchange_folder import Rows, an_id, ledger, sound_rows, table_content, write_folder
from feedback_pipeline_tests.storage.original_schema import VARIANTS, original_schema

pytestmark = pytest.mark.slow


def load(database: Database, folder: Path, rows: Rows) -> LoadReport:
    return load_folder(database, write_folder(folder, rows), Settings())


def rows_with_uuid_executions() -> Rows:
    """The world with execution ids that are uuids, durations that are whole, and without columns an older table lacks."""
    rows = sound_rows()
    for table, column in (("agent_performance", "execution_id"), ("content_review_workflows", "workflow_execution_id")):
        for row in rows[table]:
            row[column] = str(uuid5(NAMESPACE_URL, row[column]))
    for row in rows["agent_performance"]:
        row["duration"] = "1250.0"
    return rows


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_tables_that_were_there_before(empty_database: Database, tmp_path: Path, variant: str) -> None:
    with empty_database.connect() as conn:
        conn.execute(original_schema(variant))
    migrate(empty_database)
    rows = rows_with_uuid_executions()
    rows["review_feedback"].append(rows["review_feedback"][0] | {"id": an_id("x"), "stage": "unheard_of"})
    rows["agent_decisions"].append(rows["agent_decisions"][0] | {"id": an_id("y"), "performance_id": an_id("nowhere")})
    first = load(empty_database, tmp_path, rows)
    assert first.loaded == 10
    assert first.rejected == {"dangling key": 1, "unknown stage": 1}
    decisions = [json.loads(row) for row in table_content(empty_database, "agent_decisions")]
    loaded = [row for row in decisions if row["id"] in {record["id"] for record in rows["agent_decisions"]}]
    assert [(row["alternatives_considered"], row["output_data"]) for row in loaded] == [
        (["a", "b"], {"content": "Ein Text über Öl."})
    ] * 2
    second = load(empty_database, tmp_path, rows)
    assert (second.loaded, second.updated, second.unchanged) == (0, 0, 10)


def test_constraints_of_the_table_cost_the_row_only(database: Database, tmp_path: Path) -> None:
    with database.connect() as conn:
        conn.execute("CREATE TABLE reviewers (name text PRIMARY KEY); INSERT INTO reviewers VALUES ('ann'), ('bob')")
        conn.execute("ALTER TABLE review_feedback ADD FOREIGN KEY (reviewer_id) REFERENCES reviewers")
        conn.execute(
            "ALTER TABLE review_feedback ADD CONSTRAINT short_comments CHECK (char_length(comments) < 10 AND comments !~ '%')"
        )
        conn.execute("ALTER TABLE review_feedback ADD COLUMN tenant text NOT NULL DEFAULT 'ours'")
        conn.execute("ALTER TABLE review_feedback ADD COLUMN seen boolean GENERATED ALWAYS AS (true) STORED")
    rows = sound_rows()
    rows["review_feedback"][0] |= {"reviewer_id": "eve"}
    rows["review_feedback"][1] |= {"comments": "long enough to be refused"}
    rows["review_feedback"][2] |= {"comments": "100 %", "seen": "false"}
    report = load(database, tmp_path, rows)
    assert report.rejected == {"refused by a constraint": 2, "dangling key": 1}
    assert report.ignored_columns == {"review_feedback.parquet": ("seen",)}
    assert sorted(entry[3] or "" for entry in ledger(database)) == ["reviewer_id", "short_comments", "short_comments"]
    assert '"tenant": "ours"' in table_content(database, "review_feedback")[0]


def test_times_without_a_zone_are_kept_in_utc(database: Database, tmp_path: Path) -> None:
    with database.connect() as conn:
        conn.execute(
            "ALTER TABLE content_review_workflows ALTER COLUMN created_at TYPE timestamp, ALTER COLUMN content_id TYPE text"
        )
    rows = sound_rows()
    rows["content_review_workflows"][0]["created_at"] = "2024-03-01T10:00:00+02:00"
    rows["content_review_workflows"][1]["created_at"] = "2024-03-01 10:00"
    assert load(database, tmp_path, rows).loaded == 10
    with database.connect() as conn:
        times = conn.execute("SELECT created_at::text FROM content_review_workflows ORDER BY 1").fetchall()
    assert times == [("2024-03-01 08:00:00",), ("2024-03-01 10:00:00",)]


def test_null_takes_a_constant_default_and_no_other(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    rows["agent_performance"][0] |= {"metadata": None, "status": None}
    rows["agent_performance"][1] |= {"start_time": None}
    report = load(database, tmp_path, rows)
    assert report.rejected["missing value"] == 1
    with database.connect() as conn:
        assert conn.execute("SELECT metadata, status FROM agent_performance").fetchall() == [({}, "success")]


def test_keys_of_another_type_are_compared_as_text(database: Database, tmp_path: Path) -> None:
    with database.connect() as conn:
        conn.execute("ALTER TABLE agent_decisions ALTER COLUMN performance_id TYPE text")
    rows = sound_rows()
    rows["agent_decisions"][1]["performance_id"] = an_id("nowhere")
    assert load(database, tmp_path, rows).rejected == {"dangling key": 1}


def test_a_table_without_a_required_column(database: Database, tmp_path: Path) -> None:
    with database.connect() as conn:
        conn.execute("ALTER TABLE review_feedback RENAME workflow_id TO flow")
    with pytest.raises(UserError, match="table review_feedback of the database has no column workflow_id"):
        load(database, tmp_path, sound_rows())
