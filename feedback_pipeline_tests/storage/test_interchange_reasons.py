"""Every reason to refuse a row or a score, and input meant to break the load."""

import json
from pathlib import Path
from typing import Any

import pytest

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.interchange import load_folder
from feedback_pipeline_tests.storage.interchange_folder import an_id, ledger, sound_rows, table_content, write_folder

pytestmark = pytest.mark.slow
SETTINGS = Settings(score_bounds={"*": (0.0, 10.0), "mqm": (-25.0, 0.0)})
DEEP = "[" * 100_000 + "]" * 100_000

# table, column, value, reason: every row of the world is sound but for this value of one row
REFUSED: list[tuple[str, str, str | None, str]] = [
    ("review_feedback", "quality_scores", '{"clarity": {"score": NaN}}', "broken JSON"),
    ("review_feedback", "quality_scores", '{"clarity"', "broken JSON"),
    ("review_feedback", "quality_scores", DEEP, "broken JSON"),
    ("review_feedback", "quality_scores", '{"clarity": "\\ud800"}', "broken JSON"),
    ("review_feedback", "quality_scores", '{"clarity": "\\u0000"}', "NUL character"),
    ("review_feedback", "quality_scores", '{"clarity": 1e999999}', "broken JSON"),
    ("review_feedback", "improvement_suggestions", '{"a": 1}', "broken JSON"),
    ("review_feedback", "decision", "Approve", "unknown decision"),
    ("review_feedback", "decision", "maybe", "unknown decision"),
    ("review_feedback", "stage", "Quality Check!", "unknown stage"),
    ("review_feedback", "reviewed_at", "yesterday", "not a timestamp"),
    ("review_feedback", "reviewed_at", "now", "not a timestamp"),
    ("review_feedback", "reviewed_at", "infinity", "not a timestamp"),
    ("review_feedback", "reviewed_at", "03/04/2024", "not a timestamp"),
    ("review_feedback", "reviewed_at", "2024-02-30T00:00:00Z", "not a timestamp"),
    ("review_feedback", "reviewed_at", "1709510400", "not a timestamp"),
    ("review_feedback", "id", "17", "not a uuid"),
    ("review_feedback", "id", None, "missing key"),
    ("review_feedback", "workflow_id", None, "missing key"),
    ("review_feedback", "workflow_id", an_id("nowhere"), "dangling key"),
    ("review_feedback", "content_id", "'; DROP TABLE review_feedback; --", "not a uuid"),
    ("review_feedback", "feedback_confidence", "NaN", "not a number"),
    ("review_feedback", "feedback_confidence", "-Infinity", "not a number"),
    ("review_feedback", "feedback_confidence", "1e400", "not a number"),
    ("review_feedback", "feedback_confidence", "high", "not a number"),
    ("review_feedback", "feedback_confidence", "1.01", "confidence out of bounds"),
    ("review_feedback", "is_training_data", "perhaps", "not a boolean"),
    ("review_feedback", "comments", "y" * 1_100_000, "text over 1 MB"),
    ("review_feedback", "reviewer_id", "r" * 256, "text too long"),
    ("review_feedback", "comments", "a\x00b", "NUL character"),
    ("agent_performance", "agent_name", "*", "unusable agent name"),
    ("agent_performance", "agent_name", " ", "missing key"),
    ("agent_performance", "input_tokens", "12.5", "not a whole number"),
    ("agent_performance", "input_tokens", "99999999999999999999", "not a whole number"),
    ("agent_performance", "duration", "inf", "not a number"),
    ("agent_performance", "start_time", None, "missing value"),
    ("agent_performance", "execution_id", None, "missing key"),
    ("agent_decisions", "performance_id", an_id("nowhere"), "dangling key"),
    ("agent_decisions", "output_data", "Ein Text", "broken JSON"),
    ("content_review_workflows", "workflow_execution_id", "run-99", "dangling key"),
]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_each_reason_costs_its_row_only(database: Database, tmp_path: Path, form: str) -> None:
    rows: dict[str, list[dict[str, Any]]] = sound_rows()
    expected: dict[str, int] = {}
    for number, (table, column, value, reason) in enumerate(REFUSED):
        rows[table].append(rows[table][0] | {"id": an_id(f"refused {number}")} | {column: value})
        expected[reason] = expected.get(reason, 0) + 1
    report = load_folder(database, write_folder(tmp_path, rows, form), SETTINGS)
    assert report.rejected == expected
    assert report.loaded == 10
    entries = ledger(database)
    assert len(entries) == len(REFUSED)
    by_id = {row_id: (source, reason, detail) for source, row_id, reason, detail in entries}
    for number, (table, column, value, reason) in enumerate(REFUSED):
        place = f"{table}.{form} row {len(sound_rows()[table]) + 1 + [r[0] for r in REFUSED[:number]].count(table)}"
        without_id = column == "id" or (form == "jsonl" and value == "a\x00b")
        detail = None if without_id and column != "id" else column
        assert by_id[place if without_id else an_id(f"refused {number}")] == (table, reason, detail), (table, column, value)


