import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from feedback_pipeline.settings import Settings
from feedback_pipeline.storage.application_outcomes import read_decided_applications
from feedback_pipeline.storage.applications import Application, insert_applications
from feedback_pipeline.storage.database import Database
from feedback_pipeline.storage.publication import publish_run
from feedback_pipeline.storage.publication_rows import TRIAL_COLUMNS
from feedback_pipeline_tests.storage.publications import agent_names, publication

pytestmark = pytest.mark.slow
A, B = agent_names(2)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
EXECUTION = "execution"


@pytest.fixture
def database_with_trials(database: Database) -> Database:
    """Two trials of one agent, one of another."""
    trials: list[tuple[Any, ...]] = [(name, 1, agent, {}, []) for name, agent in (("p", A), ("q", A), ("r", B))]
    publish_run(database, publication(2, trials=pd.DataFrame(trials, columns=list(TRIAL_COLUMNS))))
    workflow = uuid.uuid4()
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO content_review_workflows (id, content_id, workflow_execution_id) VALUES (%s, %s, %s)",
            (workflow, workflow, EXECUTION),
        )
    return database


def assign(database: Database, pattern: str, agent: str, minute: int) -> None:
    moment = NOON + timedelta(minutes=minute)
    insert_applications(database, [Application(str(uuid.uuid4()), pattern, 1, agent, EXECUTION, True, 0.5, None, moment)])


def review(database: Database, decision: str, minute: int, reviewer: str = "anna") -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO review_feedback (workflow_id, content_id, reviewer_id, stage, decision, reviewed_at, is_training_data)"
            " SELECT id, content_id, %s, 'final_approval', %s, %s, true FROM content_review_workflows",
            (reviewer, decision, NOON + timedelta(minutes=minute)),
        )


def outcomes(database: Database) -> dict[str, tuple[float | None, int]]:
    """By pattern, whether it was approved (None = not decided) and the minute of the first decision."""
    with database.snapshot() as connection:
        frame = read_decided_applications(connection, Settings().score_bounds)
    start = int(NOON.timestamp()) * 10**9
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    return {
        row["pattern_id"]: (None, 0)
        if pd.isna(row["approved"])
        else (row["approved"], (row["decided_at"] - start) // (60 * 10**9))
        for row in rows
    }


def test_a_review_from_before_the_assignment_of_the_second_agent_is_no_outcome_of_it(database_with_trials: Database) -> None:
    assign(database_with_trials, "p", A, 0)
    review(database_with_trials, "approve", 10)
    assign(database_with_trials, "r", B, 20)
    assert outcomes(database_with_trials) == {"p": (1.0, 10), "r": (None, 0)}
    review(database_with_trials, "reject", 30, "ben")
    review(database_with_trials, "reject", 40, "carla")
    assert outcomes(database_with_trials) == {"p": (0.0, 10), "r": (0.0, 30)}


def test_nor_of_the_second_assignment_of_the_same_agent(database_with_trials: Database) -> None:
    assign(database_with_trials, "p", A, 0)
    review(database_with_trials, "reject", 10)
    assign(database_with_trials, "q", A, 10)
    assert outcomes(database_with_trials) == {"p": (0.0, 10), "q": (None, 0)}, "at the same moment is not later"
    # Of one reviewer the last decision counts.
    review(database_with_trials, "approve", 11)
    assert outcomes(database_with_trials) == {"p": (1.0, 11), "q": (1.0, 11)}


def test_what_was_assigned_at_once_has_one_outcome_and_nothing_is_none(database_with_trials: Database) -> None:
    assert outcomes(database_with_trials) == {}
    for pattern, agent in (("p", A), ("q", A), ("r", B)):
        assign(database_with_trials, pattern, agent, 0)
    assert outcomes(database_with_trials) == dict.fromkeys("pqr", (None, 0))
    review(database_with_trials, "approve", 5)
    assert outcomes(database_with_trials) == dict.fromkeys("pqr", (1.0, 5))
