import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from feedback_pipeline.errors import UserError
from feedback_pipeline.storage.applications import Application, insert_applications
from feedback_pipeline.storage.database import Database

NOW = datetime(2026, 6, 20, 12, tzinfo=UTC)


def application(execution: str, **changes: Any) -> Application:
    made = Application(str(uuid.uuid5(uuid.NAMESPACE_URL, execution)), "pattern", 1, "writer", execution, True, 0.5, None, NOW)
    return replace(made, **changes)


@pytest.mark.slow
def test_a_batch_is_written_once_however_often_it_is_sent(database: Database) -> None:
    rows = [application("b", predicted_quality=0.25, applied=False), application("a", propensity=0.8)]
    assert insert_applications(database, rows) == 2
    assert insert_applications(database, [*rows, application("c")]) == 1
    with database.connect() as connection:
        assert insert_applications(connection, [application("a", application_id=str(uuid.uuid4()))]) == 0, "the first word counts"
        assert insert_applications(connection, [application("a", application_id=str(uuid.uuid4()), trial=2)]) == 1
        connection.rollback()
    assert insert_applications(database, []) == 0
    with database.connect() as connection:
        stored = connection.execute(
            "SELECT application_id::text, pattern_id, trial, agent_name, execution_id, applied, propensity, predicted_quality,"
            " assigned_at FROM learning_applications ORDER BY execution_id LIMIT 2"
        ).fetchall()
    assert [Application(*row) for row in stored] == [rows[1], rows[0]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"application_id": "secret"}, "application_id is no UUID"),
        ({"propensity": 0.0}, "propensity"),
        ({"propensity": 1.0}, "propensity"),
        ({"propensity": float("nan")}, "propensity"),
        ({"predicted_quality": 7.4}, "predicted_quality is no probability"),
        ({"predicted_quality": float("nan")}, "predicted_quality is no probability"),
        ({"trial": 0}, "trial"),
        ({"trial": 2**31}, "trial"),
        ({"pattern_id": ""}, "pattern_id needs 1 to 255"),
        ({"agent_name": "secret" * 50}, "agent_name needs 1 to 100"),
        ({"execution_id": "secret\0"}, "execution_id holds a NUL"),
        ({"assigned_at": NOW.replace(tzinfo=None)}, "assigned_at has no time zone"),
    ],
)
def test_what_cannot_be_is_refused_by_place_and_field(changes: dict[str, Any], said: str) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(UserError) as refused:
        insert_applications(nowhere, [application("a"), application("b", **changes)])
    assert "application 2 of the batch" in str(refused.value)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