def test_a_review_of_a_refused_execution_is_dangling(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    rows["agent_performance"][0]["agent_name"] = "*"
    report = load_folder(database, write_folder(tmp_path, rows), SETTINGS)
    assert report.rejected == {"dangling key": 4, "unusable agent name": 1}
    assert report.loaded == 5


def test_of_two_rows_with_one_id_the_first_sound_one_counts(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    one = rows["review_feedback"][0]
    rows["review_feedback"] = [one | {"decision": "broken"}, one | {"id": one["id"].upper()}, one | {"decision": "reject"}]
    report = load_folder(database, write_folder(tmp_path, rows), SETTINGS)
    assert report.rejected == {"duplicate id": 1, "unknown decision": 1}
    assert '"decision": "approve"' in table_content(database, "review_feedback")[0]
    assert [entry[1:3] for entry in ledger(database)] == [(one["id"], "duplicate id"), (one["id"], "unknown decision")]


def test_a_bad_score_costs_the_score(database: Database, tmp_path: Path) -> None:
    scores = {
        "clarity": {"score": 11},
        "tone": {"score": -0.01},
        "depth": {"score": "8"},
        "mqm": {"score": -25},
        "style": None,
        "links": {"issues": []},
        "facts": {"score": None},
        "seo": 10,
        "reach": True,
    }
    rows = sound_rows()
    reviews = rows["review_feedback"]
    reviews[0]["quality_scores"] = json.dumps(scores)
    reviews[1] |= {
        "quality_scores": '{"mqm": {"score": 1e400}}',
        "feedback_categories": '{"mqm": {"score": 5}, "clarity": {"score": 99}}',
    }
    reviews[2]["quality_scores"] = "[1, 2]"
    reviews[3] |= {"quality_scores": "null", "feedback_categories": '{"tone": {"score": 12, "issues": []}}'}
    report = load_folder(database, write_folder(tmp_path, rows), SETTINGS)
    assert report.rejected == {}
    assert report.rejected_scores == {"score out of bounds": 4, "not a number": 2, "scores not an object": 1}
    assert ledger(database) == sorted(
        [
            ("review_feedback", reviews[0]["id"], "not a number", "depth, reach"),
            ("review_feedback", reviews[0]["id"], "score out of bounds", "clarity, tone"),
            ("review_feedback", reviews[1]["id"], "score out of bounds", "mqm"),
            ("review_feedback", reviews[3]["id"], "score out of bounds", "tone"),
            ("review_feedback", reviews[2]["id"], "scores not an object", "quality_scores"),
        ]
    )
    assert any('"clarity": {"score": 11}' in row for row in table_content(database, "review_feedback"))  # stored raw


def test_what_is_fine_now_leaves_the_ledger(database: Database, tmp_path: Path) -> None:
    rows = sound_rows()
    reviews = rows["review_feedback"]
    for review, change in zip(
        reviews, [{"decision": "?"}, {"id": ""}, {"quality_scores": '{"a": 99}'}, {"stage": "?"}], strict=True
    ):
        review |= change
    load_folder(database, write_folder(tmp_path, rows, "csv"), SETTINGS)
    before = ledger(database)
    assert [entry[2] for entry in before if "row" in entry[1]] == ["missing key"]
    assert len(before) == 4
    with database.connect() as conn:
        conn.execute("UPDATE rejected_feedback SET first_seen = '2020-01-01', last_seen = '2020-01-01'")
        conn.execute("INSERT INTO rejected_feedback VALUES ('review_feedback', %s, 'before the first day')", [reviews[0]["id"]])
    sound = sound_rows()["review_feedback"]
    rows["review_feedback"] = [*sound[:3], reviews[3]]
    load_folder(database, write_folder(tmp_path, rows, "csv"), SETTINGS)
    # What only reading the days can tell stays; what is still refused keeps the moment it was first seen.
    expected = [("review_feedback", reviews[3]["id"], "unknown stage", "stage")]
    assert ledger(database) == sorted([*expected, ("review_feedback", reviews[0]["id"], "before the first day", None)])
    with database.connect() as conn:
        seen = conn.execute(
            "SELECT first_seen = '2020-01-01', last_seen = '2020-01-01' FROM rejected_feedback WHERE reason = 'unknown stage'"
        ).fetchone()
    assert seen == (True, False)


HOSTILE = [
    'quote " and "" and \' and ,',
    "line\nbreak\r\nand\ttab",
    "\\. \\N \\t back\\slash \\",
    "\\.",
    "\\N",
    "NULL",
    "NaN",
    "null",
    "مرحبا \u202e שלום \u200f",
    "😀 e\u0301 \ufeff \u2028",
    "%s %(x)s {} $1 $body$ :name",
    "\x01\x1b[31m\x7f",
    " leading and trailing ",
    "x" * 1_048_576,
]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_any_text_arrives_as_it_is(database: Database, tmp_path: Path, form: str) -> None:
    rows = sound_rows()
    rows["review_feedback"] = [
        rows["review_feedback"][0] | {"id": an_id(str(n)), "comments": text, "reviewer_id": text[:255]}
        for n, text in enumerate(HOSTILE)
    ]
    folder = tmp_path / "100% 'quoted' folder"
    assert load_folder(database, write_folder(folder, rows, form), SETTINGS).rejected == {}
    with database.connect() as conn:
        stored: dict[str, str] = dict(conn.execute("SELECT id::text, comments FROM review_feedback").fetchall())
    assert stored == {an_id(str(n)): text for n, text in enumerate(HOSTILE)}
