"""Receipts as the terminal shows them."""

from typing import Any

import pytest

from feedback_pipeline.commands.forgetting_rendering import print_receipts

RECEIPT: dict[str, Any] = {
    **{"receipt_id": "r-1", "kind": "reviewer", "salt": "5a17", "id_sha256": "4a54", "state": "done"},
    "counts": {"review_feedback": 1234, "agent_learning_patterns": 3},
    **{"model_versions": [1, 2], "champion": 3, "learning_run_id": "l-1", "dagster_run_id": "d-1"},
    "times": {"deleted": "2026-11-26T11:59:00.5+00:00", "done": "2026-11-26T12:00:01.25+00:00"},
}


def test_a_receipt_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_receipts([RECEIPT])
    said = capsys.readouterr().out
    for part in (
        "Forgotten: one reviewer. Receipt r-1, 2026-11-26T12:00:01 UTC",
        "rows deleted: review_feedback 1,234\n",
        "evidence named it: 3",
        "learning run l-1, Dagster run d-1",
        "files of 2 versions deleted; version 3 took over",
        "SHA-256 of 5a17 and the id: 4a54",
    ):
        assert part in said
    assert "begun again" not in said


def test_a_receipt_says_that_rows_came_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    for times, said in ((1, "1 time\n"), (2, "2 times\n")):
        print_receipts([RECEIPT | {"counts": {"review_feedback": 2, "begun_again": times}}])
        shown = capsys.readouterr().out
        assert f"begun again, because more rows had come: {said}" in shown
        assert "rows deleted: review_feedback 2\n" in shown


def test_where_little_was_learned_and_where_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    print_receipts([RECEIPT | {"champion": None, "learning_run_id": None, "model_versions": [1]}])
    said = capsys.readouterr().out
    assert "files of 1 version deleted; too little is left to train another" in said
    assert "nothing had been learned" in said
    print_receipts([RECEIPT | {"model_versions": [], "counts": {"agent_learning_patterns": 1}}])
    said = capsys.readouterr().out
    assert "there was no model" in said
    assert "rows deleted: none" in said
    print_receipts([])
    assert capsys.readouterr().out == "Nothing is left to be forgotten.\n"
