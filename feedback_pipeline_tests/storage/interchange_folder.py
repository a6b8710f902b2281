"""Interchange folders for tests: a sound world of two executions, in any of the forms."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pyarrow as pa
from pyarrow import parquet

from feedback_pipeline.storage.database import Database

Row = dict[str, Any]
Rows = dict[str, list[Row]]

NAMESPACE = UUID("6f1c1f0e-2f64-4a3c-9d7a-0c8a3d1b5e77")
TABLES = ("agent_performance", "agent_decisions", "content_review_workflows", "review_feedback")


def an_id(name: str) -> str:
    """A fixed id for a name."""
    return str(uuid5(NAMESPACE, name))


def sound_rows() -> Rows:
    """Two executions with a decision and a workflow each, and two reviews of each; every value is text as in the files."""
    numbers = (1, 2)
    return {
        "agent_performance": [
            {
                "id": an_id(f"performance {n}"),
                "agent_name": f"writer-{n}",
                "execution_id": f"run-{n}",
                "start_time": f"2024-03-0{n}T08:00:00.000Z",
                "status": "success",
                "duration": "1250.5",
                "input_tokens": "120",
                "metadata": '{"features": {"n_sources": 3}}',
            }
            for n in numbers
        ],
        "agent_decisions": [
            {
                "id": an_id(f"decision {n}"),
                "performance_id": an_id(f"performance {n}"),
                "output_data": json.dumps({"content": "Ein Text über Öl."}),
                "reasoning": 'short,\nand "quoted"',
                "alternatives_considered": '["a", "b"]',
            }
            for n in numbers
        ],
        "content_review_workflows": [
            {"id": an_id(f"workflow {n}"), "content_id": an_id(f"content {n}"), "workflow_execution_id": f"run-{n}"}
            for n in numbers
        ],
        "review_feedback": [
            {
                "id": an_id(f"review {n} {reviewer}"),
                "workflow_id": an_id(f"workflow {n}"),
                "content_id": an_id(f"content {n}"),
                "reviewer_id": reviewer,
                "stage": "quality_check",
                "decision": "approve",
                "comments": "fine",
                "reviewed_at": f"2024-03-0{n}T10:00:00.000Z",
                "quality_scores": '{"clarity": {"score": 7}}',
                "improvement_suggestions": '["shorter", "say \\"why\\""]',
                "feedback_confidence": "0.75",
                "is_training_data": "true",
            }
            for n in numbers
            for reviewer in ("ann", "bob")
        ],
    }


def write_folder(folder: Path, rows: Rows, form: str = "parquet") -> Path:
    """Write each table's rows (text or None) in one of the forms parquet, csv, csv.gz, jsonl, jsonl.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, records in rows.items():
        path = folder / f"{table}.{form}"
        if form == "parquet":
            names = list(dict.fromkeys(name for record in records for name in record))
            columns = {name: pa.array([record.get(name) for record in records], pa.string()) for name in names}
            parquet.write_table(pa.table(columns), path)
        elif form.startswith("csv"):
            with (
                gzip.open(path, "wt", encoding="utf-8", newline="")
                if form.endswith("gz")
                else path.open("w", newline="") as stream
            ):
                writer = csv.DictWriter(stream, list(dict.fromkeys(name for record in records for name in record)))
                writer.writeheader()
                writer.writerows(records)
        else:
            lines = "".join(json.dumps(record) + "\n" for record in records)
            path.write_bytes(gzip.compress(lines.encode()) if form.endswith("gz") else lines.encode())
    return folder


def table_content(database: Database, table: str) -> list[str]:
    """Every row of a table as text, in the order of the ids; moments that default to now() left out."""
    moments = "- 'created_at'" if table == "content_review_workflows" else ""
    with database.connect() as conn:
        return [
            row[0] for row in conn.execute(f"SELECT (to_jsonb(t) {moments})::text FROM {table} t ORDER BY id::text").fetchall()
        ]


def ledger(database: Database) -> list[tuple[str, str, str, str | None]]:
    """The ledger's entries, in order."""
    with database.connect() as conn:
        return conn.execute("SELECT source, row_id, reason, detail FROM rejected_feedback ORDER BY 1, 2, 3").fetchall()


def changes(database: Database) -> list[tuple[str, str, str | None]]:
    """What the change tracking has noted, and forgets by being asked."""
    with database.connect() as conn:
        return sorted(conn.execute("DELETE FROM feedback_changes RETURNING source, operation, row_id").fetchall())
